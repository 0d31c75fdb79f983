//! Pushing what is new, and taking what is pushed.

use std::collections::BTreeSet;

use arcwise_proto::{
    Aspect, AspectKey, NodeId,
    session::Holdings as _,
    wire::{Announce, AspectBroadcast, Message},
};

pub(super) use arcwise_proto::swarm::Push;

use super::{Cause, Cx, Running, Sending, Source, size};
use crate::event::{Packet, Timer};

impl Running {
    pub(super) fn announce(
        &mut self,
        cx: &mut Cx<'_>,
        to: &NodeId,
        keys: Vec<AspectKey>,
        receipt: bool,
    ) {
        self.queue(cx, to, Push::Announce { keys, receipt });
    }

    /// Puts something in line for a peer.
    pub(super) fn queue(&mut self, cx: &mut Cx<'_>, to: &NodeId, push: Push) {
        let Some(peer) = cx.world.index.get(to).copied() else { return };
        let Some(conn) = self.conns.get_mut(&peer).filter(|conn| conn.theirs.is_some()) else {
            return;
        };
        conn.pushes.push(cx.world.space, push);
        self.push_on(cx, peer);
    }

    /// Pushes aspects to a peer; what does not fit the queue, a session brings.
    pub(super) fn push(&mut self, cx: &mut Cx<'_>, peer: u32, keys: &[AspectKey]) {
        let Some(conn) = self.conns.get_mut(&peer).filter(|conn| conn.theirs.is_some()) else {
            return;
        };
        for key in keys {
            let Some(aspect) = cx.disk.ids.get(key) else { continue };
            if !conn.pushes.push(cx.world.space, Push::Aspect(aspect.clone())) {
                let (now, id) = (cx.clock(), cx.id(peer));
                self.swarm.heard(now, &id, false);
                break;
            }
        }
        self.push_on(cx, peer);
    }

    /// Sends what is in line, as the line takes it.
    pub(super) fn push_on(&mut self, cx: &mut Cx<'_>, peer: u32) {
        while let Some(conn) = self.conns.get_mut(&peer) {
            if conn.pushing > cx.now {
                return;
            }
            let Some((_, mut message)) = conn.pushes.next() else { return };
            if let Some((space, theirs)) = message.pushed_in().zip(conn.theirs.as_ref()) {
                *space = theirs.number;
            }
            let waits = matches!(message, Message::AspectBroadcast(_));
            let bytes = size(&message);
            let sending = Sending { bytes, cause: Cause::Push, waits, after: conn.push_lane };
            let packet = Packet::Push { conn: conn.id, message };
            let (left, arrives) = cx.send(peer, packet, sending);
            conn.push_lane = arrives;
            if waits && left > cx.now {
                conn.pushing = left;
                cx.timer(left, Timer::Push(peer));
            }
        }
    }

    /// A message of a push stream has come.
    pub(super) fn pushed(&mut self, cx: &mut Cx<'_>, from: u32, message: Message) {
        let (now, id) = (cx.clock(), cx.id(from));
        match message {
            Message::AspectBroadcast(AspectBroadcast { mut aspects, .. }) => {
                let arcs = self.swarm.takes();
                aspects.retain(|aspect| arcs.contains(aspect.location()));
                let keys: Vec<AspectKey> = aspects.iter().map(Aspect::key).collect();
                let again = self.swarm.arrived(now, id, &keys);
                let again: BTreeSet<AspectKey> = again.into_iter().collect();
                aspects.retain(|aspect| !again.contains(&aspect.key()));
                if !aspects.is_empty() {
                    self.write(cx, aspects, Source::Pushed(from));
                }
            }
            Message::Announce(Announce { mut keys, receipt, .. }) => {
                let arcs = self.swarm.own_arcs();
                keys.retain(|key| arcs.contains(key.location));
                let Ok(lacking) = cx.disk.lacks(&keys);
                if receipt {
                    let held = keys.into_iter().filter(|key| lacking.binary_search(key).is_err());
                    self.swarm.receipt_wanted(now, id, held.collect(), &lacking);
                }
                self.swarm.announced(now, id, &lacking);
            }
            Message::Graft(graft) => {
                self.swarm.grafted(&id, &graft.keys);
                self.push(cx, from, &graft.keys);
            }
            Message::Prune(prune) => self.swarm.pruned(&id, &prune.keys),
            Message::Receipt(receipt) => self.swarm.receipt(id, &receipt.keys),
            _ => {}
        }
    }
}
