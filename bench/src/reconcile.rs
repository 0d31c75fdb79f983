//! How two sets are compared: the exchange of `arcwise_proto::reconcile` beside negentropy, a rateless
//! IBLT and plain lists. Everything in memory and in one thread, without a network.

mod others;
mod parts;
mod portable;
mod riblt;
mod set;

use std::{collections::BTreeMap, hint::black_box, mem};

use anyhow::Context;
use arcwise_proto::{
    AspectKey, Location,
    reconcile::{
        Parts, Sectors, Sums,
        exchange::{Answerer, Limits, Link, Opener, Outcome, Packet, View, cost},
        fingerprint,
        sums::SYNDROMES,
    },
    ring::{ArcSet, RingArc},
};

use crate::machine;
use set::{Keys, Random, Set, Where};

#[derive(clap::Args)]
pub struct Args {
    /// How many items both sides have in common.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1_000_000, 10_000_000])]
    items: Vec<usize>,
    /// How many are in one of the sets only, half of them on each side.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1, 10, 100, 1000, 10_000, 100_000])]
    differences: Vec<usize>,
    /// How many pairs of sets up to 10,000 differences: the exchange's figures are means over them.
    /// Other methods take the first one only.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Leave a method out where it would take more seconds than that, by what it took with fewer items.
    #[arg(long, default_value_t = 60.0)]
    patience: f64,
    /// Only the exchange, nothing beside it.
    #[arg(long)]
    alone: bool,
    /// Only the table of single operations.
    #[arg(long)]
    parts: bool,
}

/// What a comparison took.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    to_answerer: u64,
    to_opener: u64,
    /// A message is all that is sent without waiting for the other side.
    messages: u32,
    /// Seconds of computing.
    opener: f64,
    answerer: f64,
    /// Seconds for what both can keep between comparisons, where the set does not change.
    setup: f64,
}

/// Two sets, as methods without sectors see them: in order.
pub struct Case<'a> {
    shared: &'a [AspectKey],
    opener_only: &'a [AspectKey],
    answerer_only: &'a [AspectKey],
}

impl Case<'_> {
    fn check(&self, opener_only: u64, answerer_only: u64) -> anyhow::Result<()> {
        let right = (self.opener_only.len() as u64, self.answerer_only.len() as u64);
        let found = (opener_only, answerer_only);
        anyhow::ensure!(found == right, "{found:?} found, {right:?} is right");
        Ok(())
    }
}

/// Adds the processor time of `work` to `seconds`.
fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = machine::thread_seconds();
    let result = work();
    *seconds += machine::thread_seconds() - start;
    result
}

/// A side of a conversation.
struct Side<'a> {
    set: Set<'a>,
    sectors: Sectors,
}

impl<'a> Side<'a> {
    /// The common items, of which there are sums already, and some of its own.
    fn new(common: &'a Keys, own: &'a Keys, sectors: &Sectors) -> Self {
        let mut this = Self { set: Set { common, own }, sectors: sectors.clone() };
        own.keys.iter().for_each(|key| this.sectors.insert(key));
        let Ok(()) = this.sectors.settle(&this.set);
        this
    }
}

/// Lets two sides talk.
fn talk(opener: &Side<'_>, answerer: &Side<'_>, arcs: &ArcSet) -> anyhow::Result<Cost> {
    let ours = View { sectors: &opener.sectors, items: &opener.set, arcs };
    let theirs = View { sectors: &answerer.sectors, items: &answerer.set, arcs };
    let mut cost = Cost::default();
    let limits = Limits::default();
    let (mut she, first) = timed(&mut cost.opener, || {
        let (she, open) = Opener::new([1; 8], limits, &ours)?;
        anyhow::Ok((she, open.encode()))
    })?;
    let mut he = Answerer::new([2; 8], Link::default(), limits);
    let (mut her_outcome, mut his_outcome) = (None, None);
    let mut to_him = vec![first];
    while !to_him.is_empty() {
        cost.messages += 1;
        let mut to_her = Vec::new();
        for bytes in mem::take(&mut to_him) {
            cost.to_answerer += bytes.len() as u64;
            timed(&mut cost.answerer, || {
                let packet = Packet::decode(&bytes).context("a packet")?;
                let step = he.handle(packet, &theirs)?;
                to_her.extend(step.send.iter().map(Packet::encode));
                his_outcome = his_outcome.take().or(step.outcome);
                anyhow::Ok(())
            })?;
        }
        cost.messages += u32::from(!to_her.is_empty());
        for bytes in to_her {
            cost.to_opener += bytes.len() as u64;
            timed(&mut cost.opener, || {
                let packet = Packet::decode(&bytes).context("a packet")?;
                let step = she.handle(packet, &ours)?;
                to_him.extend(step.send.iter().map(Packet::encode));
                her_outcome = her_outcome.take().or(step.outcome);
                anyhow::Ok(())
            })?;
        }
    }
    // Right or wrong is the concern of tests; a wrong result would make the figures worthless.
    match (her_outcome.context("hers")?, his_outcome.context("his")?) {
        (Outcome::Send(hers), Outcome::Send(his)) => {
            for (found, own) in [(&hers, opener.set.own), (&his, answerer.set.own)] {
                let mut own = own.keys.iter().filter(|key| arcs.contains(key.location));
                anyhow::ensure!(own.all(|key| found.contains(key)), "not all was found");
            }
        }
        (Outcome::TakeAll, Outcome::SendAll) | (Outcome::SendAll, Outcome::TakeAll) => {}
        _ => anyhow::bail!("they do not agree"),
    }
    Ok(cost)
}

/// The same several times where it is short: the median of the times.
fn talk_often(opener: &Side<'_>, answerer: &Side<'_>, arcs: &ArcSet) -> anyhow::Result<Cost> {
    let mut cost = talk(opener, answerer, arcs)?;
    let times = (0.2 / (cost.opener + cost.answerer)).clamp(1.0, 15.0) as usize;
    let mut all = vec![cost];
    for _ in 1..times {
        all.push(talk(opener, answerer, arcs)?);
    }
    let median = |time: fn(&Cost) -> f64| {
        let mut times: Vec<f64> = all.iter().map(time).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    (cost.opener, cost.answerer) = (median(|cost| cost.opener), median(|cost| cost.answerer));
    Ok(cost)
}

/// Prints a row: means of costs.
fn row(name: &str, n: usize, d: usize, costs: &[Cost]) {
    let mean = |of: fn(&Cost) -> f64| costs.iter().map(of).sum::<f64>() / costs.len() as f64;
    let (there, back) = (mean(|c| c.to_answerer as f64), mean(|c| c.to_opener as f64));
    let bytes = there + back;
    let each = if d == 0 { String::new() } else { format!("{:.1}", bytes / d as f64) };
    let bound = cost::bound(d as u64);
    let setup = mean(|c| c.setup);
    let setup = if setup == 0.0 { String::new() } else { format!("{setup:.2}") };
    println!(
        "| {n} | {d} | {name} | {bytes:.0} | {there:.0} + {back:.0} | {each} | {bound:.0} | {:.1} | {:.1} | {:.3} | {:.3} | {setup} |",
        mean(|c| c.messages.into()),
        mean(|c| (c.messages / 2).into()),
        mean(|c| c.opener * 1e3),
        mean(|c| c.answerer * 1e3),
    );
}

/// A line inside a table.
fn note(text: &str) {
    println!("| | | *{text}* | | | | | | | | | |");
}

fn header() {
    println!(
        "\n| n | d | method | bytes | to answerer + to opener | bytes/d | bound | messages | round trips | opener CPU ms | answerer CPU ms | setup s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
}

/// The methods beside the exchange.
struct Others {
    patience: f64,
    /// With how many items, and how many seconds in all: for a guess at more items.
    took: BTreeMap<(&'static str, usize), (usize, f64)>,
}

type Method = fn(&Case<'_>) -> anyhow::Result<Cost>;

impl Others {
    const ALL: [(&'static str, Method); 3] = [
        ("negentropy", others::negentropy),
        ("rateless IBLT", riblt::session),
        ("plain lists", others::lists),
    ];

    fn rows(&mut self, case: &Case<'_>, n: usize, empty: bool) -> anyhow::Result<()> {
        let d = case.opener_only.len() + case.answerer_only.len();
        let key = if empty { usize::MAX } else { d };
        for (name, method) in Self::ALL {
            let all = case.shared.len() + d;
            let guess =
                self.took.get(&(name, key)).map_or(0.0, |(n, s)| s * all as f64 / *n as f64);
            if guess > self.patience {
                note(&format!("d = {d}, {name}: left out, would take about {guess:.0} s"));
                continue;
            }
            let start = machine::thread_seconds();
            let cost = method(case)?;
            self.took.insert((name, key), (all, machine::thread_seconds() - start));
            row(name, n, d, &[cost]);
        }
        Ok(())
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.parts {
        parts::print();
        return Ok(());
    }
    let mut others = Others { patience: args.patience, took: BTreeMap::new() };
    let mut others = (!args.alone).then_some(&mut others);
    let mut states = Vec::new();
    let mut items = args.items.clone();
    items.sort_unstable();
    for n in items {
        let mut random = Random(n as u64);
        let common = Keys::new(random.keys(n, Where::Anywhere));
        let (sectors, state) = built(&common, &ArcSet::full(), &mut random);
        states.push(state);
        header();
        for d in args.differences.iter().copied().filter(|d| *d <= n) {
            let sides = [(&common, &sectors); 2];
            compare(args, others.as_deref_mut(), "exchange", sides, &ArcSet::full(), d, None)?;
        }
        one_empty(others.as_deref_mut(), &common, &sectors)?;
        if n == 1_000_000 {
            println!("\nOther shapes:");
            header();
            shapes(args, others.as_deref_mut(), &common, &sectors)?;
        }
    }
    println!(
        "\n| n | build s | build us/item | insert us | sectors | load | MB in all | of it sketches | of it fingerprints | snapshot us | idle check bytes | idle check CPU ms | of an unaligned 1/20 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    states.iter().for_each(|state| println!("{state}"));
    parts::print();
    if let Some(peak) = machine::peak_memory() {
        println!("\nPeak memory: {:.0} MB.", peak as f64 / 1e6);
    }
    Ok(())
}

/// The exchange, and the other methods, with `d` differences within the arcs, or at one location.
/// The first side opens.
fn compare(
    args: &Args,
    others: Option<&mut Others>,
    name: &str,
    sides: [(&Keys, &Sectors); 2],
    arcs: &ArcSet,
    d: usize,
    at: Option<Where>,
) -> anyhow::Result<()> {
    let [hers, his] = sides;
    let n = hers.0.keys.len();
    let pairs = if d > 10_000 { 1 } else { args.pairs.max(1) };
    let place = match (at, &arcs.arcs()[..]) {
        (Some(place), _) => place,
        (None, [arc]) if !arc.is_full() => Where::Within(*arc),
        _ => Where::Anywhere,
    };
    let own = |pair: usize| {
        let mut random = Random((n + d) as u64 * 1000 + pair as u64 + (1 << 40));
        [d.div_ceil(2), d / 2].map(|many| Keys::new(random.keys(many, place)))
    };
    let mut costs = Vec::new();
    for pair in 0..pairs {
        let [her_own, his_own] = own(pair);
        let opener = Side::new(hers.0, &her_own, hers.1);
        let answerer = Side::new(his.0, &his_own, his.1);
        costs.push(talk_often(&opener, &answerer, arcs)?);
    }
    row(name, n, d, &costs);
    if let Some(others) = others {
        let [her_own, his_own] = own(0);
        let case =
            Case { shared: &hers.0.keys, opener_only: &her_own.keys, answerer_only: &his_own.keys };
        others.rows(&case, n, false)?;
    }
    Ok(())
}

/// A newcomer with nothing opens.
fn one_empty(others: Option<&mut Others>, common: &Keys, sectors: &Sectors) -> anyhow::Result<()> {
    let nothing = Keys::default();
    let newcomer = Side::new(&nothing, &nothing, &Sectors::new());
    let full = Side::new(common, &nothing, sectors);
    let cost = talk_often(&newcomer, &full, &ArcSet::full())?;
    let n = common.keys.len();
    row("exchange, opener empty", n, n, &[cost]);
    if let Some(others) = others {
        let case = Case { shared: &[], opener_only: &[], answerer_only: &common.keys };
        others.rows(&case, n, true)?;
    }
    Ok(())
}

/// Sums of a set from nothing, and a row about them.
fn built(common: &Keys, arcs: &ArcSet, random: &mut Random) -> (Sectors, String) {
    let n = common.keys.len();
    let nothing = Keys::default();
    let set = Set { common, own: &nothing };
    let mut build = 0.0;
    let sectors = timed(&mut build, || {
        let mut sectors = Sectors::expecting(n as u64, arcs);
        common.keys.iter().for_each(|key| sectors.insert(key));
        let Ok(()) = sectors.settle(&set);
        sectors
    });
    // More items in random order, without the copy that the first change after a snapshot makes of a
    // sector, and without settling.
    let more: Vec<AspectKey> = (0..20_000).map(|_| random.key(Where::Anywhere)).collect();
    let mut grown = sectors.clone();
    more.iter().for_each(|key| grown.insert(key));
    more.iter().for_each(|key| grown.remove(key));
    let mut insert = 0.0;
    timed(&mut insert, || more.iter().for_each(|key| grown.insert(key)));
    let mut snapshot = 0.0;
    timed(&mut snapshot, || (0..1000).for_each(|_| drop(black_box(sectors.clone()))));
    let check = |arcs: &ArcSet| {
        let mut seconds = 0.0;
        timed(&mut seconds, || {
            for at in 0u64..100 {
                let Ok(sums) = sectors.sum_over(arcs, Parts::FINGERPRINT, &set);
                black_box(sums.fingerprint.check(&at.to_le_bytes()));
            }
        });
        seconds * 10.0
    };
    let kept = sectors.memory() as f64 / 1e6;
    let each = kept / size_of::<Sums>() as f64;
    // What a ping has to carry of a space: how many items, and a check with the ping's own nonce.
    let idle = u64::from((n as u64 | 1).ilog2() / 7 + 1) + 16;
    let state = format!(
        "| {n} | {build:.2} | {:.2} | {:.2} | {} | {} | {kept:.1} | {:.1} | {:.1} | {:.1} | {idle} | {:.3} | {:.3} |",
        build * 1e6 / n as f64,
        insert * 1e6 / more.len() as f64,
        sectors.len(),
        sectors.load(),
        each * (8 * SYNDROMES) as f64,
        each * fingerprint::BYTES as f64,
        snapshot * 1e3,
        check(&ArcSet::full()),
        check(&twentieth()),
    );
    (sectors, state)
}

/// A twentieth of the ring that begins and ends nowhere in particular.
fn twentieth() -> ArcSet {
    RingArc::between(Location(0x3456_789b), Location(0x3456_789b + 0x0ccc_cccd)).into()
}

/// Differences in other places, and sets that are kept in other ways.
fn shapes(
    args: &Args,
    mut others: Option<&mut Others>,
    common: &Keys,
    sectors: &Sectors,
) -> anyhow::Result<()> {
    let (n, full) = (common.keys.len(), ArcSet::full());
    let set = Set { common, own: &Keys::default() };
    let cuts = |a: &Sectors, b: &Sectors| {
        let [a, b] = [a, b].map(|s| format!("{} sectors of up to {}", s.len(), s.load()));
        note(&format!("opener: {a}; answerer: {b}"));
    };

    let arc = RingArc::new(Location(0x9abc_def1), (1 << 32) / 1000)?;
    for d in [10, 1000, 10_000, 100_000] {
        let (sides, at) = ([(common, sectors); 2], Some(Where::Within(arc)));
        let name = "exchange, all within 1/1000 of the ring";
        compare(args, others.as_deref_mut(), name, sides, &full, d, at)?;
    }

    // One side has grown from nothing, the other expected eight times as many items.
    let summed = |mut sectors: Sectors| {
        common.keys.iter().for_each(|key| sectors.insert(key));
        let Ok(()) = sectors.settle(&set);
        sectors
    };
    let grown = (common, &summed(Sectors::new()));
    let coarse = (common, &summed(Sectors::expecting(8 * n as u64, &full)));
    for sides in [[grown, coarse], [coarse, grown]] {
        cuts(sides[0].1, sides[1].1);
        for d in [0, 10, 1000, 10_000, 100_000] {
            compare(args, None, "exchange, other sectors", sides, &full, d, None)?;
        }
    }

    // The opener holds nothing but a twentieth, which ends within sectors of the answerer.
    let arcs = twentieth();
    let inside = common.keys.iter().filter(|key| arcs.contains(key.location));
    let part = Keys::new(inside.copied().collect());
    let (fine, _) = built(&part, &arcs, &mut Random(20));
    cuts(&fine, sectors);
    for d in [0, 10, 1000, 10_000] {
        let sides = [(&part, &fine), (common, sectors)];
        let name = "exchange, unaligned 1/20 of the ring";
        compare(args, others.as_deref_mut(), name, sides, &arcs, d, None)?;
    }

    // A tenth of all items belong to one entry, and so do all that differ.
    let at = Where::At(Location(0x7777_7777));
    let mut keys = Random(99).keys(n / 10, at);
    keys.extend_from_slice(&common.keys[..n - n / 10]);
    keys.sort_unstable();
    let hot = Keys::new(keys);
    let (sectors, _) = built(&hot, &full, &mut Random(21));
    cuts(&sectors, &sectors);
    for d in [10, 1000, 10_000, 100_000] {
        let name = "exchange, all at one entry of n/10";
        let sides = [(&hot, &sectors); 2];
        compare(args, others.as_deref_mut(), name, sides, &full, d, Some(at))?;
    }
    Ok(())
}
