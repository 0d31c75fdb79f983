//! Plots as SVG inside of HTML. The drawing is stretched to whatever width there is, and what is to be read is
//! text beside it: so it stays readable on a telephone.

use super::text::{self, escaped};

/// The drawing's own units: from left to right, and from top to bottom.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 400.0;

/// More points than these are not seen, and make the page large.
const POINTS: usize = 400;

/// Parts of the width that tell what is there when they are pointed at.
const COLUMNS: usize = 90;

/// Something over time.
pub(super) struct Plot {
    pub(super) title: String,
    /// What is seen, in a sentence.
    pub(super) about: String,
    pub(super) axis: Axis,
    pub(super) time: Stretch,
    pub(super) bands: Vec<Band>,
    pub(super) lines: Vec<Line>,
    pub(super) levels: Vec<Level>,
}

/// Of virtual time, in seconds.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    pub(super) from: f64,
    pub(super) until: f64,
}

/// How values are drawn.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    /// For people, with its unit.
    pub(super) show: fn(f64) -> String,
    /// Of what there are so many, where `show` does not say it.
    pub(super) unit: &'static str,
    /// A tick may be at one of these times 1, 2 or 5 and powers of ten.
    pub(super) units: &'static [(f64, &'static str)],
}

/// Where on the axis a value is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// From 0.
    Linear,
    /// In powers of ten, from the least value.
    Log,
    /// In powers of ten, and 0.
    Counts,
}

/// Points in time and values.
pub(super) struct Line {
    /// For the legend; empty where another line stands for it.
    pub(super) name: String,
    /// Of the style sheet.
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// Points in time, and values from which to which.
pub(super) struct Band {
    pub(super) name: String,
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64, f64)>,
    /// It stands on the one before: what counts is how high it is.
    pub(super) stacked: bool,
}

/// A value to be compared with.
pub(super) struct Level {
    pub(super) at: f64,
    pub(super) name: String,
}

/// Something that happens once, in all plots over time.
pub(super) struct Mark {
    /// Of the key.
    pub(super) name: String,
    pub(super) at: f64,
    pub(super) lasts: f64,
    pub(super) about: String,
}

/// An axis from its lower to its upper end.
struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Ruler {
    fn new(axis: &Axis, values: impl Iterator<Item = f64> + Clone) -> Self {
        let most = values.clone().filter(|it| it.is_finite()).fold(0.0, f64::max);
        match axis.scale {
            Scale::Linear => {
                let (unit, _) = text::unit(axis.units, most);
                let step = step(most / unit) * unit;
                let count = (most / step - 1e-9).ceil().max(1.0);
                let ticks = (0..=count as usize).map(|it| it as f64 * step).collect();
                Self { scale: axis.scale, low: 0.0, high: count * step, ticks }
            }
            Scale::Log => {
                let least = values.filter(|it| *it > 0.0).fold(most.max(1e-9), f64::min);
                let low = nice(least.max(most * 1e-6), false);
                let high = nice(most, true).max(low * 2.0);
                Self { scale: axis.scale, low, high, ticks: decades(low, high) }
            }
            Scale::Counts => {
                let high = nice(most.max(10.0), true);
                // Where there are many powers, 1 is too near to 0.
                let first = if high > 1000.0 { 10.0 } else { 1.0 };
                let ticks = [0.0].into_iter().chain(decades(first, high)).collect();
                Self { scale: axis.scale, low: 0.0, high, ticks }
            }
        }
    }

    /// From 0 to 1.
    fn part(&self, value: f64) -> f64 {
        let (low, high) = (self.low, self.high);
        let part = match self.scale {
            Scale::Linear => (value - low) / (high - low),
            Scale::Log => (value.max(low) / low).log10() / (high / low).log10(),
            Scale::Counts => (value.max(0.0) + 1.0).log10() / (high + 1.0).log10(),
        };
        if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// From the top.
    fn y(&self, value: f64) -> f64 {
        (1.0 - self.part(value)) * HEIGHT
    }
}

/// 1, 2 or 5 times a power of ten, so that there are four or five steps.
fn step(most: f64) -> f64 {
    let rough = if most > 0.0 { most / 4.0 } else { 0.25 };
    let power = 10f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().find(|it| it * power >= rough * 0.9);
    nice.unwrap_or(10.0) * power
}

/// The next 1, 2 or 5 times a power of ten: not below it, or not above.
fn nice(value: f64, up: bool) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let all = [1.0, 2.0, 5.0, 10.0].map(|it| it * power);
    let found = match up {
        true => all.into_iter().find(|it| *it >= value * 0.999),
        false => all.into_iter().rev().find(|it| *it <= value * 1.001),
    };
    found.unwrap_or(value)
}

/// 1, 2 and 5 times powers of ten where these are few, and else some powers of ten.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let first = low.log10().floor() as i32;
    let count = (high / low).log10();
    let factors: &[f64] = if count <= 2.1 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let every = (count / 6.1).ceil().max(1.0);
    let powers = (0..=7).map(|it| 10f64.powi(first + it * every as i32));
    let ticks = powers.flat_map(|power| factors.iter().map(move |it| it * power));
    ticks.filter(|it| (low * 0.999..=high * 1.001).contains(it)).collect()
}

/// Steps in time that people count in, in seconds: the unit they are shown in, and its name.
const TIMES: [(f64, f64, &str); 17] = [
    (5.0, 1.0, "s"),
    (10.0, 1.0, "s"),
    (30.0, 1.0, "s"),
    (60.0, 60.0, "min"),
    (120.0, 60.0, "min"),
    (300.0, 60.0, "min"),
    (600.0, 60.0, "min"),
    (900.0, 60.0, "min"),
    (1800.0, 60.0, "min"),
    (3600.0, 3600.0, "h"),
    (7200.0, 3600.0, "h"),
    (14_400.0, 3600.0, "h"),
    (21_600.0, 3600.0, "h"),
    (43_200.0, 3600.0, "h"),
    (86_400.0, 86_400.0, "days"),
    (432_000.0, 86_400.0, "days"),
    (864_000.0, 86_400.0, "days"),
];

impl Stretch {
    fn length(self) -> f64 {
        self.until - self.from
    }

    /// From 0 to 1.
    fn part(self, at: f64) -> f64 {
        ((at - self.from) / self.length()).clamp(0.0, 1.0)
    }

    fn x(self, at: f64) -> f64 {
        self.part(at) * WIDTH
    }

    /// Where the ticks are, from 0 to 1, with their text; and the name of the unit.
    fn ticks(self) -> (Vec<(f64, String)>, &'static str) {
        let fits = TIMES.iter().find(|(step, ..)| self.length() / step <= 7.0);
        let (step, unit, name) = *fits.unwrap_or(&(self.length() / 5.0, 86_400.0, "days"));
        let first = (self.from / step - 1e-9).ceil() as u64;
        let last = (self.until / step + 1e-9).floor() as u64;
        let ticks = (first..=last).take(20).map(|it| {
            let at = it as f64 * step;
            (self.part(at), text::number(at / unit))
        });
        (ticks.collect(), name)
    }

    /// Those within it, and the one before, from which the line comes.
    fn of<T>(self, points: &[T], time: impl Fn(&T) -> f64) -> &[T] {
        let first = points.partition_point(|it| time(it) < self.from).saturating_sub(1);
        let end = points.partition_point(|it| time(it) <= self.until);
        points.get(first..end).unwrap_or_default()
    }
}

/// Few enough points: of many, the first, the least, the most and the last of each stretch.
fn fewer(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let mut fewer = Vec::with_capacity(POINTS);
    for stretch in points.chunks(points.len().div_ceil(POINTS / 4)) {
        let mut kept = [0, stretch.len() - 1, 0, 0];
        for (at, (_, value)) in stretch.iter().enumerate() {
            if *value < stretch[kept[2]].1 {
                kept[2] = at;
            }
            if *value > stretch[kept[3]].1 {
                kept[3] = at;
            }
        }
        kept.sort_unstable();
        let mut last = None;
        for at in kept {
            if last != Some(at) {
                fewer.push(stretch[at]);
            }
            last = Some(at);
        }
    }
    fewer
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (x, y) in points {
        let command = if path.is_empty() { 'M' } else { 'L' };
        path += &format!("{command}{x:.1} {y:.1}");
    }
    path
}

impl Line {
    fn drawn(&self, ruler: &Ruler, time: Stretch) -> String {
        let points = fewer(time.of(&self.points, |it| it.0));
        let path = path(points.iter().map(|(at, value)| (time.x(*at), ruler.y(*value))));
        format!("<path class=\"{}\" d=\"{path}\"/>", self.class)
    }
}

impl Band {
    fn drawn(&self, ruler: &Ruler, time: Stretch) -> String {
        let points = time.of(&self.points, |it| it.0);
        let upper = points.iter().map(|(at, _, high)| (time.x(*at), ruler.y(*high)));
        let lower = points.iter().rev().map(|(at, low, _)| (time.x(*at), ruler.y(*low)));
        format!("<path class=\"{}\" d=\"{}Z\"/>", self.class, path(upper.chain(lower)))
    }
}

/// The last of what comes before or at `at`.
fn value_at<T: Copy>(points: &[T], at: f64, time: impl Fn(&T) -> f64) -> Option<T> {
    let after = points.partition_point(|point| time(point) <= at);
    points.get(after.checked_sub(1)?).copied()
}

impl Plot {
    /// Whether there is anything but nothing to be seen.
    pub(super) fn is_empty(&self) -> bool {
        let lines = self.lines.iter().flat_map(|line| line.points.iter().map(|it| it.1));
        let bands = self.bands.iter().flat_map(|band| band.points.iter().map(|it| it.2));
        lines.chain(bands).all(|it| it == 0.0)
    }

    fn ruler(&self) -> Ruler {
        let lines = self.lines.iter().flat_map(|it| self.time.of(&it.points, |it| it.0));
        let lines = lines.map(|it| it.1);
        let bands = self.bands.iter().flat_map(|it| self.time.of(&it.points, |it| it.0));
        let bands = bands.flat_map(|(_, low, high)| [*low, *high]);
        // With room for what is written above them.
        let levels = self.levels.iter().map(|level| level.at * 1.1);
        Ruler::new(&self.axis, lines.chain(bands).chain(levels))
    }

    /// As a part of a page.
    pub(super) fn html(&self, marks: &[Mark]) -> String {
        let ruler = self.ruler();
        let mut drawn = String::new();
        let mut texts = String::new();
        for mark in marks {
            let (from, to) = (self.time.x(mark.at), self.time.x(mark.at + mark.lasts));
            if mark.at > self.time.until || mark.at + mark.lasts < self.time.from {
                continue;
            }
            if mark.lasts > 0.0 {
                let width = to - from;
                drawn += &format!(
                    "<rect class=\"during\" x=\"{from:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\"/>"
                );
            }
            drawn += &format!("<path class=\"event\" d=\"M{from:.1} 0V{HEIGHT}\"/>");
            texts += &format!(
                "<abbr class=\"event\" style=\"left:{:.2}%\" title=\"{}\">{}</abbr>",
                from / WIDTH * 100.0,
                escaped(&mark.about),
                escaped(&mark.name),
            );
        }
        for tick in &ruler.ticks {
            let y = ruler.y(*tick);
            drawn += &format!("<path class=\"grid\" d=\"M0 {y:.1}H{WIDTH}\"/>");
            texts += &format!(
                "<span class=\"y\" style=\"top:{:.2}%\">{}</span>",
                y / HEIGHT * 100.0,
                (self.axis.show)(*tick)
            );
        }
        let (ticks, unit) = self.time.ticks();
        for (part, label) in &ticks {
            let left = part * 100.0;
            texts += &format!("<span class=\"x\" style=\"left:{left:.2}%\">{label}</span>");
        }
        drawn.extend(self.bands.iter().map(|band| band.drawn(&ruler, self.time)));
        for level in &self.levels {
            let y = ruler.y(level.at);
            drawn += &format!("<path class=\"level\" d=\"M0 {y:.1}H{WIDTH}\"/>");
            texts += &format!(
                "<span class=\"level\" style=\"top:{:.2}%\">{}</span>",
                y / HEIGHT * 100.0,
                escaped(&level.name)
            );
        }
        drawn.extend(self.lines.iter().map(|line| line.drawn(&ruler, self.time)));
        drawn += &self.told();
        let legend = self.legend();
        let unit_of_values = match self.axis.unit {
            "" => String::new(),
            unit => format!("<span class=\"unit\">{unit}</span>"),
        };
        format!(
            "<figure><figcaption><b>{}</b> {}</figcaption>{legend}<div class=\"area\">\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"{}\">{drawn}</svg>{texts}{unit_of_values}</div>\
             <p class=\"time\">virtual time, {unit}</p></figure>\n",
            escaped(&self.title),
            escaped(&self.about),
            escaped(&self.title),
        )
    }

    fn legend(&self) -> String {
        let bands = self.bands.iter().rev().map(|it| (&it.name, it.class, "M0 0H22V12H0Z"));
        let lines = self.lines.iter().map(|it| (&it.name, it.class, "M0 6H22"));
        let named: Vec<_> = lines.chain(bands).filter(|(name, ..)| !name.is_empty()).collect();
        if named.len() < 2 {
            return String::new();
        }
        let mut legend = "<ul class=\"legend\">".to_owned();
        for (name, class, path) in named {
            legend += &format!("<li>{}{}</li>", key(class, path), escaped(name));
        }
        legend + "</ul>"
    }

    /// What there is at each time, for who points at it.
    fn told(&self) -> String {
        let mut told = String::new();
        let width = WIDTH / COLUMNS as f64;
        for column in 0..COLUMNS {
            let part = (column as f64 + 0.5) / COLUMNS as f64;
            let at = self.time.from + part * self.time.length();
            let mut words = vec![text::time(at)];
            for line in self.lines.iter().filter(|line| !line.name.is_empty()) {
                if let Some((_, value)) = value_at(&line.points, at, |it| it.0) {
                    words.push(format!("{}: {}", line.name, (self.axis.show)(value)));
                }
            }
            for band in self.bands.iter().rev().filter(|band| !band.name.is_empty()) {
                let Some((_, low, high)) = value_at(&band.points, at, |it| it.0) else { continue };
                let show = self.axis.show;
                words.push(match band.stacked {
                    true => format!("{}: {}", band.name, show(high - low)),
                    false => format!("{}: {} to {}", band.name, show(low), show(high)),
                });
            }
            if words.len() > 1 {
                told += &format!(
                    "<rect class=\"told\" x=\"{:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\"><title>{}</title></rect>",
                    column as f64 * width,
                    escaped(&words.join("\n"))
                );
            }
        }
        told
    }
}

/// What a line or a band looks like.
fn key(class: &str, path: &str) -> String {
    format!(
        "<svg class=\"key\" viewBox=\"0 0 22 12\" aria-hidden=\"true\"><path class=\"{class}\" d=\"{path}\"/></svg>"
    )
}

/// How often which value came out.
pub(super) struct Histogram {
    pub(super) title: &'static str,
    pub(super) about: String,
    pub(super) axis: Axis,
    /// Of each group: its name, its values, and whether all was well with them.
    pub(super) groups: Vec<(String, Vec<(f64, bool)>)>,
    /// It must not be more than this.
    pub(super) most: Option<f64>,
}

/// Values that are near each other are one bar.
const BARS: usize = 30;

impl Histogram {
    pub(super) fn html(&self) -> String {
        let values = self.groups.iter().flat_map(|(_, values)| values.iter().map(|it| it.0));
        let ruler = Ruler::new(&self.axis, values.chain(self.most));
        let bar = |value: f64| ((ruler.part(value) * BARS as f64) as usize).min(BARS - 1);
        let count = |values: &[(f64, bool)], well: bool| {
            let mut bars = [0u32; BARS];
            for (value, _) in values.iter().filter(|it| it.1 == well) {
                bars[bar(*value)] += 1;
            }
            bars
        };
        let counted: Vec<_> = self
            .groups
            .iter()
            .map(|(name, values)| (name, count(values, true), count(values, false)))
            .collect();
        let most =
            counted.iter().flat_map(|(_, well, ill)| well.iter().zip(ill)).map(|(a, b)| a + b);
        let most = f64::from(most.max().unwrap_or(1).max(1));
        let mut rows = String::new();
        for (name, well, ill) in &counted {
            rows += &self.row(name, well, ill, most, &ruler);
        }
        let mut ticks = String::new();
        for tick in &ruler.ticks {
            ticks += &format!(
                "<span class=\"x\" style=\"left:{:.2}%\">{}</span>",
                ruler.part(*tick) * 100.0,
                (self.axis.show)(*tick)
            );
        }
        format!(
            "<figure><figcaption><b>{}</b> {}</figcaption>{rows}<div class=\"ruler\">{ticks}</div>\
             </figure>\n",
            self.title,
            escaped(&self.about)
        )
    }

    fn row(&self, name: &str, well: &[u32], ill: &[u32], most: f64, ruler: &Ruler) -> String {
        let mut drawn = String::new();
        let width = WIDTH / BARS as f64;
        for (at, (well, ill)) in well.iter().zip(ill).enumerate() {
            let mut top = HEIGHT;
            for (class, count) in [("well", *well), ("ill", *ill)].into_iter().filter(|it| it.1 > 0)
            {
                let height = f64::from(count) / most * HEIGHT * 0.95;
                top -= height;
                drawn += &format!(
                    "<rect class=\"{class}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
                     height=\"{height:.1}\"><title>{}</title></rect>",
                    at as f64 * width + 1.0,
                    width - 2.0,
                    text::count(count as usize, "run"),
                );
            }
        }
        let mut texts = String::new();
        if let Some(most) = self.most {
            let at = ruler.part(most);
            drawn += &format!("<path class=\"level\" d=\"M{:.1} 0V{HEIGHT}\"/>", at * WIDTH);
            let side = if at > 0.6 { "left" } else { "right" };
            texts = format!(
                "<span class=\"most {side}\" style=\"left:{:.2}%\">no more than {}</span>",
                at * 100.0,
                (self.axis.show)(most)
            );
        }
        let label = match self.groups.len() {
            1 => String::new(),
            _ => format!("<p class=\"group\">{}</p>", escaped(name)),
        };
        format!(
            "{label}<div class=\"area low\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\"><path class=\"grid\" \
             d=\"M0 {HEIGHT}H{WIDTH}\"/>{drawn}</svg>{texts}<span class=\"y\" style=\"top:5%\">{}\
             </span></div>",
            self.title,
            text::count(most as usize, "run"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale) -> Axis {
        Axis { scale, show: text::number, unit: "", units: &[(1.0, "")] }
    }

    #[test]
    fn ticks_are_where_people_look_for_them() {
        let ticks = |scale, most: f64| Ruler::new(&axis(scale), [0.02, most].into_iter()).ticks;
        assert_eq!(ticks(Scale::Linear, 23.0), [0.0, 10.0, 20.0, 30.0]);
        assert_eq!(ticks(Scale::Linear, 20.0), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(ticks(Scale::Log, 1.0), [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]);
        assert_eq!(ticks(Scale::Counts, 9000.0), [0.0, 10.0, 100.0, 1000.0, 10_000.0]);
        let ticks = |from, until| Stretch { from, until }.ticks();
        let (shown, unit) = ticks(0.0, 5400.0);
        let labels: Vec<_> = shown.iter().map(|it| it.1.as_str()).collect();
        assert_eq!((labels, unit), (vec!["0", "15", "30", "45", "60", "75", "90"], "min"));
        assert_eq!(ticks(0.0, 7.0 * 86_400.0).0.len(), 8);
        assert_eq!(ticks(1140.0, 1800.0).0.first().unwrap(), &(60.0 / 660.0, "20".to_owned()));
    }

    #[test]
    fn what_is_left_out_is_no_peak() {
        let mut points: Vec<_> = (0..10_000).map(|at| (f64::from(at), 1.0)).collect();
        (points[4321].1, points[5678].1) = (0.0, 9.0);
        let fewer = fewer(&points);
        assert!(fewer.len() <= POINTS, "{}", fewer.len());
        assert!(fewer.contains(&(4321.0, 0.0)) && fewer.contains(&(5678.0, 9.0)));
        assert!(fewer.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn nothing_makes_it_fail() {
        for values in [&[][..], &[0.0], &[f64::NAN], &[f64::INFINITY, 1.0], &[1e300, 1e-300]] {
            for scale in [Scale::Linear, Scale::Log, Scale::Counts] {
                let ruler = Ruler::new(&axis(scale), values.iter().copied());
                assert!(ruler.ticks.len() < 20, "{:?}", ruler.ticks);
                assert!(values.iter().all(|it| (0.0..=1.0).contains(&ruler.part(*it))));
            }
        }
    }
}
