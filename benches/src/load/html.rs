//! The report as one page that needs nothing else: tables, and charts drawn in place.

use std::fmt::Write as _;

use super::calibrate::Calibration;
use super::outcome::{Outcome, Run, Tick};
use super::record::Metric;
use super::svg::{Axis, Series, Style, chart, escape, swatch};
use super::tail;
use super::text;

/// Light and dark, wide and narrow. The colours are told apart by readers who do not see red and
/// green, and dashes tell series apart where colours do not. Red is for what is wrong alone.
const STYLE: &str = "
:root { color-scheme: light dark;
  --back: #ffffff; --panel: #f6f7f9; --text: #1b1f24; --faint: #57606a; --grid: #dfe3e8; --axis: #8c959f;
  --good: #0a6b4f; --bad: #b42318; --remark: #8a5a00;
  --s0: #0060a8; --s1: #c14a00; --s2: #00795c; --s3: #a03f79; --s4: #7d6608; --s5: #2a7f9e; --s6: #5b4b8a; --s7: #475569; }
@media (prefers-color-scheme: dark) { :root {
  --back: #0f1318; --panel: #181d24; --text: #e6eaf0; --faint: #a3adb8; --grid: #2b323c; --axis: #66717e;
  --good: #4fd1a5; --bad: #ff8a80; --remark: #e9b949;
  --s0: #7db4ff; --s1: #ffa05c; --s2: #4fd1a5; --s3: #f09bc8; --s4: #e3cf5b; --s5: #79d3ee; --s6: #bfaef5; --s7: #b6c2d0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 84rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.3rem; margin: 2.5rem 0 .2rem; } h3 { font-size: 1rem; margin: 0; }
p { margin: .2rem 0 .8rem; } .lead { font-size: 1.1rem; } .faint { color: var(--faint); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .8rem 0; }
dt { color: var(--faint); } dd { margin: 0; }
.verdict { font-weight: 600; } .verdict, .remark { border-left: 4px solid; padding-left: .7rem; }
.remark { color: var(--remark); } .good { color: var(--good); } .bad { color: var(--bad); }
summary { cursor: pointer; color: var(--faint); } details dl { font-size: .9rem; }
.cards { columns: 2 26rem; column-gap: 1rem; }
.card { break-inside: avoid; margin: 0 0 1rem; padding: .8rem; background: var(--panel); border-radius: 8px; }
.card p { margin: 0; font-size: .85rem; color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .87rem; }
th, td { padding: .14rem 0 .14rem .7rem; text-align: right; font-weight: 400; border-top: 1px solid var(--grid); overflow-wrap: normal; }
tr:first-child > * { border-top: 0; color: var(--faint); font-weight: 600; } th:first-child { text-align: left; padding-left: 0; }
.numbers td { white-space: nowrap; }
.legend { font-size: .85rem; display: flex; flex-wrap: wrap; gap: 0 1.1rem; margin-top: .2rem; }
.legend span { white-space: nowrap; } .swatch { width: 26px; height: 8px; margin-right: .35rem; vertical-align: middle; }
svg { display: block; width: 100%; height: auto; } svg.swatch { display: inline-block; }
text { fill: var(--faint); font: 12px system-ui, sans-serif; } text.label { fill: var(--text); font-size: 12.5px; }
.grid { stroke: var(--grid); stroke-width: 1; } .axis { stroke: var(--axis); fill: none; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .area { opacity: .16; stroke: none; }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); stroke-dasharray: 7 3; } .s2 { --c: var(--s2); stroke-dasharray: 2 3; }
.s3 { --c: var(--s3); stroke-dasharray: 9 3 2 3; } .s4 { --c: var(--s4); } .s5 { --c: var(--s5); stroke-dasharray: 7 3; }
.s6 { --c: var(--s6); stroke-dasharray: 2 3; } .s7 { --c: var(--s7); stroke-dasharray: 9 3 2 3; }
.line { stroke: var(--c); } .area { fill: var(--c); }
@media (max-width: 600px) {
  body { padding: .8rem; } .card { padding: .6rem; } dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
  table { font-size: .78rem; } th, td { padding-left: .4rem; } .less { display: none; }
  text, text.label { font-size: 18px; } .line { stroke-width: 3; } .swatch .line { stroke-width: 2; } }
";

/// What a reader must know who has never seen such a page.
const TERMS: [(&str, &str); 9] = [
    ("closed loop", "each client starts its next request when its last one has ended: how much can be done"),
    (
        "open loop",
        "requests start at a fixed rate, and their time counts from when they were due: what users feel",
    ),
    ("p50, p99 …", "so many percent of all values are at most this"),
    (
        "… over this one",
        "the throughputs within a round divided, their median; above 1 the first executor is faster",
    ),
    (
        "variables",
        "what a request knows of itself, such as its id; inherited by its tasks, or moved into each by hand",
    ),
    ("processors busy", "processor time used over time passed: 2.00 is all of two processors"),
    ("watchdog alarms", "polls that took longer than the limit of --watchdog, warming up included"),
    ("over time", "the rounds of an executor are put end to end"),
    ("-", "the executor does not tell, or it is not asked"),
];

/// The page.
pub fn report(outcome: &Outcome) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Heirloom under load</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    );
    head(&mut out, outcome);
    for group in text::by_scenario(&outcome.runs) {
        section(&mut out, group, outcome);
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn head(out: &mut String, outcome: &Outcome) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<h1>Heirloom under load</h1>\n<p class=\"lead\">{}.</p>",
        escape(&capital(&text::carried(outcome)))
    );
    let (right, verdict) = text::verdict(outcome);
    let (class, mark) = match right {
        None => ("faint", ""),
        Some(true) => ("good", "✓ "),
        Some(false) => ("bad", "✗ "),
    };
    let _ = writeln!(out, "<p class=\"verdict {class}\">{mark}{}</p>", escape(&verdict));
    for remark in text::remarks(outcome) {
        let _ = writeln!(out, "<p class=\"remark\">{}.</p>", escape(&capital(&remark)));
    }
    list(out, text::about(outcome).iter().map(|(name, text)| (*name, text.as_str())));
    out.push_str("<details><summary>How to read this page</summary>\n");
    list(out, TERMS.into_iter());
    out.push_str("</details>\n");
}

fn list<'a>(out: &mut String, terms: impl Iterator<Item = (&'a str, &'a str)>) {
    out.push_str("<dl>\n");
    for (name, text) in terms {
        let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(text));
    }
    out.push_str("</dl>\n");
}

/// A text that begins a sentence.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn section(out: &mut String, runs: &[Run], outcome: &Outcome) {
    let first = &runs[0];
    let _ = writeln!(
        out,
        "<section>\n<h2>{}</h2>\n<p>{}.<br><span class=\"faint\">{}.</span></p>",
        capital(first.about.name),
        escape(&capital(first.about.text)),
        escape(&capital(&text::measured(first))),
    );
    for run in runs {
        for note in text::notes(run) {
            let (class, mark) = if note.wrong { ("bad", "✗ ") } else { ("remark", "") };
            let _ = writeln!(out, "<p class=\"{class}\">{mark}{}: {}</p>", run.executor, escape(&note.text));
        }
    }
    let calibration = outcome.calibration_of(first.about);
    if let Some(wrong) = calibration.and_then(Calibration::wrong) {
        let _ = writeln!(out, "<p class=\"bad\">✗ {}</p>", escape(&wrong));
    }
    out.push_str("<div class=\"cards\">\n");
    if let Some(calibration) = calibration {
        let how = capital(&tail::calibrated(calibration));
        let _ = writeln!(out, "<div class=\"card\"><h3>Tails side by side</h3>\n<p>{}.</p>", escape(&how));
        table(out, "", &tail::columns(&tail::measured(outcome, calibration), calibration), &[]);
        out.push_str("</div>\n");
    }
    out.push_str("<div class=\"card\"><h3>In numbers</h3>\n");
    table(out, "", &text::facts(runs), &[]);
    out.push_str("</div>\n");
    for metric in Metric::ALL {
        percentiles(out, runs, metric);
    }
    histogram(out, runs);
    let unit = first.about.unit;
    over_time(out, runs, "Throughput over time", &format!("{unit} per second"), text::count, |tick| {
        Some(tick.units_per_second)
    });
    for run in runs {
        workers(out, run);
    }
    over_time(out, runs, "Tasks that wait for a worker", "tasks", text::count, |tick| {
        tick.queued.map(|queued| queued as f64)
    });
    over_time(
        out,
        runs,
        "Memory over time",
        "resident memory (MB)",
        |mb| format!("{}", mb.round()),
        |tick| (tick.memory > 0).then_some(tick.memory as f64 / 1e6),
    );
    out.push_str("</div>\n</section>\n");
}

/// A table with a head and a first column; `less` are columns that a narrow screen does without.
fn table(out: &mut String, class: &str, rows: &[Vec<String>], less: &[usize]) {
    let _ = writeln!(out, "<div class=\"wide\"><table class=\"{class}\">");
    for (at, row) in rows.iter().enumerate() {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let tag = if at == 0 || column == 0 { "th" } else { "td" };
            let class = if less.contains(&column) { " class=\"less\"" } else { "" };
            let _ = write!(out, "<{tag}{class}>{}</{tag}>", escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

/// A card with a chart; `about` says what it shows, and `below` is a table.
fn figure(out: &mut String, caption: &str, about: &str, x: &Axis, y: &Axis, series: &[Series], below: &str) {
    let _ = writeln!(out, "<div class=\"card\"><h3>{}</h3>", escape(caption));
    if !about.is_empty() {
        let _ = writeln!(out, "<p>{}</p>", escape(about));
    }
    out.push_str("<div class=\"legend\">");
    for one in series {
        let _ = write!(out, "<span>{}{}</span>", swatch(one.class), escape(&one.name));
    }
    let _ = writeln!(out, "</div>\n{}{below}</div>", chart(caption, x, y, series));
}

/// How a metric grows towards its tail.
fn percentiles(out: &mut String, runs: &[Run], metric: Metric) {
    let mut series = Vec::new();
    let mut count = 0;
    let (mut least, mut most) = (f64::MAX, 0f64);
    for (class, run) in runs.iter().enumerate() {
        let Some(histogram) = run.histograms.get(metric) else { continue };
        count = count.max(histogram.len());
        let last = 1.0 - 1.0 / histogram.len().max(2) as f64;
        // Evenly spaced on the axis.
        let shares = (0..=80).map(|step| 1.0 - (1.0 - last).powf(f64::from(step) / 80.0));
        let points: Vec<(f64, f64)> =
            shares.map(|share| (share, histogram.value_at_quantile(share) as f64)).collect();
        least = points.iter().map(|point| point.1).fold(least, f64::min);
        most = points.iter().map(|point| point.1).fold(most, f64::max);
        series.push(Series { name: run.executor.to_owned(), class, style: Style::Line, points });
    }
    if series.is_empty() {
        return;
    }
    let x = Axis::percentile("percent of values that are at most this", count);
    let y = Axis::log("time, each line ten times the one below", least, most, round_time);
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(text::QUANTILES.map(|(_, name)| name.to_owned()));
    rows[0].push("values".to_owned());
    rows.extend(runs.iter().filter_map(|run| text::distribution(run, metric)));
    let mut below = String::new();
    table(&mut below, "numbers", &rows, &[4, 6]);
    figure(out, &capital(metric.title()), metric.meaning(), &x, &y, &series, &below);
}

/// A power of ten of nanoseconds.
fn round_time(ns: f64) -> String {
    text::time(ns).replace(".00", "").replace(".0", "")
}

/// Which latencies are how frequent.
fn histogram(out: &mut String, runs: &[Run]) {
    const BINS_PER_DECADE: f64 = 10.0;
    let mut series = Vec::new();
    let (mut least, mut most, mut highest) = (f64::MAX, 0f64, 0f64);
    for (class, run) in runs.iter().enumerate() {
        let Some(histogram) = run.histograms.get(Metric::EndToEnd) else { continue };
        let bin = |ns: u64| ((ns.max(1) as f64).log10() * BINS_PER_DECADE).floor() as i64;
        let (first, last) = (bin(histogram.min()), bin(histogram.max()));
        let mut bins = vec![0u64; (last - first + 1) as usize];
        for value in histogram.iter_recorded() {
            let at = (bin(value.value_iterated_to()) - first).clamp(0, last - first);
            bins[at as usize] += value.count_at_value();
        }
        let edge = |at: i64| 10f64.powf(at as f64 / BINS_PER_DECADE);
        let mut points = vec![(edge(first), 0.0)];
        for (at, count) in (first..).zip(bins) {
            let share = 100.0 * count as f64 / histogram.len() as f64;
            highest = highest.max(share);
            points.extend([(edge(at), share), (edge(at + 1), share)]);
        }
        points.push((edge(last + 1), 0.0));
        (least, most) = (least.min(edge(first)), most.max(edge(last + 1)));
        series.push(Series { name: run.executor.to_owned(), class, style: Style::Area, points });
    }
    if series.is_empty() {
        return;
    }
    let x = Axis::log("time from start to end, each line ten times the one before", least, most, round_time);
    let y = Axis::linear("share of requests (%)", highest, |share| format!("{share}"));
    figure(out, "End to end: how often which time", "", &x, &y, &series, "");
}

fn over_time(
    out: &mut String,
    runs: &[Run],
    caption: &str,
    label: &str,
    text: impl Fn(f64) -> String,
    of: impl Fn(&Tick) -> Option<f64>,
) {
    let mut series = Vec::new();
    for (class, run) in runs.iter().enumerate() {
        let ticks = run.timed_ticks();
        let points: Vec<(f64, f64)> = ticks.iter().filter_map(|(at, tick)| Some((*at, of(tick)?))).collect();
        if !points.is_empty() {
            series.push(Series { name: run.executor.to_owned(), class, style: Style::Line, points });
        }
    }
    if !series.is_empty() {
        timed(out, caption, label, &series, None, text);
    }
}

/// How busy each worker was. Of many workers, the least, the mean and the most.
fn workers(out: &mut String, run: &Run) {
    const SHOWN: usize = 8;
    let ticks = run.timed_ticks();
    let count = ticks.iter().map(|(_, tick)| tick.busy.len()).max().unwrap_or(0);
    if count == 0 {
        return;
    }
    type Of<'a> = Box<dyn Fn(&[f64]) -> Option<f64> + 'a>;
    let each = |worker: usize| {
        (format!("worker {worker}"), Box::new(move |busy: &[f64]| busy.get(worker).copied()) as Of<'_>)
    };
    let lines: Vec<(String, Of<'_>)> = if count <= SHOWN {
        (0..count).map(each).collect()
    } else {
        vec![
            ("least busy".to_owned(), Box::new(|busy| busy.iter().copied().reduce(f64::min))),
            ("mean".to_owned(), Box::new(|busy| Some(busy.iter().sum::<f64>() / busy.len() as f64))),
            ("busiest".to_owned(), Box::new(|busy| busy.iter().copied().reduce(f64::max))),
        ]
    };
    let line = |(class, (name, of)): (usize, (String, Of<'_>))| {
        let points = ticks.iter().filter_map(|(at, tick)| Some((*at, 100.0 * of(&tick.busy)?))).collect();
        Series { name, class, style: Style::Line, points }
    };
    let series: Vec<Series> = lines.into_iter().enumerate().map(line).collect();
    let caption = format!("Workers of {} over time", run.executor);
    timed(out, &caption, "time on a processor (%)", &series, Some(100.0), |share| format!("{share}"));
}

fn timed(
    out: &mut String,
    caption: &str,
    label: &str,
    series: &[Series],
    most: Option<f64>,
    text: impl Fn(f64) -> String,
) {
    let points = || series.iter().flat_map(|series| &series.points);
    let end = points().map(|point| point.0).fold(0.0, f64::max);
    let most = most.unwrap_or_else(|| points().map(|point| point.1).fold(0.0, f64::max));
    let mut x = Axis::linear("time (s)", end, |at| format!("{}", (at * 1000.0).round() / 1000.0));
    // Up to the end of the measuring, not to the next round mark.
    x.to = end.max(1e-3);
    x.ticks.retain(|(at, _)| *at <= x.to);
    let y = Axis::linear(label, most, text);
    figure(out, caption, "", &x, &y, series, "");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::load::executor::Inspection;
    use crate::load::options::Carry;
    use crate::load::record::{Tally, Totals};
    use crate::load::tail::tests::shared;
    use crate::load::tests::{comparison, outcome, watched};

    #[test]
    fn a_page_is_complete_and_needs_nothing_from_elsewhere() {
        let page = report(&outcome(100, 1000));
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        for foreign in ["src=", "href=", "@import", "url(", "<script"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        // The name of the SVG vocabulary is no address that is fetched.
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("http"));
        for tag in ["svg", "table", "section", "div", "span", "dl", "h3", "details"] {
            let (open, close) =
                (page.matches(&format!("<{tag}")).count(), page.matches(&format!("</{tag}>")).count());
            assert_eq!(open, close, "{tag}");
        }
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("percent of values"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn a_violation_is_told_in_words_that_cannot_be_mistaken_for_markup() {
        let mut outcome = outcome(100, 1000);
        outcome.runs[0].rounds[0].violations.push("\"<b>\" & so on".to_owned());
        let page = report(&outcome);
        assert!(page.contains("&quot;&lt;b&gt;&quot; &amp; so on") && !page.contains("<b>"));
    }

    #[test]
    fn an_inspected_run_has_a_chart_of_its_schedule_latency_and_its_alarms() {
        let limit = Some(Duration::from_millis(100));
        let page = report(&watched(Inspection { times: true, limit }));
        assert!(
            page.contains("<h3>Schedule latency</h3>") && page.contains("<th>watchdog alarms</th><td>1</td>")
        );
        assert!(page.contains("<p class=\"remark\">heirloom: a poll of &lt;task 7&gt;</p>"), "{page}");
        assert!(!page.contains("class=\"bad\""), "an alarm is no fault of the executor");
        let page = report(&outcome(100, 1000));
        assert!(!page.contains("<h3>Schedule latency</h3>") && !page.contains("<th>watchdog alarms</th>"));
    }

    #[test]
    fn the_first_line_says_what_carries_and_red_is_for_what_is_wrong() {
        let mut outcome = comparison(Carry::Ours);
        let page = report(&outcome);
        let lead = "</h1>\n<p class=\"lead\">8 variables per request, inherited on heirloom, carried by hand on tokio, ";
        assert!(page.contains(lead), "{page}");
        assert!(page.contains("<p class=\"verdict good\">") && !page.contains("class=\"bad\""));
        outcome.runs[1].rounds[0].all.add(&Totals::of(&[(Tally::Violations, 1)]));
        outcome.runs[1].rounds[0].violations.push("request 7 was wrong".to_owned());
        let page = report(&outcome);
        assert!(page.contains("<p class=\"verdict bad\">✗ WRONG VALUES"));
        assert!(page.contains("<p class=\"bad\">✗ tokio: request 7 was wrong</p>"));
    }

    #[test]
    fn tails_at_a_share_of_a_rate_have_a_card() {
        let page = report(&shared());
        assert!(page.contains("<h3>Tails side by side</h3>\n<p>60 % of the most that tokio keeps up with, "));
        assert!(page.contains("<th>… goal</th><td>&lt;= 1.00 reached</td>"), "{page}");
        assert_eq!(page.matches("<div").count(), page.matches("</div>").count());
    }

    #[test]
    fn what_disturbs_is_told_once_and_not_in_red() {
        let mut outcome = comparison(Carry::Ours);
        for run in &mut outcome.runs {
            run.rounds[0].processor_time = Some(Duration::from_secs(1));
            run.rounds[0].others_time = Some(Duration::from_secs(1));
        }
        let page = report(&outcome);
        assert_eq!(page.matches("programs kept up to 1.0 of").count(), 1);
        assert!(page.contains("<p class=\"remark\">Other programs"));
    }
}
