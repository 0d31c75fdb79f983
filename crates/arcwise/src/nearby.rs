//! Finding peers on the local network, by multicast DNS.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use arcwise_proto::{
    NodeId, SpaceId,
    swarm::{announced, announcement},
};
use iroh::{
    TransportAddr, Watcher,
    address_lookup::{AddressLookup, EndpointData, EndpointInfo},
};
use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use tokio_stream::StreamExt;

use crate::{node::Inner, peer::lock};

/// The service that is announced: `_arcwise1._udp.local`.
const SERVICE: &str = "arcwise1";

/// About how often one of all nodes on a network asks who is there. A guess: a newcomer waits so long, and
/// more often would cost batteries.
const CADENCE: Duration = Duration::from_secs(10);

/// Nodes on the local network that are remembered. A guess: anybody can announce any number.
const MAX_NEARBY: usize = 256;

/// Addresses of each.
const MAX_ADDRESSES: usize = 8;

/// Whoever was heard of on the local network, and not whether it is true.
pub(crate) type Nearby = BTreeMap<NodeId, Heard>;

pub(crate) struct Heard {
    pub(crate) addresses: Vec<SocketAddr>,
    /// What it says of its spaces.
    text: String,
}

/// Announces this node, and hands those who are in spaces of ours to these, until the node stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut seed = [0; 32];
    if let Err(error) = getrandom::fill(&mut seed) {
        tracing::warn!(%error, "peers on the local network are not looked for");
        return;
    }
    let builder = MdnsAddressLookup::builder().service_name(SERVICE).discovery_cadence(CADENCE);
    let lookup = match builder.build(inner.endpoint.id()) {
        Ok(lookup) => lookup,
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(error, "peers on the local network are not looked for");
            return;
        }
    };
    let mut events = lookup.subscribe().await;
    let (mut addresses, mut changes) = (inner.endpoint.watch_addr(), inner.changes.subscribe());
    let (mut said, mut ours) = (None, Vec::new());
    loop {
        let spaces: Vec<SpaceId> = lock(&inner.spaces).iter().map(|space| space.id()).collect();
        let data = announce(&inner, &spaces, &seed);
        if said.as_ref() != Some(&data) {
            lookup.publish(&data);
            said = Some(data);
        }
        if spaces != ours {
            ours = spaces;
            let heard: Vec<NodeId> = lock(&inner.nearby).keys().copied().collect();
            heard.iter().for_each(|node| inner.meet_nearby(node, &ours));
        }
        tokio::select! {
            event = events.next() => match event {
                Some(DiscoveryEvent::Discovered { endpoint_info, .. }) => {
                    if let Some(node) = inner.heard_nearby(&endpoint_info) {
                        inner.meet_nearby(&node, &ours);
                    }
                }
                Some(DiscoveryEvent::Expired { endpoint_id }) => {
                    lock(&inner.nearby).remove(&NodeId(*endpoint_id.as_bytes()));
                }
                Some(_) => {}
                None => return,
            },
            updated = addresses.updated() => if updated.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
            () = inner.stop.cancelled() => return,
        }
    }
}

fn announce(inner: &Inner, spaces: &[SpaceId], seed: &[u8; 32]) -> EndpointData {
    let mut addresses = inner.own_addresses().0;
    addresses.retain(|address| !address.ip().is_loopback());
    let mut data: EndpointData = addresses.into_iter().map(TransportAddr::Ip).collect();
    // It always fits.
    data.set_user_data(announcement(&inner.id, spaces, seed).try_into().ok());
    data
}

impl Inner {
    /// Notes what somebody says of a node; gives who that is, where it is of use.
    fn heard_nearby(&self, info: &EndpointInfo) -> Option<NodeId> {
        let node = NodeId(*info.endpoint_id.as_bytes());
        let addresses = info.ip_addrs().take(MAX_ADDRESSES).copied().collect();
        let text = info.user_data().map(|text| text.to_string())?;
        let mut nearby = lock(&self.nearby);
        if nearby.len() >= MAX_NEARBY && !nearby.contains_key(&node) {
            return None;
        }
        nearby.insert(node, Heard { addresses, text });
        Some(node)
    }

    /// Tells the spaces that it seems to be in.
    fn meet_nearby(self: &Arc<Self>, node: &NodeId, ours: &[SpaceId]) {
        let shared = match lock(&self.nearby).get(node) {
            Some(heard) => announced(node, &heard.text, ours),
            None => return,
        };
        for space in shared.iter().filter_map(|id| self.space(id)) {
            tracing::debug!(peer = %node.short(), "found on the local network");
            space.swarm(self, &[], |swarm, now| swarm.contact(now, *node));
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{Config, Event, Limits, Node, Ticket};

    /// What is announced leads who is in the space there, and nobody else. That it gets from one to the other
    /// is iroh's affair.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_is_in_the_space_is_met() {
        let folders = [(); 3].map(|()| TempDir::new().unwrap());
        let mut nodes = Vec::new();
        for folder in &folders {
            nodes.push(Node::open(Config::new(folder.path()).loopback()).await.unwrap());
        }
        let [alice, bob, carol] = &nodes[..] else { unreachable!() };
        let here = alice.create_space("test", Limits::default()).await.unwrap();
        let nowhere = Ticket { addresses: vec![], ..alice.ticket(&here.id()).unwrap() };
        let mut events = bob.events();
        bob.join(&nowhere).await.unwrap();
        carol.create_space("other", Limits::default()).await.unwrap();

        let inner = alice.running.inner();
        let mut data = announce(&inner, &[here.id()], &[7; 32]);
        assert!(!data.has_addrs(), "nobody is told of loopback");
        data.add_ip_addrs(alice.listening());
        let info = EndpointInfo::from_parts(inner.endpoint.id(), data);
        for node in [bob, carol] {
            let (inner, ours) = (node.running.inner(), node.spaces()[0].id());
            assert_eq!(inner.heard_nearby(&info), Some(alice.id()));
            inner.meet_nearby(&alice.id(), &[ours]);
        }
        let met = async { while !matches!(events.recv().await, Ok(Event::SpaceShared { .. })) {} };
        tokio::time::timeout(Duration::from_secs(60), met).await.unwrap();
        let dialled = lock(&carol.spaces()[0].state.swarm).poll_actions(carol.running.now());
        assert!(dialled.is_empty() && carol.peers().is_empty(), "{dialled:?}");

        // However much is said, little is remembered.
        for n in 0..2 * MAX_NEARBY {
            let key = iroh::SecretKey::from_bytes(blake3::hash(&n.to_le_bytes()).as_bytes());
            let data = EndpointData::default().with_user_data("a".parse().unwrap());
            carol.running.heard_nearby(&EndpointInfo::from_parts(key.public(), data));
        }
        assert_eq!(lock(&carol.running.nearby).len(), MAX_NEARBY);
        for node in &nodes {
            node.shutdown().await;
        }
    }
}
