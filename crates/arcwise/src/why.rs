//! Why something is, or is not, to be had: who has it, who should have it, and what they say.

use std::time::Duration;

use arcwise_proto::{Aspect, AspectHash, AspectKey, EntryAddress, Location, NodeId, swarm::Copies};
use arcwise_store::StoreError;
use tokio::time::{Instant, sleep};

use crate::{
    Asked, find,
    ingest::blocking,
    peer::lock,
    space::{Cancel, Space},
};

/// Peers have so long to say that they hold it. A guess: several round trips around the earth.
const CONFIRM: Duration = Duration::from_secs(3);

/// How often it is looked whether all have.
const LOOK: Duration = Duration::from_millis(50);

/// So many aspects of an entry are asked about at most. A guess: people ask about few.
const MAX_ASKED_ABOUT: usize = 1024;

/// What is known of where an entry, or one aspect of it, is.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// The entry; where it is one aspect that was asked for, the entry of that.
    pub entry: EntryAddress,
    /// Where it belongs on the ring.
    pub location: Location,
    /// Whether this node claims to hold what belongs there.
    pub claimed: bool,
    /// What of it is held here.
    pub here: Vec<AspectKey>,
    /// What of it was found at others, and is not held here.
    pub elsewhere: Vec<AspectKey>,
    /// Who is known to claim or to fill its location; the best first.
    pub claims: Vec<Claim>,
    /// Who was asked for it now, and what came of it.
    pub asked: Vec<Asked>,
}

impl Whereabouts {
    /// Other nodes that have just confirmed that they hold all of it that was found.
    pub fn confirmed(&self) -> usize {
        self.claims.iter().filter(|claim| claim.confirms).count()
    }
}

/// A node that claims or fills a location.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Which one.
    pub node: NodeId,
    /// Whether it claims to hold all that belongs there; if not, it only fills it.
    pub holds: bool,
    /// Whether it is connected.
    pub connected: bool,
    /// How likely it can be reached, 0 to 1; `None` where that is not known yet.
    pub availability: Option<f64>,
    /// Whether it is believed: neither failed its audits nor broke many rules.
    pub trusted: bool,
    /// It has just said that it holds, durably, all of it that was found.
    pub confirms: bool,
}

impl Space {
    /// What is known of where an entry is. Peers are asked, so it takes some seconds.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn why(&self, entry: EntryAddress) -> Result<Whereabouts, StoreError> {
        self.whereabouts(entry, None).await
    }

    /// The same of one aspect. `None` where it is not held here: then nobody here can know where it
    /// belongs.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn why_aspect(&self, hash: AspectHash) -> Result<Option<Whereabouts>, StoreError> {
        let state = self.state.clone();
        match blocking(move || state.store.find(&hash)).await? {
            Some(aspect) => self.whereabouts(aspect.entry(), Some(hash)).await.map(Some),
            None => Ok(None),
        }
    }

    async fn whereabouts(
        &self,
        entry: EntryAddress,
        only: Option<AspectHash>,
    ) -> Result<Whereabouts, StoreError> {
        let inner = self.node.inner();
        let location = Location::of_entry(&entry);
        let claimed = self.state.store.held().contains(location);
        let keys = |aspects: Vec<Aspect>| {
            let keys = aspects.iter().map(Aspect::key);
            keys.filter(|key| only.is_none_or(|hash| key.hash == hash)).collect::<Vec<_>>()
        };
        let here = keys(self.entry(entry).await?);
        let found = find::entry(&inner, &self.state, entry).await;
        let mut elsewhere = keys(found.aspects);
        elsewhere.retain(|key| !here.contains(key));

        let all: Vec<_> = here.iter().chain(&elsewhere).take(MAX_ASKED_ABOUT).copied().collect();
        let confirming = self.confirming(&all).await;
        let now = inner.now();
        let swarm = lock(&self.state.swarm);
        let mut claims: Vec<Claim> = swarm
            .claimants(location)
            .map(|(known, holds)| Claim {
                node: known.record.node,
                holds,
                connected: known.is_connected(),
                availability: known.quality.known_availability(now),
                trusted: known.quality.trusted(now),
                confirms: confirming.contains(&known.record.node),
            })
            .collect();
        drop(swarm);
        let rank = |it: &Claim| (!it.confirms, !it.connected, !it.trusted);
        let likely = |it: &Claim| it.availability.unwrap_or(0.0);
        claims.sort_by(|a, b| rank(a).cmp(&rank(b)).then(likely(b).total_cmp(&likely(a))));
        let asked = found.asked;
        Ok(Whereabouts { entry, location, claimed, here, elsewhere, claims, asked })
    }

    /// Which connected peers say that they hold all of these.
    async fn confirming(&self, keys: &[AspectKey]) -> Vec<NodeId> {
        let inner = self.node.inner();
        let Some(first) = keys.first() else { return Vec::new() };
        let until = Instant::now() + CONFIRM;
        // More than there are: so it is not over when some have answered.
        let id =
            self.state.swarm(&inner, &[], |swarm, now| swarm.replicate(now, keys, Copies::MAX + 1));
        let Some(id) = id else { return Vec::new() };
        let _cancel = Cancel { space: &self.state, id };
        loop {
            let (holders, takers) = {
                let swarm = lock(&self.state.swarm);
                let takers = swarm.claimants(first.location);
                (swarm.holders(id), takers.filter(|(it, _)| it.is_connected()).count())
            };
            if holders.len() >= takers || Instant::now() >= until {
                return holders;
            }
            sleep(LOOK).await;
        }
    }
}
