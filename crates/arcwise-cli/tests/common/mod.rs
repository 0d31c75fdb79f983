//! The real program, on folders of its own.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything here may take; only a bug makes it matter.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program, with nothing of the surroundings in it.
pub(crate) fn program(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcwise"));
    for name in ["ARCWISE_DATA", "RUST_LOG", "XDG_DATA_HOME"] {
        command.env_remove(name);
    }
    command.env("TZ", "UTC").arg("--data").arg(data).stdin(Stdio::null());
    command
}

/// What a command has done.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).unwrap();
        Self { code: output.status.code(), stdout: output.stdout, stderr }
    }
}

impl Done {
    /// What it printed, where it worked.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        self.exit(0).0
    }

    /// What it printed to stdout and stderr.
    #[track_caller]
    pub(crate) fn exit(self, code: i32) -> (String, String) {
        assert_eq!(self.code, Some(code), "{self:?}");
        (String::from_utf8(self.stdout).unwrap(), self.stderr)
    }

    /// It has failed, said so on stderr alone, and used these words.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> String {
        let (stdout, stderr) = self.exit(code);
        assert_eq!(stdout, "", "data of a command that failed; {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{word:?} is not said in: {stderr}");
        }
        stderr
    }

    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

/// A node's folder.
pub(crate) struct Home {
    temporary: TempDir,
}

impl Home {
    /// With a node in it.
    pub(crate) fn new() -> Self {
        let home = Self::empty();
        home.run(["init"]).ok();
        home
    }

    pub(crate) fn empty() -> Self {
        Self { temporary: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.temporary.path().join("data")
    }

    /// A path outside of the node's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        program(&self.data()).args(args).output().unwrap().into()
    }

    /// Runs a command that reads `input`.
    pub(crate) fn pipe<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Done {
        let mut command = program(&self.data());
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // One that fails early does not read it all.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap().into()
    }

    /// A daemon that is ready.
    pub(crate) fn serve(&self) -> Daemon {
        self.serve_with(["--listen", "127.0.0.1:0"])
    }

    pub(crate) fn serve_with<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Daemon {
        self.serve_on(&self.data(), args)
    }

    pub(crate) fn serve_on<S: AsRef<OsStr>>(
        &self,
        data: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> Daemon {
        let mut command = program(data);
        command.args(["serve", "--json"]).args(args).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, events) = channel();
        // Reads on, so that the daemon never waits for a test.
        thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        let mut daemon = Daemon { child, events, data: data.to_owned(), ready: Value::Null };
        daemon.ready = daemon.event("ready");
        daemon
    }

    /// Puts a path and gives the address.
    #[track_caller]
    pub(crate) fn put(&self, path: &Path) -> String {
        self.run([OsStr::new("put"), path.as_os_str()]).ok().trim_end().to_owned()
    }

    /// Gets what has the address and compares it with `source`.
    #[track_caller]
    pub(crate) fn gets(&self, address: &str, source: &Path) {
        let out = tempfile::tempdir_in(self.temporary.path()).unwrap();
        let to = out.path().join("out");
        self.run([OsStr::new("get"), address.as_ref(), to.as_os_str()]).ok();
        assert_same(source, &to);
    }
}

/// A daemon, killed with this.
pub(crate) struct Daemon {
    child: Child,
    events: Receiver<Value>,
    data: PathBuf,
    /// The first thing it said.
    pub(crate) ready: Value,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Daemon {
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The next event of this name.
    #[track_caller]
    pub(crate) fn event(&mut self, name: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) if event["event"] == name => return event,
                Ok(_) => {}
                Err(error) => panic!("no event {name}: {error}; {:?}", self.child.try_wait()),
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the daemon goes on");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the daemon answers to a GET.
    pub(crate) fn get(&self, path: &str) -> Value {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    pub(crate) fn connect(&self) -> UnixStream {
        UnixStream::connect(self.data.join("api.sock")).unwrap()
    }

    /// How many aspects the node holds in its only space.
    pub(crate) fn aspects(&self) -> u64 {
        self.get("/v1/spaces")[0]["aspects"].as_u64().unwrap()
    }
}

/// Waits for a condition. There is nothing to be told by here, so it looks again and again.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    File { content: Vec<u8>, executable: bool },
    Folder,
    Link(PathBuf),
}

fn read_tree(path: &Path, within: &Path, found: &mut BTreeMap<PathBuf, Found>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let what = if metadata.is_symlink() {
        Found::Link(fs::read_link(path).unwrap())
    } else if metadata.is_dir() {
        for child in fs::read_dir(path).unwrap() {
            read_tree(&child.unwrap().path(), within, found);
        }
        Found::Folder
    } else {
        let executable = metadata.permissions().mode() & 0o100 != 0;
        Found::File { content: fs::read(path).unwrap(), executable }
    };
    found.insert(path.strip_prefix(within).unwrap().to_owned(), what);
}

/// The same names, kinds, contents, targets and execution bits.
#[track_caller]
pub(crate) fn assert_same(one: &Path, other: &Path) {
    let [mut here, mut there] = [BTreeMap::new(), BTreeMap::new()];
    read_tree(one, one, &mut here);
    read_tree(other, other, &mut there);
    assert_eq!(here.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>());
    for (path, what) in here {
        assert!(there[&path] == what, "{} differs", path.display());
    }
}

/// Flips one bit in the middle of the largest file of the engine that is no journal.
pub(crate) fn damage(home: &Home) {
    let mut files = Vec::new();
    let mut folders = vec![home.data().join("db")];
    while let Some(folder) = folders.pop() {
        for child in fs::read_dir(folder).unwrap() {
            let (path, metadata) =
                child.map(|child| (child.path(), child.metadata().unwrap())).unwrap();
            match metadata.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|end| end == "jnl") => {}
                false => files.push((metadata.len(), path)),
            }
        }
    }
    let (length, file) = files.into_iter().max().unwrap();
    assert!(length > 1 << 20, "{} is small", file.display());
    let mut content = fs::read(&file).unwrap();
    content[length as usize / 2] ^= 1;
    fs::write(&file, content).unwrap();
}

/// Bytes that repeat nowhere.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A folder of `count` files, no two alike, of `length` bytes each.
pub(crate) fn write_files(folder: &Path, seed: u64, count: u64, length: usize) {
    for n in 0..count {
        let inside = folder.join(format!("{:02}", n % 32));
        fs::create_dir_all(&inside).unwrap();
        fs::write(inside.join(format!("file {n}.bin")), noise(seed << 32 | n, length)).unwrap();
    }
}

/// A tree with one of everything.
pub(crate) fn write_tree(folder: &Path, seed: u64) {
    fs::create_dir_all(folder.join("sub/deeper")).unwrap();
    fs::create_dir(folder.join("nothing in here")).unwrap();
    fs::write(folder.join("empty"), "").unwrap();
    fs::write(folder.join("hello.txt"), format!("hello {seed}\n")).unwrap();
    fs::write(folder.join("sub/Grüße 日本 🎉.txt"), format!("größer {seed}\n")).unwrap();
    fs::write(folder.join("sub/deeper/large.bin"), noise(seed, 3 << 20)).unwrap();
    fs::write(folder.join("sub/run.sh"), "#!/bin/sh\n").unwrap();
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.join("sub/run.sh"), executable).unwrap();
    std::os::unix::fs::symlink("../hello.txt", folder.join("sub/link")).unwrap();
    std::os::unix::fs::symlink("leads nowhere", folder.join("broken")).unwrap();
    #[cfg(target_os = "linux")]
    {
        let name = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"not \xff utf-8");
        fs::write(folder.join(name), "x").unwrap();
    }
}
