//! Whole exchanges.

use std::collections::{BTreeMap, BTreeSet};

use arcwise_proto::{
    AspectKey,
    reconcile::{
        Sectors,
        exchange::{Answerer, Limits, Link, Opener, Outcome, Packet, View},
    },
    ring::ArcSet,
};

use super::{RULE, item, packets::kind, words};
use crate::{File, hex, unhex};

/// Item `n`, with the id of item `id`.
fn like(n: u64, id: u64) -> AspectKey {
    let mut key = item(n);
    key.hash.0[..6].copy_from_slice(&item(id).hash.0[..6]);
    key
}

/// A set of items and what they are called.
type Named = BTreeMap<AspectKey, String>;

/// Reads `0..7 9 12~3`: items 0 to 6, item 9, and item 12 with the id of item 3.
fn named(text: &str) -> Named {
    let number = |text: &str| text.parse::<u64>().unwrap();
    let read = |word: &str| -> Vec<(AspectKey, String)> {
        if let Some((from, to)) = word.split_once("..") {
            (number(from)..number(to)).map(|n| (item(n), n.to_string())).collect()
        } else if let Some((n, id)) = word.split_once('~') {
            vec![(like(number(n), number(id)), word.to_owned())]
        } else {
            vec![(item(number(word)), word.to_owned())]
        }
    };
    text.split_whitespace().flat_map(read).collect()
}

fn sectors(set: &BTreeSet<AspectKey>) -> Sectors {
    let mut sectors = Sectors::new();
    set.iter().for_each(|key| sectors.insert(key));
    let Ok(()) = sectors.settle(set);
    sectors
}

struct Case {
    name: &'static str,
    she: &'static str,
    he: &'static str,
    arcs: &'static str,
    /// As he sees it: few bytes a second, or many.
    slow: bool,
    /// The kinds of the packets, in order.
    kinds: &'static str,
}

const HER_NONCE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const HIS_NONCE: [u8; 8] = [0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11];

const CASES: &[Case] = &[
    Case {
        name: "the same",
        she: "0..50",
        he: "0..50",
        arcs: "full",
        slow: false,
        kinds: "Open Same",
    },
    Case {
        name: "both have nothing",
        she: "",
        he: "",
        arcs: "full",
        slow: false,
        kinds: "Open Same",
    },
    Case {
        name: "she has nothing",
        she: "",
        he: "0..50",
        arcs: "full",
        slow: false,
        kinds: "Open Stream",
    },
    Case {
        name: "he has nothing",
        she: "0..50",
        he: "",
        arcs: "full",
        slow: false,
        kinds: "Open Stream",
    },
    Case {
        name: "the difference is in the opening",
        she: "0..50 60",
        he: "3..50 70 71",
        arcs: "full",
        slow: false,
        kinds: "Open Found Done",
    },
    Case {
        name: "a part of the ring, in two arcs",
        she: "0..50 60",
        he: "3..50 70 71",
        arcs: "10000000..=8fffffff,c0000000..=cfffffff",
        slow: false,
        kinds: "Open Found Done",
    },
    Case {
        name: "lists",
        she: "0..40",
        he: "20..60",
        arcs: "full",
        slow: false,
        kinds: "Open Pieces Want Close Claim Done",
    },
    Case {
        name: "sketches",
        she: "0..1500",
        he: "30..1530",
        arcs: "full",
        slow: true,
        kinds: "Open Pieces Want Close Claim Done",
    },
    Case {
        name: "a piece that needs more syndromes",
        she: "0..600",
        he: "12..612 2050 2748 2801 2903 3111 3327 3613 3617 3621 3946 4289 4380 5006 5099 5120 5125 \
            5380 5394 5688 5873",
        arcs: "full",
        slow: true,
        kinds: "Open Pieces Want Failed Pieces Want Close Claim Done",
    },
    Case {
        name: "a piece that is cut once more",
        she: "0..1500",
        he: "9..1509 2050 2748 2801 2903 3111 3327 3613 3617 3621 3946 4289 4380 5006 5099 5120 5125 \
            5380 5394 5688 5873 5898 5952 6022 6053 6606 6744 6834 7268 7569 7616 7873 8149 8297 8779 \
            8908 9540 9982 10152 10331 10439",
        arcs: "full",
        slow: true,
        kinds: "Open Pieces Want Failed Pieces Failed Pieces Want Failed Pieces Failed Pieces Want Close \
            Claim Done",
    },
    Case {
        name: "a piece that is listed in the end",
        she: "0..400",
        he: "15..415 2050 2748 2801 2903 3111 3327 3613 3617 3621 3946 4289 4380 5006 5099 5120 5125 \
            5380 5394 5688 5873 5898 5952 6022 6053 6606 6744 6834 7268 7569 7616 7873 8149 8297 8779 \
            8908 9540 9982 10152 10331 10439 10794 11209 11246 11274 11412 11441 11529 11757 11763 11779 \
            12526 12537 12697 12789 13314 13335 13342 13358 13809 13887 13910 14111 14365 14437 14522 14680 \
            14683 15574 15594 15755 16043 16192 16450 16557 16577",
        arcs: "full",
        slow: true,
        kinds: "Open Pieces Want Failed Pieces Want Close Claim Done",
    },
    Case {
        name: "she asks with bits that two items have",
        she: "0..70 2159",
        he: "0..70 80..92 2159 2821",
        arcs: "full",
        slow: true,
        kinds: "Open Pieces Want Close Claim Done",
    },
    Case {
        name: "an item with the id of another",
        she: "0..20 100~101",
        he: "0..20 101",
        arcs: "full",
        slow: false,
        kinds: "Open Found Probe Differ Probe Differ Close Claim Done",
    },
    Case {
        name: "two items with one id, and she has both",
        she: "0..60 100~101 101",
        he: "1..61",
        arcs: "full",
        slow: true,
        kinds: "Open Pieces Want Close Claim Probe Differ Probe Differ Close Claim Done",
    },
];

#[derive(Clone, Debug, PartialEq)]
struct Said {
    she: bool,
    packet: Packet,
}

/// One end, with its set and its sums.
struct End {
    items: BTreeSet<AspectKey>,
    names: Named,
    sectors: Sectors,
    arcs: ArcSet,
    slow: bool,
}

impl End {
    fn new(case: &Case, she: bool) -> Self {
        let names = named(if she { case.she } else { case.he });
        let items: BTreeSet<_> = names.keys().copied().collect();
        let (sectors, arcs) = (sectors(&items), case.arcs.parse().unwrap());
        Self { items, names, sectors, arcs, slow: case.slow }
    }

    fn view(&self) -> View<'_, BTreeSet<AspectKey>> {
        View { sectors: &self.sectors, items: &self.items, arcs: &self.arcs }
    }

    fn opener(&self) -> (Opener, Packet) {
        Opener::new(HER_NONCE, Limits::default(), &self.view()).unwrap()
    }

    fn answerer(&self) -> Answerer {
        let bytes_per_second = if self.slow { 1e4 } else { 1e9 };
        let link = Link { round_trip: 0.0, bytes_per_second };
        Answerer::new(HIS_NONCE, link, Limits::default())
    }

    /// What this end is to send, in numbers: `0..3 7` are 0, 1, 2 and 7.
    fn outcome(&self, outcome: &Outcome) -> String {
        let Outcome::Send(keys) = outcome else { return format!("{outcome:?}") };
        let mut names: Vec<&str> = keys.iter().map(|key| self.names[key].as_str()).collect();
        names.sort_by_key(|name| (name.len(), *name));
        let number = |name: &str| name.parse::<u64>().ok();
        let runs = names.chunk_by(|a, b| number(a).is_some_and(|a| number(b) == Some(a + 1)));
        words(runs.map(|run| match (run, number(run[0])) {
            ([_, _, ..], Some(first)) => format!("{first}..{}", first + run.len() as u64),
            _ => run[0].to_owned(),
        }))
    }
}

/// Lets the two talk: what they said, and what either is to send in the end.
fn talk(she: &End, he: &End) -> (Vec<Said>, [String; 2]) {
    let (mut opener, packet) = she.opener();
    let mut answerer = he.answerer();
    let mut said = vec![Said { she: true, packet }];
    let mut ends = [const { String::new() }; 2];
    let mut at = 0;
    while let Some(Said { she: hers, packet }) = said.get(at).cloned() {
        let step = match hers {
            true => answerer.handle(packet, &he.view()).unwrap(),
            false => opener.handle(packet, &she.view()).unwrap(),
        };
        let (end, to) = if hers { (he, &mut ends[1]) } else { (she, &mut ends[0]) };
        to.extend(step.outcome.map(|outcome| end.outcome(&outcome)));
        said.extend(step.send.into_iter().map(|packet| Said { she: !hers, packet }));
        at += 1;
    }
    (said, ends)
}

/// Each end says the same where only the packets of the other one are given to it.
fn replay(recorded: &[Said], she: &End, he: &End) {
    let (mut opener, first) = she.opener();
    let mut answerer = he.answerer();
    let (mut hers, mut his) = (vec![first], Vec::new());
    for Said { she: from_her, packet } in recorded.iter().cloned() {
        match from_her {
            true => his.extend(answerer.handle(packet, &he.view()).unwrap().send),
            false => hers.extend(opener.handle(packet, &she.view()).unwrap().send),
        }
    }
    let of = |she: bool| recorded.iter().filter(move |said| said.she == she);
    assert!(of(true).map(|said| &said.packet).eq(&hers));
    assert!(of(false).map(|said| &said.packet).eq(&his));
}

#[test]
fn exchanges() {
    let mut file = File::new(&format!(
        "Whole exchanges.\n{RULE}\n\
         `she` and `he` hold these items: `0..7 9 12~3` are items 0 to 6, item 9, and item 12 with the\n\
         first six bytes of its hash replaced by those of item 3. Only what is inside of `arcs` (`full`:\n\
         the ring; locations, both inclusive) is compared. Her nonce is 0102030405060708, his 1817161514131211.\n\
         Then the packets, by whom, of what kind, in order; and what either is to send in the end.\n\
         Where he cuts, how many syndromes there are and with how many bits one asks is free: another\n\
         implementation can take either part up to the first packet that it would have written otherwise,\n\
         understands all of them, and comes to the same end."
    ));
    for case in CASES {
        let (she, he) = (End::new(case, true), End::new(case, false));
        let (said, ends) = talk(&she, &he);
        let names = said.iter().map(|said| kind(&said.packet).split_off(2).trim().to_owned());
        assert_eq!(words(names), case.kinds, "{}", case.name);
        let mut lines = vec![
            ("she".to_owned(), case.she.to_owned()),
            ("he".to_owned(), case.he.to_owned()),
            ("arcs".to_owned(), case.arcs.to_owned()),
        ];
        let packet = |(at, said): (usize, &Said)| {
            let who = if said.she { "she" } else { "he" };
            let name = format!("{} {who} {}", at + 1, kind(&said.packet));
            (name, hex(&said.packet.encode()))
        };
        lines.extend(said.iter().enumerate().map(packet));
        let recorded = lines[3..].iter().map(|(name, bytes)| Said {
            she: name.contains(" she "),
            packet: Packet::decode(&unhex(bytes)).unwrap(),
        });
        let recorded: Vec<Said> = recorded.collect();
        assert_eq!(recorded, said, "{}", case.name);
        replay(&recorded, &she, &he);
        let [hers, his] = ends;
        lines.extend([("she sends".to_owned(), hers), ("he sends".to_owned(), his)]);
        let lines: Vec<(&str, String)> =
            lines.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        file.record(case.name, &lines);
    }
    file.settle("reconcile/exchanges.txt");
}
