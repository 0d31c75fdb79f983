//! Many nodes with real endpoints and durable stores in one process: a network that grows, spreads,
//! loses a third of its nodes, is cut in two and heals.
//!
//! For the cut it runs in a network namespace of its own (util-linux's `unshare`, iproute2's `ip` and
//! nftables' `nft` must be there; root need not be): each half of the nodes has its own part of 127.0.0.0/8,
//! and packets from one to the other are dropped without a word.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use arcwise::{
    ArcSet, AspectKey, Config, Copies, Direction, EntryAddress, Event, Kind, Limits, NewAspect,
    Node, NodeId, Space, SpaceOptions,
};
use arcwise_proto::Location;
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    sync::broadcast::error::RecvError,
};

use crate::nodes;

#[derive(clap::Args)]
pub struct Args {
    /// How many nodes.
    #[arg(long, default_value_t = 50)]
    nodes: usize,
    /// Entries authored, each at a random node.
    #[arg(long, default_value_t = 20_000)]
    entries: u64,
    /// Bytes of data in each.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// The least and the normal number of copies.
    #[arg(long, default_value = "3,4", value_parser = copies)]
    copies: Copies,
    /// Entries authored a second while the network is whole.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// Where the nodes sit on the ring, who authors and who dies follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long a peer may be away, in seconds, before others take its place.
    #[arg(long, default_value_t = 5)]
    patience: u64,
    /// How long the network is cut in two, in seconds.
    #[arg(long, default_value_t = 60)]
    cut: u64,
    /// Ends after this part; only the last one needs a network namespace.
    #[arg(long, default_value = "cut")]
    until: Part,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Part {
    Grow,
    Author,
    Kill,
    Cut,
}

/// Set where the process is in its own network namespace.
const ISOLATED: &str = "ARCWISE_BENCH_ISOLATED";

fn copies(text: &str) -> Result<Copies, String> {
    let (min, target) = text.split_once(',').ok_or("write MIN,TARGET")?;
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
    Copies::new(number(min)?, number(target)?).map_err(|error| error.to_string())
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        let hash = blake3::hash(&self.0.to_le_bytes());
        self.0 += 1;
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// What is counted of one node.
#[derive(Default)]
struct Counts {
    /// When each aspect became durable here.
    stored: Mutex<BTreeMap<AspectKey, Instant>>,
    /// Aspects that came by a push, or in a session.
    pushed: AtomicU64,
    fetched: AtomicU64,
    /// Not counted, because it was too much at once.
    missed: AtomicU64,
}

struct Member {
    node: Node,
    space: Space,
    counts: Arc<Counts>,
    runtime: Runtime,
    /// In which half of the network it is.
    half: usize,
    _folder: TempDir,
}

impl Member {
    /// Runs something on the node's own threads.
    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            let _ = sender.send(work.await);
        });
        receiver.recv().expect("the node runs")
    }

    fn held(&self) -> ArcSet {
        self.space.status().held
    }

    fn target(&self) -> ArcSet {
        self.space.status().target
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.until == Part::Cut {
        if std::env::var_os(ISOLATED).is_none() {
            return isolated();
        }
        tool("ip", &["link", "set", "lo", "up"])?;
        tool("nft", &["add", "table", "inet", "cut"])?;
        let chain = "{ type filter hook input priority 0; }";
        tool("nft", &["add", "chain", "inet", "cut", "input", chain])?;
    }
    let memory = resident();
    let random = Random(args.seed << 32);
    let mut network = Network { members: Vec::new(), random, started: 0, args };
    let started = Instant::now();
    network.grow()?;
    network.settle("grown", started)?;
    network.show_shares();
    network.show_memory(memory);
    if args.until == Part::Grow {
        return Ok(());
    }
    let mut all = network.author(0..args.nodes, args.entries)?;
    network.arrive(&all)?;
    network.anywhere(&all, 500)?;
    network.show_memory(memory);
    if args.until == Part::Author {
        return Ok(());
    }
    network.kill(&all)?;
    network.anywhere(&all, 500)?;
    if args.until == Part::Kill {
        return Ok(());
    }
    network.cut(&mut all)?;
    network.anywhere(&all, 500)
}

/// Runs this again in a network namespace of its own.
fn isolated() -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(ISOLATED, "1")
        .status()
        .context("`unshare` of util-linux is needed; or end before the cut, with `--until kill`")?;
    ensure!(status.success(), "it failed in its network namespace");
    Ok(())
}

fn tool(program: &str, args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program).args(args).status();
    let status = status.with_context(|| format!("`{program}` is needed"))?;
    ensure!(status.success(), "`{program} {}` failed", args.join(" "));
    Ok(())
}

/// Bytes of memory that this process has, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

struct Network<'a> {
    members: Vec<Member>,
    random: Random,
    /// Nodes that were ever started.
    started: usize,
    args: &'a Args,
}

/// A published aspect: its key, its author, and when it was durable there.
type Published = BTreeMap<AspectKey, (NodeId, Instant)>;

impl Network<'_> {
    /// One node makes the space, and all others join with its ticket.
    fn grow(&mut self) -> anyhow::Result<()> {
        let first = self.start(None)?;
        let ticket = first.node.ticket(&first.space.id()).context("a ticket")?;
        self.members.push(first);
        for _ in 1..self.args.nodes {
            let member = self.start(Some(ticket.clone()))?;
            self.members.push(member);
        }
        Ok(())
    }

    fn start(&mut self, ticket: Option<arcwise::Ticket>) -> anyhow::Result<Member> {
        let folder = nodes::folder(None)?;
        // Its place on the ring is the same in every run with this seed.
        let key: String = (0..4).map(|_| format!("{:016x}", self.random.next())).collect();
        std::fs::write(folder.path().join("key"), key)?;
        let mut config = Config::new(folder.path()).loopback();
        let half = self.started % 2;
        if self.args.until == Part::Cut {
            let ip = Ipv4Addr::new(127, 1 + half as u8, 0, 1);
            config.listen = vec![SocketAddr::from((ip, 0))];
        }
        self.started += 1;
        config.patience = Duration::from_secs(self.args.patience);
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .enable_all()
            .build()?;
        let copies = self.args.copies;
        let opened = runtime.spawn(async move {
            let node = Node::open(config).await?;
            let space = match ticket {
                Some(ticket) => node.join(&ticket).await?,
                None => {
                    let options = SpaceOptions { copies, ..Limits::default().into() };
                    node.create_space("network", options).await?
                }
            };
            anyhow::Ok((node, space))
        });
        let (node, space) = runtime.block_on(opened)??;
        let counts = Arc::new(Counts::default());
        let (mut events, mut frames) = (node.events(), node.frames());
        let counted = counts.clone();
        runtime.spawn(async move {
            loop {
                match events.recv().await {
                    Ok(Event::Stored { keys, .. }) => {
                        let now = Instant::now();
                        let mut stored = counted.stored.lock().expect("nobody panics");
                        stored.extend(keys.into_iter().map(|key| (key, now)));
                    }
                    Ok(Event::PeerFault { fault, .. }) => eprintln!("a peer broke a rule: {fault}"),
                    Ok(_) => {}
                    Err(RecvError::Lagged(n)) => {
                        counted.missed.fetch_add(n, Ordering::Relaxed);
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        });
        let counted = counts.clone();
        runtime.spawn(async move {
            loop {
                match frames.recv().await {
                    Ok(frame) if frame.direction == Direction::Received => {
                        let count = match frame.kind {
                            Kind::AspectBroadcast => &counted.pushed,
                            Kind::AspectDataResponse => &counted.fetched,
                            _ => continue,
                        };
                        count.fetch_add(frame.items as u64, Ordering::Relaxed);
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(n)) => {
                        counted.missed.fetch_add(n, Ordering::Relaxed);
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Ok(Member { node, space, counts, runtime, half, _folder: folder })
    }

    /// Waits until every node claims what it aims at, and that is left as it is for a while.
    fn settle(&self, what: &str, since: Instant) -> anyhow::Result<()> {
        // Too much is given up only after five times that, about.
        let still = Duration::from_secs(10) + Duration::from_secs(self.args.patience) * 8;
        let (mut last, mut changed) = (Vec::new(), Instant::now());
        loop {
            let shares: Vec<_> = self.members.iter().map(|m| (m.held(), m.target())).collect();
            let filled = shares.iter().all(|(held, target)| held == target && !target.is_empty());
            if shares != last {
                (last, changed) = (shares, Instant::now());
            }
            if filled && changed.elapsed() > still {
                let took = changed - since;
                println!("{what}: nothing changed any more after {:.1} s", took.as_secs_f64());
                return Ok(());
            }
            if since.elapsed() > Duration::from_secs(900) {
                self.show_shares();
                bail!("{what}: the arcs do not settle");
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    fn show_shares(&self) {
        let mut parts: Vec<f64> = self.members.iter().map(|m| m.held().fraction()).collect();
        parts.sort_by(f64::total_cmp);
        let mean = parts.iter().sum::<f64>() / parts.len() as f64;
        let peers: Vec<usize> = self.members.iter().map(|m| m.node.peers().len()).collect();
        println!(
            "{} nodes hold {:.1} % of the ring on average, {:.1} to {:.1} %; {} to {} connections each",
            parts.len(),
            mean * 100.0,
            parts[0] * 100.0,
            parts[parts.len() - 1] * 100.0,
            peers.iter().min().unwrap_or(&0),
            peers.iter().max().unwrap_or(&0),
        );
        for member in &self.members {
            let status = member.node.status();
            if status.peers.len() < 3 {
                eprintln!("{} has {} peers:", member.node.id().short(), status.peers.len());
                for peer in &status.unreachable {
                    eprintln!("  {} {:?}", peer.id.short(), peer.failure);
                }
                eprintln!("{:?}", member.space.overview());
            }
        }
        let (least, mean) = self.coverage();
        println!("every location is claimed by at least {least} nodes, {mean:.1} on average");
    }

    /// How many nodes claim a location: at least, and on average.
    fn coverage(&self) -> (usize, f64) {
        let held: Vec<ArcSet> = self.members.iter().map(Member::held).collect();
        let counts: Vec<usize> = (0..4096u32)
            .map(|n| held.iter().filter(|held| held.contains(Location(n << 20))).count())
            .collect();
        let sum: usize = counts.iter().sum();
        (counts.iter().copied().min().unwrap_or(0), sum as f64 / counts.len() as f64)
    }

    fn show_memory(&self, before: Option<u64>) {
        let (Some(before), Some(now)) = (before, resident()) else { return };
        let connections: usize = self.members.iter().map(|m| m.node.peers().len()).sum();
        let used = now.saturating_sub(before) as f64 / 1e6;
        println!(
            "{used:.0} MB of memory: {:.1} MB a node, {:.2} MB for each of its {:.1} connections",
            used / self.members.len() as f64,
            used / connections as f64,
            connections as f64 / self.members.len() as f64,
        );
    }

    /// Random ones of these nodes author entries, some a second.
    fn author(&mut self, nodes: Range<usize>, entries: u64) -> anyhow::Result<Published> {
        let started = Instant::now();
        let mut published = Published::new();
        let rate = self.args.rate;
        let batch = (rate / 20).max(1);
        for (turn, first) in (0..entries).step_by(batch as usize).enumerate() {
            let member = &self.members[nodes.start + self.random.below(nodes.len())];
            let news: Vec<NewAspect> = (first..entries.min(first + batch))
                .map(|_| {
                    let mut data = vec![0; self.args.size];
                    for part in data.chunks_mut(8) {
                        part.copy_from_slice(&self.random.next().to_le_bytes()[..part.len()]);
                    }
                    let entry = EntryAddress(*blake3::hash(&data).as_bytes());
                    NewAspect { entry, kind: 1, data: data.into(), signed: false }
                })
                .collect();
            let space = member.space.clone();
            let done = member.run(async move { space.publish(news).await })?;
            let now = Instant::now();
            published.extend(done.keys.iter().map(|key| (*key, (member.node.id(), now))));
            let due = started
                + Duration::from_secs_f64((turn as u64 + 1) as f64 * batch as f64 / rate as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        println!("{entries} entries authored in {:.1} s", started.elapsed().as_secs_f64());
        Ok(published)
    }

    /// Waits until all of it is where it should be; says how long that took, and how often it came.
    fn arrive(&self, published: &Published) -> anyhow::Result<()> {
        let took = self.complete(published)?;
        println!("the last copy was there {took:.1} s after the last entry");
        // From the author to all who should hold it.
        let held: Vec<ArcSet> = self.members.iter().map(Member::held).collect();
        let mut last: Vec<Duration> = Vec::new();
        let mut copies: Vec<usize> = Vec::new();
        let mut stored = 0;
        for (key, (_, at)) in published {
            let mut latest = *at;
            let mut count = 0;
            for (member, held) in self.members.iter().zip(&held) {
                if held.contains(key.location) {
                    let stored = member.counts.stored.lock().expect("nobody panics");
                    if let Some(when) = stored.get(key) {
                        latest = latest.max(*when);
                        count += 1;
                    }
                }
            }
            last.push(latest - *at);
            copies.push(count);
        }
        for member in &self.members {
            stored += member.counts.stored.lock().expect("nobody panics").len() as u64;
        }
        last.sort();
        copies.sort();
        let of = |part: f64| last[((last.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
        println!(
            "from the author to all who hold it: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
            of(0.5),
            of(0.99),
            of(1.0)
        );
        println!("copies: at least {}, median {}", copies[0], copies[copies.len() / 2]);
        let sum = |of: fn(&Counts) -> &AtomicU64| -> u64 {
            self.members.iter().map(|m| of(&m.counts).load(Ordering::Relaxed)).sum()
        };
        let (pushed, fetched) = (sum(|it| &it.pushed), sum(|it| &it.fetched));
        let others = stored - published.len() as u64;
        println!(
            "{others} copies were stored by others; {pushed} came by pushes and {fetched} in sessions: \
             each came {:.2} times ({} not counted)",
            (pushed + fetched) as f64 / others as f64,
            sum(|it| &it.missed)
        );
        ensure!(copies[0] >= self.args.copies.min() as usize, "too few copies");
        Ok(())
    }

    /// Waits until all of it is wherever it is claimed to be, and gives how many seconds that took.
    fn complete(&self, published: &Published) -> anyhow::Result<f64> {
        let (started, mut shown) = (Instant::now(), Instant::now());
        loop {
            let lacking = self.lacking(published);
            if lacking == 0 {
                return Ok(started.elapsed().as_secs_f64());
            }
            if shown.elapsed() > Duration::from_secs(15) {
                println!(
                    "{lacking} copies are lacking after {:.0} s",
                    started.elapsed().as_secs_f64()
                );
                shown = Instant::now();
            }
            ensure!(
                started.elapsed() < Duration::from_secs(300),
                "{lacking} copies are still lacking"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Copies that are not where they are claimed to be.
    fn lacking(&self, published: &Published) -> usize {
        let mut lacking = 0;
        for member in &self.members {
            let held = member.held();
            let stored = member.counts.stored.lock().expect("nobody panics");
            let should = published.keys().filter(|key| held.contains(key.location));
            lacking += should.filter(|key| !stored.contains_key(key)).count();
        }
        lacking
    }

    /// Random nodes ask for random entries.
    fn anywhere(&mut self, published: &Published, times: usize) -> anyhow::Result<()> {
        let keys: Vec<AspectKey> = published.keys().copied().collect();
        let mut took = Vec::new();
        let mut asked = 0;
        for _ in 0..times {
            let key = keys[self.random.below(keys.len())];
            let member = &self.members[self.random.below(self.members.len())];
            // The entry's address is in the aspect; somebody has it.
            let holder = self
                .members
                .iter()
                .find(|m| m.counts.stored.lock().expect("nobody panics").contains_key(&key));
            let holder = holder.context("somebody has it")?;
            let space = holder.space.clone();
            let aspect = holder.run(async move { space.aspect(key).await })?;
            let entry = aspect.context("it is held")?.entry();
            let (space, started) = (member.space.clone(), Instant::now());
            let found = member.run(async move { space.get(entry).await })?;
            took.push(started.elapsed());
            asked += found.asked.len();
            let found_it = found.aspects.iter().any(|aspect| aspect.key() == key);
            ensure!(found_it, "an entry was not found: {:?}", found.asked);
        }
        took.sort();
        let of = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
        println!(
            "{times} entries got from anywhere: p50 {:.1} ms, p99 {:.1} ms; {:.1} peers answered each time",
            of(0.5),
            of(0.99),
            asked as f64 / times as f64
        );
        Ok(())
    }

    /// A third of the nodes is gone at once, without a word.
    fn kill(&mut self, published: &Published) -> anyhow::Result<()> {
        let victims = self.members.len() / 3;
        for _ in 0..victims {
            let member = self.members.swap_remove(self.random.below(self.members.len()));
            // Everything of it stops where it is.
            member.runtime.shutdown_background();
        }
        println!("{victims} nodes killed");
        let started = Instant::now();
        let lost = published.keys().filter(|key| {
            !self
                .members
                .iter()
                .any(|m| m.counts.stored.lock().expect("nobody panics").contains_key(key))
        });
        println!("{} entries have no copy left", lost.count());
        let (mut least, mut shown) = (usize::MAX, Instant::now());
        loop {
            let (now, mean) = self.coverage();
            if now != least || shown.elapsed() > Duration::from_secs(30) {
                println!(
                    "after {:.1} s: at least {now} claim a location, {mean:.1} on average",
                    started.elapsed().as_secs_f64()
                );
                (least, shown) = (now, Instant::now());
            }
            if now >= self.args.copies.target() as usize {
                break;
            }
            ensure!(started.elapsed() < Duration::from_secs(900), "R does not recover");
            std::thread::sleep(Duration::from_millis(500));
        }
        println!("R is what it should be again after {:.1} s", started.elapsed().as_secs_f64());
        self.settle("after the loss", started)?;
        self.show_shares();
        let lacking = self.lacking(published);
        ensure!(lacking == 0, "{lacking} copies are claimed and not held");
        Ok(())
    }

    /// The network is cut in two, both halves author, and it heals.
    fn cut(&mut self, published: &mut Published) -> anyhow::Result<()> {
        self.members.sort_by_key(|member| member.half);
        let nodes = self.members.len();
        let border = self.members.iter().filter(|member| member.half == 0).count();
        for (from, to) in [("127.1.0.0/16", "127.2.0.0/16"), ("127.2.0.0/16", "127.1.0.0/16")] {
            let rule = ["ip", "saddr", from, "ip", "daddr", to, "drop"];
            tool("nft", &[&["add", "rule", "inet", "cut", "input"][..], &rule].concat())?;
        }
        println!("the network is cut into {border} and {} nodes", nodes - border);
        let started = Instant::now();
        let entries = self.args.entries / 20;
        for half in [0..border, border..nodes] {
            published.extend(self.author(half, entries)?);
        }
        let cut = Duration::from_secs(self.args.cut);
        std::thread::sleep(cut.saturating_sub(started.elapsed()));
        let across = |network: &Self| {
            let count = |half: &[Member], other: &[Member]| {
                let other: Vec<NodeId> = other.iter().map(|m| m.node.id()).collect();
                let peers = half.iter().flat_map(|m| m.node.peers());
                peers.filter(|peer| other.contains(&peer.id)).count()
            };
            let (a, b) = network.members.split_at(border);
            count(a, b)
        };
        println!(
            "after {:.0} s, {} connections go across the cut; {} copies are not where they are claimed to be",
            started.elapsed().as_secs_f64(),
            across(self),
            self.lacking(published)
        );
        self.show_shares();
        tool("nft", &["flush", "chain", "inet", "cut", "input"])?;
        let healed = Instant::now();
        while across(self) == 0 {
            ensure!(healed.elapsed() < Duration::from_secs(300), "the halves do not meet again");
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("the halves met {:.1} s after the cut was healed", healed.elapsed().as_secs_f64());
        self.complete(published)?;
        println!(
            "all of it was wherever it belongs {:.1} s after the cut was healed",
            healed.elapsed().as_secs_f64()
        );
        self.settle("after the cut", healed)?;
        self.show_shares();
        let lacking = self.lacking(published);
        ensure!(lacking == 0, "{lacking} copies are claimed and not held");
        Ok(())
    }
}
