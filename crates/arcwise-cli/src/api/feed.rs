//! What happens on the node, as people want to read it: what comes in a flood is summed up, and what
//! repeats without telling anything new is left out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use arcwise::{Node, NodeId, SpaceId};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep_until},
};

use super::{Arcs, Event, Source};

/// How long stored aspects are summed up for.
const WINDOW: Duration = Duration::from_secs(1);

pub(crate) struct Feed {
    node: Node,
    events: Receiver<arcwise::Event>,
    ready: VecDeque<Event>,
    stored: BTreeMap<(SpaceId, Source), u64>,
    /// When what was stored is to be told.
    due: Option<Instant>,
    /// Those with whom the last comparison went well.
    in_sync: BTreeSet<(NodeId, SpaceId)>,
}

impl Feed {
    /// What happens from now on.
    pub(crate) fn new(node: &Node) -> Self {
        Self {
            events: node.events(),
            node: node.clone(),
            ready: VecDeque::new(),
            stored: BTreeMap::new(),
            due: None,
            in_sync: BTreeSet::new(),
        }
    }

    /// The next event; `None` when there will be no more. May be dropped and called again without
    /// losing anything.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let due = self.due;
            let event = tokio::select! {
                event = self.events.recv() => event,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.tell_stored();
                    continue;
                }
            };
            match event {
                Ok(event) => self.take(event),
                Err(RecvError::Lagged(events)) => self.ready.push_back(Event::Missed { events }),
                Err(RecvError::Closed) if self.stored.is_empty() => return None,
                Err(RecvError::Closed) => self.tell_stored(),
            }
        }
    }

    fn take(&mut self, event: arcwise::Event) {
        let event = match event {
            arcwise::Event::Stored { space, keys, source } => {
                *self.stored.entry((space, source.into())).or_default() += keys.len() as u64;
                self.due.get_or_insert_with(|| Instant::now() + WINDOW);
                return;
            }
            arcwise::Event::InSync { space, peer, report } => {
                let first = self.in_sync.insert((peer, space));
                if !first && report.fetched == 0 && report.sent == 0 {
                    return;
                }
                // In the order in which it happened.
                self.tell_stored();
                let (space, name) = self.called(&space);
                Event::InSync { peer, space, name, report: (&report).into() }
            }
            arcwise::Event::SyncFailed { space, peer, reason } => {
                self.in_sync.remove(&(peer, space));
                let (space, name) = self.called(&space);
                Event::SyncFailed { peer, space, name, reason }
            }
            arcwise::Event::PeerConnected { peer, agent } => Event::PeerConnected { peer, agent },
            arcwise::Event::PeerDisconnected { peer, reason } => {
                self.in_sync.retain(|(other, _)| *other != peer);
                Event::PeerDisconnected { peer, reason }
            }
            arcwise::Event::SpaceShared { peer, space } => {
                let (space, name) = self.called(&space);
                Event::SpaceShared { peer, space, name }
            }
            arcwise::Event::PeerFault { peer, fault } => Event::PeerFault { peer, fault },
            arcwise::Event::ArcChanged { space } => {
                let held = self.node.space(&space).map(|space| space.status().held);
                let held = Arcs::from(&held.unwrap_or_default());
                let (space, name) = self.called(&space);
                Event::ArcChanged { space, name, held }
            }
            arcwise::Event::Removed { space, aspects } => {
                let (space, name) = self.called(&space);
                Event::Removed { space, name, aspects }
            }
            arcwise::Event::Full { space, reason } => {
                let (space, name) = self.called(&space);
                Event::Full { space, name, reason }
            }
            arcwise::Event::Room { space } => {
                let (space, name) = self.called(&space);
                Event::Room { space, name }
            }
            arcwise::Event::StoreStopped { reason } => Event::StoreStopped { reason },
            // Of a later version of the library.
            _ => return,
        };
        self.ready.push_back(event);
    }

    fn tell_stored(&mut self) {
        self.due = None;
        for ((space, source), aspects) in std::mem::take(&mut self.stored) {
            let (space, name) = self.called(&space);
            self.ready.push_back(Event::Stored { space, name, source, aspects });
        }
    }

    /// Fingerprint and name.
    fn called(&self, space: &SpaceId) -> (String, String) {
        let name = self.node.space(space).map(|space| space.name());
        (space.fingerprint(), name.unwrap_or_default())
    }
}
