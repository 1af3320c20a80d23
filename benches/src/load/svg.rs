//! Charts as SVG text. Colours come from the page's style sheet, so that they suit a light and a
//! dark one: series `n` has the class `s<n>`.

use std::fmt::Write as _;

/// How a number becomes a place on an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By its logarithm; nothing below the axis' beginning is shown.
    Log,
    /// A share of all below 1, by how little is left: 0.9, 0.99 and 0.999 are evenly spaced.
    Percentile,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.max(1e-12).log10(),
            Scale::Percentile => -(1.0 - value).max(1e-9).log10(),
        }
    }
}

/// An axis with its label, which names the unit.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows, with the unit.
    pub label: String,
    /// How.
    pub scale: Scale,
    /// From where.
    pub from: f64,
    /// To where; beyond `from`.
    pub to: f64,
    /// Where there are marks, and what they say.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to at least `most`, with round marks, each written by `text`.
    pub fn linear(label: impl Into<String>, most: f64, text: impl Fn(f64) -> String) -> Axis {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let raw = most / 5.0;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
        let step = step.into_iter().find(|step| *step >= raw * 0.999).unwrap_or(raw);
        let count = (most / step - 1e-9).ceil().max(1.0) as usize;
        let ticks = (0..=count).map(|at| (at as f64 * step, text(at as f64 * step))).collect();
        Axis { label: label.into(), scale: Scale::Linear, from: 0.0, to: count as f64 * step, ticks }
    }

    /// From the power of ten at or below `least` to the one at or above `most`, with a mark at
    /// each.
    pub fn log(label: impl Into<String>, least: f64, most: f64, text: impl Fn(f64) -> String) -> Axis {
        let first = least.max(1e-9).log10().floor() as i32;
        let last = (most.max(1e-9).log10().ceil() as i32).max(first + 1);
        let ticks = (first..=last).map(|power| (10f64.powi(power), text(10f64.powi(power)))).collect();
        let (from, to) = (10f64.powi(first), 10f64.powi(last));
        Axis { label: label.into(), scale: Scale::Log, from, to, ticks }
    }

    /// Percentiles from the least to the one that leaves `1 / count` of all.
    pub fn percentile(label: impl Into<String>, count: u64) -> Axis {
        let marks = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999];
        let last = 1.0 - 1.0 / (count.max(100) as f64);
        let ticks: Vec<(f64, String)> = marks
            .into_iter()
            .filter(|mark| *mark <= last + 1e-12)
            .map(|mark| (mark, format!("{}", (mark * 1e8).round() / 1e6)))
            .collect();
        Axis { label: label.into(), scale: Scale::Percentile, from: 0.0, to: last, ticks }
    }

    /// Where on the axis a value is: 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let (from, to) = (self.scale.place(self.from), self.scale.place(self.to));
        ((self.scale.place(value) - from) / (to - from)).clamp(0.0, 1.0)
    }
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line through its points.
    Line,
    /// A line, and the area below it tinted.
    Area,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// Its colour and dashes.
    pub class: usize,
    /// How it is drawn.
    pub style: Style,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// How many classes of series the style sheet knows.
pub const CLASSES: usize = 8;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 310.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 34.0;
const TOP: f64 = 42.0;
const BOTTOM: f64 = 64.0;

/// Draws a chart; `title` is what is read out where it cannot be seen.
pub fn chart(title: &str, x: &Axis, y: &Axis, series: &[Series]) -> String {
    let across = |value: f64| LEFT + x.share(value) * (WIDTH - LEFT - RIGHT);
    let up = |value: f64| HEIGHT - BOTTOM - y.share(value) * (HEIGHT - TOP - BOTTOM);
    let (floor, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" xmlns=\"http://www.w3.org/2000/svg\">\n",
        escape(title)
    );
    // Writing to a string cannot fail.
    for (value, text) in &y.ticks {
        let at = up(*value);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 7.0,
            at + 4.0,
            escape(text)
        );
    }
    for (value, text) in &x.ticks {
        let at = across(*value);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{floor}\"/>\
             <text class=\"tick\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
            floor + 22.0,
            escape(text)
        );
    }
    let _ = writeln!(
        out,
        "<path class=\"axis\" d=\"M{LEFT} {TOP}V{floor}H{right}\"/>\
         <text class=\"label\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
         <text class=\"label\" x=\"4\" y=\"18\">{}</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 12.0,
        escape(&x.label),
        escape(&y.label)
    );
    for Series { class, style, points, .. } in series {
        let points: Vec<(f64, f64)> =
            points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()).copied().collect();
        let (Some(first), Some(last)) = (points.first(), points.last()) else { continue };
        let mut path = String::new();
        for (at, (x, y)) in points.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if at == 0 { "M" } else { "L" }, across(*x), up(*y));
        }
        let class = class % CLASSES;
        if *style == Style::Area {
            let (from, to) = (across(first.0), across(last.0));
            let _ = writeln!(
                out,
                "<path class=\"area s{class}\" d=\"{path}L{to:.1} {floor}L{from:.1} {floor}Z\"/>"
            );
        }
        let _ = writeln!(out, "<path class=\"line s{class}\" d=\"{path}\"/>");
    }
    out.push_str("</svg>\n");
    out
}

/// A short piece of a series' line, for a legend.
pub fn swatch(class: usize) -> String {
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 26 8\" aria-hidden=\"true\"><path class=\"line s{}\" d=\"M0 4H26\"/></svg>",
        class % CLASSES
    )
}

/// Text that may stand in a page.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_has_a_few_round_marks_and_reaches_the_most() {
        for most in [0.0, 0.7, 1.0, 3.0, 9.9, 100.0, 4.1e6] {
            let axis = Axis::linear("", most, |value| value.to_string());
            assert!(axis.to >= most && axis.to <= most.max(1.0) * 1.6, "{most}: {axis:?}");
            assert!((3..=7).contains(&axis.ticks.len()), "{most}: {axis:?}");
        }
    }

    #[test]
    fn nines_are_evenly_spaced() {
        let axis = Axis::percentile("", 10_000);
        assert_eq!(axis.ticks.last().unwrap().1, "99.99");
        let [nine, two, three] = [0.9, 0.99, 0.999].map(|share| axis.share(share));
        assert!((two - nine - (three - two)).abs() < 1e-9 && nine > 0.2);
        assert_eq!((axis.share(0.0), axis.share(1.0)), (0.0, 1.0));
    }

    #[test]
    fn a_logarithmic_axis_begins_and_ends_at_powers_of_ten() {
        let axis = Axis::log("", 250.0, 4e6, |value| value.to_string());
        assert_eq!((axis.from.round(), axis.to.round(), axis.ticks.len()), (100.0, 1e7, 6));
        assert!((axis.share(1e4) - 0.4).abs() < 1e-9);
    }

    #[test]
    fn a_chart_stays_within_its_frame_and_says_its_units() {
        let x = Axis::linear("time (s)", 3.0, |value| value.to_string());
        let y = Axis::linear("tasks <1/s>", 10.0, |value| value.to_string());
        let points = vec![(-5.0, 3.0), (1.0, 1e9), (f64::NAN, 1.0), (99.0, -4.0)];
        let series = Series { name: "a".into(), class: 9, style: Style::Area, points };
        let chart = chart("what \"it\" shows", &x, &y, &[series]);
        assert!(
            chart.contains("time (s)")
                && chart.contains("tasks &lt;1/s&gt;")
                && chart.contains("&quot;it&quot;")
        );
        assert!(chart.contains("M76.0 184.8L226.0 42.0L526.0 246.0"), "{chart}");
        assert!(chart.contains("class=\"line s1\"") && !chart.contains("NaN"));
    }
}
