//! The half of a session that says what is held.

use std::collections::VecDeque;

use super::{Fault, Filter, Holdings};
use crate::{
    aspect::AspectKey,
    limits::{LIST_WINDOW, PAGE_KEYS},
    ring::ArcSet,
    wire::Page,
};

/// List frames that the peer has not answered yet: it may want what is in them and nothing else.
#[derive(Debug, Default)]
pub(super) struct Unanswered(VecDeque<Vec<AspectKey>>);

impl Unanswered {
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < LIST_WINDOW
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn sent(&mut self, keys: Vec<AspectKey>) {
        self.0.push_back(keys);
    }

    /// The answer to the oldest one: every wanted key must be in it.
    pub(super) fn answered(&mut self, wanted: &[AspectKey]) -> Result<(), Fault> {
        let listed = self.0.pop_front().ok_or(Fault::Window("answers"))?;
        match wanted.iter().find(|key| listed.binary_search(key).is_err()) {
            Some(key) => Err(Fault::NotListed(key.hash)),
            None => Ok(()),
        }
    }
}

/// Up to `limit` held keys of `arcs` between `first` and `last`, both inclusive, ascending.
fn keys_of<H: Holdings>(
    holdings: &H,
    arcs: &ArcSet,
    (first, last): (AspectKey, AspectKey),
    filter: &Filter,
    limit: usize,
) -> Result<Vec<AspectKey>, H::Error> {
    let mut keys = Vec::new();
    for (from, to) in arcs.spans() {
        let from = AspectKey { location: from, ..AspectKey::MIN }.max(first);
        let to = AspectKey { location: to, ..AspectKey::MAX }.min(last);
        if from <= to && keys.len() < limit {
            keys.extend(holdings.list(from, to, filter, limit - keys.len())?);
        }
    }
    Ok(keys)
}

/// Alice's pages: all that she holds within the constraints, in order.
#[derive(Debug)]
pub(super) struct Pages {
    arcs: ArcSet,
    filter: Filter,
    /// Where the next page begins; `None` after the last one.
    next: Option<AspectKey>,
}

impl Pages {
    pub(super) fn new(arcs: ArcSet, filter: Filter) -> Self {
        Self { arcs, filter, next: Some(AspectKey::MIN) }
    }

    pub(super) fn is_done(&self) -> bool {
        self.next.is_none()
    }

    /// The next page; `None` after the last one.
    pub(super) fn next<H: Holdings>(&mut self, holdings: &H) -> Result<Option<Page>, H::Error> {
        let Some(first) = self.next else { return Ok(None) };
        let range = (first, AspectKey::MAX);
        let keys = keys_of(holdings, &self.arcs, range, &self.filter, PAGE_KEYS)?;
        let through = keys.last().filter(|_| keys.len() == PAGE_KEYS).copied();
        self.next = through.and_then(AspectKey::next);
        Ok(Some(Page { keys, through: through.filter(|_| self.next.is_some()) }))
    }
}

/// Bob's answer to one page: what he holds between its two ends and is not in it.
#[derive(Debug)]
pub(super) struct Complement {
    /// What is left of the page's range; `None` when all is listed.
    rest: Option<(AspectKey, AspectKey)>,
    theirs: Vec<AspectKey>,
}

impl Complement {
    /// Of a page that covers `first` to `last`, both inclusive.
    pub(super) fn new(first: AspectKey, last: AspectKey, theirs: Vec<AspectKey>) -> Self {
        Self { rest: Some((first, last)), theirs }
    }

    /// For one who does not take.
    pub(super) fn nothing() -> Self {
        Self { rest: None, theirs: Vec::new() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.rest.is_none()
    }

    /// At most a frame full of it; more is left where [`Complement::is_done`] is false afterwards.
    pub(super) fn next<H: Holdings>(
        &mut self,
        holdings: &H,
        arcs: &ArcSet,
        filter: &Filter,
    ) -> Result<Vec<AspectKey>, H::Error> {
        let mut frame = Vec::new();
        while let Some((first, last)) = self.rest {
            let room = PAGE_KEYS - frame.len();
            if room == 0 {
                break;
            }
            let held = keys_of(holdings, arcs, (first, last), filter, room)?;
            self.rest = match held.last().filter(|_| held.len() == room) {
                Some(reached) => reached.next().filter(|next| *next <= last).map(|n| (n, last)),
                None => None,
            };
            frame.extend(held.into_iter().filter(|key| self.theirs.binary_search(key).is_err()));
        }
        Ok(frame)
    }
}
