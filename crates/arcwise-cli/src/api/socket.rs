//! The socket in the data folder: where it is, and who may use it.

#[cfg(not(unix))]
compile_error!("the daemon and its commands talk over a Unix socket");

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "api.sock";

/// The folder in which a socket is made before it is shown under its name.
const FRESH: &str = "api.new";

/// Longest path of a socket, in bytes: 103 on the BSDs and macOS, 107 on Linux.
const MAX_PATH: usize = 103;

/// Takes connections.
pub(super) struct Listener {
    socket: UnixListener,
    owner: u32,
}

/// The socket's name, removed with this.
pub(super) struct Shown(PathBuf);

impl Drop for Shown {
    fn drop(&mut self) {
        // One that stays behind does no harm: nobody answers there.
        let _ = fs::remove_file(&self.0);
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// It is the user who runs the daemon.
    pub(super) is_owner: bool,
}

/// Listens in the data folder, of which the caller must hold the lock: whatever is there already was
/// left behind by a daemon that was killed. The socket is made in a folder that only its owner can
/// enter and moved into place when it is private itself.
pub(super) fn bind(data: &Path) -> io::Result<(Listener, Shown)> {
    let fresh = data.join(FRESH);
    match fs::remove_dir_all(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&fresh)?;
    let (path, shown) = (fresh.join(NAME), data.join(NAME));
    let socket = at_short_path(&path, |path| UnixListener::bind(path))?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let owner = fs::metadata(&path)?.uid();
    fs::rename(&path, &shown)?;
    fs::remove_dir(&fresh)?;
    Ok((Listener { socket, owner }, Shown(shown)))
}

/// Connects to the daemon that runs on the data folder.
pub(super) async fn connect(data: &Path) -> io::Result<UnixStream> {
    let stream =
        at_short_path(&data.join(NAME), |path| std::os::unix::net::UnixStream::connect(path))?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Runs `work` with a path that leads to `path` and is short enough for a socket: through a link in
/// the folder for temporary files, if it must be.
fn at_short_path<T>(path: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return work(path) };
    if path.as_os_str().len() <= MAX_PATH {
        return work(path);
    }
    // Private, so that nobody can make the link lead elsewhere.
    let detour = tempfile::tempdir()?;
    let link = detour.path().join("d");
    symlink(folder, &link)?;
    work(&link.join(name))
}

impl axum::serve::Listener for Listener {
    type Io = UnixStream;
    type Addr = Caller;

    async fn accept(&mut self) -> (UnixStream, Caller) {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    let is_owner = stream.peer_cred().is_ok_and(|cred| cred.uid() == self.owner);
                    return (stream, Caller { is_owner });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: some will be given back.
                    tracing::warn!(%error, "a command was not heard");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Caller> {
        Ok(Caller { is_owner: true })
    }
}

impl Connected<IncomingStream<'_, Listener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        *stream.remote_addr()
    }
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener as _;

    use super::*;

    #[tokio::test]
    async fn only_the_owner_and_at_any_path() {
        let temporary = tempfile::tempdir().unwrap();
        let deep = temporary.path().join("d".repeat(100)).join("e".repeat(100));
        fs::create_dir_all(&deep).unwrap();
        for data in [temporary.path(), &deep] {
            assert_eq!(connect(data).await.unwrap_err().kind(), io::ErrorKind::NotFound);
            // What a daemon that was killed leaves behind.
            let (listener, shown) = bind(data).unwrap();
            drop(listener);
            std::mem::forget(shown);
            assert_eq!(connect(data).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            fs::create_dir(data.join(FRESH)).unwrap();

            let (mut listener, shown) = bind(data).unwrap();
            let mode = fs::metadata(data.join(NAME)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let (_connected, accepted) = tokio::join!(connect(data), listener.accept());
            assert!(accepted.1.is_owner);
            drop(shown);
            assert!(!data.join(NAME).exists() && !data.join(FRESH).exists());
        }
    }
}
