//! Connecting to peers. Whom and when is decided by the spaces' swarms.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use arcwise_proto::{NodeId, SpaceId, swarm::Address};
use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayUrl, TransportAddr,
    endpoint::{ConnectError, ConnectOptions, Connection},
};
use tokio::time::timeout;

use crate::{
    DialFailure, RequestError,
    connection::{self, ALPN, Unwanted},
    ingest::blocking,
    node::{self, Inner, UnreachablePeer},
    peer::{Peer, lock},
};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// How long one address may take where each is tried by itself.
const ALONE: Duration = Duration::from_secs(5);

/// So long the network layer remembers addresses of a peer that it was told of, and sends to all of them,
/// after the last attempt: a minute, and a little.
const REMEMBERED: Duration = Duration::from_secs(65);

/// An address that has led to another node is left out for so long. A guess: it may be given back.
const WRONG: Duration = Duration::from_secs(3600);

/// Addresses remembered for one peer, at most; the newest go first.
const MAX_ADDRESSES: usize = 8;

/// Peers remembered, at most. Later ones are served but not remembered.
const MAX_PEERS: usize = 1024;

/// Where a peer may be reached, as it is kept in the store: a line for each address, `ip` or
/// `relay`, a space, and the address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerRecord {
    pub(crate) addresses: Vec<TransportAddr>,
    /// Why it could not be reached the last time. Not kept in the store.
    pub(crate) failure: Option<DialFailure>,
}

impl PeerRecord {
    pub(crate) fn new(
        addresses: impl IntoIterator<Item = SocketAddr>,
        relays: impl IntoIterator<Item = RelayUrl>,
    ) -> Self {
        let addresses = addresses.into_iter().map(TransportAddr::Ip);
        let relays = relays.into_iter().map(TransportAddr::Relay);
        Self { addresses: addresses.chain(relays).collect(), failure: None }
    }

    pub(crate) fn unreachable(&self, id: NodeId) -> UnreachablePeer {
        let addresses = self.addresses.iter().filter_map(|address| match address {
            TransportAddr::Ip(address) => Some(*address),
            _ => None,
        });
        let relays = self.addresses.iter().filter_map(|address| match address {
            TransportAddr::Relay(url) => Some(url.clone()),
            _ => None,
        });
        UnreachablePeer {
            id,
            addresses: addresses.collect(),
            relays: relays.collect(),
            failure: self.failure.clone(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let line = |address: &TransportAddr| match address {
            TransportAddr::Ip(address) => Some(format!("ip {address}\n")),
            TransportAddr::Relay(url) => Some(format!("relay {url}\n")),
            _ => None,
        };
        self.addresses.iter().filter_map(line).collect::<String>().into_bytes()
    }

    /// Lines that a later version may have written are left out.
    fn decode(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let address = |line: &str| match line.split_once(' ')? {
            ("ip", address) => address.parse().ok().map(TransportAddr::Ip),
            ("relay", url) => url.parse().ok().map(TransportAddr::Relay),
            _ => None,
        };
        Self { addresses: text.lines().filter_map(address).collect(), failure: None }
    }

    /// Puts what is newer in front.
    fn merge(&mut self, newer: PeerRecord) {
        let older = std::mem::replace(&mut self.addresses, newer.addresses);
        self.addresses.extend(older);
        let mut seen = Vec::new();
        self.addresses.retain(|address| {
            let new = !seen.contains(address);
            seen.push(address.clone());
            new
        });
        self.addresses.truncate(MAX_ADDRESSES);
    }
}

fn ip(address: &TransportAddr) -> Option<SocketAddr> {
    match address {
        TransportAddr::Ip(address) => Some(*address),
        _ => None,
    }
}

/// Of a peer, addresses that lead to other nodes.
pub(crate) struct Misled {
    addresses: BTreeSet<SocketAddr>,
    /// When the network layer was told of one of them.
    at: Instant,
}

/// One attempt, of the network layer as a whole.
async fn connect(
    endpoint: &Endpoint,
    key: EndpointId,
    addresses: impl IntoIterator<Item = TransportAddr>,
    patience: Duration,
) -> Result<Connection, DialFailure> {
    let address = EndpointAddr::from_parts(key, addresses);
    let options = ConnectOptions::new().with_transport_config(node::transport(true));
    let connecting = async {
        let connecting = endpoint.connect_with_opts(address, ALPN, options).await?;
        Ok::<_, ConnectError>(connecting.await?)
    };
    let result = timeout(patience, connecting).await;
    let result = result.map_err(|_| DialFailure::NoAnswer(patience))?;
    result.map_err(|error| DialFailure::of(&error))
}

impl Inner {
    /// Every peer that the store knows may be asked who is there.
    pub(crate) fn load_known(&self) -> Result<(), arcwise_store::StoreError> {
        for (id, record) in self.store.peers()? {
            lock(&self.known).insert(id, PeerRecord::decode(&record));
        }
        Ok(())
    }

    /// Learns where a peer may be reached, for now and for the next start. Blocks.
    pub(crate) fn learn(
        &self,
        id: NodeId,
        record: PeerRecord,
    ) -> Result<(), arcwise_store::StoreError> {
        let merged = {
            let mut known = lock(&self.known);
            if !known.contains_key(&id) && known.len() >= MAX_PEERS {
                return Ok(());
            }
            let entry = known.entry(id).or_default();
            let before = entry.clone();
            entry.merge(record);
            if *entry == before {
                return Ok(());
            }
            entry.clone()
        };
        self.store.put_peer(&id, &merged.encode())
    }

    /// A connection works: the node will find this peer again.
    pub(crate) fn remember(self: &Arc<Self>, peer: &Peer) {
        let (inner, id) = (self.clone(), peer.id);
        let record = PeerRecord { addresses: peer.addresses(), failure: None };
        self.spawn(async move {
            if let Err(error) = blocking(move || inner.learn(id, record)).await {
                tracing::error!(%error, "a peer's address was not remembered");
            }
        });
    }

    /// Where a peer may be reached, by all that is known: what has worked first.
    pub(crate) fn addresses(&self, id: &NodeId, at: &[Address]) -> Vec<TransportAddr> {
        let known = lock(&self.known).get(id).cloned().unwrap_or_default();
        let mut said = at.to_vec();
        for space in &*lock(&self.spaces) {
            said.extend_from_slice(lock(&space.swarm).addresses_of(id));
        }
        let nearby = lock(&self.nearby);
        let nearby = nearby.get(id).map(|heard| heard.addresses.as_slice()).unwrap_or_default();
        said.extend(nearby.iter().copied().map(Address::Ip));
        let said = said.iter().filter_map(|address| match address {
            Address::Ip(address) => Some(TransportAddr::Ip(*address)),
            Address::Relay(url) => url.parse().ok().map(TransportAddr::Relay),
        });
        let mut seen = BTreeSet::new();
        let all = known.addresses.into_iter().chain(said);
        all.filter(|address| seen.insert(address.clone())).collect()
    }

    /// Makes one attempt to connect, unless there is a connection or one is under way.
    pub(crate) fn dial(self: &Arc<Self>, id: NodeId) {
        self.dial_at(id, &[]);
    }

    /// As [`Inner::dial`], maybe at these addresses.
    fn dial_at(self: &Arc<Self>, id: NodeId, at: &[Address]) {
        if self.peer(&id).is_some() {
            return;
        }
        if !self.dialing.send_if_modified(|dialing| dialing.insert(id)) {
            return;
        }
        let addresses = self.addresses(&id, at);
        let inner = self.clone();
        self.spawn(async move {
            let stop = inner.stop.clone();
            let result = stop.run_until_cancelled(inner.attempt(id, addresses)).await;
            match result {
                Some(Err(failure)) => inner.not_reached(&id, failure),
                _ => inner.dialed(&id),
            }
        });
    }

    /// An attempt has led to something, or to nothing.
    pub(crate) fn dialed(&self, id: &NodeId) {
        self.dialing.send_if_modified(|dialing| dialing.remove(id));
    }

    async fn attempt(
        self: &Arc<Self>,
        id: NodeId,
        addresses: Vec<TransportAddr>,
    ) -> Result<(), DialFailure> {
        let key = EndpointId::from_bytes(id.as_bytes()).map_err(|_| DialFailure::NoKey)?;
        if self.is_blocked(&id) {
            return Err(DialFailure::Blocked);
        }
        let permit = self.dials.acquire().await;
        let (mut apart, ips) = (None, addresses.iter().filter_map(ip).collect::<Vec<_>>());
        let ask_all = self.may_ask_all(&id);
        let apart_too = addresses.len() > 1 || !ask_all;
        let result = match ask_all {
            true => {
                let (wrong, right): (Vec<_>, Vec<_>) =
                    addresses.into_iter().partition(|it| self.is_wrong(&id, it));
                // Where nothing else is known, they may have become right.
                let addresses = if right.is_empty() { wrong } else { right };
                connect(&self.endpoint, key, addresses, ATTEMPT).await
            }
            false => Err(DialFailure::OtherNode),
        };
        let result = match result {
            // It sends to all addresses at once, and one where somebody else answers ends it.
            Err(DialFailure::OtherNode | DialFailure::OtherProtocol) if apart_too => {
                match self.connect_apart(&id, key, ips).await {
                    Ok((endpoint, conn)) => {
                        apart = Some(endpoint);
                        Ok(conn)
                    }
                    Err(failure) => Err(failure),
                }
            }
            result => result,
        };
        drop(permit);
        let ended = connection::run(self, result?).await;
        if let Some(endpoint) = apart {
            self.spawn(async move { endpoint.close().await });
        }
        ended
    }

    /// Whether the network layer may be asked to reach a peer: not while it sends to a wrong address.
    fn may_ask_all(&self, id: &NodeId) -> bool {
        let misled = lock(&self.misled);
        misled.get(id).is_none_or(|misled| misled.at.elapsed() >= REMEMBERED)
    }

    fn is_wrong(&self, id: &NodeId, address: &TransportAddr) -> bool {
        let misled = lock(&self.misled);
        let misled = misled.get(id).filter(|misled| misled.at.elapsed() < WRONG);
        misled.zip(ip(address)).is_some_and(|(misled, ip)| misled.addresses.contains(&ip))
    }

    /// Tries each IP address by itself, with a socket of its own: the network layer mixes up what belongs
    /// to one peer. Notes which ones lead to another node.
    async fn connect_apart(
        &self,
        id: &NodeId,
        key: EndpointId,
        addresses: Vec<SocketAddr>,
    ) -> Result<(Endpoint, Connection), DialFailure> {
        if self.may_ask_all(id) {
            let mut misled = lock(&self.misled);
            misled.retain(|_, misled| misled.at.elapsed() < WRONG);
            if misled.len() < MAX_PEERS || misled.contains_key(id) {
                let fresh = Misled { addresses: BTreeSet::new(), at: Instant::now() };
                misled.entry(*id).or_insert(fresh).at = Instant::now();
            }
        }
        let mut last = DialFailure::OtherNode;
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            if self.is_wrong(id, &TransportAddr::Ip(address)) {
                continue;
            }
            let any = self.endpoint.bound_sockets().into_iter();
            let any: Vec<_> = any.map(|bound| SocketAddr::new(bound.ip(), 0)).collect();
            let key_of_this = self.endpoint.secret_key().clone();
            let builder = node::builder(key_of_this, &any).map_err(DialFailure::Other)?;
            let endpoint = builder.bind().await;
            let endpoint = endpoint.map_err(|error| DialFailure::Other(format!("{error:#}")))?;
            match connect(&endpoint, key, [TransportAddr::Ip(address)], ALONE).await {
                Ok(conn) => return Ok((endpoint, conn)),
                Err(failure @ (DialFailure::OtherNode | DialFailure::OtherProtocol)) => {
                    if let Some(misled) = lock(&self.misled).get_mut(id) {
                        misled.addresses.insert(address);
                    }
                    last = failure;
                }
                Err(failure) => last = failure,
            }
            // Takes seconds where nobody answers.
            self.spawn(async move { endpoint.close().await });
        }
        Err(last)
    }

    fn not_reached(self: &Arc<Self>, id: &NodeId, failure: DialFailure) {
        // It has reached this node meanwhile.
        if self.peer(id).is_some() {
            return self.dialed(id);
        }
        tracing::debug!(peer = %id.short(), %failure, "dialling failed");
        if let Some(record) = lock(&self.known).get_mut(id) {
            record.failure = Some(failure);
        }
        // Before the swarms are told, since they may want it dialled again, where it is by now.
        self.dialed(id);
        let spaces = lock(&self.spaces).clone();
        for space in spaces {
            space.swarm(self, &[], |swarm, now| swarm.unreachable(now, id));
        }
    }

    /// A space has no more use for the connection with a peer. Only who dialled ends it, and only where
    /// no other space has.
    pub(crate) fn let_go(&self, id: &NodeId) {
        let Some(peer) = self.peer(id).filter(|peer| peer.dialer) else { return };
        let wanted = lock(&self.spaces).iter().any(|space| lock(&space.swarm).wants(id));
        if !wanted {
            peer.hang_up(Unwanted::Spare);
        }
    }

    /// A peer in a space, connected or to be connected now, maybe at these addresses.
    ///
    /// # Errors
    /// [`RequestError::NotConnected`] where it cannot be reached, [`RequestError::NotShared`] where it is
    /// not in the space.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        id: &NodeId,
        space: &SpaceId,
        at: &[Address],
    ) -> Result<Arc<Peer>, RequestError> {
        let mut dialing = self.dialing.subscribe();
        self.dial_at(*id, at);
        // Ends with the node at the latest.
        let _ = dialing.wait_for(|dialing| !dialing.contains(id)).await;
        let peer = self.peer(id).ok_or(RequestError::NotConnected)?;
        peer.shared(space).await.ok_or(RequestError::NotShared)?;
        Ok(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_store() {
        let relay: RelayUrl = "https://relay.example./".parse().unwrap();
        let mut record = PeerRecord::new(["127.0.0.1:1".parse().unwrap()], [relay]);
        assert_eq!(PeerRecord::decode(&record.encode()), record);
        assert_eq!(
            PeerRecord::decode(b"carrier-pigeon coop 7\nip nonsense\n\xff"),
            PeerRecord::default()
        );
        for port in 0..20 {
            record.merge(PeerRecord::new([SocketAddr::from(([1, 2, 3, 4], port))], []));
            record.merge(PeerRecord::new([SocketAddr::from(([1, 2, 3, 4], port))], []));
        }
        assert_eq!(record.addresses.len(), MAX_ADDRESSES);
        assert_eq!(record.addresses[0], TransportAddr::Ip("1.2.3.4:19".parse().unwrap()));
    }
}
