//! The options that all measuring programs share, and the run they lead to.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::goal::{Goal, Verdict};
use crate::harness::{Measured, Plan, Row, measure};
use crate::report;

/// What was asked for.
#[derive(Debug)]
pub struct Options {
    /// The rows to run; none: all of them.
    pub rows: Vec<String>,
    /// Only names the rows and what they ask.
    pub list: bool,
    /// How long to measure.
    pub plan: Plan,
    /// Where to write everything as JSON.
    pub json: Option<PathBuf>,
    /// Whether a missed goal makes the program fail.
    pub check: bool,
}

impl Options {
    /// Reads the command line. A bad one is explained on standard error, and the process ends with code 2.
    pub fn parse(program: &'static str, about: &'static str) -> Options {
        Options::from_matches(&command(program, about).get_matches())
    }

    fn from_matches(matches: &ArgMatches) -> Options {
        let mut plan = if matches.get_flag("smoke") { Plan::SMOKE } else { Plan::FULL };
        if let Some(&rounds) = matches.get_one::<u64>("rounds") {
            plan.rounds = rounds as usize;
        }
        if let Some(&micros) = matches.get_one::<u64>("sample-us") {
            plan.sample = Duration::from_micros(micros);
        }
        Options {
            rows: matches.get_many("row").unwrap_or_default().cloned().collect(),
            list: matches.get_flag("list"),
            plan,
            json: matches.get_one("json").cloned(),
            check: matches.get_flag("check"),
        }
    }
}

fn command(program: &'static str, about: &'static str) -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
    };
    let number = |name: &'static str, most: u64, help: &'static str| {
        Arg::new(name).long(name).help(help).value_name("N").value_parser(value_parser!(u64).range(1..=most))
    };
    Command::new(program)
        .about(about)
        .arg(Arg::new("row").value_name("ROW").num_args(0..).help("Rows to run [default: all]"))
        .arg(flag("list", "Name the rows and what they ask, and run nothing"))
        .arg(number("rounds", 10_000, "Samples per contender [default: 15]"))
        .arg(number("sample-us", 1_000_000, "Microseconds one sample should take [default: 3000]"))
        .arg(flag("smoke", "Two rounds of tiny samples: does it run? The numbers mean nothing"))
        .arg(
            Arg::new("json")
                .long("json")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Also write everything, every round of it, to FILE"),
        )
        .arg(flag("check", "End with code 1 if a goal is missed"))
}

/// Runs the rows that were asked for, prints their tables and the goals, and writes the JSON file.
///
/// The code is 0 when all went well, 1 for a missed goal under `--check` or a report that could not be written, and
/// 2 for a row that does not exist or a file that cannot be created.
pub fn run(options: &Options, rows: Vec<Row>, goals: &[Goal]) -> ExitCode {
    if let Some(unknown) = options.rows.iter().find(|name| rows.iter().all(|row| row.name != name.as_str())) {
        eprintln!("there is no row `{unknown}`: --list names those there are");
        return ExitCode::from(2);
    }
    let file = match options.json.as_ref().map(|path| File::create(path).map_err(|error| (path, error))) {
        None => None,
        Some(Ok(file)) => Some(file),
        Some(Err((path, error))) => {
            eprintln!("cannot create {}: {error}", path.display());
            return ExitCode::from(2);
        }
    };
    match report(options, rows, goals, file) {
        Ok(missed) if missed && options.check => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        // Whoever reads the tables has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write the report: {error}");
            ExitCode::from(1)
        }
    }
}

/// Measures and writes; says whether a goal was missed.
fn report(options: &Options, rows: Vec<Row>, goals: &[Goal], file: Option<File>) -> io::Result<bool> {
    let mut out = io::stdout();
    if options.list {
        for row in rows {
            writeln!(out, "{:<18} {}", row.name, row.question)?;
        }
        return Ok(false);
    }
    let Plan { rounds, sample } = options.plan;
    writeln!(
        out,
        "{rounds} rounds, samples of {sample:?}; ns per operation, ratios within a round: median (min..max)"
    )?;
    let mut all: Vec<Measured> = Vec::new();
    for row in rows {
        if !options.rows.is_empty() && !options.rows.iter().any(|name| name == row.name) {
            continue;
        }
        let from = all.len();
        all.extend(row.cases.into_iter().map(|case| measure(row.name, case, options.plan)));
        writeln!(out, "\n### {}: {}\n\n{}", row.name, row.question, report::row_table(&all[from..]))?;
    }
    // A goal about a row that was left out on purpose is not shown at all.
    let asked = goals.iter().filter(|goal| all.iter().any(|case| case.row == goal.row));
    let judged: Vec<_> = asked.map(|goal| goal.judge(&all)).collect();
    let missed = judged.iter().filter(|judged| judged.verdict == Verdict::Missed).count();
    if !judged.is_empty() {
        writeln!(out, "\n### Goals\n\n{}", report::goal_table(&judged))?;
        writeln!(out, "{} goals, {missed} missed", judged.len())?;
    }
    if let Some(mut file) = file {
        serde_json::to_writer_pretty(&file, &report::json(options.plan, &all, &judged))?;
        writeln!(file)?;
    }
    Ok(missed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, clap::Error> {
        let matches = command("program", "about").try_get_matches_from([&["program"], args].concat())?;
        Ok(Options::from_matches(&matches))
    }

    #[test]
    fn options_change_the_plan() {
        let options = parse(&["read", "set", "--rounds", "9", "--sample-us", "500", "--check"]).unwrap();
        assert_eq!(options.rows, ["read", "set"]);
        assert_eq!((options.plan.rounds, options.plan.sample), (9, Duration::from_micros(500)));
        assert!(options.check && !options.list && options.json.is_none());
        assert_eq!(parse(&["--smoke"]).unwrap().plan.rounds, 2);
    }

    #[test]
    fn bad_arguments_have_code_2() {
        for bad in [&["--rounds", "0"][..], &["--rounds", "many"], &["--fast"], &["--json"]] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
