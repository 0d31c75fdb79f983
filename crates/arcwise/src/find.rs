//! Asking from anywhere: an entry of whoever has it, and where a node is. Whom to ask, and when, is decided
//! by [`Lookup`].

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arcwise_proto::{
    Aspect, AspectHash, EntryAddress, Location, NodeId,
    swarm::{self, Address, Goal, Step},
};
use tokio::task::JoinSet;

use crate::{
    error::RequestError,
    node::Inner,
    peer::{Peer, lock},
    request::{self, Answer},
    space::SpaceState,
};

/// What came of asking one peer.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whom.
    pub peer: NodeId,
    /// Whether it claims to hold what was asked for.
    pub claims: bool,
    /// Who has named it, where it was not known before.
    pub named_by: Option<NodeId>,
    /// How long an answer of it takes, as it was measured before.
    pub round_trip: Option<Duration>,
    /// How long this one took, where one came; connecting included.
    pub took: Option<Duration>,
    /// How many aspects it has given; or why none, for people.
    pub outcome: Result<usize, String>,
}

/// An entry, as it was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// All of its aspects that were found, each once, verified. Not stored here by that.
    pub aspects: Vec<Aspect>,
    /// Who was asked, in this order. Nobody where this node has it and holds what
    /// belongs there.
    pub asked: Vec<Asked>,
}

/// Asks those who have an entry.
pub(crate) async fn entry(
    inner: &Arc<Inner>,
    space: &Arc<SpaceState>,
    entry: EntryAddress,
) -> Found {
    let location = Location::of_entry(&entry);
    let mut found: BTreeMap<AspectHash, Aspect> = BTreeMap::new();
    let mut outcomes: BTreeMap<NodeId, (bool, Result<usize, String>)> = BTreeMap::new();
    let goal = Goal::Entry(location);
    let (_, asked) = look_up(inner, space, goal, Some(entry), |peer, claims, result| {
        let outcome = match result {
            Ok(answer) => {
                let count = answer.aspects.len();
                found.extend(answer.aspects.drain(..).map(|aspect| (aspect.hash(), aspect)));
                Ok(count)
            }
            Err(RequestError::NotConnected) => {
                let known = lock(&inner.known);
                let failure = known.get(&peer).and_then(|record| record.failure.as_ref());
                Err(match failure {
                    Some(failure) => format!("it was not reached: {failure}"),
                    None => "it was not reached".to_owned(),
                })
            }
            Err(error) => Err(error.to_string()),
        };
        outcomes.insert(peer, (claims, outcome));
    })
    .await;
    let asked = asked.into_iter().map(|asked| {
        let peer = asked.peer.node;
        let (took, (claims, outcome)) = match outcomes.remove(&peer) {
            // As it claimed in its record, where it does not say now.
            Some((_, Err(why))) => (None, (asked.peer.claims, Err(why))),
            Some(answer) => (Some(asked.took), answer),
            None => (None, (asked.peer.claims, Err(NOT_WAITED_FOR.to_owned()))),
        };
        let (named_by, round_trip) = (asked.named_by, asked.peer.round_trip);
        Asked { peer, claims, named_by, round_trip, took, outcome }
    });
    Found { asked: asked.collect(), aspects: found.into_values().collect() }
}

/// What is said of who has not answered when enough others have.
const NOT_WAITED_FOR: &str = "it had not answered when the search was over";

/// Finds a node of the space, and connects to it.
pub(crate) async fn node(
    inner: &Arc<Inner>,
    space: &Arc<SpaceState>,
    node: &NodeId,
) -> Result<Arc<Peer>, RequestError> {
    let id = space.id();
    let connected = inner.connect(node, &id, &[]).await;
    let Err(RequestError::NotConnected) = connected else { return connected };
    // It may be elsewhere by now.
    let location = Location::of_node(&id, node);
    let goal = Goal::Node(*node, location);
    let (said, _) = look_up(inner, space, goal, None, |_, _, _| {}).await;
    let at = said.get(node).map(Vec::as_slice).unwrap_or_default();
    inner.connect(node, &id, at).await
}

/// Carries a look-up: for this entry, or for who is near the goal. Gives where those whom it has heard of
/// may be reached, and who was asked.
async fn look_up(
    inner: &Arc<Inner>,
    space: &Arc<SpaceState>,
    goal: Goal,
    entry: Option<EntryAddress>,
    mut heard: impl FnMut(NodeId, bool, &mut Result<Answer, RequestError>),
) -> (BTreeMap<NodeId, Vec<Address>>, Vec<swarm::Asked>) {
    let mut lookup = lock(&space.swarm).look_up(inner.now(), goal);
    let mut addresses: BTreeMap<NodeId, Vec<Address>> = BTreeMap::new();
    let mut asking = JoinSet::new();
    loop {
        let until = match lookup.next(inner.now()) {
            Step::Done => break,
            Step::Wait(until) => until,
            Step::Ask(node) => {
                let (inner, id) = (inner.clone(), space.id());
                let at = addresses.get(&node).cloned().unwrap_or_default();
                asking.spawn(async move {
                    let answer = match inner.connect(&node, &id, &at).await {
                        Err(error) => Err(error),
                        Ok(peer) => match entry {
                            Some(entry) => request::query(&peer, id, entry).await,
                            None => {
                                let nearer = request::find(&peer, id, goal.location()).await;
                                nearer.map(|nearer| Answer {
                                    nearer: Some(nearer),
                                    ..Answer::default()
                                })
                            }
                        },
                    };
                    (node, answer)
                });
                continue;
            }
        };
        tokio::select! {
            Some(asked) = asking.join_next() => {
                // A task that has panicked has said nothing; its time-out comes.
                let Ok((node, mut answer)) = asked else { continue };
                let claims = matches!(&answer, Ok(Answer { nearer: None, .. }));
                heard(node, claims, &mut answer);
                match answer {
                    Ok(Answer { nearer, .. }) => {
                        let nearer = nearer.unwrap_or_default();
                        let (records, fault) = space.swarm(inner, &[], |swarm, now| {
                            swarm.heard_of(now, node, nearer)
                        });
                        if let Some((fault, peer)) = fault.zip(inner.peer(&node)) {
                            inner.fault(&peer, &fault.to_string());
                        }
                        let now = inner.now();
                        let nearer = lock(&space.swarm).candidates(&goal, &records);
                        lookup.answered(now, node, claims, nearer);
                        let said = records.into_iter().map(|it| (it.node, it.addresses.clone()));
                        addresses.extend(said);
                    }
                    Err(error) => {
                        tracing::debug!(peer = %node.short(), %error, "a look-up got no answer");
                        lookup.failed(inner.now(), node);
                    }
                }
            }
            () = tokio::time::sleep_until(inner.instant(until)) => {}
            () = inner.stop.cancelled() => break,
        }
    }
    let asked = lookup.asked().copied().collect();
    (addresses, asked)
}
