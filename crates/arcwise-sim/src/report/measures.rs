//! What a run has come to, number by number, and what each should be.

use super::text;
use crate::results::{Results, SECTORS, Sample};

/// One number of a run.
pub(super) struct Measure {
    /// Of what, for people.
    pub(super) name: &'static str,
    pub(super) of: fn(&Results) -> f64,
    pub(super) show: fn(f64) -> String,
    /// Its units, where it is drawn: how much of it each is.
    pub(super) units: &'static [(f64, &'static str)],
    /// What it should be.
    pub(super) wanted: fn(&Results) -> Wanted,
    /// What it means, in a sentence.
    pub(super) about: &'static str,
}

/// What a number should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wanted {
    /// Nothing is expected of it.
    Any,
    /// It must not be more.
    Most(f64),
    /// Nodes try to have so much at least, and normally so much.
    About(f64, f64),
}

impl Measure {
    /// Whether it is as it must be; `None` where it need not be anything.
    pub(super) fn held(&self, results: &Results) -> Option<bool> {
        match (self.wanted)(results) {
            Wanted::Most(most) => Some((self.of)(results) <= most),
            Wanted::Any | Wanted::About(..) => None,
        }
    }

    pub(super) fn value(&self, results: &Results) -> String {
        self.told((self.of)(results))
    }

    /// A number of what it is of; what is no number is not known.
    pub(super) fn told(&self, value: f64) -> String {
        if value.is_finite() { (self.show)(value) } else { "-".to_owned() }
    }

    /// What it should be, in words.
    pub(super) fn wanted(&self, results: &Results) -> String {
        match (self.wanted)(results) {
            Wanted::Any => String::new(),
            Wanted::Most(0.0) => "none".to_owned(),
            Wanted::Most(most) => format!("≤ {}", (self.show)(most)),
            Wanted::About(least, normal) => {
                format!("{}, at least {}", (self.show)(normal), (self.show)(least))
            }
        }
    }

    /// The least, the median and the most of some runs.
    pub(super) fn spread(&self, results: &[&Results]) -> [f64; 3] {
        let mut values: Vec<_> = results.iter().map(|it| (self.of)(it)).collect();
        values.sort_by(f64::total_cmp);
        let at = |part: usize| values.get((values.len().saturating_sub(1)) * part / 2).copied();
        [0, 1, 2].map(|part| at(part).unwrap_or(f64::NAN))
    }
}

/// The last look at the network.
fn end(results: &Results) -> Option<&Sample> {
    results.samples.last()
}

/// The part of `all`; nothing of nothing.
fn part(some: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { some as f64 / all as f64 }
}

/// What the model of the arcs alone knows nothing of.
fn of_protocol(results: &Results, value: f64) -> f64 {
    if results.rule.is_none() { value } else { f64::NAN }
}

fn any(_: &Results) -> Wanted {
    Wanted::Any
}

/// What has no larger unit.
const ONE: &[(f64, &str)] = &[(1.0, "")];

/// Numbers that something is expected of come first.
pub(super) const MEASURES: &[Measure] = &[
    Measure {
        name: "violations",
        of: |it| it.violations.len() as f64,
        show: text::number,
        units: ONE,
        wanted: |_| Wanted::Most(0.0),
        about: "How often something was seen that must never be.",
    },
    Measure {
        name: "copies, fewest",
        of: |it| it.summary.copies.0,
        show: text::number,
        units: ONE,
        wanted: about_copies,
        about: "At the end, where there are the fewest.",
    },
    Measure {
        name: "copies, half of the ring",
        of: |it| it.summary.copies.2,
        show: text::number,
        units: ONE,
        wanted: about_copies,
        about: "At the end: half of the sectors have no more.",
    },
    Measure {
        name: "too few copies for",
        of: |it| it.summary.below_min,
        show: text::seconds,
        units: &text::TIMES,
        wanted: |it| Wanted::Most(it.scenario.expect.below_min.0.as_secs_f64()),
        about: "The longest time that any sector had fewer copies than the least number.",
    },
    Measure {
        name: "aspects lost",
        of: |it| part(it.summary.lost.0, it.summary.published),
        show: text::percent,
        units: &[(0.01, "%")],
        wanted: |it| Wanted::Most(it.scenario.expect.lost),
        about: "Nobody has them any more, nor will have: as a part of all.",
    },
    Measure {
        name: "acknowledged ones lost",
        of: |it| of_protocol(it, it.summary.lost.1 as f64),
        show: text::number,
        units: ONE,
        wanted: any,
        about: "Aspects with all receipts that nobody has any more: a violation, unless as many of their \
                holders as gave receipts are gone for good.",
    },
    Measure {
        name: "still lacking at the end",
        of: |it| end(it).map_or(0.0, |it| it.lacking as f64),
        show: text::number,
        units: ONE,
        // The model of the arcs alone does not wait for it.
        wanted: |it| if it.rule.is_none() { Wanted::Most(0.0) } else { Wanted::Any },
        about: "Aspects that a node should hold and does not, over all nodes.",
    },
    Measure {
        name: "most loaded node",
        of: |it| it.summary.load,
        show: text::times,
        units: ONE,
        wanted: |it| Wanted::Most(it.scenario.expect.load),
        about: "The most that a node holds, as a multiple of the mean.",
    },
    Measure {
        name: "arcs changed in an hour",
        of: |it| it.summary.changing,
        show: text::percent,
        units: &[(0.01, "%")],
        wanted: |it| Wanted::Most(it.scenario.expect.changing),
        about: "Nodes whose target arc changed, as a part of all, in the last third of the time.",
    },
    Measure {
        name: "spreading, median",
        of: |it| of_protocol(it, it.summary.spreading.0),
        show: text::seconds,
        units: &text::TIMES,
        wanted: any,
        about: "From publishing an aspect until all who should hold it do.",
    },
    Measure {
        name: "spreading, 99 %",
        of: |it| of_protocol(it, it.summary.spreading.1),
        show: text::seconds,
        units: &text::TIMES,
        wanted: any,
        about: "99 % of the aspects did not take longer.",
    },
    Measure {
        name: "spreading, longest",
        of: |it| of_protocol(it, it.summary.spreading.2),
        show: text::seconds,
        units: &text::TIMES,
        wanted: any,
        about: "The aspect that took longest.",
    },
    Measure {
        name: "look-ups that found all",
        of: |it| match it.summary.asked {
            (0, _, _) => f64::NAN,
            (asked, found, _) => part(found, asked),
        },
        show: text::percent,
        units: &[(0.01, "%")],
        wanted: any,
        about: "Of the entries that were looked up from anywhere.",
    },
    Measure {
        name: "peers asked for each",
        of: |it| of_protocol(it, it.summary.asked.2),
        show: text::number,
        units: ONE,
        wanted: any,
        about: "On average.",
    },
    Measure {
        name: "sent by a node in an hour",
        of: |it| it.summary.bytes.total() as f64,
        show: text::bytes,
        units: &text::BYTES,
        wanted: any,
        about: "On average, for everything.",
    },
    Measure {
        name: "  for control",
        of: |it| of_protocol(it, it.summary.bytes.control as f64),
        show: text::bytes,
        units: &text::BYTES,
        wanted: any,
        about: "Telling of oneself and others, pings, connecting.",
    },
    Measure {
        name: "  for comparing",
        of: |it| of_protocol(it, it.summary.bytes.comparing as f64),
        show: text::bytes,
        units: &text::BYTES,
        wanted: any,
        about: "Finding out what differs.",
    },
    Measure {
        name: "  for gossip",
        of: |it| it.summary.bytes.gossip as f64,
        show: text::bytes,
        units: &text::BYTES,
        wanted: any,
        about: "Aspects fetched or given in sessions.",
    },
    Measure {
        name: "  for push",
        of: |it| it.summary.bytes.push as f64,
        show: text::bytes,
        units: &text::BYTES,
        wanted: any,
        about: "New aspects, announcements and receipts.",
    },
    Measure {
        name: "  for requests",
        of: |it| of_protocol(it, it.summary.bytes.requests as f64),
        show: text::bytes,
        units: &text::BYTES,
        wanted: any,
        about: "Questions and answers.",
    },
    Measure {
        name: "  for transport",
        of: |it| of_protocol(it, it.summary.bytes.transport as f64),
        show: text::bytes,
        units: &text::BYTES,
        wanted: any,
        about: "Keeping connections, what is sent again: by arithmetic.",
    },
    Measure {
        name: "most on a disk",
        of: |it| it.summary.most_held as f64,
        show: text::bytes,
        units: &text::BYTES,
        wanted: |it| match (it.scenario.disk.quota, it.scenario.disk.limited) {
            (quota, 1.0) if quota > 0 => Wanted::Most(quota as f64),
            _ => Wanted::Any,
        },
        about: "Bytes of what was published, at the node that holds most.",
    },
    Measure {
        name: "nodes at the end",
        of: |it| it.summary.nodes as f64,
        show: text::number,
        units: ONE,
        wanted: any,
        about: "Those that are on.",
    },
    Measure {
        name: "aspects published",
        of: |it| it.summary.published as f64,
        show: text::number,
        units: ONE,
        wanted: any,
        about: "In all.",
    },
    Measure {
        name: "acknowledged by receipts",
        of: |it| of_protocol(it, it.summary.acknowledged as f64),
        show: text::number,
        units: ONE,
        wanted: any,
        about: "By as many receipts as were waited for.",
    },
    Measure {
        name: "time it took",
        of: |it| it.summary.took,
        show: text::seconds,
        units: &text::TIMES,
        wanted: any,
        about: "Of real time.",
    },
];

fn about_copies(results: &Results) -> Wanted {
    let (least, normal) = results.scenario.copies;
    // Of fewer nodes, all hold everything.
    let nodes = results.summary.nodes as f64;
    Wanted::About(f64::from(least).min(nodes), f64::from(normal).min(nodes))
}

/// Sectors of the ring, for people.
pub(super) fn sectors() -> String {
    text::number(SECTORS as f64)
}
