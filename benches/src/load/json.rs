//! The report in JSON, which is also what `--baseline` reads.

use serde_json::{Value, json};

use super::drive::Load;
use super::executor::Alarms;
use super::machine::version_of;
use super::outcome::{Outcome, Run};
use super::record::{Metric, Tally};
use super::tail;
use super::text::{self, QUANTILES};

/// The version of the schema. It changes when a reader of the last one would misread this one.
pub const SCHEMA: u64 = 3;

/// Most points of a timeline: more say no more.
const TICKS: usize = 600;

/// Everything.
pub fn report(outcome: &Outcome) -> Value {
    let machine = &outcome.machine;
    let price = &outcome.price;
    let mut names: Vec<&str> = outcome.runs.iter().map(|run| run.executor).collect();
    names.sort_unstable();
    names.dedup();
    let versions: serde_json::Map<String, Value> =
        names.into_iter().map(|name| (name.to_owned(), json!(version_of(name)))).collect();
    json!({
        // The first in a map that is sorted, too.
        "carried": text::carried(outcome),
        "schema": SCHEMA,
        "program": "heirloom load",
        "versions": versions,
        "machine": machine.json(),
        "settings": settings(outcome),
        "interrupted": outcome.interrupted,
        "context_ns": {
            "variables": price.variables,
            "fork": price.fork,
            "read": price.read,
            "set": price.set,
            "arc_clone_and_drop": price.arc,
        },
        "tail": tail::json(outcome),
        "runs": outcome.runs.iter().map(run).collect::<Vec<_>>(),
    })
}

/// How it was measured.
pub fn settings(outcome: &Outcome) -> Value {
    let settings = &outcome.settings;
    json!({
        "workers": settings.workers,
        "carry": settings.carry.name(),
        "variables": settings.variables,
        "sample": settings.sample,
        "seed": settings.seed,
        "inspect": settings.inspection.times,
        "watchdog_seconds": settings.inspection.limit.map(|limit| limit.as_secs_f64()),
        "smoke": settings.smoke,
    })
}

/// How requests were started.
pub fn load(load: Load) -> Value {
    match load {
        Load::Closed { clients } => json!({ "loop": "closed", "clients": clients }),
        Load::Open { per_second, most_in_flight } => {
            json!({ "loop": "open", "rate": per_second, "most_in_flight": most_in_flight })
        }
    }
}

fn run(run: &Run) -> Value {
    let (measured, all) = (run.measured(), run.all());
    let distributions: serde_json::Map<String, Value> = Metric::ALL
        .into_iter()
        .filter_map(|metric| Some((metric.key().to_owned(), distribution(run, metric)?)))
        .collect();
    let queue = run.queue_depth().map(|(mean, most)| json!({ "mean": mean, "most": most }));
    let memory = run.memory().map(|(start, peak, end)| json!({ "start": start, "peak": peak, "end": end }));
    let rates =
        run.rounds.iter().map(|round| round.measured.get(Tally::Units) as f64 / round.window.as_secs_f64());
    let alarms = run.alarms().map(|Alarms { count, longest, first }| {
        json!({ "count": count, "longest_seconds": longest.as_secs_f64(), "first_reports": first })
    });
    json!({
        "scenario": run.about.name,
        "executor": run.executor,
        "load": load(run.load),
        "unit": run.about.unit,
        "measured_seconds": run.window().as_secs_f64(),
        "throughput": run.throughput(),
        "throughput_by_round": rates.collect::<Vec<f64>>(),
        "requests": measured.get(Tally::Finished),
        "unfinished": run.unfinished(),
        "behind": run.behind(),
        "timed_out": measured.get(Tally::TimedOut),
        "early_timers": all.get(Tally::Early),
        "latency_ns": distributions,
        "processors_busy": run.processors(),
        "processors_busy_by_others": run.others(),
        "workers_busy": run.busy(),
        "steals": run.counted(|seen| seen.steals),
        "parks": run.counted(|seen| seen.parks),
        "queue_depth": queue,
        "watchdog_alarms": alarms,
        "memory_bytes": memory,
        "context": {
            "carried": run.carrier.text(),
            "checks": all.get(Tally::Checks),
            "violations": run.violations(),
            "first_violations": run.rounds.iter().flat_map(|round| &round.violations).collect::<Vec<_>>(),
        },
        "timeline": timeline(run),
    })
}

/// Quantiles by name, and the curve between them.
fn distribution(run: &Run, metric: Metric) -> Option<Value> {
    let histogram = run.histograms.get(metric)?;
    let mut value = serde_json::Map::new();
    value.insert("count".to_owned(), json!(histogram.len()));
    value.insert("mean".to_owned(), json!(histogram.mean()));
    for (quantile, name) in QUANTILES {
        value.insert(name.to_owned(), json!(histogram.value_at_quantile(quantile)));
    }
    let curve = histogram.iter_quantiles(4).map(|step| {
        json!([step.quantile_iterated_to(), histogram.value_at_quantile(step.quantile_iterated_to())])
    });
    value.insert("curve".to_owned(), curve.collect());
    Some(Value::Object(value))
}

fn timeline(run: &Run) -> Value {
    let ticks = run.timed_ticks();
    let step = ticks.len().div_ceil(TICKS).max(1);
    let tick = |(at, tick): &(f64, &super::outcome::Tick)| {
        json!({
            "at": at,
            "throughput": tick.units_per_second,
            "in_flight": tick.in_flight,
            "memory_bytes": tick.memory,
            "queued": tick.queued,
            "busy": tick.busy,
        })
    };
    ticks.iter().step_by(step).map(tick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::executor::Inspection;
    use crate::load::tests::{outcome, watched};
    use std::time::Duration;

    #[test]
    fn what_inspection_found_is_there_and_without_it_is_null() {
        let limit = Some(Duration::from_millis(100));
        let report = report(&watched(Inspection { times: true, limit }));
        assert_eq!(report["settings"]["inspect"], true);
        assert_eq!(report["settings"]["watchdog_seconds"], 0.1);
        let run = &report["runs"][0];
        assert_eq!(run["latency_ns"]["schedule_latency"]["count"], 100);
        assert_eq!(run["latency_ns"]["schedule_latency"]["p50"], 2000);
        let alarms = json!({ "count": 1, "longest_seconds": 0.25, "first_reports": ["a poll of <task 7>"] });
        assert_eq!(run["watchdog_alarms"], alarms);

        let report = super::report(&outcome(100, 1000));
        assert_eq!(report["settings"]["inspect"], false);
        assert!(report["settings"]["watchdog_seconds"].is_null());
        let run = &report["runs"][0];
        assert!(run["watchdog_alarms"].is_null() && run["latency_ns"]["schedule_latency"].is_null());
    }
}
