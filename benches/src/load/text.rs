//! The report in text.

use std::fmt::Write as _;
use std::time::Duration;

use super::drive::Load;
use super::machine::{Machine, version_of};
use super::outcome::{Outcome, Run};
use super::price::Price;
use super::record::{Metric, Tally};
use crate::stats::Spread;

/// The quantiles of every report, and what they are called.
pub const QUANTILES: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")];

/// Processors that other programs may use before the report says so: about what an idle desktop
/// takes.
const DISTURBING: f64 = 0.15;

/// Nanoseconds with a unit and three digits that matter.
pub fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 999.5 => (ns, "ns"),
        ns if ns < 999.5e3 => (ns / 1e3, "µs"),
        ns if ns < 999.5e6 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    format!("{} {unit}", digits(value))
}

fn digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// A number with three digits that matter: 4.12 M.
pub fn count(value: f64) -> String {
    match value {
        v if v < 999.5 && v == v.trunc() => format!("{v:.0}"),
        v if v < 999.5 => digits(v),
        v if v < 999.5e3 => format!("{} k", digits(v / 1e3)),
        v if v < 999.5e6 => format!("{} M", digits(v / 1e6)),
        v => format!("{} G", digits(v / 1e9)),
    }
}

/// A whole number, its digits in groups of three.
pub fn whole(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time that was asked for: 3 s, 1.5 s, 60 ms.
pub fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 1.0 => format!("{} ms", (s * 1e3).round()),
        s => format!("{} s", (s * 10.0).round() / 10.0),
    }
}

/// How requests were started, in words.
pub fn load(load: Load) -> String {
    match load {
        Load::Closed { clients: 1 } => "closed loop, 1 client".to_owned(),
        Load::Closed { clients } => format!("closed loop, {} clients", whole(clients as u64)),
        Load::Open { per_second, most_in_flight } => format!(
            "open loop, {} requests/s, latency from the intended start, at most {} in flight",
            count(per_second),
            whole(most_in_flight)
        ),
    }
}

/// Lays out columns: the first `left` to the left, the others to the right.
fn columns(rows: &[Vec<String>], left: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = if column < left {
                write!(line, " {cell:<width$}")
            } else {
                write!(line, "  {cell:>width$}")
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The whole report.
pub fn report(outcome: &Outcome) -> String {
    let mut out = head(outcome);
    for group in by_scenario(&outcome.runs) {
        scenario(&mut out, group);
    }
    out.push_str(&verdict(outcome));
    out
}

/// Neighbours that ran the same.
pub fn by_scenario(runs: &[Run]) -> impl Iterator<Item = &[Run]> {
    runs.chunk_by(|one, other| one.about.name == other.about.name)
}

fn head(outcome: &Outcome) -> String {
    let Machine { processors, processor, system, memory, rustc, optimised } = &outcome.machine;
    let settings = &outcome.settings;
    let mut names: Vec<&str> = outcome.runs.iter().map(|run| run.executor).collect();
    names.sort_unstable();
    names.dedup();
    let versions: Vec<String> = names.iter().map(|name| format!("{name} {}", version_of(name))).collect();
    let Price { variables, fork, read, set, arc } = outcome.price;
    let memory = memory.map(|bytes| format!(", {:.0} GB", bytes as f64 / 1e9)).unwrap_or_default();
    let mut out = format!(
        "Load test of {}\n\
         \x20 machine   {processors} processors ({processor}){memory}, {system}\n\
         \x20 built by  {rustc}\n\
         \x20 settings  {} workers, {} variables bound by each request, 1 task in {} timed, seed {}\n",
        versions.join(", "),
        settings.workers,
        settings.variables,
        settings.sample,
        settings.seed,
    );
    if variables > 0 {
        let _ = writeln!(
            out,
            "  contexts  with {variables} variables: inherited in {fork:.1} ns, read in {read:.1} ns, set in {set:.0} ns; \
             an Arc is cloned and dropped in {arc:.1} ns"
        );
    }
    if !optimised {
        out.push_str("  NOTE      built without optimisation: the numbers mean nothing; use --release\n");
    }
    if settings.smoke {
        out.push_str("  NOTE      a smoke run: the numbers mean nothing\n");
    }
    if outcome.interrupted {
        out.push_str("  NOTE      interrupted: what was measured until then\n");
    }
    out
}

fn scenario(out: &mut String, runs: &[Run]) {
    let first = &runs[0];
    let rounds = match first.rounds.len() {
        1 => String::new(),
        rounds => format!(" in {rounds} rounds, taking turns"),
    };
    let _ = writeln!(
        out,
        "\n{}: {}\n  {}, {} each{rounds}\n",
        first.about.name,
        first.about.text,
        load(first.load),
        seconds(first.window()),
    );
    out.push_str(&columns(&facts(runs), 1));
    out.push('\n');
    out.push_str(&columns(&distributions(runs), 2));
    for run in runs {
        for note in notes(run) {
            let _ = writeln!(out, "  {}: {note}", run.executor);
        }
    }
}

/// One line per fact, one column per executor.
pub fn facts(runs: &[Run]) -> Vec<Vec<String>> {
    let none = || "-".to_owned();
    let row = |title: String, of: &dyn Fn(&Run) -> String| {
        std::iter::once(title).chain(runs.iter().map(of)).collect::<Vec<String>>()
    };
    let unit = runs[0].about.unit;
    let mut rows = vec![row(String::new(), &|run| run.executor.to_owned())];
    rows.push(row(format!("{unit}/s"), &|run| count(run.throughput())));
    if unit != "requests" {
        rows.push(row("requests/s".to_owned(), &|run| count(run.per_second(Tally::Finished))));
    }
    if runs.len() > 1 {
        rows.push(row(format!("{unit}/s, ours over theirs"), &|run| ratio(&runs[0], run)));
    }
    rows.push(row("processors busy".to_owned(), &|run| {
        run.processors().map_or_else(none, |busy| format!("{busy:.2}"))
    }));
    rows.push(row("… by other programs".to_owned(), &|run| {
        run.others().map_or_else(none, |busy| format!("{busy:.2}"))
    }));
    rows.push(row("each worker busy".to_owned(), &|run| {
        let shares: Vec<String> =
            run.busy().iter().take(8).map(|share| format!("{:.0}", share * 100.0)).collect();
        let more = if run.busy().len() > 8 { " …" } else { "" };
        if shares.is_empty() { none() } else { format!("{}{more} %", shares.join(" ")) }
    }));
    let per_second = |run: &Run, total: Option<u64>| {
        total.map_or_else(none, |total| count((total as f64 / run.window().as_secs_f64()).round()))
    };
    rows.push(row("steals/s".to_owned(), &|run| per_second(run, run.counted(|seen| seen.steals))));
    rows.push(row("parks/s".to_owned(), &|run| per_second(run, run.counted(|seen| seen.parks))));
    rows.push(row("queued, mean and most".to_owned(), &|run| {
        run.queue_depth()
            .map_or_else(none, |(mean, most)| format!("{} {}", count(mean.round()), count(most as f64)))
    }));
    rows.push(row("memory, start, peak, end".to_owned(), &|run| match run.memory() {
        Some((start, peak, end)) => {
            let whole = |bytes: u64| format!("{:.0}", bytes as f64 / 1e6);
            format!("{} {} {} MB", whole(start), whole(peak), whole(end))
        }
        None => none(),
    }));
    if runs.iter().any(|run| run.all().get(Tally::TimedOut) > 0) {
        rows.push(row("time limits reached/s".to_owned(), &|run| {
            count(run.per_second(Tally::TimedOut).round())
        }));
    }
    rows.push(row("context checks".to_owned(), &|run| match run.carries {
        true => whole(run.all().get(Tally::Checks)),
        false => "no context".to_owned(),
    }));
    rows.push(row("context violations".to_owned(), &|run| match run.carries {
        true => whole(run.violations()),
        false => none(),
    }));
    rows
}

/// `2.10 (1.95..2.24)`: the throughput of one over that of the other, within a round.
fn ratio(ours: &Run, theirs: &Run) -> String {
    if ours.executor == theirs.executor {
        return "1".to_owned();
    }
    let rates = |run: &Run| -> Vec<f64> {
        run.rounds
            .iter()
            .map(|round| round.measured.get(Tally::Units) as f64 / round.window.as_secs_f64())
            .collect()
    };
    match Spread::of_ratios(&rates(ours), &rates(theirs)) {
        Some(Spread { median, min, max, .. }) => format!("{median:.2} ({min:.2}..{max:.2})"),
        None => "-".to_owned(),
    }
}

/// One line per metric and executor, one column per quantile.
pub fn distributions(runs: &[Run]) -> Vec<Vec<String>> {
    let mut head = vec![String::new(), String::new()];
    head.extend(QUANTILES.map(|(_, name)| name.to_owned()));
    head.push("values".to_owned());
    let mut rows = vec![head];
    for metric in Metric::ALL {
        let mut title = metric.title();
        for run in runs {
            let Some(histogram) = run.histograms.get(metric) else { continue };
            let mut row = vec![std::mem::take(&mut title).to_owned(), run.executor.to_owned()];
            row.extend(QUANTILES.map(|(quantile, _)| time(histogram.value_at_quantile(quantile) as f64)));
            row.push(count(histogram.len() as f64));
            rows.push(row);
        }
    }
    rows
}

/// What needs saying about a run.
pub fn notes(run: &Run) -> Vec<String> {
    let mut notes = Vec::new();
    let all = run.all();
    if let Load::Open { per_second, .. } = run.load {
        let reached = run.per_second(Tally::Started) / per_second;
        // The last few may just have come due.
        if reached < 0.98 {
            notes.push(format!(
                "could not keep up: {:.0} % of the rate was reached, {} requests that were due were never started",
                100.0 * reached,
                whole(run.behind())
            ));
        }
    }
    if run.others().is_some_and(|others| others > DISTURBING) {
        notes.push(format!(
            "other programs kept {:.1} processors busy meanwhile: the numbers are theirs too",
            run.others().unwrap_or_default()
        ));
    }
    match (run.unfinished(), run.stuck()) {
        (0, _) => {}
        (unfinished, 0) => notes.push(format!(
            "{} requests had not ended when the time to do so was up: the true percentiles are higher",
            whole(unfinished)
        )),
        (unfinished, _) => notes.push(format!("{} requests NEVER ENDED", whole(unfinished))),
    }
    if all.get(Tally::Early) > 0 {
        notes.push(format!("{} timers fired EARLY", whole(all.get(Tally::Early))));
    }
    let told: Vec<&String> = run.rounds.iter().flat_map(|round| &round.violations).take(10).collect();
    if !told.is_empty() {
        notes.push("VIOLATIONS of the context, the first of them:".to_owned());
        notes.extend(told.into_iter().map(|violation| format!("  {violation}")));
    }
    notes
}

/// The last line.
fn verdict(outcome: &Outcome) -> String {
    let ours = || outcome.runs.iter().filter(|run| run.carries);
    let checks: u64 = ours().map(|run| run.all().get(Tally::Checks)).sum();
    let violations: u64 = ours().map(Run::violations).sum();
    match (checks, violations) {
        (0, _) => "\nNo contexts were checked.\n".to_owned(),
        (checks, 0) => format!("\nContext violations: 0 in {} checks.\n", whole(checks)),
        (checks, violations) => {
            format!("\nContext VIOLATIONS: {} in {} checks.\n", whole(violations), whole(checks))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_counts_keep_three_digits_and_change_their_unit_in_time() {
        let times = [1.0, 999.4, 999.6, 12_345.0, 999_600.0, 1.5e9].map(time);
        assert_eq!(times, ["1.00 ns", "999 ns", "1.00 µs", "12.3 µs", "1.00 ms", "1.50 s"]);
        let counts = [0.0, 7.0, 0.5, 999.0, 12_345.0, 1.2e6, 3.0e9].map(count);
        assert_eq!(counts, ["0", "7", "0.50", "999", "12.3 k", "1.20 M", "3.00 G"]);
        assert_eq!([1, 999, 1000, 1_234_567].map(whole), ["1", "999", "1,000", "1,234,567"]);
        assert_eq!([0.06, 3.0, 1.5].map(|s| seconds(Duration::from_secs_f64(s))), ["60 ms", "3 s", "1.5 s"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "123 µs".to_owned()]];
        assert_eq!(columns(&rows, 1), "  a          1\n  long  123 µs\n");
    }
}
