/* Writes down what a program does to the files below one folder, in the order in which it does it.
 *
 * To be loaded before the C library (LD_PRELOAD). ARCWISE_POWER_TRACED is the folder, which must be a
 * path without links in it, and ARCWISE_POWER_TRACE the file that is appended to, outside of that
 * folder.
 *
 * A call is made and written down under one lock, so that the trace has both in the same order. Only
 * syncing is not: it has two records, and what other threads do meanwhile stands between them. No
 * disk is really synced, since nobody cuts its power; it only takes as long.
 * With NO_DATA_SYNC, fdatasync does nothing and is not written down, and with NO_SYNC nor does
 * fsync: to see that the test notices.
 *
 * Calls that are not here, and system calls that are made without the C library, are not seen. The
 * test compares the folder with the trace, and so notices.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8, "offsets must fit a register");

#define PATH_ROOM (2 * PATH_MAX)
#define SYNC_MICROSECONDS 300

/* What the test reads, in the byte order of the machine; `first` and `second` bytes follow. */
struct record {
    uint32_t what, thread;
    uint64_t file, number;
    uint32_t first, second;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *traced;
static int trace = -1;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("ARCWISE_POWER_TRACE");
    traced = getenv("ARCWISE_POWER_TRACED");
    if (!path || !traced) abort();
    trace = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (trace < 0) abort();
}

static void note(char what, uint64_t file, uint64_t number, const char *first,
                 const struct iovec *second, int parts, size_t length) {
    struct iovec all[2 + IOV_MAX] = {0};
    struct record record = {what, syscall(SYS_gettid), file, number, strlen(first), 0};
    all[0] = (struct iovec){&record, sizeof record};
    all[1] = (struct iovec){(void *)first, record.first};
    int count = 2;
    for (int part = 0; part < parts && length > 0; part++, count++) {
        size_t some = second[part].iov_len < length ? second[part].iov_len : length;
        all[count] = (struct iovec){second[part].iov_base, some};
        record.second += some;
        length -= some;
    }
    long size = sizeof record + record.first + record.second;
    if (syscall(SYS_writev, trace, all, count) != size) abort();
}

static int below(const char *path) {
    size_t length = strlen(traced);
    return strncmp(path, traced, length) == 0 && (path[length] == '/' || path[length] == 0);
}

/* Whether the open file is a traced one, and what it is. */
static int known(int fd, struct stat *stat) {
    char link[32], path[PATH_ROOM];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    int found = below(path) && fstat(fd, stat) == 0;
    errno = saved;
    return found;
}

/* Whether a path is a traced one; `out` is all of it. */
static int resolve(int folder, const char *path, char *out) {
    char link[32];
    int saved = errno;
    ssize_t length = 0;
    if (path[0] != '/') {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        length = readlink(folder == AT_FDCWD ? "/proc/self/cwd" : link, out, PATH_MAX);
        length = length < 0 ? 0 : length;
        out[length++] = '/';
    }
    snprintf(out + length, PATH_ROOM - length, "%s", path);
    errno = saved;
    return below(out);
}

/* Makes a call under the lock. */
#define LOCKED(type, call)             \
    pthread_mutex_lock(&lock);         \
    type result = (call);              \
    int saved = errno
#define UNLOCKED                       \
    errno = saved;                     \
    pthread_mutex_unlock(&lock);       \
    return result

/* Opening for reading is written down too: it shows names that were changed unseen. */
static int open_any(int folder, const char *path, int flags, mode_t mode) {
    char full[PATH_ROOM];
    struct stat stat;
    if (!resolve(folder, path, full)) return syscall(SYS_openat, folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    int new = (flags & O_CREAT) && lstat(full, &stat) != 0;
    int result = syscall(SYS_openat, folder, path, flags, mode), saved = errno;
    if (result >= 0 && fstat(result, &stat) == 0 && S_ISREG(stat.st_mode))
        note('o', stat.st_ino, new ? 2 : !!(flags & O_TRUNC), full, NULL, 0, 0);
    UNLOCKED;
}

#define OPEN(folder)                                                    \
    va_list rest;                                                       \
    va_start(rest, flags);                                              \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                       \
    return open_any(folder, path, flags, mode)
int open(const char *path, int flags, ...) { OPEN(AT_FDCWD); }
int open64(const char *path, int flags, ...) { OPEN(AT_FDCWD); }
int openat(int folder, const char *path, int flags, ...) { OPEN(folder); }
int openat64(int folder, const char *path, int flags, ...) { OPEN(folder); }
int creat(const char *path, mode_t mode) {
    return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* `at` is -1 to write where the file stands. */
static ssize_t write_any(int fd, const struct iovec *parts, int count, off_t at) {
    struct stat stat;
    if (!known(fd, &stat))
        return at < 0 ? syscall(SYS_writev, fd, parts, count)
                      : syscall(SYS_pwritev, fd, parts, count, at, 0L);
    LOCKED(ssize_t, at < 0 ? syscall(SYS_writev, fd, parts, count)
                           : syscall(SYS_pwritev, fd, parts, count, at, 0L));
    if (at < 0) at = lseek(fd, 0, SEEK_CUR) - result;
    if (result > 0) note('w', stat.st_ino, at, "", parts, count, result);
    UNLOCKED;
}

ssize_t write(int fd, const void *data, size_t length) {
    return write_any(fd, &(struct iovec){(void *)data, length}, 1, -1);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    return write_any(fd, parts, count, -1);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    return write_any(fd, &(struct iovec){(void *)data, length}, 1, at);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) {
    return pwrite(fd, data, length, at);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    return write_any(fd, parts, count, at);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) {
    return write_any(fd, parts, count, at);
}

int ftruncate(int fd, off_t length) {
    struct stat stat;
    if (!known(fd, &stat)) return syscall(SYS_ftruncate, fd, length);
    LOCKED(int, syscall(SYS_ftruncate, fd, length));
    if (result == 0) note('t', stat.st_ino, length, "", NULL, 0, 0);
    UNLOCKED;
}
int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }

static int sync_any(int fd, int all) {
    struct stat stat;
    if (!known(fd, &stat)) return syscall(all ? SYS_fsync : SYS_fdatasync, fd);
#ifdef NO_DATA_SYNC
    if (!all) return 0;
#endif
#ifdef NO_SYNC
    if (all) return 0;
#endif
    for (const char *part = "se"; *part; part++) {
        pthread_mutex_lock(&lock);
        note(*part, stat.st_ino, all, "", NULL, 0, 0);
        pthread_mutex_unlock(&lock);
        if (*part == 's') usleep(SYNC_MICROSECONDS);
    }
    return 0;
}
int fsync(int fd) { return sync_any(fd, 1); }
int fdatasync(int fd) { return sync_any(fd, 0); }

int mkdirat(int folder, const char *path, mode_t mode) {
    char full[PATH_ROOM];
    struct stat stat;
    if (!resolve(folder, path, full)) return syscall(SYS_mkdirat, folder, path, mode);
    LOCKED(int, syscall(SYS_mkdirat, folder, path, mode));
    if (result == 0 && lstat(full, &stat) == 0) note('m', stat.st_ino, 0, full, NULL, 0, 0);
    UNLOCKED;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int unlinkat(int folder, const char *path, int flags) {
    char full[PATH_ROOM];
    if (!resolve(folder, path, full)) return syscall(SYS_unlinkat, folder, path, flags);
    LOCKED(int, syscall(SYS_unlinkat, folder, path, flags));
    if (result == 0) note('u', 0, 0, full, NULL, 0, 0);
    UNLOCKED;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    char first[PATH_ROOM], second[PATH_ROOM];
    int is_old = resolve(from, old, first), is_new = resolve(to, new, second);
    if (!is_old && !is_new) return syscall(SYS_renameat2, from, old, to, new, flags);
    LOCKED(int, syscall(SYS_renameat2, from, old, to, new, flags));
    struct iovec name = {second, strlen(second)};
    if (result == 0) note('r', 0, 0, first, &name, 1, name.iov_len);
    UNLOCKED;
}
int renameat(int from, const char *old, int to, const char *new) {
    return renameat2(from, old, to, new, 0);
}
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }
