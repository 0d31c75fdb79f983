//! What a simulation is of: nodes, network, disks, clocks, people, and what happens when.
//!
//! A scenario is a TOML file; the ones in `scenarios/` are built in. Every key is optional but `name`,
//! `about` and `nodes`; what is left out has the value of [`Default`]. Times and lengths of time are
//! written with a unit: `"250ms"`, `"30s"`, `"10m"`, `"1h"`, `"7d"`.

use std::{fmt, str::FromStr, time::Duration};

use arcwise_proto::limits::MAX_ASPECT_DATA;
use serde::{Deserialize, Deserializer, Serialize, de};

/// A simulation, but for its seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One word, as it is given on the command line.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// How many nodes there are in all; some may join later.
    pub nodes: usize,
    /// The seed that it is run with where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// How long it goes on.
    #[serde(default = "half_an_hour")]
    pub length: Span,
    /// When all nodes with arcs in common must hold the same again: so long before the end, nothing is
    /// published and nobody comes or goes any more.
    #[serde(default = "five_minutes")]
    pub quiet: Span,
    /// The least and the normal number of copies.
    #[serde(default = "copies")]
    pub copies: (u32, u32),
    /// How long a peer may be away before others take its place.
    #[serde(default = "patience")]
    pub patience: Span,
    /// The longest wait between probes of a peer.
    #[serde(default = "five_minutes")]
    pub idle: Span,
    /// Of the network.
    #[serde(default)]
    pub network: Network,
    /// Of the disks.
    #[serde(default)]
    pub disk: Disk,
    /// What people do.
    #[serde(default)]
    pub people: People,
    /// Who does not do as the others.
    #[serde(default)]
    pub others: Others,
    /// What happens once, in any order.
    #[serde(default, rename = "event", skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// What must hold besides what always must.
    #[serde(default)]
    pub expect: Expect,
}

/// How nodes are connected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// One way, the shortest and the longest between two nodes; each pair has its own.
    pub latency: (Span, Span),
    /// Each message takes up to so much longer: so messages on different streams overtake each other.
    pub jitter: Span,
    /// The part of the packets that is lost, and sent again after another round trip and a half.
    pub loss: f64,
    /// The part of the packets that comes twice: it costs bytes, and QUIC drops the second one.
    pub duplicates: f64,
    /// Bits a second that a node can send, and receive; 0 for no limit.
    pub up: f64,
    /// See `up`.
    pub down: f64,
    /// The part of the nodes that can dial and cannot be dialled.
    pub unreachable: f64,
}

/// How a node stores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// How long it takes until what is written is durable: about.
    pub sync: Span,
    /// Bytes a node has room for; 0 for no limit.
    pub quota: u64,
    /// The part of the nodes that have that limit.
    pub limited: f64,
}

/// What people do with their nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct People {
    /// How many nodes are there from the beginning, as a part of all; the others come by events.
    pub present: f64,
    /// Over how long the first ones start.
    pub starting: Span,
    /// Entries that the first node holds before anybody else joins.
    pub entries: usize,
    /// Entries published in a minute, in the whole space, from a minute after the beginning on.
    pub publishing: f64,
    /// Bytes of an aspect's data, on average.
    pub size: u32,
    /// Of how many other nodes a receipt is waited for with each; 0 for none.
    pub receipts: u32,
    /// Entries looked up in a minute, in the whole space.
    pub asking: f64,
    /// How long a node stays on, half of the time: heavy-tailed (a Pareto distribution with exponent 1.5).
    /// `None` for always.
    pub session: Option<Span>,
    /// How long a node is off in between, half of the time: as `session`.
    pub away: Span,
    /// The part of the sessions that end for good: the node's disk is gone. Somebody new comes instead.
    pub for_good: f64,
    /// How far clocks are off, either way, at most.
    pub skew: Span,
}

/// Parts of all nodes that do not do as the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Others {
    /// Those that store nothing.
    pub free_riders: f64,
    /// Those that claim four times the arc that they hold, keep nothing, and praise each other.
    pub liars: f64,
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// After how long.
    pub at: Span,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happens. Parts are of the nodes that are on at that time, at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// Nodes are gone for good, at once, with their disks.
    Lose {
        /// Which part.
        part: f64,
    },
    /// Nodes stop without a word, and lose what their disks had not synced; they come back.
    Crash {
        /// Which part.
        part: f64,
        /// How long they are away.
        away: Span,
    },
    /// New nodes come: so many that afterwards they are this part of all that are on.
    Join {
        /// Which part.
        part: f64,
        /// Over how long.
        over: Span,
    },
    /// All nodes restart, one after the other.
    Restart {
        /// Over how long.
        over: Span,
        /// How long each is away.
        away: Span,
    },
    /// The network falls into two parts.
    Cut {
        /// Which part of the nodes is in the smaller one.
        part: f64,
        /// For how long.
        lasts: Span,
    },
}

/// What must hold at the end, or at all times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// For how long, at most, any sector of the ring had fewer reachable copies than the least number, after
    /// each event and from when there are enough nodes.
    pub below_min: Span,
    /// The part of the aspects that may be lost although nobody acknowledged them.
    pub lost: f64,
    /// The most that any node holds, as a multiple of the mean.
    pub load: f64,
    /// The part of the nodes whose target changes in an hour, in the last third of the time.
    pub changing: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            latency: (Span::millis(10), Span::millis(120)),
            jitter: Span::millis(5),
            loss: 0.001,
            duplicates: 0.0005,
            up: 20e6,
            down: 100e6,
            unreachable: 0.0,
        }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self { sync: Span::millis(5), quota: 0, limited: 0.0 }
    }
}

impl Default for People {
    fn default() -> Self {
        Self {
            present: 1.0,
            starting: Span::secs(120),
            entries: 1000,
            publishing: 30.0,
            size: 1000,
            receipts: 0,
            asking: 10.0,
            session: None,
            away: Span::secs(1800),
            for_good: 0.0,
            skew: Span::secs(1),
        }
    }
}

impl Default for Expect {
    fn default() -> Self {
        Self { below_min: Span::secs(0), lost: 0.0, load: 2.0, changing: 0.01 }
    }
}

fn half_an_hour() -> Span {
    Span::secs(1800)
}

fn five_minutes() -> Span {
    Span::secs(300)
}

fn patience() -> Span {
    Span::secs(120)
}

fn copies() -> (u32, u32) {
    (8, 20)
}

/// The scenarios that are built in, by name.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("cold-start", include_str!("../scenarios/cold-start.toml")),
    ("loss-30", include_str!("../scenarios/loss-30.toml")),
    ("loss-50", include_str!("../scenarios/loss-50.toml")),
    ("flash-crowd", include_str!("../scenarios/flash-crowd.toml")),
    ("churn", include_str!("../scenarios/churn.toml")),
    ("merge", include_str!("../scenarios/merge.toml")),
    ("partition", include_str!("../scenarios/partition.toml")),
    ("free-riders", include_str!("../scenarios/free-riders.toml")),
    ("liars", include_str!("../scenarios/liars.toml")),
    ("mobile", include_str!("../scenarios/mobile.toml")),
    ("rolling-restart", include_str!("../scenarios/rolling-restart.toml")),
];

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is not TOML, or not of a scenario.
    #[error("{}", .0.to_string().trim_end())]
    Toml(#[from] toml::de::Error),
    /// A value makes no sense.
    #[error("`{field}`: {problem}")]
    Field {
        /// Which key.
        field: &'static str,
        /// What is wrong with it, and what it should be.
        problem: String,
    },
}

impl Scenario {
    /// Reads a scenario and checks that it makes sense.
    ///
    /// # Errors
    /// See [`ScenarioError`].
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The scenario as [`Scenario::parse`] reads it.
    ///
    /// # Errors
    /// None for a scenario that [`Scenario::check`] lets pass.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// One that is built in; `None` where there is none of that name.
    ///
    /// # Errors
    /// None: they are tested.
    pub fn named(name: &str) -> Option<Result<Self, ScenarioError>> {
        let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Some(Self::parse(text))
    }

    /// Whether its values make sense.
    ///
    /// # Errors
    /// [`ScenarioError::Field`] where not.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        need(
            (1..=40).contains(&self.name.len()) && self.name.chars().all(is_word),
            "name",
            "it must be one word of at most 40 letters, digits and `-`, `_` or `.`",
        )?;
        need(
            !self.about.chars().any(char::is_control),
            "about",
            "it must be a sentence on one line",
        )?;
        need((1..=1_000_000).contains(&self.nodes), "nodes", "it must be 1 to 1,000,000")?;
        let length = self.length.0;
        need(
            (Duration::from_secs(60)..=Duration::from_secs(31 * 86_400)).contains(&length),
            "length",
            "it must be a minute to 31 days",
        )?;
        need(
            self.quiet.0 <= length / 2,
            "quiet",
            &format!(
                "it must not be longer than half of the length, which is {}",
                Span(length / 2)
            ),
        )?;
        need(
            arcwise_proto::swarm::Copies::new(self.copies.0, self.copies.1).is_ok(),
            "copies",
            "the least must be 1 or more, and not above the normal number, which is 255 at most",
        )?;
        need(!self.idle.0.is_zero(), "idle", "it must be longer than nothing")?;
        self.check_numbers()?;
        self.check_times()?;
        self.events.iter().try_for_each(|event| self.check_event(event))
    }

    fn check_numbers(&self) -> Result<(), ScenarioError> {
        let Self { network, disk, people, others, expect, .. } = self;
        let parts = [
            ("network.loss", network.loss),
            ("network.duplicates", network.duplicates),
            ("network.unreachable", network.unreachable),
            ("disk.limited", disk.limited),
            ("people.present", people.present),
            ("people.for_good", people.for_good),
            ("others.free_riders", others.free_riders),
            ("others.liars", others.liars),
            ("expect.lost", expect.lost),
        ];
        for (field, value) in parts {
            need((0.0..=1.0).contains(&value), field, "it must be from 0 to 1")?;
        }
        need(network.loss <= 0.5, "network.loss", "above a half, no connection lasts")?;
        need(
            people.present * self.nodes as f64 >= 1.0,
            "people.present",
            "somebody must be there from the beginning: one node at least",
        )?;
        need(
            others.free_riders + others.liars < 1.0,
            "others",
            "somebody must store something: together they must be less than 1",
        )?;
        let numbers = [
            ("network.up", network.up),
            ("network.down", network.down),
            ("people.publishing", people.publishing),
            ("people.asking", people.asking),
            ("expect.changing", expect.changing),
        ];
        for (field, value) in numbers {
            need(value.is_finite() && value >= 0.0, field, "it must be 0 or more")?;
        }
        need(expect.load >= 1.0, "expect.load", "it must be 1 or more: somebody holds the mean")?;
        need(
            (1..=MAX_ASPECT_DATA).contains(&(people.size as usize)),
            "people.size",
            &format!("it must be 1 to {MAX_ASPECT_DATA} bytes"),
        )?;
        need(
            (people.receipts as usize) < self.nodes,
            "people.receipts",
            "there must be as many other nodes",
        )
    }

    fn check_times(&self) -> Result<(), ScenarioError> {
        let Self { network, disk, people, .. } = self;
        let (short, long) = (network.latency.0.0, network.latency.1.0);
        need(
            short >= Duration::from_millis(1) && short <= long && long <= LONGEST_WAY,
            "network.latency",
            "it must be 1ms to 10s, the shorter one first",
        )?;
        need(network.jitter.0 <= LONGEST_WAY, "network.jitter", "it must be 10s at most")?;
        need(disk.sync.0 <= LONGEST_WAY, "disk.sync", "it must be 10s at most")?;
        need(
            people.session.is_none_or(|it| !it.0.is_zero()),
            "people.session",
            "it must be longer than nothing; left out, nodes are always on",
        )?;
        need(
            people.starting.0 <= self.length.0 - self.quiet.0,
            "people.starting",
            "it must be over before the quiet time at the end",
        )
    }

    fn check_event(&self, event: &Event) -> Result<(), ScenarioError> {
        let (part, lasts) = match event.what {
            What::Lose { part } => (part, Span::default()),
            What::Crash { part, away } => (part, away),
            What::Join { part, over } => (part, over),
            What::Restart { over, away } => (0.0, Span(over.0 + away.0)),
            What::Cut { part, lasts } => (part, lasts),
        };
        need((0.0..=1.0).contains(&part), "event.part", "it must be from 0 to 1")?;
        need(
            part < 1.0 || !matches!(event.what, What::Join { .. }),
            "event.part",
            "newcomers can not be all that are on: it must be less than 1",
        )?;
        need(
            event.at.0 + lasts.0 <= self.length.0 - self.quiet.0,
            "event.at",
            &format!(
                "what happens at {} must be over before the quiet time at the end, which begins at {}",
                event.at,
                Span(self.length.0 - self.quiet.0),
            ),
        )
    }
}

/// The longest time that a message or a disk may take.
const LONGEST_WAY: Duration = Duration::from_secs(10);

fn need(ok: bool, field: &'static str, problem: &str) -> Result<(), ScenarioError> {
    match ok {
        true => Ok(()),
        false => Err(ScenarioError::Field { field, problem: problem.to_owned() }),
    }
}

/// A length of time, with a unit where it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Span(pub Duration);

impl Span {
    /// So many seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// So many milliseconds.
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
}

/// What is no length of time.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no length of time: write a number and ms, s, m, h or d, such as 30s")]
pub struct SpanError(String);

const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let error = || SpanError(text.to_owned());
        let at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(error)?;
        let (number, unit) = text.split_at(at);
        let number: f64 = number.trim().parse().map_err(|_| error())?;
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        let seconds = number * *millis as f64 / 1000.0;
        Duration::try_from_secs_f64(seconds).map(Span).map_err(|_| error())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time with its unit, such as \"30s\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis() as u64;
        let whole = UNITS.iter().find(|(_, unit)| millis.is_multiple_of(*unit) && millis > 0);
        let (name, unit) = whole.unwrap_or(&("ms", 1));
        write!(f, "{}{name}", millis / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_scenarios_are_sound() {
        for (name, text) in BUILT_IN {
            let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(scenario.name, *name);
            assert_eq!(scenario.nodes, 200, "{name}");
            let written = scenario.to_toml().unwrap();
            assert_eq!(Scenario::parse(&written).unwrap(), scenario, "{written}");
            let json = serde_json::to_string(&scenario).unwrap();
            assert_eq!(serde_json::from_str::<Scenario>(&json).unwrap(), scenario);
        }
    }

    /// What is said of a scenario of five nodes with these lines in it.
    #[track_caller]
    fn said(lines: &str) -> String {
        let text = format!("name = 'x'\nabout = 'x'\nnodes = 5\n{lines}");
        Scenario::parse(&text).unwrap_err().to_string()
    }

    #[test]
    fn bad_toml_is_told_with_line_and_key() {
        for (lines, words) in [
            ("lenght = '1h'", ["line 4", "unknown field `lenght`, expected one of"]),
            ("length = 3600", ["line 4", "a length of time with its unit, such as \"30s\""]),
            ("length = '1 hour'", ["length = '1 hour'", "write a number and ms, s, m, h or d"]),
            ("[network]\nlos = 1", ["line 5", "unknown field `los`"]),
            ("[[event]]\nat = '1m'\nwhat = 'explode'", ["line 4", "unknown variant `explode`"]),
            ("[[event]]\nat = '1m'\nwhat = 'lose'", ["line 4", "missing field `part`"]),
            (
                "[[event]]\nat = '1m'\nwhat = 'lose'\npart = 0.1\nover = '1s'",
                ["line 4", "unknown field `over`"],
            ),
            ("[", ["line 4", "unquoted keys"]),
        ] {
            let said = said(lines);
            assert!(words.iter().all(|word| said.contains(word)), "{lines}: {said}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_with_what_would() {
        for (lines, words) in [
            ("length = '59s'", "`length`: it must be a minute to 31 days"),
            (
                "length = '4m'",
                "`quiet`: it must not be longer than half of the length, which is 2m",
            ),
            ("copies = [9, 8]", "`copies`: the least must be 1 or more"),
            ("[network]\nloss = 1.5", "`network.loss`: it must be from 0 to 1"),
            ("[network]\nlatency = ['9ms', '1ms']", "`network.latency`: it must be 1ms to 10s"),
            ("[network]\nup = -1.0", "`network.up`: it must be 0 or more"),
            ("[people]\npublishing = nan", "`people.publishing`: it must be 0 or more"),
            ("[people]\npresent = 0.1", "`people.present`: somebody must be there"),
            ("[people]\nsize = 0", "`people.size`: it must be 1 to 1048576 bytes"),
            ("[people]\nreceipts = 5", "`people.receipts`: there must be as many other nodes"),
            ("[others]\nfree_riders = 0.5\nliars = 0.5", "`others`: somebody must store"),
            ("[expect]\nload = 0.5", "`expect.load`: it must be 1 or more"),
            ("[[event]]\nat = '1m'\nwhat = 'lose'\npart = 2.0", "`event.part`"),
            (
                "[[event]]\nat = '20m'\nwhat = 'cut'\npart = 0.5\nlasts = '6m'",
                "`event.at`: what happens at 20m must be over before the quiet time at the end, \
                 which begins at 25m",
            ),
        ] {
            let said = said(lines);
            assert!(said.contains(words), "{lines}: {said}");
        }
        let text = "name = 'two words'\nabout = ''\nnodes = 5";
        assert!(Scenario::parse(text).unwrap_err().to_string().contains("`name`: it must be one"));
    }
}
