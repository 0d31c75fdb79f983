//! `arcwise demo`: two real nodes, real files, and the protocol's ladder as it happens.

mod compare;
mod ladder;

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use arcwise::{AspectKey, Config, Event, Frame, Node, Space, Ticket};
use serde::Serialize;
use tokio::{
    runtime::Handle,
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::{
    compare::{Comparison, Difference},
    ladder::Ladder,
};
use crate::{
    exit::Stdout,
    files::{self, Put},
    objects::Local,
    output::Output,
    signals::stop_at_signals,
};

/// How long the two may take before the demo says that something is wrong.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The folder that Alice shares and the one that Bob shares. By default parts of this program's
    /// own sources.
    #[arg(num_args = 2, value_names = ["ALICE", "BOB"])]
    folders: Option<Vec<PathBuf>>,
}

/// What happened, for people and for programs.
#[derive(Debug, Serialize)]
struct Outcome {
    ladder: Ladder,
    /// From Alice's call to Bob's disk, in milliseconds.
    push_ms: f64,
    files: u64,
    comparison: Comparison,
    equal: bool,
    seconds: f64,
}

/// One of the two.
struct Side {
    name: &'static str,
    node: Node,
    space: Space,
    /// What it shares.
    source: PathBuf,
    put: Put,
}

/// Runs the demo; true where both ended up with the same.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<bool> {
    let stop = CancellationToken::new();
    let signals = stop_at_signals(stop.clone())?;
    let started = Instant::now();
    let sources = sources(args)?;
    let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut nodes = Vec::new();
    let stage = Stage { folder: temporary.path(), output, stop };
    let played = stage.play(sources, started, &mut nodes).await;
    // However it went: the nodes first, and what they stand on when nothing of them runs any more.
    for node in &nodes {
        node.shutdown().await;
    }
    drop(nodes);
    let cleared = temporary.close().context("cannot remove the temporary folder");
    let outcome = match (played, signals.first()) {
        (Ok(outcome), _) => outcome,
        (Err(_), Some(signal)) => return Err(signal.into()),
        (Err(error), None) => return Err(error),
    };
    cleared?;
    match output.json {
        true => output.line(serde_json::to_string_pretty(&outcome)?)?,
        false => output.line(summary(&outcome))?,
    }
    Ok(outcome.equal)
}

/// Where the demo plays.
struct Stage<'a> {
    folder: &'a Path,
    output: Output,
    /// It is to end.
    stop: CancellationToken,
}

impl Stage<'_> {
    fn say(&self, text: impl Display) -> Result<(), Stdout> {
        if self.output.json { Ok(()) } else { self.output.line(text) }
    }

    /// Opens a node, which whoever called shuts down.
    async fn open(&self, name: &str, nodes: &mut Vec<Node>) -> anyhow::Result<Node> {
        let node = Node::open(Config::new(self.folder.join(name)).loopback()).await?;
        nodes.push(node.clone());
        Ok(node)
    }

    async fn play(
        &self,
        [alices, bobs]: [PathBuf; 2],
        started: Instant,
        nodes: &mut Vec<Node>,
    ) -> anyhow::Result<Outcome> {
        let alice = self.open("alice", nodes).await?;
        let bob = self.open("bob", nodes).await?;
        self.say(
            "Two nodes, each with an identity, a durable store and a QUIC endpoint of its own:",
        )?;
        for (name, node) in [("Alice", &alice), ("Bob", &bob)] {
            let address = node.listening().first().map(ToString::to_string).unwrap_or_default();
            self.say(format!("  {name:<5}  {}  on {address}", node.id().short()))?;
        }

        // Bob makes the space. Alice enters it before she knows where Bob is, so that both have
        // something to tell when they meet.
        let bobs_space = bob.create_space("demo", arcwise::Limits::default()).await?;
        let ticket = bob.ticket(&bobs_space.id()).context("Bob is in the space he has made")?;
        let nowhere = Ticket { addresses: Vec::new(), relays: Vec::new(), ..ticket.clone() };
        let alices_space = alice.join(&nowhere).await?;
        let bob = self.share("Bob", bob, bobs_space, bobs).await?;
        let mut alice = self.share("Alice", alice, alices_space, alices).await?;
        for side in [&alice, &bob] {
            let totals = side.put.item.totals();
            let count = side.space.status().stats.count;
            self.say(format!(
                "  {:<5}  shares {}: {} files, {}, as {count} aspects",
                side.name,
                shown(&side.source),
                totals.files,
                ladder::bytes(totals.bytes),
            ))?;
        }

        self.say("\nThey meet. Each arrow as it happened on the wire, times from Alice's dial:\n")?;
        let mut frames = alice.node.frames();
        let (mut alices, mut bobs) = (alice.node.events(), bob.node.events());
        let dialled = Instant::now();
        alice.node.join(&ticket).await?;
        self.in_sync(&mut alices).await?;
        self.in_sync(&mut bobs).await?;
        let mut ladder = Ladder::new(dialled);
        Self::settle(&alice, &bob, &mut frames, &mut ladder).await?;
        self.say(ladder.to_string().trim_end())?;

        self.say("\nAlice writes something new, and pushes it:\n")?;
        let mut news = Ladder::new(Instant::now());
        let before = Instant::now();
        let (note, keys) = self.author(&mut alice).await?;
        self.until_stored(&mut bobs, &keys).await?;
        let push = before.elapsed();
        while let Ok(frame) = frames.try_recv() {
            news.add(&frame);
        }
        self.say(news.to_string().trim_end())?;
        self.say(format!(
            "\n  {:.1} ms from Alice's pen to Bob's disk, durable",
            push.as_secs_f64() * 1e3
        ))?;

        let comparison = self.compare(&alice, &bob, &note).await?;
        let totals = [&alice, &bob].map(|side| side.put.item.totals().files);
        ladder.append(news);
        Ok(Outcome {
            ladder,
            push_ms: push.as_secs_f64() * 1e3,
            files: totals.iter().sum::<u64>() + 1,
            equal: comparison.differences.is_empty(),
            comparison,
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}

fn summary(outcome: &Outcome) -> String {
    let compared = &outcome.comparison;
    let mut text = format!(
        "\nCompared: {} aspects on each side, byte for byte, and {} files as each side restores them.\n",
        compared.aspects, compared.files,
    );
    for Difference { what, problem } in &compared.differences {
        text += &format!("  DIFFERENT  {what}: {problem}\n");
    }
    let verdict = match outcome.equal {
        true => "Both hold the same.",
        false => "They do NOT hold the same.",
    };
    text + &format!("{verdict}  ({:.1} s)", outcome.seconds)
}

/// The folders to share: those named, or parts of the sources that this program was built from.
fn sources(args: Args) -> anyhow::Result<[PathBuf; 2]> {
    if let Some(folders) = args.folders {
        let [alice, bob] = <[PathBuf; 2]>::try_from(folders)
            .map_err(|_| anyhow::anyhow!("name two folders: one for Alice and one for Bob"))?;
        for folder in [&alice, &bob] {
            if !folder.is_dir() {
                bail!("{} is not a folder", folder.display());
            }
        }
        return Ok([alice, bob]);
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let folders = [crates.join("arcwise-proto"), crates.join("arcwise-cli")];
    if !folders.iter().all(|folder| folder.is_dir()) {
        bail!(
            "the sources this program was built from are not here; name two folders to share: \
             arcwise demo ALICE BOB"
        );
    }
    Ok(folders)
}

/// A path as a person here would name it.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    files::printable_path(path.strip_prefix(here).unwrap_or(path))
}

impl Stage<'_> {
    /// Runs file work, which waits for the disk, against the store of a node in this process.
    async fn on_disk<T: Send + 'static>(
        &self,
        space: &Space,
        work: impl FnOnce(&Local) -> Result<T, files::Error> + Send + 'static,
    ) -> anyhow::Result<T> {
        let objects = Local::new(space.clone(), Handle::current(), self.stop.clone());
        Ok(tokio::task::spawn_blocking(move || work(&objects)).await??)
    }

    async fn share(
        &self,
        name: &'static str,
        node: Node,
        space: Space,
        source: PathBuf,
    ) -> anyhow::Result<Side> {
        let path = source.clone();
        let put = self.on_disk(&space, move |objects| files::put(objects, &path, &|_| ())).await?;
        Ok(Side { name, node, space, source, put })
    }

    async fn next(&self, events: &mut Receiver<Event>) -> anyhow::Result<Option<Event>> {
        let event = self.stop.run_until_cancelled(timeout(PATIENCE, events.recv())).await;
        let event = event.context("interrupted")?;
        match event.context("the two did not come into sync")? {
            Ok(event) => Ok(Some(event)),
            Err(RecvError::Lagged(_)) => Ok(None),
            Err(RecvError::Closed) => bail!("a node has stopped"),
        }
    }

    async fn in_sync(&self, events: &mut Receiver<Event>) -> anyhow::Result<()> {
        loop {
            match self.next(events).await? {
                Some(Event::InSync { .. }) => return Ok(()),
                Some(Event::PeerFault { fault, .. }) => bail!("a peer broke the protocol: {fault}"),
                _ => {}
            }
        }
    }

    /// Takes the frames of the session. After the second pong, what Bob had to say of it has come too.
    async fn settle(
        alice: &Side,
        bob: &Side,
        frames: &mut Receiver<Frame>,
        ladder: &mut Ladder,
    ) -> anyhow::Result<()> {
        for _ in 0..2 {
            alice.node.ping(bob.node.id()).await?;
        }
        loop {
            match frames.try_recv() {
                Ok(frame) => ladder.add(&frame),
                Err(TryRecvError::Lagged(lost)) => ladder.missed(lost),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Alice puts a note; gives its address and the keys of its aspects.
    async fn author(&self, alice: &mut Side) -> anyhow::Result<(Put, Vec<AspectKey>)> {
        let from = alice.space.status().stats.position.count;
        let text = format!("{} was here.\n", alice.name);
        let put = self.on_disk(&alice.space, move |objects| {
            files::put_reader(objects, "note.txt", text.as_bytes(), &|_| ())
        });
        let put = put.await?;
        let new = alice.space.since(from, usize::MAX).await?;
        Ok((put, new.into_iter().map(|(_, aspect)| aspect.key()).collect()))
    }

    async fn until_stored(
        &self,
        events: &mut Receiver<Event>,
        keys: &[AspectKey],
    ) -> anyhow::Result<()> {
        let mut missing: Vec<AspectKey> = keys.to_vec();
        while !missing.is_empty() {
            if let Some(Event::Stored { keys, .. }) = self.next(events).await? {
                missing.retain(|key| !keys.contains(key));
            }
        }
        Ok(())
    }

    /// Both stores aspect by aspect, and what each restores file by file.
    async fn compare(&self, alice: &Side, bob: &Side, note: &Put) -> anyhow::Result<Comparison> {
        let mut comparison = Comparison::new(self.stop.clone());
        comparison.aspects(&alice.space, &bob.space).await?;
        for side in [alice, bob] {
            let restored = self.folder.join(format!("restored-by-{}", side.name));
            for shared in [alice, bob] {
                let (address, to) = (shared.put.address, restored.join(shared.name));
                let from = shared.source.clone();
                std::fs::create_dir_all(&restored)?;
                let target = to.clone();
                self.on_disk(&side.space, move |objects| {
                    files::get(objects, address, None, &target, &|_| ())
                })
                .await?;
                comparison.trees(&from, &to)?;
            }
            let address = note.address;
            let read = self.on_disk(&side.space, move |objects| {
                let mut text = Vec::new();
                files::cat(objects, address, None, &mut text).map(|_| text)
            });
            comparison.file(&format!("{}'s note", side.name), &read.await?, b"Alice was here.\n");
        }
        Ok(comparison)
    }
}
