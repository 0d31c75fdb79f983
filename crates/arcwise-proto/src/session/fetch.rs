//! The half of a session that asks for what is lacking.

use std::collections::BTreeSet;

use super::{Fault, Holdings};
use crate::{
    aspect::{Aspect, AspectKey},
    id::SpaceId,
    ring::ArcSet,
    wire::AspectDataResponse,
};

/// What was asked for and has not come, and what has come and is not stored yet.
#[derive(Debug)]
pub(super) struct Fetch {
    space: SpaceId,
    /// What this node holds or fills: it wants nothing outside.
    arcs: ArcSet,
    /// How many aspects may be on order at a time.
    max_wants: usize,
    wants: BTreeSet<AspectKey>,
    storing: usize,
}

/// What an answer brought.
pub(super) struct Arrival {
    pub(super) aspects: Vec<Aspect>,
    pub(super) rejected: usize,
}

impl Fetch {
    pub(super) fn new(space: SpaceId, arcs: ArcSet, max_wants: usize) -> Self {
        Self { space, arcs, max_wants, wants: BTreeSet::new(), storing: 0 }
    }

    /// Which of `listed` to ask for now; `None` while too much is on order already. Checks again at
    /// this moment: what another peer has delivered meanwhile is not asked for.
    pub(super) fn want<H: Holdings>(
        &mut self,
        listed: &[AspectKey],
        holdings: &H,
    ) -> Result<Option<Vec<AspectKey>>, H::Error> {
        if !self.wants.is_empty() && self.wants.len() + listed.len() > self.max_wants {
            return Ok(None);
        }
        let ours: Vec<AspectKey> = listed
            .iter()
            .filter(|key| self.arcs.contains(key.location) && !self.wants.contains(key))
            .copied()
            .collect();
        let lacking = holdings.lacks(&ours)?;
        self.wants.extend(&lacking);
        Ok(Some(lacking))
    }

    /// An answer has come. An aspect whose signature does not hold is left out; the others are good.
    pub(super) fn receive(&mut self, answer: AspectDataResponse) -> Result<Arrival, Fault> {
        for key in &answer.gone {
            if !self.wants.remove(key) {
                return Err(Fault::NotWanted(key.hash));
            }
        }
        let mut arrival = Arrival { aspects: answer.aspects, rejected: 0 };
        for aspect in &arrival.aspects {
            if !self.wants.remove(&aspect.key()) {
                return Err(Fault::NotWanted(aspect.hash()));
            }
        }
        let before = arrival.aspects.len();
        arrival.aspects.retain(|aspect| aspect.verify(&self.space).is_ok());
        arrival.rejected = before - arrival.aspects.len();
        self.storing += arrival.aspects.len();
        Ok(arrival)
    }

    pub(super) fn stored(&mut self, count: usize) {
        debug_assert!(count <= self.storing);
        self.storing = self.storing.saturating_sub(count);
    }

    /// Nothing on order.
    pub(super) fn is_answered(&self) -> bool {
        self.wants.is_empty()
    }

    /// Nothing on order, and all that came is durable.
    pub(super) fn is_done(&self) -> bool {
        self.wants.is_empty() && self.storing == 0
    }
}
