//! Numbers for people.

/// `1,234,567`; with as many digits after the point as still say something.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let digits = match value.abs() {
        size if size >= 100.0 || size.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.01 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, whole) = match whole.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", whole),
    };
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{grouped}"),
        fraction => format!("{sign}{grouped}.{fraction}"),
    }
}

/// `12.3 %`
pub(super) fn percent(part: f64) -> String {
    format!("{} %", number(part * 100.0))
}

/// `1.5×`
pub(super) fn times(value: f64) -> String {
    format!("{}×", number(value))
}

pub(super) const BYTES: [(f64, &str); 5] = [
    (1.0, "B"),
    (1024.0, "KiB"),
    (1048576.0, "MiB"),
    (1073741824.0, "GiB"),
    (1099511627776.0, "TiB"),
];

/// `1.5 MiB`
pub(super) fn bytes(value: f64) -> String {
    let (size, name) = unit(&BYTES, value);
    format!("{} {name}", number(value / size))
}

pub(super) const TIMES: [(f64, &str); 5] =
    [(0.001, "ms"), (1.0, "s"), (60.0, "min"), (3600.0, "h"), (86_400.0, "days")];

/// Lengths of time: `250 ms`, `12 s`, `90 min`, `36 h`, `12 days`.
pub(super) fn seconds(value: f64) -> String {
    match value {
        0.0 => "0 s".to_owned(),
        it if it < 1.0 => format!("{} ms", number((it * 1000.0).round())),
        it if it < 100.0 => format!("{} s", number((it * 10.0).round() / 10.0)),
        it if it < 6000.0 => format!("{} min", number((it / 6.0).round() / 10.0)),
        it if it < 172_800.0 => format!("{} h", number((it / 360.0).round() / 10.0)),
        it => format!("{} days", number((it / 8640.0).round() / 10.0)),
    }
}

/// Points in time, to the second: `21:04`, `1:30:00`, `3 d 4:00:00`.
pub(super) fn time(value: f64) -> String {
    let whole = value.max(0.0) as u64;
    let (days, hours, minutes, seconds) =
        (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days} d {hours}:{minutes:02}:{seconds:02}"),
    }
}

/// The largest unit that the value has one of.
pub(super) fn unit(units: &[(f64, &'static str)], value: f64) -> (f64, &'static str) {
    let fits = units.iter().rev().find(|(size, _)| value.abs() >= *size);
    fits.or(units.first()).copied().unwrap_or((1.0, ""))
}

/// `1 run`, `2 runs`
pub(super) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", self::number(number as f64))
}

/// On one line, with nothing in it that a terminal obeys.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// In a page.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let shown = [0.0, 0.5, 12.345, 999.9, 1000.0, 1_234_567.8, -1234.0, 0.0004, f64::NAN];
        assert_eq!(
            shown.map(number),
            ["0", "0.5", "12.3", "1,000", "1,000", "1,234,568", "-1,234", "0.0004", "-"]
        );
        assert_eq!([0.0, 1536.0, 3e9].map(bytes), ["0 B", "1.5 KiB", "2.79 GiB"]);
        let shown = [0.0, 0.25, 12.34, 180.0, 5400.0, 7200.0, 864_000.0].map(seconds);
        assert_eq!(shown, ["0 s", "250 ms", "12.3 s", "3 min", "90 min", "2 h", "10 days"]);
        assert_eq!(
            [5.9, 1264.0, 5400.0, 90_061.0].map(time),
            ["0:05", "21:04", "1:30:00", "1 d 1:01:01"]
        );
        assert_eq!((percent(0.0312), times(1.5)), ("3.12 %".into(), "1.5×".into()));
    }

    #[test]
    fn text_of_others_does_no_harm() {
        assert_eq!(plain("a\x1b[2Jb\nc"), "a [2Jb c");
        assert_eq!(escaped("<b>&\"x\""), "&lt;b&gt;&amp;&quot;x&quot;");
    }
}
