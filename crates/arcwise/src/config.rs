//! What a node is told when it is opened.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use iroh::RelayUrl;

use crate::Bandwidth;

/// How a node is set up. [`Config::new`] gives defaults for everything but the folder.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where the node keeps its key and its data; made if missing. One process at a time.
    pub folder: PathBuf,
    /// UDP addresses to listen on. Port 0 means: the port of last time if it is free, else any. Empty
    /// (the default) means every interface, IPv4 and IPv6, with port 0.
    pub listen: Vec<SocketAddr>,
    /// Relay servers that carry traffic where no direct path can be found. None by default: then
    /// the node contacts nobody but the peers it was told of.
    pub relays: Vec<RelayUrl>,
    /// How often a connected peer is asked for news at the least, while nothing happens; some jitter is
    /// added. Where something was stored it is asked within a second. Shorter costs more idle traffic.
    /// The default, 5 min, is a guess.
    pub gossip_interval: Duration,
    /// How long a peer may be away, where without it there are fewer copies than the space wants at the
    /// least, before others take its place. Where there are enough, it may be away for longer. The
    /// default, 2 min, is a guess: a restart, or a walk from one network to the next.
    pub patience: Duration,
    /// Whether what is new is pushed to peers at once, and announced to them. Without it only gossip
    /// brings it to them: later, and with less traffic.
    pub push: bool,
    /// Whether this node compares with peers by itself. Without it only what is pushed arrives: for
    /// measurements.
    pub pull: bool,
    /// How fast it may send and receive. `None`, the default: as [`Node::set_bandwidth`] has set it, and else
    /// as fast as it goes.
    ///
    /// [`Node::set_bandwidth`]: crate::Node::set_bandwidth
    pub bandwidth: Option<Bandwidth>,
    /// The store's own settings.
    pub store: arcwise_store::Options,
}

impl Config {
    /// The defaults, with the data in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            listen: Vec::new(),
            relays: Vec::new(),
            gossip_interval: Duration::from_secs(300),
            patience: Duration::from_secs(120),
            push: true,
            pull: true,
            bandwidth: None,
            store: arcwise_store::Options::default(),
        }
    }

    /// Listens on this machine only, on a free port: for tests and trials.
    pub fn loopback(mut self) -> Self {
        self.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        self
    }
}
