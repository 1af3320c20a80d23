//! Did it get worse since an earlier run?
//!
//! Like is compared with like: the same scenario, executor, load, number of workers and of
//! variables, carried the same way, and the same share of timed tasks. Compared are throughput, the
//! median and the 99th percentile of end-to-end. Further out in the tail, two runs of the same
//! program differ by more than any useful threshold.

use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::drive::Load;
use super::json::{SCHEMA, load};
use super::options::{Options, Settings};
use super::outcome::{Outcome, Run};
use super::record::Metric;
use super::text;

/// An earlier run.
#[derive(Clone, Debug)]
pub struct Baseline {
    report: Value,
}

/// One number, then and now.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What it is: `service on heirloom: p99 of end to end`.
    pub name: String,
    /// In the baseline, as text with a unit.
    pub then: String,
    /// In this run.
    pub now: String,
    /// By how many percent it is worse; negative is better.
    pub worse_by: f64,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { name, then, now, worse_by } = self;
        let (by, word) = (worse_by.abs(), if *worse_by > 0.0 { "worse" } else { "better" });
        write!(f, "{name}: {then} then, {now} now, {by:.1} % {word}")
    }
}

impl Baseline {
    /// Reads a file that `--json` wrote.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn read(path: &Path) -> Result<Baseline, String> {
        let name = path.display();
        let text =
            fs::read_to_string(path).map_err(|error| format!("cannot read the baseline {name}: {error}"))?;
        Baseline::parse(&text).map_err(|problem| format!("the baseline {name} {problem}"))
    }

    fn parse(text: &str) -> Result<Baseline, String> {
        let report: Value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
        match report["schema"].as_u64() {
            Some(SCHEMA) => {}
            Some(other) => {
                return Err(format!(
                    "has schema version {other}, and this program reads version {SCHEMA}: make it anew with --json"
                ));
            }
            None => return Err("was not written by the load test: it has no schema version".to_owned()),
        }
        if !report["runs"].is_array() {
            return Err("holds no runs".to_owned());
        }
        Ok(Baseline { report })
    }

    /// Whether what is about to be run can be compared with it.
    ///
    /// # Errors
    /// A sentence that says what differs.
    pub fn fits(&self, options: &Options) -> Result<(), String> {
        let Settings { workers, carry, variables, sample, smoke, inspection, .. } = options.settings;
        match self.report["settings"]["carry"].as_str() {
            Some(then) if then == carry.name() => {}
            then => {
                let (then, now) = (then.unwrap_or("?"), carry.name());
                return Err(format!("it was measured with --carry {then}, and this is --carry {now}"));
            }
        }
        let same = [("workers", workers as u64), ("variables", variables as u64), ("sample", sample)];
        for (name, now) in same {
            match self.report["settings"][name].as_u64() {
                Some(then) if then != now => {
                    return Err(format!("it was measured with --{name} {then}, and this is --{name} {now}"));
                }
                Some(_) => {}
                None => return Err(format!("it does not say with which --{name} it was measured")),
            }
        }
        if self.report["settings"]["smoke"].as_bool() != Some(smoke) {
            return Err("one of the two is a smoke run".to_owned());
        }
        if self.report["settings"]["inspect"].as_bool() != Some(inspection.times) {
            return Err("one of the two is without --inspect".to_owned());
        }
        let limit = inspection.limit.map(|limit| limit.as_secs_f64());
        if self.report["settings"]["watchdog_seconds"].as_f64() != limit {
            return Err("one of the two is without --watchdog, or the limits differ".to_owned());
        }
        let found = options.scenarios.iter().any(|kind| {
            let about = kind.about();
            let load = options.settings.load_of(about);
            options.executors.iter().any(|executor| self.find(about.name, executor.label, load).is_some())
        });
        if found {
            return Ok(());
        }
        let there: Vec<String> = self.runs().map(describe).collect();
        Err(format!("it holds none of what is to be run, but {}", there.join("; ")))
    }

    /// What on this machine is not as it was.
    pub fn differences(&self, outcome: &Outcome) -> Vec<String> {
        let then = &self.report["machine"];
        let machine = &outcome.machine;
        let now = [
            ("processor", machine.processor.as_str()),
            ("system", machine.system.as_str()),
            ("rustc", machine.rustc),
        ];
        let mut different: Vec<String> = Vec::new();
        for (name, now) in now {
            match then[name].as_str() {
                Some(then) if then != now => different.push(format!("{name} was {then}, and is {now}")),
                _ => {}
            }
        }
        if then["processors"].as_u64().is_some_and(|then| then != machine.processors as u64) {
            different.push(format!(
                "there were {} processors, and are {}",
                then["processors"], machine.processors
            ));
        }
        different
    }

    /// All numbers that are in both, and the runs that are not.
    pub fn compare(&self, runs: &[Run]) -> (Vec<Change>, Vec<String>) {
        let mut changes = Vec::new();
        let mut alone = Vec::new();
        for run in runs {
            let label = format!("{} on {}", run.about.name, run.executor);
            let Some(then) = self.find(run.about.name, run.executor, run.load) else {
                alone.push(label);
                continue;
            };
            if let Some(then) = then["throughput"].as_f64() {
                changes.push(throughput(&label, run, then));
            }
            for (quantile, name) in [(0.5, "p50"), (0.99, "p99")] {
                let then = then["latency_ns"][Metric::EndToEnd.key()][name].as_f64();
                let now = run.quantile(Metric::EndToEnd, quantile);
                if let (Some(then), Some(now)) = (then, now) {
                    changes.push(Change {
                        name: format!("{label}: {name} of {}", Metric::EndToEnd.title()),
                        then: text::time(then),
                        now: text::time(now as f64),
                        worse_by: percent_more(then, now as f64),
                    });
                }
            }
        }
        (changes, alone)
    }

    fn runs(&self) -> impl Iterator<Item = &Value> {
        self.report["runs"].as_array().into_iter().flatten()
    }

    fn find(&self, scenario: &str, executor: &str, asked: Load) -> Option<&Value> {
        let asked = load(asked);
        self.runs()
            .find(|run| run["scenario"] == scenario && run["executor"] == executor && run["load"] == asked)
    }
}

fn describe(run: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let load = &run["load"];
    let how = match load["rate"].as_f64() {
        Some(rate) => format!("--rate {rate}"),
        None => format!("--concurrency {}", load["clients"]),
    };
    format!("{} on {} with {how}", text(&run["scenario"]), text(&run["executor"]))
}

fn throughput(label: &str, run: &Run, then: f64) -> Change {
    let (now, unit) = (run.throughput(), run.about.unit);
    Change {
        name: format!("{label}: throughput"),
        then: format!("{} {unit}/s", text::count(then)),
        now: format!("{} {unit}/s", text::count(now)),
        // By how much more time the same work takes, so that half as fast is 100 % worse, as twice
        // as late is.
        worse_by: percent_more(now, then),
    }
}

/// By how many percent `now` is more than `then`.
fn percent_more(then: f64, now: f64) -> f64 {
    if then == now {
        return 0.0;
    }
    100.0 * (now / then - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::options::tests::parse;
    use crate::load::tests::outcome;

    fn baseline_of(outcome: &Outcome) -> Baseline {
        Baseline::parse(&super::super::json::report(outcome).to_string()).unwrap()
    }

    #[test]
    fn a_run_is_no_worse_than_itself() {
        let outcome = outcome(100, 1000);
        let (changes, alone) = baseline_of(&outcome).compare(&outcome.runs);
        assert_eq!((changes.len(), alone.len()), (3, 0));
        assert!(changes.iter().all(|change| change.worse_by == 0.0), "{changes:?}");
        assert!(baseline_of(&outcome).differences(&outcome).is_empty());
    }

    #[test]
    fn half_the_throughput_and_twice_the_latency_are_each_a_hundred_percent_worse() {
        let (then, now) = (outcome(100, 1000), outcome(50, 2000));
        let (changes, _) = baseline_of(&then).compare(&now.runs);
        assert!(changes.iter().all(|change| (change.worse_by - 100.0).abs() < 0.2), "{changes:?}");
        assert!(changes[0].to_string().contains("spawn on heirloom: throughput"), "{}", changes[0]);
        let (changes, _) = baseline_of(&now).compare(&then.runs);
        assert!(changes.iter().all(|change| change.worse_by < -49.0), "{changes:?}");
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_refused_with_a_reason() {
        let problem = |text: &str| Baseline::parse(text).unwrap_err();
        assert!(problem("{").contains("no JSON"));
        assert!(problem("{}").contains("no schema version"));
        assert!(problem("[1]").contains("no schema version"));
        assert!(problem(r#"{"schema": 1, "runs": []}"#).contains("schema version 1"));
        assert!(problem(r#"{"schema": 3}"#).contains("no runs"));
    }

    #[test]
    fn only_like_is_compared_with_like() {
        let baseline = baseline_of(&outcome(100, 1000));
        let problem = |args: &[&str]| {
            let mut all = vec!["--variables", "8", "--workers", "2", "--sample", "16", "--concurrency", "4"];
            all.extend(args);
            baseline.fits(&parse(&all).unwrap())
        };
        assert_eq!(problem(&["spawn"]), Ok(()));
        assert_eq!(problem(&["spawn", "timers"]), Ok(()));
        for option in [&["--inspect"][..], &["--watchdog", "100ms"]] {
            let why = problem(&[&["spawn"], option].concat()).unwrap_err();
            assert!(why.contains(option[0]), "{why}");
        }
        assert!(problem(&["timers"]).unwrap_err().contains("spawn on heirloom with --concurrency 4"));
        assert!(problem(&["spawn", "--rate", "10"]).is_err());
        let variables = parse(&["spawn", "--workers", "2", "--variables", "9"]).unwrap();
        assert!(baseline.fits(&variables).unwrap_err().contains("--variables 8"));
        assert!(problem(&["spawn", "--carry", "hand"]).unwrap_err().contains("--carry ours"));
    }
}
