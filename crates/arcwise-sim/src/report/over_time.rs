//! What is drawn over virtual time.

use super::{
    Group,
    measures::sectors,
    plot::{Axis, Band, Level, Line, Mark, Plot, Scale, Stretch},
    text,
};
use crate::results::{Bytes, Results, Sample};

/// Points of a band or of a rate: as fine as can be seen.
const STEPS: usize = 180;

/// Runs that are drawn line by line, and not as a band.
const SINGLE: usize = 4;

/// Events that are shown from near, and so many seconds before and after them.
const CLOSE_UPS: usize = 4;
const BEFORE: f64 = 60.0;
const AFTER: f64 = 600.0;

/// Runs that did not hold and are drawn on top of a band.
const FAILED: usize = 5;

const COUNT: Axis =
    Axis { scale: Scale::Linear, show: text::number, unit: "", units: &[(1.0, "")] };

const PERCENT: Axis =
    Axis { scale: Scale::Linear, show: text::percent, unit: "", units: &[(0.01, "")] };

const RATE: Axis = Axis { scale: Scale::Linear, show: rate, unit: "", units: &text::BYTES };

fn rate(value: f64) -> String {
    format!("{}/s", text::bytes(value))
}

/// Bytes for one cause.
type OfCause = fn(&Bytes) -> u64;

/// What bytes are for.
const CAUSES: [(&str, OfCause); 6] = [
    ("control", |it| it.control),
    ("comparing", |it| it.comparing),
    ("gossip", |it| it.gossip),
    ("push", |it| it.push),
    ("requests", |it| it.requests),
    ("transport", |it| it.transport),
];

/// Something that each sample has one of.
struct Course {
    title: &'static str,
    about: fn(&Results) -> String,
    axis: Axis,
    of: fn(&Results) -> Vec<(f64, f64)>,
    levels: bool,
}

const FEWEST: Course = Course {
    title: "Copies where there are the fewest",
    about: |_| format!("The weakest of {} sectors of the ring.", sectors()),
    axis: Axis { unit: "copies", ..COUNT },
    of: |it| each(it, |it| it.copies.0),
    levels: true,
};

const MIDDLE: Course = Course {
    title: "Copies of half of the ring",
    about: |_| "Half of the sectors have no more.".to_owned(),
    axis: Axis { unit: "copies", ..COUNT },
    of: |it| each(it, |it| it.copies.2),
    levels: true,
};

const BELOW: Course = Course {
    title: "Sectors with too few copies",
    about: about_below,
    axis: Axis { unit: "sectors", ..COUNT },
    of: |it| each(it, |it| it.below_min as f64),
    levels: false,
};

const MEAN_ARC: Course = Course {
    title: "Arc lengths, mean",
    about: |_| "The part of the ring that a node aims at, on average.".to_owned(),
    axis: Axis { scale: Scale::Log, ..PERCENT },
    of: |it| each(it, |it| it.arcs.2),
    levels: false,
};

const LONGEST_ARC: Course = Course {
    title: "Arc lengths, longest",
    about: |_| "The largest part of the ring that any node aims at.".to_owned(),
    axis: Axis { scale: Scale::Log, ..PERCENT },
    of: |it| each(it, |it| it.arcs.3),
    levels: false,
};

const CHANGING: Course = Course {
    title: "Arcs that change",
    about: |_| "Nodes whose target changed, as a part of all, per hour.".to_owned(),
    axis: PERCENT,
    of: changing,
    levels: false,
};

const BYTES: Course = Course {
    title: "Bytes sent by a node",
    about: |_| "On average, for everything.".to_owned(),
    axis: RATE,
    of: |it| rates(it).into_iter().map(|(at, by)| (at, by.iter().sum())).collect(),
    levels: false,
};

const LACKING: Course = Course {
    title: "Not yet where they should be",
    about: about_lacking,
    axis: Axis { scale: Scale::Counts, unit: "lacking", ..COUNT },
    of: |it| each(it, |it| it.lacking as f64),
    levels: false,
};

const LOST: Course = Course {
    title: "Lost aspects",
    about: about_lost,
    axis: Axis { unit: "aspects", ..COUNT },
    of: |it| each(it, |it| it.lost as f64),
    levels: false,
};

const NODES: Course = Course {
    title: "Nodes that are on",
    about: |_| String::new(),
    axis: Axis { unit: "nodes", ..COUNT },
    of: |it| each(it, |it| it.nodes as f64),
    levels: false,
};

const CONNECTIONS: Course = Course {
    title: "Connections of a node",
    about: |_| "On average.".to_owned(),
    axis: Axis { unit: "connections", ..COUNT },
    of: |it| each(it, connections),
    levels: false,
};

/// In this order they are shown where there are several runs.
const OF_SEVERAL: [&Course; 11] = [
    &FEWEST,
    &MIDDLE,
    &BELOW,
    &MEAN_ARC,
    &LONGEST_ARC,
    &CHANGING,
    &BYTES,
    &LACKING,
    &LOST,
    &NODES,
    &CONNECTIONS,
];

fn about_below(results: &Results) -> String {
    format!("Of {} sectors, those with fewer than {}.", sectors(), results.scenario.copies.0)
}

fn about_lacking(_: &Results) -> String {
    "Aspects, published a minute ago or earlier, that a node should hold and does not; over all nodes."
        .to_owned()
}

fn about_lost(_: &Results) -> String {
    "Nobody has them any more, nor will have.".to_owned()
}

fn each(results: &Results, of: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    results.samples.iter().map(|it| (it.at, of(it))).collect()
}

/// Each has two ends.
fn connections(sample: &Sample) -> f64 {
    match sample.nodes {
        0 => 0.0,
        nodes => 2.0 * sample.connections as f64 / nodes as f64,
    }
}

/// Samples far enough from each other for what happens between them to be seen.
fn stretches(results: &Results) -> Vec<&[Sample]> {
    let samples = &results.samples;
    let step = samples.len().div_ceil(STEPS).max(1);
    let starts = (0..samples.len().saturating_sub(1)).step_by(step);
    starts.filter_map(|from| samples.get(from..=(from + step).min(samples.len() - 1))).collect()
}

/// Nodes whose target has changed, as a part of those that are on, per hour.
fn changing(results: &Results) -> Vec<(f64, f64)> {
    let of = |stretch: &[Sample]| {
        let (first, last) = (stretch.first()?, stretch.last()?);
        let changed: usize = stretch.iter().skip(1).map(|it| it.changed).sum();
        let hours = (last.at - first.at) / 3600.0;
        (hours > 0.0 && last.nodes > 0)
            .then(|| (last.at, changed as f64 / last.nodes as f64 / hours))
    };
    stretches(results).into_iter().filter_map(of).collect()
}

/// Bytes that a node sends in a second, for each of [`CAUSES`].
fn rates(results: &Results) -> Vec<(f64, [f64; CAUSES.len()])> {
    let of = |stretch: &[Sample]| {
        let (first, last) = (stretch.first()?, stretch.last()?);
        let seconds = (last.at - first.at) * last.nodes as f64;
        let sent = |of: OfCause| of(&last.bytes).saturating_sub(of(&first.bytes)) as f64;
        (seconds > 0.0).then(|| (last.at, CAUSES.map(|(_, of)| sent(of) / seconds)))
    };
    stretches(results).into_iter().filter_map(of).collect()
}

fn levels(results: &Results) -> Vec<Level> {
    let (least, normal) = results.scenario.copies;
    vec![
        Level { at: f64::from(least), name: format!("at least {least}") },
        Level { at: f64::from(normal), name: format!("normally {normal}") },
    ]
}

/// What is above all that matters, as when each node holds everything at first, is cut off: what is more than
/// twice the normal number, and than the fewest in the second half of the time.
fn most_copies(results: &[&Results]) -> f64 {
    let normal = results.iter().map(|it| it.scenario.copies.1).max().unwrap_or(0);
    let late = results.iter().flat_map(|it| it.samples.iter().skip(it.samples.len() / 2));
    let fewest = late.map(|it| it.copies.0);
    fewest.fold(f64::from(normal) * 2.0, f64::max)
}

/// Cuts off what is higher, and says so.
fn cut_off(plot: &mut Plot, most: f64) {
    let mut highest = most;
    for (_, value) in plot.lines.iter_mut().flat_map(|line| &mut line.points) {
        highest = highest.max(*value);
        *value = value.min(most);
    }
    for (_, low, high) in plot.bands.iter_mut().flat_map(|band| &mut band.points) {
        highest = highest.max(*high);
        (*low, *high) = (low.min(most), high.min(most));
    }
    if highest > most {
        let shown = (plot.axis.show)(highest);
        plot.about += &format!(" Cut off above; the highest is {shown}.");
    }
}

/// The plots of one run.
pub(super) fn of_one(results: &Results, marks: &[Mark]) -> Vec<Plot> {
    let arcs = arcs(results);
    let mut plots = vec![copies(results, all(&[results]))];
    plots.extend(close_ups(results, marks));
    plots.extend([arcs, by_cause(results)]);
    for course in [&LACKING, &BELOW, &LOST, &CHANGING, &NODES, &CONNECTIONS] {
        let mut plot = course.plot(results, all(&[results]));
        let (name, points) = (course.title.to_owned(), (course.of)(results));
        plot.lines.push(Line { name, class: "worst", points });
        plots.push(plot);
    }
    plots
}

fn line(results: &Results, name: &str, class: &'static str, of: fn(&Sample) -> f64) -> Line {
    Line { name: name.to_owned(), class, points: each(results, of) }
}

fn copies(results: &Results, time: Stretch) -> Plot {
    let mut copies = Plot {
        title: "Copies of each part of the ring".to_owned(),
        about: format!("In {} sectors: nodes that are on and truly hold it.", sectors()),
        axis: FEWEST.axis,
        time,
        bands: Vec::new(),
        lines: vec![
            line(results, "half of the sectors have no more", "middle", |it| it.copies.2),
            line(results, "a twentieth has no more", "low", |it| it.copies.1),
            line(results, "the fewest", "worst", |it| it.copies.0),
        ],
        levels: levels(results),
    };
    cut_off(&mut copies, most_copies(&[results]));
    copies
}

/// What comes after each event, near enough to be seen.
fn close_ups<'a>(results: &'a Results, marks: &'a [Mark]) -> impl Iterator<Item = Plot> + 'a {
    let whole = all(&[results]).until;
    marks.iter().take(CLOSE_UPS).filter_map(move |mark| {
        let (from, until) = (mark.at - BEFORE, mark.at + mark.lasts.min(AFTER) + AFTER);
        let time = Stretch { from: from.max(0.0), until: until.min(whole) };
        let is_close = time.until - time.from < whole / 3.0 && mark.at < whole;
        is_close.then(|| {
            let title = format!("Copies from {} on", text::time(mark.at));
            Plot {
                title,
                about: format!("After {}: {}.", mark.name, mark.about),
                ..copies(results, time)
            }
        })
    })
}

fn arcs(results: &Results) -> Plot {
    Plot {
        title: "Arc lengths".to_owned(),
        about: "The part of the ring that a node aims at.".to_owned(),
        axis: MEAN_ARC.axis,
        time: all(&[results]),
        bands: Vec::new(),
        lines: vec![
            line(results, "longest", "worst", |it| it.arcs.3),
            line(results, "mean", "low", |it| it.arcs.2),
            line(results, "median", "middle", |it| it.arcs.1),
            line(results, "shortest", "other", |it| it.arcs.0),
        ],
        levels: Vec::new(),
    }
}

/// What bytes were for, on top of each other.
fn by_cause(results: &Results) -> Plot {
    let rates = rates(results);
    let band = |cause: usize| Band {
        name: CAUSES[cause].0.to_owned(),
        class: CAUSES[cause].0,
        points: rates
            .iter()
            .map(|(at, by)| (*at, by[..cause].iter().sum(), by[..=cause].iter().sum()))
            .collect(),
        stacked: true,
    };
    let mut plot = Plot {
        title: "Bytes sent by a node, by what they are for".to_owned(),
        about: "On average over the nodes that are on, on top of each other.".to_owned(),
        axis: RATE,
        time: all(&[results]),
        bands: (0..CAUSES.len()).map(band).collect(),
        lines: Vec::new(),
        levels: Vec::new(),
    };
    let most = ordinary(rates.iter().map(|(_, by)| by.iter().sum()).collect());
    cut_off(&mut plot, most);
    plot
}

/// A short burst must not make all else flat: three times what is not exceeded nine times out of ten, where that
/// is less than the most.
fn ordinary(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let most = values.last().copied().unwrap_or(0.0);
    let usual = values.get(values.len() * 9 / 10).copied().unwrap_or(0.0);
    if usual > 0.0 { most.min(usual * 3.0) } else { most }
}

/// The plots of several runs: of each group, from the least to the most and the median.
pub(super) fn of_several(groups: &[Group<'_>]) -> Vec<Plot> {
    let runs: Vec<_> = groups.iter().flat_map(|group| group.results.iter().copied()).collect();
    let Some(first) = runs.first() else { return Vec::new() };
    let mut plots = Vec::new();
    for course in OF_SEVERAL {
        let mut plot = course.plot(first, all(&runs));
        for (group, (line, band)) in groups.iter().zip(GROUPS.iter().cycle()) {
            course.draw(group, groups.len(), (line, band), &mut plot);
        }
        if course.levels && runs.iter().all(|it| it.scenario.copies == first.scenario.copies) {
            plot.levels = levels(first);
        }
        if course.levels {
            cut_off(&mut plot, most_copies(&runs));
        }
        if groups.len() > 1 && groups.iter().any(|group| group.results.len() > 1) {
            plot.about += " Lines: the median of the runs; shaded: all of them.";
        }
        plots.push(plot);
    }
    plots
}

/// Line and band of each group.
const GROUPS: [(&str, &str); 4] =
    [("one", "band-one"), ("two", "band-two"), ("three", "band-three"), ("four", "band-four")];

/// From the beginning to the end of the longest.
fn all(results: &[&Results]) -> Stretch {
    let of = |it: &&Results| it.samples.last().map_or(0.0, |it| it.at);
    Stretch { from: 0.0, until: results.iter().map(of).fold(1.0, f64::max) }
}

impl Course {
    /// With nothing in it yet.
    fn plot(&self, results: &Results, time: Stretch) -> Plot {
        Plot {
            title: self.title.to_owned(),
            about: (self.about)(results),
            axis: self.axis,
            time,
            bands: Vec::new(),
            lines: Vec::new(),
            levels: Vec::new(),
        }
    }

    fn draw(
        &self,
        group: &Group<'_>,
        groups: usize,
        (line, band): (&'static str, &'static str),
        plot: &mut Plot,
    ) {
        // Of several groups, the legend names just the groups.
        let (middle_name, band_name) = match groups {
            1 => ("half of the runs".to_owned(), "all runs".to_owned()),
            _ => (group.name.clone(), String::new()),
        };
        let courses: Vec<_> = group.results.iter().map(|it| (self.of)(it)).collect();
        if let [points] = courses.as_slice() {
            let name = group.name.clone();
            plot.lines.push(Line { name, class: line, points: points.clone() });
            return;
        }
        if courses.len() <= SINGLE && groups == 1 {
            for ((points, run), (class, _)) in courses.into_iter().zip(&group.results).zip(GROUPS) {
                plot.lines.push(Line { name: format!("seed {}", run.seed), class, points });
            }
            return;
        }
        let (spread, middle) = spread(&courses, plot.time.until);
        plot.bands.push(Band { name: band_name, class: band, points: spread, stacked: false });
        plot.lines.push(Line { name: middle_name, class: line, points: middle });
        if groups > 1 {
            return;
        }
        let failed = courses.into_iter().zip(&group.results).filter(|(_, run)| !run.held());
        for (points, run) in failed.take(FAILED) {
            let name = format!("seed {}, did not hold", run.seed);
            plot.lines.push(Line { name, class: "failed", points });
        }
    }
}

/// A point in time, and two values.
type Spread = Vec<(f64, f64, f64)>;

/// From the least to the most of all runs, and the median of them.
fn spread(courses: &[Vec<(f64, f64)>], length: f64) -> (Spread, Vec<(f64, f64)>) {
    let (mut spread, mut middle) = (Vec::new(), Vec::new());
    let mut nexts = vec![0; courses.len()];
    let mut lasts = vec![None; courses.len()];
    for step in 1..=STEPS {
        let until = step as f64 / STEPS as f64 * length;
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for ((course, next), last) in courses.iter().zip(&mut nexts).zip(&mut lasts) {
            while let Some((_, value)) = course.get(*next).filter(|(at, _)| *at <= until) {
                (low, high) = (low.min(*value), high.max(*value));
                *last = Some(*value);
                *next += 1;
            }
        }
        let mut values: Vec<f64> = lasts.iter().flatten().copied().collect();
        values.sort_by(f64::total_cmp);
        let Some(median) = values.get(values.len() / 2) else { continue };
        // Where samples are rare, nothing may be new in this step.
        if low <= high {
            spread.push((until, low, high));
        }
        middle.push((until, *median));
    }
    (spread, middle)
}
