//! The load test: what the executor does on a machine under load, beside others, and whether every
//! task sees its own context.
//!
//! ```text
//!   options ──► mod (turns of executors) ──► drive (one round) ──► scenario ──► executor
//!                     │                        │     │
//!                     │            schedule ───┘     ├── probe, check ──► record (per thread)
//!                     │                              └── machine
//!                     └──► outcome ──► text, json, html, baseline
//! ```
//!
//! Where the rate of an open loop is a share of what an executor sustains, [`mod@calibrate`] finds
//! it before the rounds, and [`tail`] lays the latencies of the executors side by side. [`client`]
//! makes the requests of the scenario `http`.
//!
//! What measuring costs. A request reads the clock twice and adds to one histogram: some 70 ns. A
//! task that is not timed pays a branch a poll, and 8 bytes. One that is (`--sample`, one in 16)
//! pays an allocation or two, two clock reads a poll, and a waker of ours around the executor's:
//! some 150 ns a poll. A check reads one variable; one in four points has one. All executors are
//! measured by the same code, and all carry and check the same number of variables: `--carry` says
//! by inheritance or by hand, see [`check`].

pub mod baseline;
pub mod calibrate;
pub mod check;
pub mod client;
pub mod drive;
pub mod executor;
pub mod html;
pub mod interrupt;
pub mod json;
pub mod machine;
pub mod options;
pub mod outcome;
pub mod price;
pub mod probe;
pub mod progress;
pub mod record;
pub mod scenario;
pub mod schedule;
pub mod svg;
pub mod tail;
pub mod text;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::peers::{self, Smol};
use crate::results;
use baseline::Baseline;
use calibrate::{Calibration, Step};
use check::Rules;
use drive::{Load, Plan};
use executor::{Entry, Loadable as _};
use interrupt::Interrupt;
use machine::Machine;
use options::{Options, RateOf};
use outcome::{Outcome, Run};
use price::Price;
use progress::Progress;
use scenario::Kind;

/// The program, with these executors of which the first always runs, and these arguments, of which
/// the first is the program's name.
pub fn main(executors: &[Entry], arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = Options::parse(executors, arguments);
    match prepared(&options) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

/// Everything that can be refused is refused before anything runs.
fn prepared(options: &Options) -> Result<ExitCode, String> {
    if options.list {
        let mut out = String::new();
        for about in Kind::ALL.map(Kind::about) {
            out.push_str(&format!("{:<10} {}\n", about.name, about.text));
        }
        return Ok(print(&out));
    }
    // Read first: the same file may be written at the end.
    let baseline = options.baseline.as_deref().map(Baseline::read).transpose()?;
    if let Some(baseline) = &baseline {
        baseline.fits(options).map_err(|why| format!("the baseline cannot be compared with: {why}"))?;
    }
    if options.executors.iter().any(|executor| executor.label == Smol::LABEL) {
        // Its global executor reads the number of threads from the environment: this program may
        // start anew here.
        let workers = options.settings.workers;
        peers::smol::want_threads(workers).map_err(|error| format!("cannot start anew for smol: {error}"))?;
    }
    let json = options.json.as_deref().map(writable).transpose()?;
    let html = options.html.as_deref().map(writable).transpose()?;
    let interrupt = Interrupt::listen().map_err(|error| format!("cannot listen for Ctrl-C: {error}"))?;
    let outcome = run(options, &interrupt).map_err(|error| format!("cannot start an executor: {error}"))?;
    Ok(closing(options, &interrupt, &outcome, baseline.as_ref(), json, html))
}

/// Opens a file to be written at the end. What is in it stays until then.
fn writable(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    file.map_err(|error| format!("cannot write to {}: {error}", path.display()))
}

fn overwrite(mut file: File, text: &str) -> io::Result<()> {
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    file.write_all(text.as_bytes())?;
    file.flush()
}

/// Prints; a reader that closes the pipe has read enough.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("cannot write the report: {error}");
            ExitCode::from(1)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Runs all scenarios on all executors, in turns.
fn run(options: &Options, interrupt: &Interrupt) -> io::Result<Outcome> {
    let settings = &options.settings;
    let executors = options.executors.len();
    let total: Duration = options.scenarios.iter().map(|&kind| settings.duration_of(kind)).sum();
    let mut progress = Progress::new(options.quiet, total * executors as u32);
    let price =
        Price::measure(settings.variables, Duration::from_millis(if settings.smoke { 1 } else { 10 }));
    let carrier_of = |executor: &Entry| executor.carrier(settings.carry);
    let rules_of = |executor: &Entry| {
        Rules::new(settings.seed, settings.sample, settings.variables, carrier_of(executor))
    };
    let rules: Vec<&'static Rules> = options.executors.iter().map(rules_of).collect();
    let mut runs = Vec::new();
    let mut calibrations = Vec::new();
    for &kind in &options.scenarios {
        if interrupt.is_raised() {
            break;
        }
        let rounds = settings.rounds_of(kind, executors);
        let measured = settings.duration_of(kind) / rounds;
        let plan = |load: Load, at: usize| Plan {
            load,
            workers: settings.workers,
            inspection: settings.inspection,
            warm_up: (measured / 10).clamp(Duration::from_millis(10), Duration::from_millis(300)),
            measured,
            tick: (settings.duration_of(kind) / 80)
                .clamp(Duration::from_millis(10), Duration::from_millis(500)),
            drain: Duration::from_secs(10).max(measured),
            rules: rules[at],
        };
        let load = match settings.rate_of {
            None => settings.load_of(kind.about()),
            Some(rate_of) => {
                let calibration = calibrate(options, kind, rate_of, interrupt, &mut progress, &plan)?;
                let load = settings.open(kind.about(), calibration.rate());
                progress.tell(&format!("{}: {}", kind.about().name, tail::calibrated(&calibration)));
                calibrations.push(calibration);
                if interrupt.is_raised() {
                    break;
                }
                load
            }
        };
        let begin = |executor: &Entry| Run::new(kind.about(), load, executor.label, carrier_of(executor));
        let mut group: Vec<Run> = options.executors.iter().map(begin).collect();
        for round in 0..rounds as usize {
            for position in 0..executors {
                // Each executor comes first as often as last.
                let at = if round % 2 == 1 { executors - 1 - position } else { position };
                if interrupt.is_raised() {
                    break;
                }
                let run = &mut group[at];
                progress.begin(kind.about().name, run.executor);
                let round = options.executors[at].round;
                run.add(round(kind, &plan(load, at), interrupt, &mut |live| progress.show(live))?);
                progress.end(measured);
            }
        }
        group.retain(|run| !run.rounds.is_empty());
        for run in &group {
            let p99 = run
                .quantile(record::Metric::EndToEnd, 0.99)
                .map_or("-".to_owned(), |ns| text::time(ns as f64));
            let (rate, unit) = (text::count(run.throughput()), run.about.unit);
            progress.tell(&format!("{} on {}: {rate} {unit}/s, p99 {p99}", run.about.name, run.executor));
        }
        runs.extend(group);
    }
    progress.finish();
    Ok(Outcome {
        machine: Machine::this(),
        settings: settings.clone(),
        price,
        calibrations,
        runs,
        interrupted: interrupt.is_raised(),
    })
}

/// Finds what the executor that was named sustains.
fn calibrate(
    options: &Options,
    kind: Kind,
    RateOf { executor, share }: RateOf,
    interrupt: &Interrupt,
    progress: &mut Progress,
    plan: &impl Fn(Load, usize) -> Plan,
) -> io::Result<Calibration> {
    let about = kind.about();
    let at = options.executors.iter().position(|entry| entry.label == executor).expect("it was looked up");
    let measure = |load: Load| {
        progress.begin(about.name, executor);
        let plan = plan(load, at);
        let round = (options.executors[at].round)(kind, &plan, interrupt, &mut |live| progress.show(live))?;
        let step = Step { load, round };
        Ok(((!interrupt.is_raised()).then(|| step.per_second()), step))
    };
    let settings = &options.settings;
    let (first, most) = (settings.clients(about), settings.most_in_flight(about));
    let open = |per_second| settings.open(about, per_second);
    let (sustained, steps) = calibrate::search(first, most, open, measure)?;
    let calibration = Calibration { about, executor, share, sustained, steps };
    if calibration.rate() > 0.0 || interrupt.is_raised() {
        Ok(calibration)
    } else {
        Err(io::Error::other(format!(
            "{executor} keeps up with no rate of {}: there is nothing to take a share of",
            about.name
        )))
    }
}

/// Prints and writes everything, and decides on the code.
fn closing(
    options: &Options,
    interrupt: &Interrupt,
    outcome: &Outcome,
    baseline: Option<&Baseline>,
    json: Option<File>,
    html: Option<File>,
) -> ExitCode {
    let mut report = text::report(outcome);
    let worse = match baseline {
        Some(baseline) => judge(&mut report, baseline, outcome, options.threshold),
        None => false,
    };
    let mut failed = print(&report) != ExitCode::SUCCESS;
    let json_text = format!("{:#}\n", json::report(outcome));
    let html_text = html::report(outcome);
    for (file, path, text) in [(json, &options.json, json_text), (html, &options.html, html_text)] {
        if let (Some(file), Some(path)) = (file, path)
            && let Err(error) = overwrite(file, &text)
        {
            eprintln!("cannot write to {}: {error}", path.display());
            failed = true;
        }
    }
    if options.keep
        && !outcome.interrupted
        && let Err(error) = results::keep("load", &tail::summary(outcome), tail::json(outcome))
    {
        eprintln!("cannot keep the run: {error}");
        failed = true;
    }
    let wrong = outcome.runs.iter().any(|run| run.violations() > 0 || run.stuck() > 0)
        || outcome.calibrations.iter().any(|calibration| calibration.wrong().is_some());
    let missed = options.check && tail::missed(outcome) > 0;
    if wrong || failed || missed {
        ExitCode::from(1)
    } else if let Some(code) = interrupt.exit_code() {
        ExitCode::from(code)
    } else if worse {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    }
}

/// Says what changed since the baseline, and whether anything got worse by more than the threshold.
fn judge(report: &mut String, baseline: &Baseline, outcome: &Outcome, threshold: f64) -> bool {
    let (changes, alone) = baseline.compare(&outcome.runs);
    report.push_str("\nSince the baseline:\n");
    for difference in baseline.differences(outcome) {
        report.push_str(&format!("  NOTE  {difference}\n"));
    }
    let is_worse = |change: &&baseline::Change| change.worse_by > threshold;
    for change in &changes {
        let mark = if is_worse(&change) { "WORSE" } else { "     " };
        report.push_str(&format!("  {mark} {change}\n"));
    }
    for label in alone {
        report.push_str(&format!("        {label}: not in the baseline\n"));
    }
    let count = changes.iter().filter(is_worse).count();
    let total = changes.len();
    report.push_str(&match count {
        0 => format!("  none of {total} numbers is worse by more than {threshold} %\n"),
        count => format!("  {count} of {total} numbers are worse by more than {threshold} %\n"),
    });
    count > 0
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::peers::AsyncExecutor;
    use check::{Carrier, Own, take_violations};
    use executor::{EXECUTORS, Inspection, Loadable, Ours, TokioMain};
    use options::Carry;
    use outcome::Round;
    use record::{Histograms, Metric, Tally, Totals};
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::time::Instant;

    /// What a second of `spawn` on two workers would give: so many units, and each request so long.
    pub(crate) fn outcome(units: u64, end_to_end: u64) -> Outcome {
        let options = options::tests::parse(&["spawn", "--workers", "2", "--concurrency", "4"]).unwrap();
        let about = Kind::Spawn.about();
        let mut run = Run::new(about, options.settings.load_of(about), "heirloom", Carrier::Hand);
        let mut histograms = Histograms::default();
        (0..1000).for_each(|_| histograms.record(Metric::EndToEnd, end_to_end));
        let totals = Totals::of(&[(Tally::Units, units), (Tally::Started, 1000), (Tally::Finished, 1000)]);
        run.add(Round {
            window: Duration::from_secs(1),
            measured: totals,
            all: totals,
            histograms,
            unfinished: 0,
            behind: 0,
            processor_time: None,
            others_time: None,
            observed: Default::default(),
            peak_memory: None,
            timeline: Default::default(),
            violations: Vec::new(),
            alarms: None,
            interrupted: false,
        });
        let machine = Machine::this();
        let price = Price { variables: 8, fork: 1.0, read: 1.0, set: 1.0, arc: 1.0 };
        Outcome {
            machine,
            settings: options.settings,
            price,
            calibrations: Vec::new(),
            runs: vec![run],
            interrupted: false,
        }
    }

    /// The same of an executor that was inspected.
    pub(crate) fn watched(inspection: Inspection) -> Outcome {
        let mut outcome = outcome(100, 1000);
        outcome.settings.inspection = inspection;
        let run = &mut outcome.runs[0];
        if inspection.times {
            run.histograms.record_buckets(Metric::Schedule, &[(Duration::from_micros(2), 100)]);
        }
        if inspection.limit.is_some() {
            let mut alarms = executor::Alarms::default();
            alarms.report(Duration::from_millis(250), false, "a poll of <task 7>".to_owned());
            run.rounds[0].alarms = Some(alarms);
        }
        outcome
    }

    /// A second of `spawn` on all executors.
    pub(crate) fn comparison(carry: Carry) -> Outcome {
        let mut outcome = outcome(12_345_678, 1000);
        outcome.settings.carry = carry;
        let model = outcome.runs.remove(0);
        for executor in EXECUTORS {
            let mut run = Run { executor: executor.label, carrier: executor.carrier(carry), ..model.clone() };
            let round = &mut run.rounds[0];
            round.peak_memory = Some(42_000_000);
            round.timeline.memory = Some(machine::Memory { now: 40_000_000, peak: 41_000_000 });
            if carry == Carry::None {
                outcome.settings.variables = 0;
            } else {
                round.all.add(&Totals::of(&[(Tally::Checks, 100)]));
            }
            outcome.runs.push(run);
        }
        outcome
    }

    /// What is recorded belongs to the process: one test at a time that counts, or takes what
    /// others recorded.
    pub(crate) fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A round that is too short to measure anything.
    fn short_round<E: Loadable>(kind: Kind, carrier: Carrier, load: drive::Load) -> Round {
        let _alone = alone();
        let plan = short_plan(carrier, load);
        let round = (Entry::of::<E>().round)(kind, &plan, &Interrupt::default(), &mut |_| {}).unwrap();
        let _ = take_violations();
        round
    }

    fn short_plan(carrier: Carrier, load: drive::Load) -> Plan {
        Plan {
            load,
            workers: 2,
            inspection: Inspection::default(),
            warm_up: Duration::from_millis(10),
            measured: Duration::from_millis(100),
            tick: Duration::from_millis(10),
            drain: Duration::from_secs(10),
            rules: Rules::new(1, 2, 4, carrier),
        }
    }

    const FEW: drive::Load = drive::Load::Closed { clients: 8 };

    fn ends_and_sees_its_own<E: Loadable>(carrier: Carrier) {
        for kind in Kind::ALL {
            let round = short_round::<E>(kind, carrier, FEW);
            assert_eq!(round.unfinished, 0, "{kind:?}");
            assert!(round.all.get(Tally::Checks) > 0 && round.all.get(Tally::Finished) > 0, "{kind:?}");
            assert_eq!(round.all.get(Tally::Violations), 0, "{kind:?}: {:?}", round.violations);
            assert!(round.histograms.get(Metric::EndToEnd).is_some(), "{kind:?}");
        }
    }

    #[test]
    fn every_scenario_ends_what_it_begins_and_its_tasks_inherit_their_own_variables() {
        ends_and_sees_its_own::<Ours>(EXECUTORS[0].carrier(Carry::Ours));
    }

    #[test]
    fn every_scenario_ends_what_it_begins_and_its_tasks_are_handed_their_own_variables() {
        ends_and_sees_its_own::<Ours>(Carrier::Hand);
        ends_and_sees_its_own::<TokioMain>(EXECUTORS[1].carrier(Carry::Ours));
    }

    /// The twin of the above: on an executor whose tasks inherit nothing, every scenario notices
    /// it.
    #[test]
    fn every_scenario_notices_that_contexts_are_not_carried() {
        // An answer over HTTP is polled once: what it binds is there to the end on any executor.
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Http) {
            let round = short_round::<TokioMain>(kind, EXECUTORS[0].carrier(Carry::Ours), FEW);
            assert!(round.all.get(Tally::Violations) > 0, "{kind:?}");
            assert!(!round.violations.is_empty(), "{kind:?}");
        }
    }

    #[test]
    fn all_executors_are_given_the_same_share_of_the_rate_that_one_sustains() {
        let _alone = alone();
        let words = "service http --compare tokio --rate-of tokio 0.5 --duration 200ms --rounds 2 --quiet";
        let options = options::tests::parse(&words.split(' ').collect::<Vec<_>>()).unwrap();
        let outcome = run(&options, &Interrupt::default()).unwrap();
        assert_eq!((outcome.calibrations.len(), outcome.runs.len()), (2, 4));
        for run in &outcome.runs {
            let calibration = outcome.calibration_of(run.about).unwrap();
            let Load::Open { per_second, .. } = run.load else { panic!("{:?}", run.load) };
            assert_eq!((calibration.executor, per_second), ("tokio", 0.5 * calibration.sustained));
            assert!(run.tails.len() == 2 && run.tails.iter().flatten().all(|time| *time > 0.0), "{run:?}");
            assert_eq!((run.violations(), calibration.wrong()), (0, None));
        }
        let (_, verdict) = text::verdict(&outcome);
        assert!(verdict.contains("0 wrong values"), "{verdict}");
    }

    /// One request in 16 is given the variables of another one.
    #[derive(Debug)]
    struct MixedUp;

    impl scenario::Scenario for MixedUp {
        const ABOUT: scenario::About = scenario::About {
            name: "mixed up",
            text: "",
            unit: "requests",
            clients_per_worker: 1,
            over_connections: false,
        };

        async fn request<E: Loadable>(executor: E, mut own: Own) -> u64 {
            if own.pick(16) == 0 {
                own.bind_those_of(u64::MAX);
            }
            let mut child = own.child(1);
            executor.spawn(async move { (0..8).for_each(|_| child.check("in a child")) }).await;
            1
        }
    }

    /// Of all checks, how many failed.
    fn mixed_up<E: Loadable>(carry: Carry) -> (u64, u64) {
        let _alone = alone();
        let plan = short_plan(Entry::of::<E>().carrier(carry), FEW);
        let round = drive::round::<MixedUp, E>(&plan, &Interrupt::default(), &mut |_| {}).unwrap();
        let violations = round.all.get(Tally::Violations);
        assert_eq!(round.violations.is_empty(), violations == 0, "{:?}", round.violations);
        (violations, round.all.get(Tally::Checks))
    }

    #[test]
    fn a_variable_of_another_request_is_found_whatever_carries_it_and_on_peers_too() {
        for carry in [Carry::Hand, Carry::Ours] {
            for (executor, (violations, checks)) in [
                ("heirloom", mixed_up::<Ours>(carry)),
                ("tokio", mixed_up::<TokioMain>(carry)),
                ("async-executor", mixed_up::<AsyncExecutor>(carry)),
            ] {
                let rare = violations > 0 && violations < checks / 8;
                assert!(rare, "{carry:?} on {executor}: {violations} of {checks}");
            }
        }
        for none in [mixed_up::<Ours>(Carry::None), mixed_up::<TokioMain>(Carry::None)] {
            assert_eq!(none, (0, 0));
        }
    }

    /// A request keeps its worker for twice the limit of [`WATCHED`].
    #[derive(Debug)]
    struct Blocks;

    impl scenario::Scenario for Blocks {
        const ABOUT: scenario::About = scenario::About {
            name: "blocks",
            text: "",
            unit: "requests",
            clients_per_worker: 1,
            over_connections: false,
        };

        async fn request<E: Loadable>(_: E, _: Own) -> u64 {
            std::thread::sleep(Duration::from_millis(20));
            1
        }
    }

    const WATCHED: Inspection = Inspection { times: true, limit: Some(Duration::from_millis(10)) };

    fn inspected<S: scenario::Scenario, E: Loadable>(inspection: Inspection) -> Round {
        let _alone = alone();
        let measured = Duration::from_millis(400);
        let plan = Plan { inspection, measured, ..short_plan(Carrier::Hand, FEW) };
        drive::round::<S, E>(&plan, &Interrupt::default(), &mut |_| {}).unwrap()
    }

    #[test]
    fn an_inspected_executor_tells_its_schedule_latency_and_a_watchdog_its_alarms() {
        let round = inspected::<Blocks, Ours>(WATCHED);
        // Eight clients share two workers, and each request keeps one for 20 ms.
        let schedule = round.histograms.get(Metric::Schedule).unwrap();
        assert!(schedule.max() > 15_000_000, "{}", schedule.max());
        let alarms = round.alarms.unwrap();
        assert!(alarms.count > 0 && alarms.longest >= Duration::from_millis(10), "{alarms:?}");
        assert!(alarms.first[0].contains("has taken"), "{alarms:?}");
        // What was not asked for, and what the executor cannot do, is absent.
        for round in [
            inspected::<scenario::PingPong, Ours>(Inspection::default()),
            inspected::<scenario::PingPong, TokioMain>(WATCHED),
        ] {
            assert!(round.histograms.get(Metric::Schedule).is_none() && round.alarms.is_none());
        }
        // Polls of some microseconds stay below a limit of a minute.
        let patient = Inspection { times: false, limit: Some(Duration::from_secs(60)) };
        let round = inspected::<scenario::PingPong, Ours>(patient);
        assert!(round.histograms.get(Metric::Schedule).is_none());
        assert_eq!(round.alarms, Some(executor::Alarms::default()));
    }

    /// Two hundred requests are due within the round; at one at a time, a few of them can start.
    #[test]
    fn in_an_open_loop_the_time_before_the_start_counts() {
        let begun = Instant::now();
        let load = drive::Load::Open { per_second: 2000.0, most_in_flight: 1 };
        let round = short_round::<Ours>(Kind::Timers, Carrier::Hand, load);
        assert!(begun.elapsed() < Duration::from_secs(10));
        // Each sleeps for 10 ms or so.
        assert!(round.behind > 100, "{}", round.behind);
        let end_to_end = round.histograms.get(Metric::EndToEnd).unwrap();
        // A request sleeps for 20 ms at most. The last one was due when the queue was already long.
        assert!(end_to_end.max() > 60_000_000, "{}", end_to_end.max());
    }
}
