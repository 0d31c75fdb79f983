//! What a node is told when it is opened.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use iroh::RelayUrl;
use url::Url;

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
    /// Whether nodes on the local network that are in the same space are found without a ticket's address.
    /// Its id and its addresses are announced there, by multicast DNS, and tags that tell its spaces to
    /// nobody but who is in them. On by default. Not done where it listens on this machine only.
    pub local_network: bool,
    /// A pkarr relay, at which this node publishes where it may be reached, signed by its key, and asks for
    /// the addresses of the peers that it dials; so a node's id is enough to reach it. Whoever runs the
    /// relay learns of both. None by default.
    pub pkarr: Option<Url>,
    /// A domain under which iroh's DNS server answers with what was published at a pkarr relay, such as
    /// `dns.example.org`; asked for the peers that are dialled. None by default.
    pub dns_origin: Option<String>,
    /// How often a connected peer is asked for news at the least, while nothing happens; some jitter is
    /// added. Where something was stored it is asked within a second. Shorter costs more idle traffic.
    /// The default, 5 min, is a guess.
    pub gossip_interval: Duration,
    /// How long a peer may be away, where without it there are fewer copies than the space wants at the
    /// least, before others take its place. Where there are enough, it may be away five times as long, or
    /// three times as long as it was before, up to a day. The default, 2 min, is a guess: a restart, or a
    /// walk from one network to the next.
    pub patience: Duration,
    /// How long a connection may stand while there is no space that both are in. The default, 1 min, is a
    /// guess: a ticket may be on its way.
    pub strangers: Duration,
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
    /// A file to write down what the node's machines are told and what they answer, to be replayed elsewhere:
    /// see [`capture`](crate::capture). It must not exist; 256 MiB at the most. `None` by default.
    pub capture: Option<PathBuf>,
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
            local_network: true,
            pkarr: None,
            dns_origin: None,
            gossip_interval: Duration::from_secs(300),
            patience: Duration::from_secs(120),
            strangers: Duration::from_secs(60),
            push: true,
            pull: true,
            bandwidth: None,
            capture: None,
            store: arcwise_store::Options::default(),
        }
    }

    /// Listens on this machine only, on a free port, and looks for nobody: for tests and trials.
    pub fn loopback(mut self) -> Self {
        self.local_network = false;
        self.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        self
    }
}
