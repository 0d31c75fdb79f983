//! A small network of real nodes, of which none holds everything: it grows, spreads, loses a third of its
//! nodes at once, is cut in two and heals.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use arcwise::{
    ArcSet, AspectKey, Config, Copies, Direction, EntryAddress, Event, Kind, Limits, Node, Space,
    SpaceOptions, Ticket,
};
use arcwise_proto::Location;
use common::aspect;
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
    time::timeout,
};

/// How long each part may take; only a bug makes it matter.
const PATIENCE: Duration = Duration::from_secs(180);

/// A node on threads of its own, so that it can be ended at once and without a word.
struct Member {
    node: Node,
    space: Space,
    stored: Arc<Mutex<BTreeSet<AspectKey>>>,
    /// What it has received from others.
    kinds: Arc<Mutex<BTreeSet<Kind>>>,
    runtime: Runtime,
    folder: TempDir,
}

struct Network {
    members: Vec<Member>,
    /// Something has been stored somewhere, or a node stands otherwise than before.
    changed: Arc<Notify>,
    /// All that was published, with its entry.
    published: BTreeMap<AspectKey, EntryAddress>,
}

impl Network {
    async fn grow(nodes: usize, copies: Copies, with: impl Fn(&mut Config)) -> Self {
        let changed = Arc::new(Notify::new());
        let mut network = Self { members: Vec::new(), changed, published: BTreeMap::new() };
        let mut ticket = None;
        for n in 0..nodes {
            let folder = TempDir::new().unwrap();
            // Their places on the ring are the same in every run.
            let key = blake3::hash(&n.to_le_bytes()).to_hex();
            std::fs::write(folder.path().join("key"), key.as_str()).unwrap();
            let mut config = Config::new(folder.path()).loopback();
            config.patience = Duration::from_millis(500);
            with(&mut config);
            let member = network.start(config, folder, copies, ticket.clone()).await;
            ticket = member.node.ticket(&member.space.id());
            network.members.push(member);
        }
        network
    }

    async fn start(
        &self,
        config: Config,
        folder: TempDir,
        copies: Copies,
        ticket: Option<Ticket>,
    ) -> Member {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let opened = runtime.spawn(async move {
            let node = Node::open(config).await.unwrap();
            let space = match ticket {
                Some(ticket) => node.join(&ticket).await.unwrap(),
                None => {
                    let options = SpaceOptions { copies, ..Limits::default().into() };
                    node.create_space("network", options).await.unwrap()
                }
            };
            (node, space)
        });
        let (node, space) = opened.await.unwrap();
        let stored = Arc::<Mutex<BTreeSet<AspectKey>>>::default();
        let (mut events, mut progress) = (node.events(), space.progress());
        let (changed, into) = (self.changed.clone(), stored.clone());
        runtime.spawn(async move {
            while let Ok(event) = events.recv().await {
                if let Event::Stored { keys, .. } = event {
                    into.lock().unwrap().extend(keys);
                    changed.notify_one();
                }
            }
        });
        let kinds = Arc::<Mutex<BTreeSet<Kind>>>::default();
        let (mut frames, seen) = (node.frames(), kinds.clone());
        runtime.spawn(async move {
            while let Ok(frame) = frames.recv().await {
                if frame.direction == Direction::Received {
                    seen.lock().unwrap().insert(frame.kind);
                }
            }
        });
        let changed = self.changed.clone();
        runtime.spawn(async move {
            while progress.changed().await.is_ok() {
                changed.notify_one();
            }
        });
        Member { node, space, stored, kinds, runtime, folder }
    }

    /// Waits until something is so.
    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is_so(self) {
                self.changed.notified().await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            for member in &self.members {
                let status = member.space.status();
                eprintln!("{} {status:?}", member.node.id().short());
            }
            panic!("{what}: not in time; {} copies are lacking", self.lacking());
        }
    }

    /// These members publish entries, one after the other.
    async fn author(&mut self, numbers: std::ops::Range<u64>, members: std::ops::Range<usize>) {
        for n in numbers {
            let member = &self.members[members.start + n as usize % members.len()];
            let (space, new) = (member.space.clone(), aspect(n, n % 7 == 0));
            let entry = new.entry;
            let done = member.runtime.spawn(async move { space.publish(vec![new]).await });
            let done = done.await.unwrap().unwrap();
            self.published.extend(done.keys.iter().map(|key| (*key, entry)));
        }
    }

    fn held(&self) -> Vec<ArcSet> {
        self.members.iter().map(|member| member.space.status().held).collect()
    }

    /// By how many nodes each location is claimed, at least.
    fn least_claimed(&self) -> usize {
        let held = self.held();
        let claims = |n: u32| held.iter().filter(|held| held.contains(Location(n << 22))).count();
        (0..1024).map(claims).min().unwrap()
    }

    /// Copies that are claimed and not there.
    fn lacking(&self) -> usize {
        let lacking = |(member, held): (&Member, ArcSet)| {
            let stored = member.stored.lock().unwrap();
            let should = self.published.keys().filter(|key| held.contains(key.location));
            should.filter(|key| !stored.contains(key)).count()
        };
        self.members.iter().zip(self.held()).map(lacking).sum()
    }

    /// The number of copies of each aspect at nodes that claim it, at least.
    fn least_copies(&self) -> usize {
        let held = self.held();
        let copies = |key: &AspectKey| {
            let members = self.members.iter().zip(&held);
            let claim = members.filter(|(_, held)| held.contains(key.location));
            claim.filter(|(member, _)| member.stored.lock().unwrap().contains(key)).count()
        };
        self.published.keys().map(copies).min().unwrap()
    }

    /// Each node asks for some entries, and gets them.
    async fn ask(&self) {
        for (n, member) in self.members.iter().enumerate() {
            for (key, entry) in self.published.iter().skip(n).step_by(29) {
                let (space, entry) = (member.space.clone(), *entry);
                let found = member.runtime.spawn(async move { space.get(entry).await });
                let found = found.await.unwrap().unwrap();
                let is_there = found.aspects.iter().any(|aspect| aspect.key() == *key);
                assert!(is_there, "{n} did not find {entry}: {:?}", found.asked);
            }
        }
    }

    async fn end(self) {
        for member in self.members {
            let node = member.node;
            member.runtime.spawn(async move { node.shutdown().await }).await.unwrap();
            member.runtime.shutdown_background();
        }
    }
}

#[tokio::test]
async fn it_grows_spreads_loses_a_third_is_cut_and_heals() {
    let copies = Copies::new(2, 3).unwrap();
    let mut network = Network::grow(12, copies, |_| {}).await;
    network
        .until("nobody holds more than it should", |network| {
            let held = network.held();
            let parts = held.iter().map(ArcSet::fraction);
            network.least_claimed() >= 3 && parts.sum::<f64>() < 0.6 * held.len() as f64
        })
        .await;

    network.author(0..300, 0..12).await;
    network.until("all is where it belongs", |network| network.lacking() == 0).await;
    assert!(network.least_copies() >= 2);
    network.ask().await;

    // A third goes at once, but never all who claim a location: that would be lost.
    let (mut left_behind, mut next) = (Vec::new(), 0);
    while left_behind.len() < 4 {
        let member = network.members.remove(next);
        if network.least_claimed() == 0 {
            network.members.insert(next, member);
            next += 1;
            continue;
        }
        // Everything of it stops where it is. Its folder must outlast what still writes to it.
        member.runtime.shutdown_background();
        left_behind.push(member.folder);
    }
    let is_whole = |network: &Network| network.least_claimed() >= 3 && network.lacking() == 0;
    network.until("others take the place of those who are gone", is_whole).await;
    assert!(network.least_copies() >= 3);
    network.ask().await;

    let ids: Vec<_> = network.members.iter().map(|member| member.node.id()).collect();
    let (left, right) = ids.split_at(4);
    for (n, member) in network.members.iter().enumerate() {
        for other in if n < 4 { right } else { left } {
            assert!(member.node.block(*other).await.unwrap());
        }
    }
    network.author(1000..1040, 0..4).await;
    network.author(2000..2040, 4..8).await;
    for member in &network.members {
        for other in member.node.blocked() {
            assert!(member.node.unblock(other).await.unwrap());
        }
    }
    network.until("all is where it belongs after the cut", is_whole).await;
    assert!(network.least_copies() >= 3);
    network.ask().await;
    network.end().await;
}

/// Everybody has everything that was published.
fn is_everywhere(network: &Network) -> bool {
    let has_all = |member: &Member| {
        let stored = member.stored.lock().unwrap();
        network.published.keys().all(|key| stored.contains(key))
    };
    network.members.iter().all(has_all)
}

#[tokio::test]
async fn sessions_alone_bring_everything_everywhere() {
    let network = Network::grow(5, Copies::default(), |config| {
        config.push = false;
        config.gossip_interval = Duration::from_secs(2);
    });
    let mut network = network.await;
    network.until("all hold all", |network| network.least_claimed() == 5).await;
    network.author(0..100, 0..5).await;
    network.until("all have all", is_everywhere).await;
    for member in &network.members {
        let kinds = member.kinds.lock().unwrap().clone();
        assert!(kinds.contains(&Kind::AspectDataResponse), "{kinds:?}");
        let pushed = [Kind::AspectBroadcast, Kind::Announce, Kind::Graft];
        assert!(!kinds.iter().any(|kind| pushed.contains(kind)), "{kinds:?}");
    }
    network.end().await;
}

#[tokio::test]
async fn pushes_alone_bring_everything_everywhere() {
    let network = Network::grow(5, Copies::default(), |config| config.pull = false);
    let mut network = network.await;
    network
        .until("all are connected", |network| {
            network.members.iter().all(|member| member.space.status().peers == 4)
        })
        .await;
    network
        .until("all aim at all", |network| {
            network.members.iter().all(|member| member.space.status().target.is_full())
        })
        .await;
    network.author(0..100, 0..5).await;
    network.until("all have all", is_everywhere).await;
    for member in &network.members {
        let kinds = member.kinds.lock().unwrap().clone();
        assert!(kinds.contains(&Kind::AspectBroadcast), "{kinds:?}");
        let pulled = [Kind::ArcRequest, Kind::AspectDataRequest, Kind::AspectDataResponse];
        assert!(!kinds.iter().any(|kind| pulled.contains(kind)), "{kinds:?}");
    }
    network.end().await;
}
