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
    wants: Wants,
    storing: usize,
}

#[derive(Debug)]
enum Wants {
    /// These, of the peer's lists.
    Keys(BTreeSet<AspectKey>),
    /// So many, that were told apart by less than their keys.
    Number(u64),
}

/// What an answer brought.
pub(super) struct Arrival {
    pub(super) aspects: Vec<Aspect>,
    pub(super) rejected: usize,
}

impl Fetch {
    pub(super) fn new(space: SpaceId, arcs: ArcSet, max_wants: usize) -> Self {
        let wants = Wants::Keys(BTreeSet::new());
        Self { space, arcs, max_wants, wants, storing: 0 }
    }

    /// Which of `listed` to ask for now; `None` while too much is on order already. Checks again at
    /// this moment: what another peer has delivered meanwhile is not asked for.
    pub(super) fn want<H: Holdings>(
        &mut self,
        listed: &[AspectKey],
        holdings: &H,
    ) -> Result<Option<Vec<AspectKey>>, H::Error> {
        let Wants::Keys(wants) = &mut self.wants else { return Ok(None) };
        if !wants.is_empty() && wants.len() + listed.len() > self.max_wants {
            return Ok(None);
        }
        let ours: Vec<AspectKey> = listed
            .iter()
            .filter(|key| self.arcs.contains(key.location) && !wants.contains(key))
            .copied()
            .collect();
        let lacking = holdings.lacks(&ours)?;
        wants.extend(&lacking);
        Ok(Some(lacking))
    }

    /// So many are to come, by what a comparison has shown.
    pub(super) fn expect(&mut self, number: u64) {
        self.wants = Wants::Number(number);
    }

    /// Whether this is on order; it is no longer, then.
    fn take(&mut self, key: &AspectKey) -> Result<(), Fault> {
        match &mut self.wants {
            Wants::Keys(wants) => match wants.remove(key) {
                true => Ok(()),
                false => Err(Fault::NotWanted(key.hash)),
            },
            Wants::Number(_) if !self.arcs.contains(key.location) => {
                Err(Fault::OutsideArcs(key.location))
            }
            Wants::Number(number) => {
                *number = number.checked_sub(1).ok_or(Fault::TooMany)?;
                Ok(())
            }
        }
    }

    /// An answer has come. An aspect whose signature does not hold is left out; the others are good.
    pub(super) fn receive(&mut self, answer: AspectDataResponse) -> Result<Arrival, Fault> {
        answer.gone.iter().try_for_each(|key| self.take(key))?;
        let mut arrival = Arrival { aspects: answer.aspects, rejected: 0 };
        arrival.aspects.iter().try_for_each(|aspect| self.take(&aspect.key()))?;
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
        match &self.wants {
            Wants::Keys(wants) => wants.is_empty(),
            Wants::Number(number) => *number == 0,
        }
    }

    /// Nothing on order, and all that came is durable.
    pub(super) fn is_done(&self) -> bool {
        self.is_answered() && self.storing == 0
    }
}
