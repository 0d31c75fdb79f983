//! The daemon.

use std::{path::Path, process, time::Duration};

use anyhow::Context as _;
use arcwise::{Bandwidth, Config, Node, OpenError};
use jiff::Zoned;
use serde::Serialize;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    sync::broadcast::{Receiver, error::RecvError},
};
use tokio_util::sync::CancellationToken;

use super::peers::took;
use crate::{
    api::{
        Event, Feed, Server, Source,
        client::{self, shell_word},
    },
    args::Serve,
    exit::{Exit, Stdout},
    files::printable,
    output::{Output, count},
    signals::stop_at_signals,
};

pub(super) async fn serve(args: Serve, data: &Path, output: Output) -> anyhow::Result<Exit> {
    if !Node::exists(data) {
        return Err(client::Error::NoNode(data.to_owned()).into());
    }
    warn_of_readers(data);
    let stop = CancellationToken::new();
    stop_at_signals(stop.clone())?;
    let mut config = Config::new(data);
    config.listen = args.listen;
    config.relays = args.relay;
    config.local_network = !args.no_local_network;
    (config.pkarr, config.dns_origin) = (args.pkarr, args.dns_origin);
    if let Some(min_free) = args.min_free {
        config.store.min_free = min_free;
    }
    if args.limit.is_some() {
        config.store.max_bytes = args.limit;
    }
    if args.max_up.is_some() || args.max_down.is_some() {
        config.bandwidth = Some(Bandwidth::new(args.max_up, args.max_down)?);
    }
    config.capture = args.capture;
    // Where the disk has failed it, the store has to be opened again.
    while run(&config, data, &stop, output).await? == End::StoreStopped {
        output.say("There is room: opening the store again.");
        // It has ended with the store.
        config.capture = None;
    }
    Ok(Exit::Done)
}

/// Why the node does not run any more.
#[derive(PartialEq, Eq)]
enum End {
    Asked,
    StoreStopped,
}

/// Runs the node until it is to stop, or its store has stopped and may be opened again.
async fn run(
    config: &Config,
    data: &Path,
    stop: &CancellationToken,
    output: Output,
) -> anyhow::Result<End> {
    let node = open(config, output).await?;
    // A request may ask for it too.
    let stop = stop.child_token();
    let (feed, events) = (Feed::new(&node), node.events());
    let server = Server::start(&node, data, stop.clone())
        .with_context(|| format!("cannot make the socket for commands in {}", data.display()))?;

    // A daemon does not need to be read.
    let _ = greet(&node, data, output);
    let telling = tokio::spawn(tell(feed, output));
    let end = tokio::select! {
        () = stop.cancelled() => End::Asked,
        () = recovered(&node, events, config.store.min_free) => End::StoreStopped,
    };
    if end == End::Asked {
        output.say("Shutting down.");
    }
    telling.abort();
    let _ = telling.await;
    server.stop(node).await;
    Ok(end)
}

/// Waits until the store has stopped and there is room on the disk for it to go on. Until then it
/// serves what it holds.
async fn recovered(node: &Node, mut events: Receiver<arcwise::Event>, min_free: u64) {
    /// More than the engine writes at a time.
    const ROOM: u64 = 64 << 20;
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        match events.recv().await {
            Ok(arcwise::Event::StoreStopped { .. }) => break,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
    loop {
        tokio::time::sleep(PAUSE).await;
        if node.free_space().await.is_ok_and(|free| free >= min_free.saturating_add(ROOM)) {
            return;
        }
    }
}

/// The folder holds what lets others into the spaces.
fn warn_of_readers(data: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(data).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        let word = shell_word(data);
        tracing::warn!(
            "other users can look into the data folder; to keep them out: chmod 700 {word}"
        );
    }
}

/// Opens the node. A daemon that was killed a moment ago may still hold the store: the system takes its
/// time to clear up after it.
async fn open(config: &Config, output: Output) -> Result<Node, OpenError> {
    const ATTEMPTS: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(100);
    for attempt in 0..ATTEMPTS {
        match Node::open(config.clone()).await {
            Err(OpenError::Store(arcwise_store::OpenError::Locked(_))) => {
                if attempt == 0 {
                    output
                        .say("Another process has the store open; waiting a moment for it to go.");
                }
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
    Node::open(config.clone()).await
}

/// Says who and where the node is. The last line comes when commands are answered.
fn greet(node: &Node, data: &Path, output: Output) -> Result<(), Stdout> {
    let (id, listening) = (node.id(), node.listening());
    if output.json {
        return output.json(&Line {
            time: now(),
            what: json!({
                "event": "ready",
                "node": id.to_string(),
                "listening": listening,
                "data": data.display().to_string(),
                "pid": process::id(),
            }),
        });
    }
    let addresses: Vec<_> = listening.iter().map(ToString::to_string).collect();
    output.line(format_args!(
        "node       {id}\nlistening  {}\ndata       {}\nready      stop with Ctrl-C or: arcwise stop{}",
        addresses.join(", "),
        data.display(),
        super::node::data_option(data),
    ))
}

#[derive(Serialize)]
struct Line<T> {
    time: String,
    #[serde(flatten)]
    what: T,
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// Prints what happens, until nobody reads it any more.
async fn tell(mut feed: Feed, output: Output) {
    let mut out = tokio::io::stdout();
    while let Some(event) = feed.next().await {
        let line = match output.json {
            true => serde_json::to_string(&Line { time: now(), what: &event }).unwrap_or_default(),
            false => format!("{} {}", Zoned::now().strftime("%H:%M:%S"), told(&event)),
        };
        let written = out.write_all(format!("{line}\n").as_bytes()).await;
        if written.is_err() || out.flush().await.is_err() {
            return;
        }
    }
}

fn told(event: &Event) -> String {
    let clean = |text: &str| printable(text.as_bytes());
    match event {
        Event::PeerConnected { peer, agent } => {
            format!("{} connected: {}", peer.short(), clean(agent))
        }
        Event::PeerDisconnected { peer, reason } => {
            format!("{} disconnected: {}", peer.short(), clean(reason))
        }
        Event::SpaceShared { peer, name, .. } => {
            format!("{} is in “{}” too", peer.short(), clean(name))
        }
        Event::Stored { name, source, aspects, .. } => {
            let (aspects, name) = (count(*aspects, "aspect"), clean(name));
            match source {
                Source::Local => format!("stored {aspects} put into “{name}” here"),
                Source::Broadcast { peer } => {
                    format!("stored {aspects} of “{name}”, pushed by {}", peer.short())
                }
                Source::Gossip { peer } => {
                    format!("stored {aspects} of “{name}”, fetched from {}", peer.short())
                }
                Source::Import => format!("stored {aspects} of “{name}” out of an archive"),
            }
        }
        Event::InSync { peer, name, report, .. } => {
            format!("{} in sync in “{}”: {}", peer.short(), clean(name), took(report))
        }
        Event::SyncFailed { peer, name, reason, .. } => {
            let (name, reason) = (clean(name), clean(reason));
            format!("{} not in sync in “{name}”: {reason}; it is tried again", peer.short())
        }
        Event::PeerFault { peer, fault } => {
            format!("{} broke a rule: {}", peer.short(), clean(fault))
        }
        Event::ArcChanged { name, held, .. } => {
            format!("holds {} of “{}” now", super::space::share(held), clean(name))
        }
        Event::Removed { name, aspects, .. } => {
            format!("removed {} of “{}”", count(*aspects, "aspect"), clean(name))
        }
        Event::Full { name, reason, .. } => {
            format!("takes nothing new of “{}”: {}", clean(name), clean(reason))
        }
        Event::Room { name, .. } => format!("takes what is new of “{}” again", clean(name)),
        Event::StoreStopped { reason } => format!("stores nothing: {}", clean(reason)),
        Event::Missed { events } => {
            format!("{} not told: too many at a time", count(*events, "event"))
        }
    }
}
