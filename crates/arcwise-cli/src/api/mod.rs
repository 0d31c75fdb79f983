//! How the commands talk to the daemon.
//!
//! HTTP/1.1 over a Unix socket, `api.sock` in the data folder. Only the user who runs the daemon
//! gets an answer. It is for this machine and this version: it may change with every release.
//!
//! ```text
//! curl --unix-socket DIR/api.sock http://arcwise/v1/status
//! ```
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/spaces` | | list of [`Space`] |
//! | `POST /v1/spaces` | [`NewSpace`] | [`Space`] |
//! | `GET /v1/space?space=` | | [`Space`] |
//! | `GET /v1/space-id?space=` | | [`SpaceId`]: the secret itself |
//! | `GET /v1/ticket?space=` | | [`Ticket`] |
//! | `POST /v1/join` | [`Join`] | [`Joined`] |
//! | `POST /v1/space/limit?space=` | [`Limit`] | [`Space`] |
//! | `POST /v1/space/arc?space=` | [`Hold`] | [`Held`] |
//! | `GET /v1/watch?space=` | | lines of [`Space`], when something about one changes |
//! | `GET /v1/why?space=&what=` | | [`Why`] |
//! | `GET /v1/peers?ping=` | | [`Peers`] |
//! | `GET /v1/bandwidth` | | [`Bandwidth`] |
//! | `POST /v1/bandwidth` | [`Bandwidth`] | [`Bandwidth`] |
//! | `POST /v1/probe` | [`Probe`] | list of [`Tried`], one for each address |
//! | `POST /v1/sync` | [`Sync`] | lines of [`Synced`], one for each peer |
//! | `POST /v1/check` | [`Check`] | [`Checked`], when all was read |
//! | `GET /v1/events` | | lines of [`Event`], until the daemon stops |
//! | `POST /v1/stop` | | lines of [`Stopping`]; ends when the data folder is free |
//! | `POST /v1/replicated?space=&copies=` | names of objects | lines of [`Replication`]; ends when there are as many copies |
//! | `POST /v1/aspects?space=` | new aspects | nothing; they are durable then |
//! | `POST /v1/missing?space=` | names of objects | names of those that the node does not hold |
//! | `POST /v1/objects?space=` | names of objects | for each its aspect, if it can be had |
//! | `GET /v1/entry?space=&address=` | | all aspects of the entry |
//! | `GET /v1/export?space=` | | an archive in pieces |
//! | `POST /v1/import` | an archive | a line with an [`Import`], as soon as it is known |
//!
//! `space` is a name or the beginning of a fingerprint, and may be left out where there is only one
//! space. Bodies are JSON, and *lines* are JSON values with a line feed after each, sent as they come
//! up; the last six are of the binary form that [`wire`] describes. A request that fails is answered
//! with an [`Error`] and a fitting HTTP status.

pub(crate) mod client;
mod error;
mod feed;
mod server;
mod socket;
mod types;
pub(crate) mod wire;

pub(crate) use self::{
    client::Client,
    error::{Code, Error},
    feed::Feed,
    server::Server,
    types::*,
};

/// Most bytes in the body of a request: several times what a put sends at a time.
const MAX_REQUEST: usize = 32 << 20;
