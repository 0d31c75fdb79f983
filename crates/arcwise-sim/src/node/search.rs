//! Looking entries up from anywhere, as [`Lookup`] says.

use std::collections::BTreeSet;

use arcwise_proto::{
    AspectKey, EntryAddress, Location, RingArc, Time,
    swarm::{Goal, Lookup, Step},
    wire::PeerInfo,
};

use super::{Cx, Running};
use crate::event::{Timer, What};

/// A look-up that is under way.
pub(super) struct Search {
    lookup: Lookup,
    goal: Goal,
    pub(super) entry: EntryAddress,
    found: BTreeSet<AspectKey>,
    /// Who has to be connected first.
    connecting: BTreeSet<u32>,
    began: Time,
}

impl Running {
    /// Looks an entry up: here, and where this node does not hold what belongs there, at others.
    pub(super) fn search(&mut self, cx: &mut Cx<'_>, entry: EntryAddress) {
        let location = Location::of_entry(&entry);
        let within = RingArc::between(location, location).into();
        let here = cx.disk.ids.within(&within);
        let here = here.filter(|(_, row)| row.aspect.entry() == entry).map(|(key, _)| *key);
        let found: BTreeSet<AspectKey> = here.collect();
        let began = cx.now;
        if cx.disk.held.contains(location) && !found.is_empty() {
            let aspects = found.into_iter().collect();
            return cx.see(What::Found { entry, began, aspects, asked: 0 });
        }
        let (id, goal) = (self.next_search, Goal::Entry(location));
        self.next_search += 1;
        let lookup = self.swarm.look_up(cx.clock(), goal);
        let search = Search { lookup, goal, entry, found, connecting: BTreeSet::new(), began };
        self.searches.insert(id, search);
        self.search_on(cx, id);
    }

    pub(super) fn search_on(&mut self, cx: &mut Cx<'_>, id: u64) {
        let now = cx.clock();
        while let Some(search) = self.searches.get_mut(&id) {
            match search.lookup.next(now) {
                Step::Done => {
                    let Some(search) = self.searches.remove(&id) else { return };
                    let (entry, began) = (search.entry, search.began);
                    let (aspects, asked) =
                        (search.found.into_iter().collect(), search.lookup.asked().len());
                    return cx.see(What::Found { entry, began, aspects, asked });
                }
                Step::Wait(until) => {
                    return cx.timer(cx.now + until.since(now), Timer::Search(id));
                }
                Step::Ask(node) => {
                    let Some(peer) = cx.world.index.get(&node).copied() else {
                        search.lookup.failed(now, node);
                        continue;
                    };
                    if self.conns.get(&peer).is_some_and(|conn| conn.theirs.is_some()) {
                        self.query(cx, peer, id);
                    } else {
                        search.connecting.insert(peer);
                        self.dial(cx, peer);
                    }
                }
            }
        }
    }

    fn connecting(&mut self, peer: u32) -> Vec<u64> {
        let searches = self.searches.iter_mut();
        searches.filter_map(|(id, it)| it.connecting.remove(&peer).then_some(*id)).collect()
    }

    /// A peer is connected.
    pub(super) fn search_met(&mut self, cx: &mut Cx<'_>, peer: u32) {
        for search in self.connecting(peer) {
            self.query(cx, peer, search);
        }
    }

    /// A peer could not be connected.
    pub(super) fn search_unreachable(&mut self, cx: &mut Cx<'_>, peer: u32) {
        for search in self.connecting(peer) {
            self.search_failed(cx, peer, search);
        }
    }

    pub(super) fn search_failed(&mut self, cx: &mut Cx<'_>, peer: u32, id: u64) {
        let (now, node) = (cx.clock(), cx.id(peer));
        if let Some(search) = self.searches.get_mut(&id) {
            search.lookup.failed(now, node);
            self.search_on(cx, id);
        }
    }

    pub(super) fn search_answered(
        &mut self,
        cx: &mut Cx<'_>,
        peer: u32,
        id: u64,
        aspects: Vec<AspectKey>,
        nearer: Option<Vec<PeerInfo>>,
    ) {
        let (now, node) = (cx.clock(), cx.id(peer));
        let claims = nearer.is_none();
        let (records, _) = self.swarm.heard_of(now, node, nearer.unwrap_or_default());
        if let Some(search) = self.searches.get_mut(&id) {
            search.found.extend(aspects);
            let nearer = self.swarm.candidates(&search.goal, &records);
            search.lookup.answered(now, node, claims, nearer);
            self.search_on(cx, id);
        }
    }
}
