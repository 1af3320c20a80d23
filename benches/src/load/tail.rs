//! Tails side by side: the p50, p99 and p99.9 from end to end of executors that are given the same
//! rate, a share of the most that one of them sustains; as ratios to those of that executor, round
//! by round.
//!
//! Rows, tables and goals are those of the program [`executors`](crate::executor): a row per
//! scenario, a part per quantile.

use serde_json::{Value, json};

use super::calibrate::{Calibration, Step};
use super::drive::Load;
use super::options::{KEPT, RateOf};
use super::outcome::Outcome;
use super::record::{Histograms, Metric};
use super::scenario::Kind;
use super::text;
use crate::executor::measure::{Figures, Measured};
use crate::executor::print;
use crate::executor::row::{Compared, Part, Reach, Row};
use crate::report::table;
use crate::stats::Spread;

/// The quantiles, what they are called, and what share of tokio's is to be reached.
const QUANTILES: [(f64, &str, f64); 3] = [(0.5, "p50", 1.0), (0.99, "p99", 0.7), (0.999, "p99.9", 0.8)];

/// The quantiles of one round, in nanoseconds; not numbers if no request ended.
pub fn of_round(histograms: &Histograms) -> Vec<f64> {
    let of = |quantile| {
        let histogram = histograms.get(Metric::EndToEnd);
        histogram.map_or(f64::NAN, |histogram| histogram.value_at_quantile(quantile) as f64)
    };
    QUANTILES.iter().map(|&(quantile, ..)| of(quantile)).collect()
}

/// The row of a scenario. It has goals if it is what they are about.
fn row(calibration: &Calibration) -> Row {
    let Calibration { about, executor, share, .. } = *calibration;
    let served = Kind::SERVED.map(|kind| kind.about().name).contains(&about.name);
    let judged = RateOf { executor, share } == KEPT && served;
    let part = |(_, name, reach)| Part {
        name,
        unit: "ns",
        compared: Compared::To(executor),
        reach: judged.then_some(Reach::AtMost(reach)),
    };
    // A row lives as long as the program; there is one per scenario.
    let parts = Box::leak(Box::new(QUANTILES.map(part)));
    Row { name: about.name, question: about.text, parts, samples: 1 }
}

/// One scenario's figures.
pub fn measured(outcome: &Outcome, calibration: &Calibration) -> Measured {
    let runs = outcome.runs.iter().filter(|run| run.about.name == calibration.about.name);
    let contenders = runs.map(|run| Figures { name: run.executor, rounds: run.tails.clone() }).collect();
    Measured { row: row(calibration), contenders }
}

fn all(outcome: &Outcome) -> Vec<Measured> {
    outcome.calibrations.iter().map(|calibration| measured(outcome, calibration)).collect()
}

/// The executor that is judged.
fn ours(outcome: &Outcome) -> &'static str {
    outcome.runs.first().map_or("", |run| run.executor)
}

/// A column per quantile; per executor its median over the rounds and the spread, and the same of
/// the ratio; the goals below the first one.
pub fn columns(measured: &Measured, calibration: &Calibration) -> Vec<Vec<String>> {
    let line = |title: String, cell: &dyn Fn(usize, &Part) -> Option<String>| -> Vec<String> {
        let cells = measured.parts().map(|(at, part)| cell(at, part).unwrap_or_else(|| "-".to_owned()));
        std::iter::once(title).chain(cells).collect()
    };
    let range = |Spread { min, max, .. }: Spread, show: &dyn Fn(f64) -> String| {
        format!("{} to {}", show(min), show(max))
    };
    let ratio = |value: f64| format!("{value:.2}");
    let mut rows = vec![line(String::new(), &|_, part| Some(part.name.to_owned()))];
    for (position, &Figures { name, .. }) in measured.contenders.iter().enumerate() {
        let own = |at| measured.spread(name, at);
        rows.push(line(name.to_owned(), &|at, _| Some(text::time(own(at)?.median))));
        rows.push(line("… least to most".to_owned(), &|at, _| Some(range(own(at)?, &text::time))));
        if name == calibration.executor {
            continue;
        }
        let judged = |at| measured.judged(name, at);
        let title = format!("… over {}", calibration.executor);
        rows.push(line(title, &|at, _| Some(ratio(judged(at)?.median))));
        rows.push(line("… least to most".to_owned(), &|at, _| Some(range(judged(at)?, &ratio))));
        if position == 0 && measured.parts().any(|(_, part)| part.reach.is_some()) {
            rows.push(line("… goal".to_owned(), &|at, part| {
                Some(format!("{} {}", print::goal(part.reach?), print::verdict(part.reach?, judged(at))))
            }));
        }
    }
    rows
}

/// How the rate was found, in words.
pub fn calibrated(calibration: &Calibration) -> String {
    let closed = calibration.best_closed().map_or(String::new(), |step| {
        let Load::Closed { clients } = step.load else { return String::new() };
        let (clients, ended) = (text::whole(clients as u64), text::count(step.per_second()));
        format!("; a closed loop of {clients} clients ends {ended}")
    });
    format!(
        "{} % of the most that {} keeps up with, {} requests/s{closed}",
        (1000.0 * calibration.share).round() / 10.0,
        calibration.executor,
        text::count(calibration.sustained),
    )
}

/// How many goals were missed.
pub fn missed(outcome: &Outcome) -> usize {
    print::summary(&all(outcome), ours(outcome), &[]).1
}

/// The tables that are kept for a reader, as Markdown.
pub fn summary(outcome: &Outcome) -> String {
    let mut out = String::new();
    for calibration in &outcome.calibrations {
        let rows = columns(&measured(outcome, calibration), calibration);
        let rate = text::count(calibration.rate());
        let how = calibrated(calibration);
        out.push_str(&format!("`{}`, {rate} requests/s: {how}\n\n", calibration.about.name));
        out.push_str(&table(&rows[0], &rows[1..]));
        out.push('\n');
    }
    out.push_str(&print::summary(&all(outcome), ours(outcome), &[]).0);
    out
}

/// The figures of all rounds, how the rates were found, and what disturbed; `null` if no rate was a
/// share of anything.
pub fn json(outcome: &Outcome) -> Value {
    let Some(RateOf { executor, share }) = outcome.settings.rate_of else { return Value::Null };
    let mut rows = print::rows(&all(outcome), ours(outcome));
    for (row, calibration) in rows.iter_mut().zip(&outcome.calibrations) {
        let step = |step: &Step| json!({ "load": super::json::load(step.load), "ended": step.per_second() });
        row["sustained"] = json!(calibration.sustained);
        row["rate"] = json!(calibration.rate());
        row["steps"] = calibration.steps.iter().map(step).collect();
    }
    let others = outcome.runs.iter().filter_map(super::outcome::Run::others);
    json!({
        "ours": ours(outcome),
        "rate_of": executor,
        "share": share,
        "settings": super::json::settings(outcome),
        "processors_busy_by_others": others.reduce(f64::max),
        "rows": rows,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::load::options::Carry;
    use crate::load::tests::comparison;

    /// Two rounds of `service` on all executors at 60 % of tokio's 750 requests a second. The
    /// tails of the first executor are 1, 2 and 3 ms, and 2, 4 and 6 ms; those of the others are
    /// twice as long, three times, and so on.
    pub(in crate::load) fn shared() -> Outcome {
        let mut outcome = comparison(Carry::Ours);
        outcome.settings.rate_of = Some(KEPT);
        let about = Kind::Service.about();
        let round = outcome.runs[0].rounds[0].clone();
        let steps = vec![Step { load: Load::Closed { clients: 256 }, round }];
        let RateOf { executor, share } = KEPT;
        outcome.calibrations.push(Calibration { about, executor, share, sustained: 750.0, steps });
        for (at, run) in outcome.runs.iter_mut().enumerate() {
            run.about = about;
            let tail = |factor: f64| [1.0, 2.0, 3.0].map(|ms| ms * 1e6 * factor * (at + 1) as f64).to_vec();
            run.tails = vec![tail(1.0), tail(2.0)];
        }
        outcome
    }

    #[test]
    fn the_rate_is_the_share_of_what_is_sustained() {
        let calibration = &shared().calibrations[0];
        assert!((calibration.rate() - 450.0).abs() < 1e-9);
        assert_eq!(
            calibrated(calibration),
            "60 % of the most that tokio keeps up with, 750 requests/s; a closed loop of 256 clients ends 1.00 k"
        );
    }

    #[test]
    fn the_quantiles_of_a_round_are_those_of_its_requests() {
        let mut histograms = Histograms::default();
        assert!(of_round(&histograms).iter().all(|quantile| quantile.is_nan()));
        (1..=1000).for_each(|ns| histograms.record(Metric::EndToEnd, ns));
        assert_eq!(of_round(&histograms), [500.0, 990.0, 999.0]);
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_goals_are_about_the_first_executor() {
        let outcome = shared();
        let calibration = &outcome.calibrations[0];
        let rows = columns(&measured(&outcome, calibration), calibration);
        let of = |title: &str| rows.iter().filter(|row| row[0] == title).cloned().collect::<Vec<_>>();
        assert_eq!(of("heirloom")[0][1..], ["1.50 ms", "3.00 ms", "4.50 ms"]);
        // Both rounds have the ratio 1 to 2, though the second takes twice as long.
        assert_eq!(of("… over tokio")[0][1..], ["0.50"; 3]);
        assert_eq!(of("… least to most")[0][1], "1.00 ms to 2.00 ms");
        assert_eq!(of("… least to most")[1][1..], ["0.50 to 0.50"; 3]);
        let goals = [["… goal", "<= 1.00 reached", "<= 0.70 reached", "<= 0.80 reached"]];
        assert_eq!(of("… goal"), goals);
        assert_eq!((of("… over tokio").len(), missed(&outcome)), (3, 0));
    }

    #[test]
    fn a_goal_that_is_missed_is_counted_and_another_share_has_none() {
        let mut outcome = shared();
        outcome.runs[0].tails = vec![vec![2.1e6, 2.7e6, 4.7e6]; 2];
        // Over tokio's 2, 4 and 6 ms, and 4, 8 and 12 ms: medians of 0.79, 0.51 and 0.59.
        assert_eq!(missed(&outcome), 0);
        outcome.runs[0].tails = vec![vec![2.1e6, 3.7e6, 6.7e6], vec![4.2e6, 5.9e6, 8.0e6]];
        // 1.05; 0.93 and 0.74; 1.12 and 0.67.
        assert_eq!(missed(&outcome), 3);
        outcome.calibrations[0].share = 0.5;
        assert_eq!(missed(&outcome), 0);
    }

    #[test]
    fn what_is_kept_has_every_round_and_the_steps() {
        let outcome = shared();
        let kept = json(&outcome);
        let row = &kept["rows"][0];
        assert_eq!((&row["row"], &row["sustained"]), (&json!("service"), &json!(750.0)));
        assert_eq!(row["steps"], json!([{ "load": { "loop": "closed", "clients": 256 }, "ended": 1000.0 }]));
        assert_eq!(row["parts"][1]["contenders"][1]["rounds"], json!([4e6, 8e6]));
        let text = summary(&outcome);
        assert!(text.contains("| … over tokio ") && text.contains("| service p99.9 "), "{text}");
        assert_eq!(json(&comparison(Carry::Ours)), Value::Null);
    }
}
