//! A peer-to-peer node to embed: content-addressed data, shared on a ring.
//!
//! A [`Node`] is one identity and one folder. It takes part in any number of *spaces*; in each it
//! holds the arc of the ring that it can, tells its peers which, works out with each what either
//! lacks, fetches that, and pushes what is new at once. Everything is stored durably before it is
//! acknowledged, listed or counted.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use arcwise::{Config, EntryAddress, Limits, NewAspect, Node};
//!
//! let node = Node::open(Config::new("data/alice")).await?;
//! let space = node.create_space("notes", Limits::default()).await?;
//! println!("others join with: {}", node.ticket(&space.id()).unwrap());
//!
//! let entry = EntryAddress([7; 32]);
//! space.publish(vec![NewAspect { entry, kind: 1, data: "hello".into(), signed: true }]).await?;
//! for aspect in space.entry(entry).await? {
//!     println!("{:?} says {:?}", aspect.author(), aspect.data());
//! }
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Handles ([`Node`], [`Space`]) are cheap to clone. A node needs a multi-threaded tokio runtime or a
//! single-threaded one; the disk is used on tokio's threads for blocking work.

mod archive;
mod audit;
mod bandwidth;
mod block;
mod broadcast;
pub mod capture;
mod config;
mod connection;
mod dial;
mod error;
mod event;
mod fill;
mod find;
mod frame;
mod gossip;
mod identity;
mod ingest;
mod nearby;
mod node;
mod options;
mod peer;
mod probe;
mod progress;
mod records;
mod request;
mod space;
mod swarm;
mod ticket;
mod traffic;
mod upkeep;
mod why;

pub use archive::{ExportError, Exported, ImportError, Imported};
pub use arcwise_proto::{
    ArcSet, Aspect, AspectHash, AspectKey, EntryAddress, Location, NodeId, RingArc, SpaceId, Time,
    limits::{MAX_ASPECT_DATA, MAX_DIRECT},
    reconcile::exchange::{Method, Report as Comparison},
    session::{Flow, Report, Role},
    swarm::{Copies, Level, Overview, Total},
    wire::Kind,
};
pub use arcwise_store::{CheckReport, Damage, Limits, SpaceStats, StoreError, StoreStats};
pub use bandwidth::{Bandwidth, BandwidthError};
pub use config::Config;
pub use error::{
    BlockError, CreateError, DialFailure, JoinError, OpenError, RequestError, SyncError,
};
pub use event::{Direction, Event, Frame, Source};
pub use find::{Asked, Found};
pub use iroh::RelayUrl;
pub use node::{Node, NodeStatus, UnreachablePeer};
pub use options::{ParseShareError, Share, SpaceOptions};
pub use peer::{PeerQuality, PeerSpaceStatus, PeerStatus};
pub use probe::{Tried, TriedAddress};
pub use progress::{Left, Progress, Rate};
pub use request::DirectMessage;
pub use space::{NewAspect, PublishError, Published, Replication, Space, SpaceStatus, SyncOptions};
pub use ticket::{Contact, Ticket, TicketError};
pub use traffic::{Moved, Traffic};
pub use url::Url;
pub use why::{Claim, Whereabouts};
