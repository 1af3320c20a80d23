//! The charts of kept runs: times of Heirloom and of the best peer, as ratios to tokio's.

use std::fmt::Write as _;

use serde_json::Value;

use crate::executor::row::REFERENCE;
use crate::load::svg::escape;
use crate::results::Kept;

/// What a chart shows: the program, the row, its part, and what the row is called in the chart.
type Shown = [[&'static str; 4]];

/// The chart of the README.
const SHOWN: &Shown = &[
    ["executors", "spawn-inside", "", "spawn, from a task"],
    ["executors", "spawn-outside", "", "spawn, from a thread"],
    ["executors", "join-all", "", "spawn and join many"],
    ["executors", "one-by-one-inside", "", "spawn and join one"],
    ["executors", "chain", "", "chain of spawns"],
    ["executors", "fork-join", "", "tree of tasks"],
    ["executors", "yield-many", "", "yield"],
    ["executors", "ping-pong", "", "ping-pong"],
    ["executors", "ring-all", "", "ring of channels"],
    ["executors", "wake", "", "wake from a thread"],
    ["executors", "timers", "cpu", "timer"],
    ["executors", "limit-yields", "", "timeout"],
    ["net", "echo-64-1", "time", "echo, 1 connection"],
    ["net", "echo-64-64", "time", "echo, 64 connections"],
    ["net", "echo-64-1000", "time", "echo, 1,000 connections"],
    ["net", "http-hello", "time", "HTTP, 64 connections"],
];

/// The chart of the load test.
const TAILS: &Shown = &[
    ["load", "service", "p50", "service, p50"],
    ["load", "service", "p99", "service, p99"],
    ["load", "service", "p99.9", "service, p99.9"],
    ["load", "http", "p50", "HTTP hello, p50"],
    ["load", "http", "p99", "HTTP hello, p99"],
    ["load", "http", "p99.9", "HTTP hello, p99.9"],
];

/// The ends of the axis.
const LEAST: f64 = 0.04;
const MOST: f64 = 2.5;

const WIDTH: f64 = 780.0;
const LEFT: f64 = 175.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 60.0;
const LINE: f64 = 28.0;

const STYLE: &str = "text { font: 13px system-ui, sans-serif; fill: #24292f } .small { font-size: 11px; fill: #57606a }
.grid { stroke: #d0d7de } .one { stroke: #57606a; stroke-width: 1.5 }
.ours { fill: #0550ae; stroke: #0550ae } .peer { fill: #ffffff; stroke: #bc4c00 } line.ours, line.peer { stroke-width: 2 }
.back { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9da7b3 } .grid { stroke: #30363d } .one { stroke: #9da7b3 }
.ours { fill: #79c0ff; stroke: #79c0ff } .peer { fill: #0d1117; stroke: #ffa657 } .back { fill: #0d1117 } }";

/// A line of the chart: ratios as median, least and greatest.
struct Line<'a> {
    label: &'static str,
    ours: [f64; 3],
    /// The best peer, and its name.
    peer: [f64; 3],
    name: &'a str,
}

/// A median with its extremes, as a kept report has it.
fn spread(value: &Value) -> Option<[f64; 3]> {
    Some([value["median"].as_f64()?, value["min"].as_f64()?, value["max"].as_f64()?])
}

/// The line of one row's part in a program's report.
fn line<'a>(report: &'a Value, row: &str, part: &str, label: &'static str) -> Option<Line<'a>> {
    let list = |value: &'a Value, key: &str| value[key].as_array().into_iter().flatten();
    let row = list(report, "rows").find(|found| found["row"] == row)?;
    let part = list(row, "parts").find(|found| found["part"] == part)?;
    let judged = report["ours"].as_str()?;
    let named = |contender: &'a Value| Some((contender["name"].as_str()?, spread(&contender["judged"])?));
    let all: Vec<_> = list(part, "contenders").filter_map(named).collect();
    let ours = all.iter().find(|(name, _)| *name == judged)?.1;
    let peers = all.into_iter().filter(|(name, _)| !name.starts_with(judged) && *name != REFERENCE);
    let (name, peer) = peers.min_by(|a, b| a.1[0].total_cmp(&b.1[0]))?;
    Some(Line { label, ours, peer, name })
}

/// Draws the chart of times from the newest runs.
pub fn ratios(newest: &[Kept]) -> String {
    let axis = "time over tokio's in the same round: median, least and greatest; less is quicker";
    draw(newest, SHOWN, "Time of Heirloom over time of tokio", axis)
}

/// Draws the chart of latencies under load from the newest runs; nothing if there is none.
pub fn tails(newest: &[Kept]) -> Option<String> {
    let kept = newest.iter().find(|kept| kept.program() == TAILS[0][0])?;
    let share = 100.0 * kept.report()["share"].as_f64()?;
    let axis = format!(
        "end to end over tokio's in the same round, at {share:.0} % of tokio's highest rate; less is quicker"
    );
    Some(draw(newest, TAILS, "Latency of Heirloom over latency of tokio", &axis))
}

/// Draws a chart. Rows that are in no run are left out.
fn draw(newest: &[Kept], shown: &Shown, title: &str, axis: &str) -> String {
    let mut lines = Vec::new();
    for [program, row, part, label] in shown {
        let kept = newest.iter().find(|kept| kept.program() == *program);
        lines.extend(kept.and_then(|kept| line(kept.report(), row, part, label)));
    }
    let height = TOP + LINE * lines.len() as f64 + 66.0;
    let floor = height - 56.0;
    let origin = newest.iter().find(|kept| kept.program() == shown[0][0]).map(Kept::origin);
    let across = |ratio: f64| {
        let share = (ratio.max(LEAST) / LEAST).ln() / (MOST / LEAST).ln();
        LEFT + share.min(1.0) * (RIGHT - LEFT)
    };
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"title desc\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n\
         <title id=\"title\">{title}</title>\n\
         <desc id=\"desc\">{}</desc>\n<style>\n{STYLE}\n</style>\n\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n",
        escape(&described(&lines))
    );
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<circle class=\"ours\" cx=\"{LEFT}\" cy=\"22\" r=\"4.5\"/><text x=\"{}\" y=\"26\">Heirloom</text>\
         <circle class=\"peer\" cx=\"{}\" cy=\"22\" r=\"4\" stroke-width=\"2\"/>\
         <text x=\"{}\" y=\"26\">best other executor (named on the right)</text>",
        LEFT + 12.0,
        LEFT + 100.0,
        LEFT + 112.0
    );
    for mark in [0.05, 0.1, 0.2, 0.5, 1.0, 2.0] {
        let (x, class) = (across(mark), if mark == 1.0 { "one" } else { "grid" });
        let name = if mark == 1.0 { "1 = tokio".to_owned() } else { mark.to_string() };
        let _ = writeln!(
            out,
            "<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{floor}\"/>\
             <text class=\"small\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{}\">{name}</text>",
            TOP - 16.0,
            floor + 16.0
        );
    }
    let below = [escape(axis), escape(&origin.unwrap_or_default())];
    for (at, text) in below.iter().enumerate() {
        let _ = writeln!(
            out,
            "<text class=\"small\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{}\">{text}</text>",
            f64::midpoint(LEFT, RIGHT),
            floor + 33.0 + 15.0 * at as f64
        );
    }
    for (at, Line { label, ours, peer, name }) in lines.iter().enumerate() {
        let y = TOP + LINE * at as f64;
        let _ =
            writeln!(out, "<text text-anchor=\"end\" x=\"{}\" y=\"{}\">{label}</text>", LEFT - 12.0, y + 8.0);
        for (class, [median, least, most], y, radius) in
            [("peer", peer, y + 8.0, 4.0), ("ours", ours, y, 4.5)]
        {
            let _ = writeln!(
                out,
                "<line class=\"{class}\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\"/>\
                 <circle class=\"{class}\" cx=\"{:.1}\" cy=\"{y}\" r=\"{radius}\" stroke-width=\"2\"/>",
                across(*least),
                across(*most),
                across(*median)
            );
        }
        let _ = writeln!(
            out,
            "<text class=\"small\" x=\"{}\" y=\"{}\">{:.2} | {:.2} {}</text>",
            RIGHT + 14.0,
            y + 8.0,
            ours[0],
            peer[0],
            escape(name)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// The chart in words, for readers who cannot see it.
fn described(lines: &[Line<'_>]) -> String {
    let told = lines.iter().map(|Line { label, ours, peer, name }| {
        format!("{label}: Heirloom {:.2}, {name} {:.2}", ours[0], peer[0])
    });
    format!("Medians of ratios to tokio; below 1 is quicker. {}.", told.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results;
    use serde_json::json;

    fn is_well_formed(svg: &str, shown: &Shown) {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1).map(|tag| tag.split_once('>').expect("a tag that ends").0) {
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split_whitespace().next().unwrap()),
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        }
        assert!(open.is_empty(), "{open:?}");
        for [.., label] in shown {
            assert!(svg.contains(&format!(">{label}<")), "{label}");
        }
        assert!(!svg.contains("NaN") && svg.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn the_chart_of_times_is_well_formed_and_shows_every_line() {
        is_well_formed(&ratios(&results::newest().unwrap()), SHOWN);
    }

    #[test]
    fn the_chart_of_tails_shows_what_the_load_test_keeps() {
        let of = |name: &str, median: f64| json!({ "name": name, "judged": { "median": median, "min": median / 2.0, "max": median * 2.0 } });
        let contenders = [of("heirloom", 0.5), of("tokio", 1.0), of("smol", 0.9), of("async-executor", 0.8)];
        let part = |part: &str| json!({ "part": part, "contenders": contenders });
        let parts = ["p50", "p99", "p99.9"].map(part);
        let rows = ["service", "http"].map(|row| json!({ "row": row, "parts": parts }));
        let kept = Kept::of("load", json!({ "ours": "heirloom", "share": 0.6, "rows": rows }));
        let svg = tails(&[kept]).unwrap();
        is_well_formed(&svg, TAILS);
        assert_eq!(svg.matches(">0.50 | 0.80 async-executor<").count(), TAILS.len());
        assert!(svg.contains("at 60 % of tokio's highest rate"));
        assert_eq!(tails(&[]), None);
    }
}
