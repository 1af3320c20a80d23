//! The report in text, in lines of 80 columns; and the words that it shares with the page.

use std::fmt::Write as _;
use std::time::Duration;

use super::check::Carrier;
use super::drive::Load;
use super::executor::Inspection;
use super::machine::{Machine, version_of};
use super::outcome::{Outcome, Run};
use super::price::Price;
use super::record::{Metric, Tally};
use super::tail;
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

/// The width of a terminal.
const COLUMNS: usize = 80;

/// Lays out columns, the first to the left, the others to the right. What is wider than the report
/// is laid out in blocks, each with the first column.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    let mut from = 1;
    while from < count {
        let mut used = 2 + widths[0];
        let fits = |width: &&usize| {
            used += 2 + **width;
            used <= COLUMNS
        };
        let to = from + widths[from..].iter().take_while(fits).count().max(1);
        if from > 1 {
            out.push('\n');
        }
        for row in rows {
            let mut line = format!("  {:<1$}", row[0], widths[0]);
            for (cell, width) in row.iter().zip(&widths).take(to).skip(from) {
                // Writing to a string cannot fail.
                let _ = write!(line, "  {cell:>width$}");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        from = to;
    }
    out
}

/// Breaks a text into lines: the first begins with `first`, the others are indented as far.
fn wrapped(first: &str, text: &str) -> String {
    let indent = first.chars().count();
    let mut out = first.to_owned();
    let mut used = indent;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if used > indent && used + 1 + width > COLUMNS {
            let _ = write!(out, "\n{:indent$}", "");
            used = indent;
        } else if used > indent {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += width;
    }
    out.push('\n');
    out
}

/// The whole report.
pub fn report(outcome: &Outcome) -> String {
    let mut out = wrapped("Load test: ", &carried(outcome));
    for (name, text) in about(outcome) {
        out.push_str(&wrapped(&format!("  {name:<9} "), &text));
    }
    for remark in remarks(outcome) {
        out.push_str(&wrapped("  NOTE      ", &remark));
    }
    for group in by_scenario(&outcome.runs) {
        scenario(&mut out, group, outcome);
    }
    out.push('\n');
    out.push_str(&wrapped("", &verdict(outcome).1));
    out
}

/// What carries the variables: the first line of every report.
pub fn carried(outcome: &Outcome) -> String {
    let names = |is: &dyn Fn(Carrier) -> bool| {
        let mut names: Vec<&str> = Vec::new();
        for run in outcome.runs.iter().filter(|run| is(run.carrier)) {
            if !names.contains(&run.executor) {
                names.push(run.executor);
            }
        }
        names.join(", ")
    };
    let inherited = names(&|carrier| matches!(carrier, Carrier::Inheritance(_)));
    let by_hand = names(&|carrier| matches!(carrier, Carrier::Hand));
    let how = match (inherited.as_str(), by_hand.as_str()) {
        ("", "") => return "no variables, on no executor; nothing is checked".to_owned(),
        (inherited, "") => format!("inherited on {inherited}"),
        ("", by_hand) => format!("carried by hand on {by_hand}"),
        (inherited, by_hand) => format!("inherited on {inherited}, carried by hand on {by_hand}"),
    };
    let variables = match outcome.settings.variables {
        1 => "1 variable".to_owned(),
        variables => format!("{} variables", whole(variables as u64)),
    };
    let alike = if executors(outcome).len() > 1 { ", checked alike on all" } else { ", and checked" };
    format!("{variables} per request, {how}{alike}")
}

/// The executors, in the order of the reports.
fn executors(outcome: &Outcome) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for run in &outcome.runs {
        if !names.contains(&run.executor) {
            names.push(run.executor);
        }
    }
    names
}

/// Where and how it was measured.
pub fn about(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let Machine { processors, processor, system, memory, rustc, .. } = &outcome.machine;
    let settings = &outcome.settings;
    let versions: Vec<String> =
        executors(outcome).iter().map(|name| format!("{name} {}", version_of(name))).collect();
    let memory = memory.map(|bytes| format!("{:.0} GB of memory, ", bytes as f64 / 1e9)).unwrap_or_default();
    let plural = if *processors == 1 { "" } else { "s" };
    let mut about = vec![
        ("executors", versions.join(", ")),
        ("machine", format!("{processors} processor{plural} ({processor}), {memory}{system}")),
        ("built by", (*rustc).to_owned()),
        (
            "settings",
            format!(
                "--workers {} --carry {} --variables {} --sample {} --seed {}{}",
                settings.workers,
                settings.carry.name(),
                settings.variables,
                settings.sample,
                settings.seed,
                inspection(settings.inspection)
            ),
        ),
    ];
    let Price { variables, fork, read, set, arc } = outcome.price;
    if outcome.runs.iter().any(|run| matches!(run.carrier, Carrier::Inheritance(_))) {
        about.push((
            "contexts",
            format!(
                "with {variables} variables here: inheriting all {fork:.1} ns, reading one {read:.1} ns, setting one \
                 {set:.0} ns; an Arc cloned and dropped {arc:.1} ns"
            ),
        ));
    }
    about
}

/// The options that ask for it, each with a space before it.
fn inspection(Inspection { times, limit }: Inspection) -> String {
    let times = if times { " --inspect" } else { "" };
    let limit = limit.map(|limit| format!(" --watchdog {limit:?}"));
    format!("{times}{}", limit.unwrap_or_default())
}

/// What a reader must know before any number.
pub fn remarks(outcome: &Outcome) -> Vec<String> {
    let mut remarks = Vec::new();
    if !outcome.machine.optimised {
        remarks.push(
            "built without optimisation: the numbers mean nothing; build with --profile measured".to_owned(),
        );
    }
    if outcome.settings.smoke {
        remarks.push("a smoke run: the numbers mean nothing".to_owned());
    }
    if outcome.interrupted {
        remarks.push("interrupted: what was measured until then".to_owned());
    }
    let inspected = outcome.runs.iter().filter(|run| run.histograms.get(Metric::Schedule).is_some());
    let mut inspected: Vec<&str> = inspected.map(|run| run.executor).collect();
    inspected.sort_unstable();
    inspected.dedup();
    if !inspected.is_empty() {
        remarks.push(format!(
            "{} ran inspected, which costs: compare its numbers only with those of inspected runs",
            inspected.join(", ")
        ));
    }
    let others = outcome.runs.iter().filter_map(Run::others).fold(0.0, f64::max);
    if others > DISTURBING {
        remarks.push(format!(
            "other programs kept up to {others:.1} of {} processors busy: trust ratios within a round more than \
             any single number",
            outcome.machine.processors
        ));
    }
    remarks
}

/// Neighbours that ran the same.
pub fn by_scenario(runs: &[Run]) -> impl Iterator<Item = &[Run]> {
    runs.chunk_by(|one, other| one.about.name == other.about.name)
}

fn scenario(out: &mut String, runs: &[Run], outcome: &Outcome) {
    let first = &runs[0];
    let _ = write!(out, "\n{}", wrapped(&format!("{}: ", first.about.name), first.about.text));
    out.push_str(&wrapped("  ", &measured(first)));
    let calibration = outcome.calibration_of(first.about);
    if let Some(calibration) = calibration {
        out.push_str(&wrapped("  ", &tail::calibrated(calibration)));
        if let Some(wrong) = calibration.wrong() {
            out.push_str(&wrapped("  WRONG  ", &wrong));
        }
        out.push('\n');
        out.push_str(&columns(&tail::columns(&tail::measured(outcome, calibration), calibration)));
    }
    out.push('\n');
    out.push_str(&columns(&facts(runs)));
    out.push('\n');
    out.push_str(&columns(&distributions(runs)));
    for run in runs {
        for note in notes(run) {
            let mark = if note.wrong { "WRONG  " } else { "NOTE  " };
            out.push_str(&wrapped(&format!("  {mark}"), &format!("{}: {}", run.executor, note.text)));
        }
    }
}

/// How a scenario was measured.
pub fn measured(run: &Run) -> String {
    let rounds = match run.rounds.len() {
        1 => String::new(),
        rounds => format!(" in {rounds} rounds, in turns"),
    };
    format!("{}; {} measured per executor{rounds}", load(run.load), seconds(run.window()))
}

/// What an executor does not tell, or is not asked.
const NONE: &str = "-";

/// One line per fact, one column per executor.
pub fn facts(runs: &[Run]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    // A row in which no executor has anything to say is left out.
    let mut row = |title: &str, of: &dyn Fn(&Run) -> Option<String>| {
        let cells: Vec<Option<String>> = runs.iter().map(of).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| NONE.to_owned()));
            rows.push(std::iter::once(title.to_owned()).chain(cells).collect());
        }
    };
    let unit = runs[0].about.unit;
    row("", &|run| Some(run.executor.to_owned()));
    row(&format!("{unit} per second"), &|run| Some(count(run.throughput())));
    let ours = runs[0].executor;
    row(&format!("{ours} over this one"), &|run| Some(format!("{:.2}", ratio(&runs[0], run)?.median)));
    row("… least to most", &|run| {
        let spread = ratio(&runs[0], run).filter(|_| run.rounds.len() > 1);
        spread.map(|Spread { min, max, .. }| format!("{min:.2} to {max:.2}"))
    });
    if unit != "requests" && runs[0].measured().get(Tally::Units) != runs[0].measured().get(Tally::Finished) {
        row("requests per second", &|run| Some(count(run.per_second(Tally::Finished))));
    }
    if runs.iter().any(|run| run.all().get(Tally::TimedOut) > 0) {
        row("timeouts per second", &|run| Some(count(run.per_second(Tally::TimedOut).round())));
    }
    row("variables", &|run| Some(run.carrier.text().to_owned()));
    let checked = |run: &Run| !matches!(run.carrier, Carrier::Nothing);
    row("… checked", &|run| checked(run).then(|| count(run.all().get(Tally::Checks) as f64)));
    row("… with a wrong value", &|run| checked(run).then(|| whole(run.violations())));
    row("processors busy", &|run| run.processors().map(|busy| format!("{busy:.2}")));
    row("… by other programs", &|run| run.others().map(|busy| format!("{busy:.2}")));
    row("least busy worker", &|run| share(run.busy().into_iter().reduce(f64::min)?));
    row("busiest worker", &|run| share(run.busy().into_iter().reduce(f64::max)?));
    let per_second =
        |run: &Run, total: Option<u64>| Some(count((total? as f64 / run.window().as_secs_f64()).round()));
    row("steals per second", &|run| per_second(run, run.counted(|seen| seen.steals)));
    row("parks per second", &|run| per_second(run, run.counted(|seen| seen.parks)));
    row("tasks queued, mean", &|run| run.queue_depth().map(|(mean, _)| count(mean.round())));
    row("tasks queued, most", &|run| run.queue_depth().map(|(_, most)| count(most as f64)));
    row("watchdog alarms", &|run| Some(whole(run.alarms()?.count)));
    row("… the longest poll", &|run| {
        let alarms = run.alarms().filter(|alarms| alarms.count > 0)?;
        Some(time(alarms.longest.as_nanos() as f64))
    });
    let megabytes = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
    row("memory at the start", &|run| run.memory().map(|(start, _, _)| megabytes(start)));
    row("memory at its most", &|run| run.memory().map(|(_, most, _)| megabytes(most)));
    row("memory at the end", &|run| run.memory().map(|(_, _, end)| megabytes(end)));
    rows
}

fn share(of: f64) -> Option<String> {
    of.is_finite().then(|| format!("{:.0} %", of * 100.0))
}

/// The throughput of one over that of the other, within a round.
fn ratio(ours: &Run, theirs: &Run) -> Option<Spread> {
    if ours.executor == theirs.executor {
        return None;
    }
    let rates = |run: &Run| -> Vec<f64> {
        run.rounds
            .iter()
            .map(|round| round.measured.get(Tally::Units) as f64 / round.window.as_secs_f64())
            .collect()
    };
    Spread::of_ratios(&rates(ours), &rates(theirs))
}

/// Per metric a line for each executor, one column per quantile.
fn distributions(runs: &[Run]) -> Vec<Vec<String>> {
    let mut head = vec![String::new()];
    head.extend(QUANTILES.map(|(_, name)| name.to_owned()));
    head.push("values".to_owned());
    let mut rows = vec![head];
    for metric in Metric::ALL {
        let of_all: Vec<Vec<String>> = runs.iter().filter_map(|run| distribution(run, metric)).collect();
        if runs.len() > 1 && !of_all.is_empty() {
            rows.push(vec![metric.title().to_owned()]);
        }
        for mut row in of_all {
            row[0] = if runs.len() > 1 { format!("  {}", row[0]) } else { metric.title().to_owned() };
            rows.push(row);
        }
    }
    rows
}

/// The executor, its quantiles, and how many values there are.
pub fn distribution(run: &Run, metric: Metric) -> Option<Vec<String>> {
    let histogram = run.histograms.get(metric)?;
    let mut row = vec![run.executor.to_owned()];
    row.extend(QUANTILES.map(|(quantile, _)| time(histogram.value_at_quantile(quantile) as f64)));
    row.push(count(histogram.len() as f64));
    Some(row)
}

/// What needs saying about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The executor, or the scenario on it, did what it must not do.
    pub wrong: bool,
    /// In words.
    pub text: String,
}

/// What needs saying about a run.
pub fn notes(run: &Run) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |wrong, text| notes.push(Note { wrong, text });
    if let Load::Open { per_second, .. } = run.load {
        let reached = run.per_second(Tally::Started) / per_second;
        // The last few may just have come due.
        if reached < 0.98 {
            note(
                false,
                format!(
                    "could not keep up: {:.0} % of the rate was reached, {} requests that were due were never started",
                    100.0 * reached,
                    whole(run.behind())
                ),
            );
        }
    }
    match (run.unfinished(), run.stuck()) {
        (0, _) => {}
        (unfinished, 0) => note(
            false,
            format!(
                "{} requests had not ended when the time to do so was up: the true percentiles are higher",
                whole(unfinished)
            ),
        ),
        (unfinished, _) => note(true, format!("{} requests NEVER ENDED", whole(unfinished))),
    }
    let early = run.all().get(Tally::Early);
    if early > 0 {
        note(true, format!("{} timers fired EARLY", whole(early)));
    }
    for report in run.alarms().unwrap_or_default().first {
        note(false, report);
    }
    let told = run.rounds.iter().flat_map(|round| &round.violations).take(10);
    told.for_each(|violation| note(true, violation.clone()));
    notes
}

/// Whether every task saw its own variables (`None` if that was not asked), and that in words.
pub fn verdict(outcome: &Outcome) -> (Option<bool>, String) {
    let sum = |of: &dyn Fn(&Run) -> u64| outcome.runs.iter().map(of).sum::<u64>();
    let (checks, violations) = (sum(&|run| run.all().get(Tally::Checks)), sum(&Run::violations));
    match (checks, violations) {
        (0, _) => (None, "No variables were checked.".to_owned()),
        (_, 0) => (
            Some(true),
            format!("Every task saw its own variables: {} checks, 0 wrong values.", whole(checks)),
        ),
        _ => {
            let mut by: Vec<String> = Vec::new();
            for name in executors(outcome) {
                let own = outcome.runs.iter().filter(|run| run.executor == name).map(Run::violations);
                match own.sum::<u64>() {
                    0 => {}
                    wrong => by.push(format!("{name} {}", whole(wrong))),
                }
            }
            let (by, checks) = (by.join(", "), whole(checks));
            (Some(false), format!("WRONG VALUES of variables in {checks} checks: {by}."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::executor::EXECUTORS;
    use crate::load::options::Carry;
    use crate::load::record::Totals;
    use crate::load::tail::tests::shared;
    use crate::load::tests::{comparison, outcome, watched};

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
    fn columns_line_up_and_go_on_below_when_there_is_no_room_beside() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "123 µs".to_owned()]];
        assert_eq!(columns(&rows), "  a          1\n  long  123 µs\n");
        let wide = [vec!["a".to_owned(), "b".repeat(60), "c".repeat(60)]];
        assert_eq!(columns(&wide), format!("  a  {}\n\n  a  {}\n", "b".repeat(60), "c".repeat(60)));
    }

    #[test]
    fn lines_are_broken_between_words_and_indented() {
        let text = wrapped("  NOTE  ", &"word ".repeat(30));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0].chars().count()), (3, 77));
        assert!(lines[0].starts_with("  NOTE  word ") && lines[1].starts_with("        word "));
    }

    #[test]
    fn the_first_line_says_what_carries_the_variables() {
        let first = |carry| carried(&comparison(carry));
        assert_eq!(
            first(Carry::Ours),
            "8 variables per request, inherited on heirloom, carried by hand on tokio, smol, async-executor, checked \
             alike on all"
        );
        assert_eq!(
            first(Carry::Hand),
            "8 variables per request, carried by hand on heirloom, tokio, smol, async-executor, checked alike on all"
        );
        assert_eq!(first(Carry::None), "no variables, on no executor; nothing is checked");
        let text = report(&comparison(Carry::Ours));
        assert!(text.starts_with("Load test: 8 variables per request, inherited on heirloom, "), "{text}");
        let alone = report(&outcome(100, 1000));
        assert!(
            alone.starts_with(
                "Load test: 8 variables per request, carried by hand on heirloom, and checked\n"
            )
        );
    }

    #[test]
    fn a_report_on_all_executors_fits_into_eighty_columns() {
        assert_eq!(comparison(Carry::Ours).runs.len(), EXECUTORS.len());
        for carry in [Carry::None, Carry::Hand, Carry::Ours] {
            let report = report(&comparison(carry));
            for line in report.lines() {
                assert!(line.chars().count() <= COLUMNS, "{line}");
            }
            assert!(!report.contains("NaN") && !report.contains("inf "), "{report}");
        }
    }

    #[test]
    fn memory_is_told_in_words_and_other_programs_once() {
        let mut outcome = comparison(Carry::Ours);
        for run in &mut outcome.runs {
            run.rounds[0].processor_time = Some(Duration::from_secs(1));
            run.rounds[0].others_time = Some(Duration::from_millis(1300));
        }
        outcome.machine.processors = 2;
        let report = report(&outcome);
        assert_eq!(
            report.matches("other programs kept up to 1.3 of 2 processors busy").count(),
            1,
            "{report}"
        );
        assert!(report.contains("  memory at its most ") && report.contains("42 MB"), "{report}");
        assert!(outcome.runs.iter().all(|run| notes(run).is_empty()));
    }

    #[test]
    fn an_inspected_run_says_what_it_found_and_that_it_costs() {
        let limit = Some(Duration::from_millis(100));
        let text = report(&watched(Inspection { times: true, limit }));
        for part in [
            " --inspect --watchdog 100ms\n",
            "  NOTE      heirloom ran inspected, which costs: ",
            "\n  watchdog alarms ",
            "\n  … the longest poll ",
            "  NOTE  heirloom: a poll of <task 7>\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let quantiles = text.lines().find(|line| line.starts_with("  schedule latency ")).unwrap();
        assert_eq!(quantiles.matches("2.00 µs").count(), QUANTILES.len(), "{quantiles}");
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");

        let text = report(&outcome(100, 1000));
        for part in ["inspect", "watchdog", "schedule latency"] {
            assert!(!text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn tails_at_a_share_of_a_rate_stand_side_by_side_within_eighty_columns() {
        let mut outcome = shared();
        let text = report(&outcome);
        for part in [
            "  60 % of the most that tokio keeps up with, 750 requests/s; a closed loop of",
            "  … goal              <= 1.00 reached     <= 0.70 reached     <= 0.80 reached\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= COLUMNS) && !text.contains("WRONG"),
            "{text}"
        );
        outcome.calibrations[0].steps[0].round.all.add(&Totals::of(&[(Tally::Violations, 3)]));
        assert!(report(&outcome).contains("  WRONG  tokio, while the rate was found: 3 wrong values"));
    }

    #[test]
    fn wrong_values_of_peers_count_too() {
        let mut outcome = comparison(Carry::Ours);
        let (right, text) = verdict(&outcome);
        assert_eq!(
            (right, text.as_str()),
            (Some(true), "Every task saw its own variables: 400 checks, 0 wrong values.")
        );
        outcome.runs[1].rounds[0].all.add(&Totals::of(&[(Tally::Violations, 3)]));
        outcome.runs[1].rounds[0].violations.push("request 7, here: what was wrong".to_owned());
        let report = report(&outcome);
        assert!(report.contains("  WRONG  tokio: request 7, here: what was wrong\n"), "{report}");
        assert!(report.ends_with("\nWRONG VALUES of variables in 400 checks: tokio 3.\n"), "{report}");
        assert_eq!(verdict(&comparison(Carry::None)), (None, "No variables were checked.".to_owned()));
    }
}
