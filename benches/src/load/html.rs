//! The report as one page that needs nothing else: tables, and charts drawn in place.

use std::fmt::Write as _;

use super::machine::version_of;
use super::outcome::{Outcome, Run, Tick};
use super::record::{Metric, Tally};
use super::svg::{Axis, Series, Style, chart, escape, swatch};
use super::text;

/// Light and dark; dashes tell series apart where colours do not.
const STYLE: &str = "
:root { color-scheme: light dark;
  --back: #ffffff; --panel: #f6f7f9; --text: #1b1f24; --faint: #57606a; --grid: #dfe3e8; --axis: #8c959f;
  --good: #1a7f37; --bad: #b42318;
  --s0: #0b57d0; --s1: #c2410c; --s2: #15803d; --s3: #7e22ce; --s4: #a16207; --s5: #0e7490; --s6: #be185d; --s7: #475569; }
@media (prefers-color-scheme: dark) { :root {
  --back: #0f1318; --panel: #181d24; --text: #e6eaf0; --faint: #a3adb8; --grid: #2b323c; --axis: #66717e;
  --good: #5bd07a; --bad: #ff8a80;
  --s0: #7db4ff; --s1: #ffa66b; --s2: #74d68e; --s3: #cfa2ff; --s4: #e3c25b; --s5: #63d3e6; --s6: #ff8fbd; --s7: #b6c2d0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 78rem; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .2rem; }
p { margin: .2rem 0 .8rem; } .faint { color: var(--faint); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .8rem 0; }
dt { color: var(--faint); } dd { margin: 0; }
.verdict { font-weight: 600; border-left: 4px solid; padding-left: .7rem; }
p.note { margin: .6rem 0 0; color: var(--bad); } .good { color: var(--good); } .bad { color: var(--bad); }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; align-items: flex-start; }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .15rem .65rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
th { color: var(--faint); font-weight: 600; } th.left, td.left { text-align: left; padding-left: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 1rem; margin-top: 1rem; }
figure { margin: 0; padding: .8rem .8rem .4rem; background: var(--panel); border-radius: 8px; }
figcaption { font-weight: 600; } .legend { color: var(--faint); font-size: .85rem; display: flex; flex-wrap: wrap; gap: 0 1.1rem; min-height: 1.3rem; }
.legend span { white-space: nowrap; } .swatch { width: 26px; height: 8px; margin-right: .35rem; vertical-align: middle; }
svg { display: block; width: 100%; height: auto; } svg.swatch { display: inline-block; }
text { fill: var(--faint); font: 12px system-ui, sans-serif; } text.label { fill: var(--text); font-size: 12.5px; }
.grid { stroke: var(--grid); stroke-width: 1; } .axis { stroke: var(--axis); fill: none; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .area { opacity: .16; stroke: none; }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); stroke-dasharray: 7 3; } .s2 { --c: var(--s2); stroke-dasharray: 2 3; }
.s3 { --c: var(--s3); stroke-dasharray: 9 3 2 3; } .s4 { --c: var(--s4); } .s5 { --c: var(--s5); stroke-dasharray: 7 3; }
.s6 { --c: var(--s6); stroke-dasharray: 2 3; } .s7 { --c: var(--s7); stroke-dasharray: 9 3 2 3; }
.line { stroke: var(--c); } .area { fill: var(--c); }
";

/// The page.
pub fn report(outcome: &Outcome) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Heirloom under load</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    );
    head(&mut out, outcome);
    for group in text::by_scenario(&outcome.runs) {
        section(&mut out, group);
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn head(out: &mut String, outcome: &Outcome) {
    let (machine, settings, price) = (&outcome.machine, &outcome.settings, &outcome.price);
    let mut names: Vec<&str> = outcome.runs.iter().map(|run| run.executor).collect();
    names.sort_unstable();
    names.dedup();
    let versions: Vec<String> = names.iter().map(|name| format!("{name} {}", version_of(name))).collect();
    let mut facts = vec![
        ("executors", versions.join(", ")),
        ("machine", format!("{} processors ({}), {}", machine.processors, machine.processor, machine.system)),
        ("built by", machine.rustc.to_owned()),
        (
            "settings",
            format!(
                "{} workers, {} variables bound by each request, 1 task in {} timed, seed {}",
                settings.workers, settings.variables, settings.sample, settings.seed
            ),
        ),
    ];
    if price.variables > 0 {
        let text = format!(
            "with {} variables: inherited in {:.1} ns, read in {:.1} ns, set in {:.0} ns; an Arc is cloned and dropped in {:.1} ns",
            price.variables, price.fork, price.read, price.set, price.arc
        );
        facts.push(("contexts", text));
    }
    let notes = [
        (!machine.optimised, "built without optimisation: the numbers mean nothing"),
        (settings.smoke, "a smoke run: the numbers mean nothing"),
        (outcome.interrupted, "interrupted: what was measured until then"),
    ];
    facts.extend(notes.iter().filter(|(holds, _)| *holds).map(|(_, text)| ("note", (*text).to_owned())));
    // Writing to a string cannot fail.
    out.push_str("<h1>Heirloom under load</h1>\n<dl>\n");
    for (name, text) in facts {
        let _ = writeln!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&text));
    }
    out.push_str("</dl>\n");
    let ours = || outcome.runs.iter().filter(|run| run.carries);
    let checks: u64 = ours().map(|run| run.all().get(Tally::Checks)).sum();
    let violations: u64 = ours().map(Run::violations).sum();
    let (class, text) = match (checks, violations) {
        (0, _) => ("faint", "No contexts were checked.".to_owned()),
        (_, 0) => ("good", format!("Context violations: 0 in {} checks.", text::whole(checks))),
        _ => (
            "bad",
            format!("Context VIOLATIONS: {} in {} checks.", text::whole(violations), text::whole(checks)),
        ),
    };
    let _ = writeln!(out, "<p class=\"verdict {class}\">{text}</p>");
}

fn section(out: &mut String, runs: &[Run]) {
    let first = &runs[0];
    let _ = writeln!(
        out,
        "<section>\n<h2>{}</h2>\n<p>{}<br><span class=\"faint\">{}, {} each</span></p>",
        first.about.name,
        escape(first.about.text),
        escape(&text::load(first.load)),
        text::seconds(first.window())
    );
    out.push_str("<div class=\"tables\">\n");
    table(out, &text::facts(runs), 1);
    table(out, &text::distributions(runs), 2);
    out.push_str("</div>\n");
    for run in runs {
        for note in text::notes(run) {
            let _ = writeln!(out, "<p class=\"note\">{}: {}</p>", run.executor, escape(&note));
        }
    }
    out.push_str("<div class=\"charts\">\n");
    for metric in [Metric::EndToEnd, Metric::FirstPoll, Metric::WakeToPoll, Metric::Lateness] {
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

fn table(out: &mut String, rows: &[Vec<String>], left: usize) {
    out.push_str("<div class=\"wide\"><table>\n");
    for (at, row) in rows.iter().enumerate() {
        let tag = if at == 0 { "th" } else { "td" };
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let class = if column < left { " class=\"left\"" } else { "" };
            let _ = write!(out, "<{tag}{class}>{}</{tag}>", escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

fn figure(out: &mut String, caption: &str, x: &Axis, y: &Axis, series: &[Series]) {
    let _ = writeln!(out, "<figure><figcaption>{}</figcaption>\n<div class=\"legend\">", escape(caption));
    for one in series {
        let _ = write!(out, "<span>{}{}</span>", swatch(one.class), escape(&one.name));
    }
    let _ = writeln!(out, "</div>\n{}</figure>", chart(caption, x, y, series));
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
    let x = Axis::percentile("percentile (%)", count);
    let y = Axis::log("time (logarithmic)", least, most, round_time);
    let mut title = metric.title().to_owned();
    title[..1].make_ascii_uppercase();
    figure(out, &format!("{title}: percentiles"), &x, &y, &series);
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
    let x = Axis::log("time from start to end (logarithmic)", least, most, round_time);
    let y = Axis::linear("share of requests (%)", highest, |share| format!("{share}"));
    figure(out, "End to end: histogram", &x, &y, &series);
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
    figure(out, caption, &x, &y, series);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::outcome;

    #[test]
    fn a_page_is_complete_and_needs_nothing_from_elsewhere() {
        let page = report(&outcome(100, 1000));
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        for foreign in ["src=", "href=", "@import", "url(", "<script"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        // The name of the SVG vocabulary is no address that is fetched.
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("http"));
        for tag in ["figure", "svg", "table", "section", "div", "span", "dl"] {
            let (open, close) =
                (page.matches(&format!("<{tag}")).count(), page.matches(&format!("</{tag}>")).count());
            assert_eq!(open, close, "{tag}");
        }
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("percentile (%)"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn a_violation_is_told_in_words_that_cannot_be_mistaken_for_markup() {
        let mut outcome = outcome(100, 1000);
        outcome.runs[0].rounds[0].violations.push("\"<b>\" & so on".to_owned());
        let page = report(&outcome);
        assert!(page.contains("&quot;&lt;b&gt;&quot; &amp; so on") && !page.contains("<b>"));
    }
}
