//! Keeping the connections to the peers that the node knows.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arcwise_proto::NodeId;
use iroh::{EndpointAddr, EndpointId, RelayUrl, TransportAddr};
use tokio::{sync::Notify, time::timeout};

use crate::{
    connection::{self, ALPN, jitter},
    node::{Inner, UnreachablePeer},
    peer::{Peer, lock},
};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// First and longest wait between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

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
    pub(crate) failure: Option<String>,
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

impl Inner {
    /// Every peer that the store knows is dialled.
    pub(crate) fn dial_known(self: &Arc<Self>) -> Result<(), arcwise_store::StoreError> {
        for (id, record) in self.store.peers()? {
            lock(&self.known).insert(id, PeerRecord::decode(&record));
            self.dial(id);
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
            let learnt = crate::ingest::blocking({
                let inner = inner.clone();
                move || inner.learn(id, record)
            });
            match learnt.await {
                Ok(()) => inner.dial(id),
                Err(error) => tracing::error!(%error, "a peer's address was not remembered"),
            }
        });
    }

    fn not_reached(&self, id: NodeId, failure: String) {
        tracing::debug!(peer = %id.short(), failure, "dialling failed");
        if let Some(record) = lock(&self.known).get_mut(&id) {
            record.failure = Some(failure);
        }
    }

    /// Sees to it that a connection to the peer is kept; tries at once where one is being waited
    /// for.
    pub(crate) fn dial(self: &Arc<Self>, id: NodeId) {
        let mut dialing = lock(&self.dialing);
        if let Some(hurry) = dialing.get(&id) {
            hurry.notify_one();
            return;
        }
        let hurry = Arc::new(Notify::new());
        dialing.insert(id, hurry.clone());
        let inner = self.clone();
        self.spawn(async move {
            let stop = inner.stop.clone();
            stop.run_until_cancelled(keep(inner, id, hurry)).await;
        });
    }
}

async fn keep(inner: Arc<Inner>, id: NodeId, hurry: Arc<Notify>) {
    let Ok(key) = EndpointId::from_bytes(id.as_bytes()) else {
        tracing::warn!(peer = %id.short(), "the id of a known peer is no public key");
        return;
    };
    let mut connected = inner.connected.subscribe();
    let mut wait = Duration::ZERO;
    loop {
        // Wakes without a change too, so the state is looked at again below.
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = hurry.notified() => wait = Duration::ZERO,
        }
        if inner.peer(&id).is_some() {
            let _ = connected.wait_for(|connected| !connected.contains(&id)).await;
            // Both sides see the end at the same moment: not both dial at once.
            wait = jitter(RETRY.0 / 5);
            continue;
        }
        let record = lock(&inner.known).get(&id).cloned().unwrap_or_default();
        let address = EndpointAddr::from_parts(key, record.addresses);
        let permit = inner.dials.acquire().await;
        let result = timeout(ATTEMPT, inner.endpoint.connect(address, ALPN)).await;
        drop(permit);
        match result {
            Ok(Ok(conn)) => {
                wait = RETRY.0;
                if let Some(record) = lock(&inner.known).get_mut(&id) {
                    record.failure = None;
                }
                connection::run(&inner, conn).await;
                continue;
            }
            Ok(Err(error)) => inner.not_reached(id, format!("{error:#}")),
            Err(_) => inner.not_reached(id, format!("no answer within {} s", ATTEMPT.as_secs())),
        }
        wait = jitter((wait * 2).clamp(RETRY.0, RETRY.1));
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
