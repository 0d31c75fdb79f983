//! Trying to reach a peer, address by address, to find out why it is not reached.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use arcwise_proto::{NodeId, swarm::Address};
use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode, RelayUrl, TransportAddr,
    endpoint::{VarInt, presets},
};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    DialFailure, Node,
    connection::{ALPN, close},
    ingest::blocking,
    node::Inner,
};

/// How long one address may take. A guess: several times the longest round trips, and people wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the system may take to say that nobody listens on a port.
const PORT: Duration = Duration::from_secs(1);

/// Addresses tried, at most.
const MAX_TRIED: usize = 16;

/// What came of trying one address of a peer.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Which.
    pub address: TriedAddress,
    /// How long it took to connect, or why that failed.
    pub outcome: Result<Duration, DialFailure>,
}

/// Where a peer was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriedAddress {
    /// Directly.
    Ip(SocketAddr),
    /// Through a relay.
    Relay(RelayUrl),
}

impl Node {
    /// Tries each address by itself at which a peer may be reached: these, and those that this node knows.
    /// Each with a key and a port of their own, so that nothing that works already helps. Relays are tried
    /// only where this node uses them itself. What the node does otherwise goes on.
    pub async fn probe(
        &self,
        peer: NodeId,
        addresses: &[SocketAddr],
        relays: &[RelayUrl],
    ) -> Vec<Tried> {
        let relays = relays.iter().map(|url| Address::Relay(url.to_string()));
        let said: Vec<_> = addresses.iter().copied().map(Address::Ip).chain(relays).collect();
        let mut trying = JoinSet::new();
        let known = self.running.addresses(&peer, &said);
        for (place, address) in known.into_iter().take(MAX_TRIED).enumerate() {
            let tried = match &address {
                TransportAddr::Ip(address) => TriedAddress::Ip(*address),
                TransportAddr::Relay(url) if self.running.relays.contains(url) => {
                    TriedAddress::Relay(url.clone())
                }
                _ => continue,
            };
            let inner = self.running.inner();
            trying.spawn(async move {
                let mut outcome = connect(&inner, peer, address).await;
                if let (TriedAddress::Ip(ip), Err(DialFailure::NoAnswer(_))) = (&tried, &outcome) {
                    let ip = *ip;
                    if blocking(move || is_closed(ip)).await {
                        outcome = Err(DialFailure::PortClosed);
                    }
                }
                (place, Tried { address: tried, outcome })
            });
        }
        let mut tried = trying.join_all().await;
        tried.sort_by_key(|(place, _)| *place);
        tried.into_iter().map(|(_, tried)| tried).collect()
    }
}

/// Connects, and hangs up at once.
async fn connect(
    inner: &Inner,
    peer: NodeId,
    address: TransportAddr,
) -> Result<Duration, DialFailure> {
    let key = EndpointId::from_bytes(peer.as_bytes()).map_err(|_| DialFailure::NoKey)?;
    let relays = match &address {
        TransportAddr::Relay(url) => RelayMode::custom([url.clone()]),
        _ => RelayMode::Disabled,
    };
    let builder = Endpoint::builder(presets::Minimal).relay_mode(relays).clear_address_lookup();
    let endpoint = builder.bind().await.map_err(|error| DialFailure::Other(error.to_string()))?;
    let start = Instant::now();
    let connecting = endpoint.connect(EndpointAddr::from_parts(key, [address]), ALPN);
    let outcome = match timeout(PATIENCE, connecting).await {
        Err(_) => Err(DialFailure::NoAnswer(PATIENCE)),
        Ok(Err(error)) => Err(DialFailure::of(&error)),
        Ok(Ok(conn)) => {
            conn.close(VarInt::from_u32(close::SHUTDOWN), b"only to see whether it can be reached");
            Ok(start.elapsed())
        }
    };
    // Takes seconds where nobody answers.
    inner.spawn(async move { endpoint.close().await });
    outcome
}

/// Whether the machine says that no program listens on a port. A node is silent on what is no packet of
/// its protocol, and so is what filters.
fn is_closed(address: SocketAddr) -> bool {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let ask = || {
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(PORT))?;
        socket.send(&[0])?;
        socket.recv(&mut [0])
    };
    ask().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}
