//! The command line of the load test.

use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::drive::Load;
use super::executor::{Entry, Inspection, Loadable as _, TokioMain};
use super::scenario::{About, Kind};

/// What brings the variables of a request to its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carry {
    /// No executor and no code: there are no variables, and nothing is checked.
    None,
    /// The code that spawns, on all executors.
    Hand,
    /// Heirloom by inheritance; on its peers, which have none, the code that spawns.
    Ours,
}

impl Carry {
    const ALL: [Carry; 3] = [Carry::None, Carry::Hand, Carry::Ours];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Carry::None => "none",
            Carry::Hand => "hand",
            Carry::Ours => "ours",
        }
    }
}

/// An open loop at a share of what an executor sustains at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateOf {
    /// The executor.
    pub executor: &'static str,
    /// The share: above 0, and 1 at most.
    pub share: f64,
}

/// How to measure: what must be the same in two runs that are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How long each executor is measured under each scenario; `None` is what suits the scenario.
    pub duration: Option<Duration>,
    /// In how many rounds; `None` is what suits the scenario and the number of executors.
    pub rounds: Option<u32>,
    /// Requests a second; `None` is a closed loop, unless there is `rate_of`.
    pub rate: Option<f64>,
    /// What the rate is found by, for each scenario.
    pub rate_of: Option<RateOf>,
    /// Clients of a closed loop, or requests in flight of an open one; `None` is what suits.
    pub concurrency: Option<usize>,
    /// Worker threads.
    pub workers: usize,
    /// What carries variables; `None` exactly if there are none.
    pub carry: Carry,
    /// Variables that each request binds.
    pub variables: usize,
    /// One task in so many is timed.
    pub sample: u64,
    /// Where random numbers start.
    pub seed: u64,
    /// How executors that can be inspected are.
    pub inspection: Inspection,
    /// Only asks whether everything runs.
    pub smoke: bool,
}

impl Settings {
    /// How long each executor is measured under a scenario.
    pub fn duration_of(&self, kind: Kind) -> Duration {
        let usual = match kind {
            _ if self.smoke => Duration::from_millis(60),
            Kind::Soak => Duration::from_secs(60),
            // Enough for the slowest of a thousand requests, in each round.
            _ if self.rate_of.is_some() => Duration::from_secs(16),
            _ => Duration::from_secs(3),
        };
        self.duration.unwrap_or(usual)
    }

    /// In how many rounds, with so many executors that take turns.
    pub fn rounds_of(&self, kind: Kind, executors: usize) -> u32 {
        let usual = match kind {
            // What drifts slowly shows in one long round only.
            Kind::Soak => 1,
            _ if executors == 1 || self.smoke => 1,
            // Each comes first as often as last.
            _ if self.rate_of.is_some() => 8,
            _ => 4,
        };
        self.rounds.unwrap_or(usual)
    }

    /// How requests are started.
    pub fn load_of(&self, about: About) -> Load {
        match self.rate {
            Some(per_second) => self.open(about, per_second),
            None => Load::Closed { clients: self.concurrency.unwrap_or(self.clients(about)) },
        }
    }

    /// An open loop at a rate.
    pub fn open(&self, about: About, per_second: f64) -> Load {
        Load::Open { per_second, most_in_flight: self.most_in_flight(about) as u64 }
    }

    /// How many requests an open loop has in flight at most.
    pub fn most_in_flight(&self, about: About) -> usize {
        let usual = if about.over_connections { self.clients(about) } else { 100_000 };
        self.concurrency.unwrap_or(usual)
    }

    /// How many clients a closed loop usually has.
    pub fn clients(&self, about: About) -> usize {
        about.clients_per_worker * self.workers
    }
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to run.
    pub scenarios: Vec<Kind>,
    /// On what, ours first.
    pub executors: Vec<Entry>,
    /// How.
    pub settings: Settings,
    /// Only names the scenarios.
    pub list: bool,
    /// Where to write everything as JSON.
    pub json: Option<PathBuf>,
    /// Where to write a page.
    pub html: Option<PathBuf>,
    /// What to compare with.
    pub baseline: Option<PathBuf>,
    /// By how many percent something may be worse.
    pub threshold: f64,
    /// No progress on standard error.
    pub quiet: bool,
    /// To keep the run in `benches/results`.
    pub keep: bool,
    /// To end with code 1 if a goal is missed.
    pub check: bool,
}

impl Options {
    /// Reads the command line. A bad one is explained on standard error, and the process ends with
    /// code 2.
    pub fn parse(executors: &[Entry], arguments: impl IntoIterator<Item = OsString>) -> Options {
        Options::try_parse(executors, arguments).unwrap_or_else(|why| why.exit())
    }

    fn try_parse(
        executors: &[Entry],
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Options, clap::Error> {
        let mut command = command(executors);
        let matches = command.try_get_matches_from_mut(arguments)?;
        Options::from_matches(&matches, executors)
            .map_err(|why| command.error(ErrorKind::ArgumentConflict, why))
    }

    fn from_matches(matches: &ArgMatches, executors: &[Entry]) -> Result<Options, String> {
        let smoke = matches.get_flag("smoke");
        let named: Vec<Kind> = matches
            .get_many::<String>("scenario")
            .unwrap_or_default()
            .filter_map(|name| Kind::named(name))
            .collect();
        let scenarios = match named.len() {
            0 if smoke => Kind::ALL.to_vec(),
            0 if matches.contains_id("rate-of") => Kind::SERVED.to_vec(),
            0 => Kind::USUAL.to_vec(),
            _ => named,
        };
        let peers: Vec<&String> = matches.get_many("compare").unwrap_or_default().collect();
        // Ours always runs, and first.
        let ours = executors[0].label;
        let asked = |name: &str| name == ours || smoke || peers.iter().any(|peer| *peer == name);
        let (carry, variables) = carried(matches)?;
        let executors: Vec<Entry> =
            executors.iter().filter(|executor| asked(executor.label)).copied().collect();
        let rate_of = rate_of(matches, &executors)?;
        let keep = matches.get_flag("keep");
        if keep && rate_of != Some(KEPT) {
            return Err(format!("a run is kept with --rate-of {} {} only", KEPT.executor, KEPT.share));
        }
        Ok(Options {
            scenarios,
            executors,
            settings: Settings {
                duration: matches.get_one("duration").copied(),
                rounds: matches.get_one::<u64>("rounds").map(|&rounds| rounds as u32),
                rate: matches.get_one("rate").copied(),
                rate_of,
                concurrency: matches.get_one::<u64>("concurrency").map(|&clients| clients as usize),
                workers: match matches.get_one::<u64>("workers") {
                    Some(&workers) => workers as usize,
                    None => thread::available_parallelism().map_or(1, usize::from),
                },
                carry,
                variables,
                sample: matches.get_one("sample").copied().unwrap_or(16),
                seed: matches.get_one("seed").copied().unwrap_or(1),
                inspection: Inspection {
                    times: matches.get_flag("inspect"),
                    limit: matches.get_one("watchdog").copied(),
                },
                smoke,
            },
            list: matches.get_flag("list"),
            json: matches.get_one("json").cloned(),
            html: matches.get_one("html").cloned(),
            baseline: matches.get_one("baseline").cloned(),
            threshold: matches.get_one("threshold").copied().unwrap_or(10.0),
            quiet: matches.get_flag("quiet"),
            keep,
            check: matches.get_flag("check"),
        })
    }
}

/// The share that goals are about, and of whose rate.
pub const KEPT: RateOf = RateOf { executor: TokioMain::LABEL, share: 0.6 };

/// The executor and the share that were named, if the share can be offered to these executors.
fn rate_of(matches: &ArgMatches, executors: &[Entry]) -> Result<Option<RateOf>, String> {
    let words: Vec<&String> = matches.get_many("rate-of").unwrap_or_default().collect();
    let [name, share] = words[..] else { return Ok(None) };
    if matches.contains_id("rate") {
        return Err("both --rate and --rate-of say at which rate requests start: leave one out".to_owned());
    }
    if matches.contains_id("baseline") {
        return Err("a baseline has one rate, and --rate-of finds another in each run: use --rate".to_owned());
    }
    let Some(executor) = executors.iter().find(|executor| executor.label == name) else {
        let there: Vec<&str> = executors.iter().map(|executor| executor.label).collect();
        return Err(format!(
            "--rate-of {name}: that executor does not run, but {}: name it with --compare, too",
            there.join(", ")
        ));
    };
    match share.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(Some(RateOf { executor: executor.label, share })),
        Ok(_) => Err(format!(
            "--rate-of {name} {share}: the share must be above 0 and at most 1. Of more than an executor \
             sustains, a part heaps up for as long as the run takes, and its latencies say how long that was"
        )),
        Err(_) => Err(format!("--rate-of {name} {share}: the share is not a number such as 0.6")),
    }
}

/// What carries how many variables.
fn carried(matches: &ArgMatches) -> Result<(Carry, usize), String> {
    let variables = matches.get_one::<u64>("variables").map(|&variables| variables as usize);
    let named = matches.get_one::<String>("carry");
    let carry = named.and_then(|name| Carry::ALL.into_iter().find(|carry| carry.name() == name));
    match (carry, variables) {
        (Some(Carry::None), Some(1..)) => {
            Err("with --carry none there are no variables: leave --variables out".to_owned())
        }
        (Some(Carry::Hand | Carry::Ours), Some(0)) => {
            Err("with --variables 0 there is nothing to carry: leave --carry out".to_owned())
        }
        (Some(Carry::None), _) | (_, Some(0)) => Ok((Carry::None, 0)),
        _ => Ok((carry.unwrap_or(Carry::Ours), variables.unwrap_or(8))),
    }
}

fn command(executors: &[Entry]) -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
    };
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let number = |name: &'static str, least: u64, most: u64, help: &'static str| {
        option(name, "N", help).value_parser(value_parser!(u64).range(least..=most))
    };
    let file = |name: &'static str, help: &'static str| {
        option(name, "FILE", help).value_parser(value_parser!(PathBuf))
    };
    let peers: Vec<&str> = executors[1..].iter().map(|executor| executor.label).collect();
    let scenarios = Kind::ALL.map(|kind| kind.about().name);
    let what = [
        Arg::new("scenario")
            .value_name("SCENARIO")
            .num_args(0..)
            .help(format!(
                "What to run [default: all but http and soak,\nwith --rate-of service and http]\n{}",
                scenarios.join(", ")
            ))
            .value_parser(PossibleValuesParser::new(scenarios))
            .hide_possible_values(true),
        flag("list", "Name the scenarios and what they do, and run nothing"),
        Arg::new("compare")
            .long("compare")
            .value_name("PEER,..")
            .help(format!("Run the same on these too, in turns [default: none]\n{}", peers.join(", ")))
            .value_delimiter(',')
            .value_parser(PossibleValuesParser::new(peers))
            .hide_possible_values(true),
        option(
            "carry",
            "HOW",
            "How variables come to tasks [default: ours]\n\
             none  there are no variables, and nothing is checked\n\
             hand  moved into each task by the code that spawns it\n\
             ours  inherited on Heirloom, by hand on its peers",
        )
        .value_parser(PossibleValuesParser::new(Carry::ALL.map(Carry::name)))
        .hide_possible_values(true),
        number("variables", 0, 10_000, "Variables of a request; 0: --carry none [default: 8]"),
    ];
    let how = [
        option(
            "duration",
            "TIME",
            "How long to measure each executor in each scenario,\n\
             in s without a unit: 5, 500ms, 10m, 1h\n\
             [default: 3s, with --rate-of 16s, soak 60s]",
        )
        .value_parser(duration),
        number(
            "rounds",
            1,
            1000,
            "Rounds that make up this time [default: 1, in a\ncomparison 4, with --rate-of 8, soak 1]",
        ),
        option(
            "rate",
            "N",
            "Open loop: start N requests a second, and count\n\
             latency from when each was due [default: closed loop]",
        )
        .value_parser(rate),
        Arg::new("rate-of")
            .long("rate-of")
            .num_args(2)
            .value_names(["E", "X"])
            .allow_negative_numbers(true)
            .help(
                "Open loop: find what executor E sustains at most,\n\
                 and start the share X of it, such as 0.6, on each;\n\
                 tails are compared with its [default: closed loop]",
            ),
        number(
            "concurrency",
            1,
            1_000_000,
            "Clients of the closed loop [default: by scenario];\n\
             with --rate and --rate-of the most in flight\n\
             [default: 100000, http 32 per worker]",
        ),
        number("workers", 1, 1024, "Worker threads [default: one per processor]"),
        number("sample", 1, 1_000_000_000, "Time one task in N, and all requests [default: 16]"),
        number("seed", 0, u64::MAX, "Where random numbers start [default: 1]"),
        flag("inspect", "Have Heirloom measure its schedule latency, which costs"),
        option(
            "watchdog",
            "TIME",
            "Count polls of Heirloom's tasks that take longer than\n\
             this, such as 100ms [default: no watchdog]",
        )
        .value_parser(duration),
        flag("smoke", "Everything, very briefly: does it run?"),
    ];
    let report = [
        file("json", "Also write everything as JSON to FILE"),
        file("html", "Also write a page with charts to FILE"),
        file("baseline", "Compare with a FILE that --json wrote;\nexit code 3 if something got worse"),
        option("threshold", "PERCENT", "How much worse is worse, in percent [default: 10]")
            .requires("baseline")
            .value_parser(percent),
        flag("quiet", "No progress on standard error"),
        flag(
            "keep",
            "Keep the run in benches/results, and show it in\nbenches/RESULTS.md: with --rate-of tokio 0.6",
        )
        .requires("rate-of")
        .conflicts_with_all(["smoke", "scenario"]),
        flag("check", "End with code 1 if a goal of --rate-of is missed").requires("rate-of"),
    ];
    Command::new("load")
        .about("Puts the executor under load, and checks that every task sees its own variables.")
        .after_help(
            "Exit codes: 0 all is well; 1 a variable with a wrong value, a request that never\n\
             ended, a goal missed under --check, or a report that could not be written; 2 bad\n\
             arguments; 3 worse than the baseline; 130 interrupted. How to read the report:\n\
             benches/README.md.",
        )
        .args(what)
        .next_help_heading("How to measure")
        .args(how)
        .next_help_heading("Reports")
        .args(report)
}

/// A number with or without a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{unit}` is no unit of time: use ms, s, m or h")),
    };
    let seconds =
        number.trim().parse::<f64>().map_err(|_| "not a time such as 5, 500ms or 10m".to_owned())? * unit;
    if (0.01..=7.0 * 86400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("it must be between 10ms and 168h".to_owned())
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=10_000_000.0).contains(&rate) => Ok(rate),
        Ok(_) => Err("it must be between 0.1 and 10000000 a second".to_owned()),
        Err(_) => Err("not a number of requests a second".to_owned()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent),
        _ => Err("it must be a number of percent between 0 and 1000".to_owned()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::load::executor::EXECUTORS;

    /// The options that these arguments give.
    pub(in crate::load) fn parse(args: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse(EXECUTORS, [&["load"], args].concat().into_iter().map(OsString::from))
    }

    fn labels(options: &Options) -> Vec<&str> {
        options.executors.iter().map(|executor| executor.label).collect()
    }

    #[test]
    fn without_arguments_the_usual_runs_on_ours_alone_within_twenty_seconds() {
        let options = parse(&[]).unwrap();
        assert_eq!((options.scenarios.as_slice(), labels(&options)), (&Kind::USUAL[..], vec!["heirloom"]));
        let measured: Duration =
            options.scenarios.iter().map(|&kind| options.settings.duration_of(kind)).sum();
        assert!(measured <= Duration::from_secs(15), "{measured:?}, and warming up comes on top");
    }

    #[test]
    fn ours_comes_first_in_every_comparison() {
        let options = parse(&["soak", "--compare", "smol,tokio", "--duration", "90"]).unwrap();
        assert_eq!(labels(&options), ["heirloom", "tokio", "smol"]);
        assert_eq!(options.settings.duration_of(Kind::Soak), Duration::from_secs(90));
        assert_eq!(options.settings.rounds_of(Kind::Soak, 3), 1);
        assert_eq!(options.settings.rounds_of(Kind::Spawn, 3), 4);
    }

    #[test]
    fn a_rate_makes_the_loop_open() {
        let settings = parse(&["--rate", "2.5e3", "--workers", "3"]).unwrap().settings;
        assert_eq!(
            settings.load_of(Kind::Spawn.about()),
            Load::Open { per_second: 2500.0, most_in_flight: 100_000 }
        );
        let settings = parse(&["--concurrency", "7"]).unwrap().settings;
        assert_eq!(settings.load_of(Kind::Spawn.about()), Load::Closed { clients: 7 });
    }

    #[test]
    fn a_share_of_a_rate_is_refused_with_a_sentence_where_it_makes_no_sense() {
        let options = parse(&["--compare", "tokio", "--rate-of", "tokio", "0.6", "--keep"]).unwrap();
        assert_eq!(options.settings.rate_of, Some(RateOf { executor: "tokio", share: 0.6 }));
        assert_eq!((options.scenarios, options.keep), (Kind::SERVED.to_vec(), true));
        let ours = parse(&["timers", "--rate-of", "heirloom", "1"]).unwrap().settings;
        assert_eq!(ours.rate_of, Some(RateOf { executor: "heirloom", share: 1.0 }));
        for (args, why) in [
            (&["--rate-of", "tokio", "0.6"][..], "does not run, but heirloom: name it with --compare"),
            (&["--compare", "tokio", "--rate-of", "rayon", "0.6"], "does not run, but heirloom, tokio"),
            (&["--rate-of", "heirloom", "0"], "above 0 and at most 1"),
            (&["--rate-of", "heirloom", "-0.6"], "above 0 and at most 1"),
            (&["--rate-of", "heirloom", "1.01"], "above 0 and at most 1"),
            (&["--rate-of", "heirloom", "nan"], "above 0 and at most 1"),
            (&["--rate-of", "heirloom", "half"], "not a number such as 0.6"),
            (&["--rate-of", "heirloom", "0.6", "--rate", "100"], "leave one out"),
            (&["--rate-of", "heirloom", "0.6", "--baseline", "then.json"], "use --rate"),
            (&["--rate-of", "heirloom", "0.6", "--keep"], "with --rate-of tokio 0.6 only"),
        ] {
            let problem = parse(args).unwrap_err();
            assert!(problem.to_string().contains(why) && problem.exit_code() == 2, "{args:?}: {problem}");
        }
    }

    #[test]
    fn of_requests_over_connections_no_more_are_in_flight_than_there_are_clients() {
        let settings = parse(&["--rate", "100", "--workers", "3"]).unwrap().settings;
        assert_eq!(
            settings.load_of(Kind::Http.about()),
            Load::Open { per_second: 100.0, most_in_flight: 96 }
        );
    }

    #[test]
    fn times_have_units() {
        let ms = |text| duration(text).map(|time| time.as_millis());
        assert_eq!(
            (ms("5"), ms("1.5s"), ms("500ms"), ms("2m"), ms("1h")),
            (Ok(5000), Ok(1500), Ok(500), Ok(120_000), Ok(3_600_000))
        );
        for bad in ["", "s", "5 fortnights", "-1", "0", "1ms", "nan", "inf", "1e300", "200h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_arguments_have_code_2() {
        for bad in [
            &["everything"][..],
            &["--rate", "0"],
            &["--rate", "nan"],
            &["--rate", "1e99"],
            &["--rate-of", "tokio"],
            &["--compare", "tokio", "--rate-of", "tokio", "nan"],
            &["--compare", "tokio", "--rate-of", "tokio", "0.6", "--smoke", "--keep"],
            &["service", "--compare", "tokio", "--rate-of", "tokio", "0.6", "--keep"],
            &["--keep"],
            &["--check"],
            &["--concurrency", "0"],
            &["--concurrency", "99999999999999999999"],
            &["--workers", "0"],
            &["--sample", "0"],
            &["--watchdog"],
            &["--watchdog", "1ms"],
            &["--compare", "rayon"],
            &["--carry", "nothing"],
            &["--carry", "none", "--variables", "3"],
            &["--carry", "hand", "--variables", "0"],
            &["--threshold", "5"],
            &["--baseline", "file", "--threshold", "-5"],
            &["--json"],
        ] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }

    #[test]
    fn ours_inherits_and_peers_carry_by_hand_unless_all_do_the_same() {
        let settings = |args: &[&str]| {
            let settings = parse(args).unwrap().settings;
            (settings.carry, settings.variables)
        };
        assert_eq!(settings(&[]), (Carry::Ours, 8));
        assert_eq!(settings(&["--carry", "hand", "--variables", "3"]), (Carry::Hand, 3));
        assert_eq!(settings(&["--carry", "none"]), (Carry::None, 0));
        assert_eq!(settings(&["--variables", "0"]), (Carry::None, 0));
        let carriers = |carry: Carry| -> Vec<&str> {
            EXECUTORS[..2].iter().map(|executor| executor.carrier(carry).text()).collect()
        };
        assert_eq!(carriers(Carry::Ours), ["inherited", "by hand"]);
        assert_eq!(carriers(Carry::Hand), ["by hand", "by hand"]);
        assert_eq!(carriers(Carry::None), ["none", "none"]);
    }

    #[test]
    fn nothing_is_inspected_unless_asked_for() {
        let inspection = |args: &[&str]| parse(args).unwrap().settings.inspection;
        assert_eq!(inspection(&[]), Inspection::default());
        assert_eq!(inspection(&["--inspect"]), Inspection { times: true, limit: None });
        let limit = Some(Duration::from_millis(100));
        assert_eq!(inspection(&["--watchdog", "100ms"]), Inspection { times: false, limit });
    }

    #[test]
    fn an_unknown_value_is_answered_with_those_there_are() {
        let answer = |args: &[&str]| parse(args).unwrap_err().to_string();
        for name in Carry::ALL.map(Carry::name) {
            assert!(answer(&["--carry", "all"]).contains(name), "{name}");
        }
        for executor in &EXECUTORS[1..] {
            assert!(answer(&["--compare", "rayon"]).contains(executor.label), "{}", executor.label);
        }
        for kind in Kind::ALL {
            assert!(answer(&["everything"]).contains(kind.about().name), "{kind:?}");
        }
        assert!(answer(&["--duration", "5 fortnights"]).contains("use ms, s, m or h"));
        assert!(answer(&["--carry", "none", "--variables", "3"]).contains("leave --variables out"));
    }

    #[test]
    fn help_gives_the_default_of_every_option_that_has_a_value() {
        for argument in
            command(EXECUTORS).get_arguments().filter(|argument| argument.get_action().takes_values())
        {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let is_file = argument.get_value_names().is_some_and(|names| names[0] == "FILE");
            assert!(is_file || help.contains("[default: "), "{}: {help}", argument.get_id());
        }
        for line in command(EXECUTORS).render_help().to_string().lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
