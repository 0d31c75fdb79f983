//! A file of what a node's machines are told and what they answer, and driving them with it once more.
//!
//! Each line is 16 hexadecimal digits, a space, and a [`Line`] as JSON. The digits are the first 8 bytes of
//! BLAKE3 over those of the line before (of the first one: eight zeros) and the JSON; so damage shows.
//!
//! In the file there is neither the node's key nor the id of a space, but what sessions carry: see
//! [`arcwise_proto::capture`].

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

pub use arcwise_proto::capture::{Difference, Done};
use arcwise_proto::{
    NodeId, SpaceId,
    capture::{Line, Replay, ReplayError, Tape},
};

use crate::peer::lock;

/// The most bytes that a capture takes. A guess: hours of a node with a few peers.
const MAX_CAPTURE: u64 = 256 << 20;

/// What goes before the JSON of a line.
const CHECK: usize = 16;

/// How it ends where there is no room for more: with [`Line::Full`], and the line's check.
const LAST: u64 = 64;

/// Ties each line to the one before.
#[derive(Clone, Copy, Default)]
struct Chain([u8; 8]);

impl Chain {
    /// The check of the next line.
    fn next(&mut self, json: &[u8]) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(json);
        let hash = hasher.finalize();
        self.0.copy_from_slice(&hash.as_bytes()[..8]);
        data_encoding::HEXLOWER.encode(&self.0)
    }
}

/// Writes a capture.
pub(crate) struct Capture(Mutex<Writer>);

struct Writer {
    /// `None` once there is no room, or the disk has failed.
    file: Option<BufWriter<File>>,
    chain: Chain,
    left: u64,
}

impl Capture {
    /// A new file, for this node.
    pub(crate) fn create(path: &Path, node: NodeId) -> io::Result<Arc<Self>> {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = Some(BufWriter::new(options.open(path)?));
        let mut writer = Writer { file, chain: Chain::default(), left: MAX_CAPTURE };
        let agent = concat!("arcwise/", env!("CARGO_PKG_VERSION")).to_owned();
        writer.write(&Line::Node { node, agent })?;
        Ok(Arc::new(Self(Mutex::new(writer))))
    }

    /// Takes down what happens in the space of this number.
    pub(crate) fn tape(self: &Arc<Self>, space: u32) -> Tape {
        let capture = self.clone();
        Tape::new(space, Arc::new(move |line| capture.with(|writer| writer.write(line))))
    }

    /// What is not in the file yet.
    pub(crate) fn flush(&self) {
        self.with(|writer| writer.file.as_mut().map_or(Ok(()), BufWriter::flush));
    }

    fn with(&self, work: impl FnOnce(&mut Writer) -> io::Result<()>) {
        let mut writer = lock(&self.0);
        if let Err(error) = work(&mut writer) {
            writer.file = None;
            tracing::warn!(%error, "the capture has ended");
        }
    }
}

impl Writer {
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut json = serde_json::to_string(line)?;
        let whole = (CHECK + 1 + json.len() + 1) as u64;
        let fits = whole + LAST <= self.left;
        if !fits {
            json = serde_json::to_string(&Line::Full)?;
        }
        self.left = self.left.saturating_sub(whole);
        writeln!(file, "{} {json}", self.chain.next(json.as_bytes()))?;
        if !fits {
            file.flush()?;
            self.file = None;
            tracing::warn!("the capture has ended: there is no room for more");
        }
        Ok(())
    }
}

/// What came of driving the machines once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Whose machines they were.
    pub node: NodeId,
    /// Name and version of the software that wrote it.
    pub agent: String,
    /// How much was replayed.
    pub done: Done,
    /// The first line, counted from 1, at which something is different, and what.
    pub difference: Option<(u64, Difference)>,
    /// Whether it ends because there was no room for more.
    pub full: bool,
    /// Whether its last line is not whole, as where the node was killed.
    pub cut: bool,
}

/// Why a capture is not replayed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// It does not begin like one.
    #[error("{} is no capture of a node", .0.display())]
    NotOne(PathBuf),
    /// It is not as it was written.
    #[error("line {0} of the capture is damaged")]
    Damaged(u64),
    /// It was written by a version that writes something else.
    #[error("line {line} of the capture is not understood; another version may have written it")]
    Unknown {
        /// Which line.
        line: u64,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A line makes no sense there.
    #[error("line {line} of the capture makes no sense")]
    Senseless {
        /// Which line.
        line: u64,
        /// Why.
        source: ReplayError,
    },
}

/// Drives the machines of a node once more, as a file says that was made with
/// [`Config::capture`](crate::Config::capture), up to the first difference. Only what happened in these spaces
/// is replayed. Blocks.
///
/// # Errors
/// See [`CaptureError`].
pub fn replay(path: &Path, spaces: &[SpaceId]) -> Result<Replayed, CaptureError> {
    let unreadable = |source| CaptureError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?).take(MAX_CAPTURE);
    let (mut replay, mut chain) = (Replay::new(spaces.iter().copied()), Chain::default());
    let mut replayed: Option<Replayed> = None;
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        file.read_until(b'\n', &mut bytes).map_err(unreadable)?;
        let Some(whole) = bytes.strip_suffix(b"\n") else { break };
        let line = read(whole, &mut chain, number).map_err(|error| match number {
            1 => CaptureError::NotOne(path.to_owned()),
            _ => error,
        })?;
        match (&line, &mut replayed) {
            (Line::Node { node, agent }, None) => {
                let (done, difference) = (Done::default(), None);
                let (node, agent) = (*node, agent.clone());
                let now = Replayed { node, agent, done, difference, full: false, cut: false };
                replayed = Some(now);
            }
            (Line::Full, Some(replayed)) => replayed.full = true,
            _ => {}
        }
        let result = replay.line(line);
        let difference =
            result.map_err(|source| CaptureError::Senseless { line: number, source })?;
        if let Some(difference) = difference {
            let replayed = replayed.map(|it| Replayed {
                done: replay.done().clone(),
                difference: Some((number, difference)),
                ..it
            });
            return replayed.ok_or_else(|| CaptureError::NotOne(path.to_owned()));
        }
    }
    let (done, cut) = (replay.done().clone(), !bytes.is_empty());
    let replayed = replayed.map(|it| Replayed { done, cut, ..it });
    replayed.ok_or_else(|| CaptureError::NotOne(path.to_owned()))
}

fn read(line: &[u8], chain: &mut Chain, number: u64) -> Result<Line, CaptureError> {
    let (check, rest) = line.split_at_checked(CHECK).ok_or(CaptureError::Damaged(number))?;
    let json = rest.strip_prefix(b" ").ok_or(CaptureError::Damaged(number))?;
    if chain.next(json).as_bytes() != check {
        return Err(CaptureError::Damaged(number));
    }
    serde_json::from_slice(json).map_err(|source| CaptureError::Unknown { line: number, source })
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use arcwise_proto::{
        ArcSet, AuthorKey, Time,
        capture::TapedSwarm,
        session::{LocalSpace, PeerSpace},
        swarm::Settings,
    };
    use tempfile::TempDir;

    use super::*;

    const SPACE: SpaceId = SpaceId([7; 32]);

    /// A swarm that meets a peer, written down.
    fn capture(folder: &TempDir) -> PathBuf {
        let path = folder.path().join("capture");
        let key = AuthorKey::from_bytes(&[1; 32]);
        let capture = Capture::create(&path, NodeId(key.author())).unwrap();
        let now = Time::from_micros(1 << 50);
        let settings = Settings {
            copies: Default::default(),
            fixed: Some(ArcSet::full()),
            quota: None,
            idle: Duration::from_secs(300),
            patience: Duration::from_secs(120),
            push: true,
            pull: true,
            seed: 5,
        };
        let all = ArcSet::full();
        let (store, target, query) = (all.clone(), all.clone(), all);
        let theirs = PeerSpace { number: 9, store, target, query, count: 0, bytes: 0, full: false };
        let PeerSpace { store, target, query, .. } = theirs.clone();
        let ours = LocalSpace {
            id: SPACE,
            number: 1,
            store,
            target,
            query,
            count: 0,
            bytes: 0,
            full: false,
        };
        let mut swarm = TapedSwarm::new(now, key, SPACE, settings, Some(capture.tape(1)));
        swarm.set_local(now, ours);
        swarm.met(now, NodeId([2; 32]), true, theirs);
        assert!(!swarm.poll_actions(now).is_empty());
        capture.flush();
        path
    }

    /// Writes the lines anew, with checks that fit.
    fn rewrite(path: &Path, change: impl Fn(usize, &str) -> Option<String>) {
        let (mut chain, mut out) = (Chain::default(), String::new());
        for (n, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
            if let Some(json) = change(n, &line[CHECK + 1..]) {
                out += &format!("{} {json}\n", chain.next(json.as_bytes()));
            }
        }
        fs::write(path, out).unwrap();
    }

    #[test]
    fn what_is_different_is_found() {
        let folder = TempDir::new().unwrap();
        let path = capture(&folder);
        rewrite(&path, |_, json| Some(json.to_owned()));
        let replayed = replay(&path, &[SPACE]).unwrap();
        assert_eq!((&replayed.difference, replayed.done.calls), (&None, 3));

        // Who has not dialled does not begin to compare.
        rewrite(&path, |_, json| Some(json.replace(r#""dialed":true"#, r#""dialed":false"#)));
        let (line, difference) = replay(&path, &[SPACE]).unwrap().difference.unwrap();
        assert_eq!(line, 5);
        assert!(difference.told.contains("poll_actions"), "{difference:?}");
        assert!(difference.then.contains("Compare") && !difference.now.contains("Compare"));
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let folder = TempDir::new().unwrap();
        let (path, whole) = (capture(&folder), folder.path().join("whole"));
        fs::copy(&path, &whole).unwrap();
        let with = |change: &dyn Fn(usize, &str) -> Option<String>| {
            fs::copy(&whole, &path).unwrap();
            rewrite(&path, change);
            replay(&path, &[SPACE]).unwrap_err()
        };
        let without = |n, at, json: &str| (n != at).then(|| json.to_owned());
        let error = with(&|n, json| without(n, 0, json));
        assert!(matches!(error, CaptureError::Senseless { source: ReplayError::NoNode, .. }));
        let error = with(&|n, json| without(n, 1, json));
        assert!(matches!(
            error,
            CaptureError::Senseless { line: 2, source: ReplayError::NoSpace(1) }
        ));
        let error = with(&|_, json| Some(json.replace("set_local", "set_global")));
        assert!(matches!(error, CaptureError::Unknown { line: 3, .. }));
        fs::write(&path, "hello\n").unwrap();
        assert!(matches!(replay(&path, &[]), Err(CaptureError::NotOne(_))));
        fs::write(&path, "").unwrap();
        assert!(matches!(replay(&path, &[]), Err(CaptureError::NotOne(_))));
        assert!(matches!(replay(folder.path(), &[]), Err(CaptureError::Read { .. })));
    }

    #[test]
    fn it_has_no_more_than_there_is_room_for() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("small");
        let capture = Capture::create(&path, NodeId([3; 32])).unwrap();
        lock(&capture.0).left = 300;
        let tape = capture.tape(1);
        let settings = || Settings {
            copies: Default::default(),
            fixed: None,
            quota: None,
            idle: Duration::ZERO,
            patience: Duration::ZERO,
            push: true,
            pull: true,
            seed: 1,
        };
        for _ in 0..5 {
            let (key, tape) = (AuthorKey::from_bytes(&[1; 32]), Some(tape.clone()));
            TapedSwarm::new(Time::ZERO, key, SPACE, settings(), tape);
        }
        drop((capture, tape));
        assert!(fs::metadata(&path).unwrap().len() < 600);
        let replayed = replay(&path, &[SPACE]).unwrap();
        assert!(replayed.full && !replayed.cut && replayed.difference.is_none());
    }
}
