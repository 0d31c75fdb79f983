//! Asking from anywhere: an entry of whoever has it, and where a node is. Whom to ask, and when, is decided
//! by [`Lookup`].

use std::{collections::BTreeMap, sync::Arc};

use arcwise_proto::{
    Aspect, AspectHash, EntryAddress, Location, NodeId,
    swarm::{Address, Goal, Step},
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
    /// How many aspects it has given; or why none, for people.
    pub outcome: Result<usize, String>,
}

/// An entry, as it was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// All of its aspects that were found, each once, verified. Not stored here by that.
    pub aspects: Vec<Aspect>,
    /// Who was asked, in the order in which they answered. Nobody where this node has it and holds what
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
    let mut asked = Vec::new();
    look_up(inner, space, Goal::Entry(location), Some(entry), |peer, claims, result| {
        let outcome = match result {
            Ok(answer) => {
                let count = answer.aspects.len();
                found.extend(answer.aspects.drain(..).map(|aspect| (aspect.hash(), aspect)));
                Ok(count)
            }
            Err(error) => Err(error.to_string()),
        };
        asked.push(Asked { peer, claims, outcome });
    })
    .await;
    Found { aspects: found.into_values().collect(), asked }
}

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
    let said = look_up(inner, space, goal, None, |_, _, _| {}).await;
    let at = said.get(node).map(Vec::as_slice).unwrap_or_default();
    inner.connect(node, &id, at).await
}

/// Carries a look-up: for this entry, or for who is near the goal. Gives where those whom it has heard of
/// may be reached.
async fn look_up(
    inner: &Arc<Inner>,
    space: &Arc<SpaceState>,
    goal: Goal,
    entry: Option<EntryAddress>,
    mut heard: impl FnMut(NodeId, bool, &mut Result<Answer, RequestError>),
) -> BTreeMap<NodeId, Vec<Address>> {
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
                        let said = records.into_iter().map(|it| (it.node, it.addresses));
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
    addresses
}
