//! What the command lines of the measuring programs have in common, and how their runs end.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::Value;

use crate::results;

/// What was asked for.
#[derive(Debug)]
pub struct Common {
    program: String,
    rows: Vec<String>,
    /// Only names the rows and what they ask.
    pub list: bool,
    /// Only asks whether everything runs.
    pub smoke: bool,
    /// Samples per contender, if it was said.
    pub rounds: Option<usize>,
    json: Option<PathBuf>,
    keep: bool,
    check: bool,
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What is kept of it for a reader: a table.
    pub summary: String,
    /// Everything.
    pub json: Value,
    /// How many goals were missed.
    pub missed: usize,
}

/// An option without a value.
pub fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

/// An option whose value is a number.
pub fn number(name: &'static str, most: u64, help: String) -> Arg {
    Arg::new(name).long(name).help(help).value_name("N").value_parser(value_parser!(u64).range(1..=most))
}

/// The options that all programs take.
pub fn command(program: &'static str, about: &'static str, rounds: usize) -> Command {
    Command::new(program)
        .about(about)
        .arg(Arg::new("row").value_name("ROW").num_args(0..).help("Rows to run [default: all]"))
        .arg(flag("list", "Name the rows and what they ask, and run nothing"))
        .arg(number("rounds", 10_000, format!("Samples per contender [default: {rounds}]")))
        .arg(flag("smoke", "Few small samples: does it run? The numbers mean nothing"))
        .arg(
            Arg::new("json")
                .long("json")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Also write everything, every round of it, to FILE"),
        )
        .arg(
            flag("keep", "Also keep the run in benches/results, and show it in benches/RESULTS.md")
                .conflicts_with_all(["smoke", "row"]),
        )
        .arg(flag("check", "End with code 1 if a goal is missed"))
}

impl Common {
    /// Reads what [`command`] has declared.
    pub fn of(program: &str, matches: &ArgMatches) -> Common {
        Common {
            program: program.to_owned(),
            rows: matches.get_many("row").unwrap_or_default().cloned().collect(),
            list: matches.get_flag("list"),
            smoke: matches.get_flag("smoke"),
            rounds: matches.get_one::<u64>("rounds").map(|&rounds| rounds as usize),
            json: matches.get_one("json").cloned(),
            keep: matches.get_flag("keep"),
            check: matches.get_flag("check"),
        }
    }

    /// Whether this row was asked for.
    pub fn wants(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|name| name == row)
    }

    /// Runs `report`, which prints its tables, and writes what is asked for of it.
    ///
    /// The code is 0 when all went well, 1 for a missed goal under `--check` or a report that could
    /// not be written, and 2 for a row that does not exist or a file that cannot be created.
    pub fn run(
        &self,
        known: &[&str],
        report: impl FnOnce(&mut io::Stdout) -> io::Result<Option<Report>>,
    ) -> ExitCode {
        if let Some(unknown) = self.rows.iter().find(|name| !known.contains(&name.as_str())) {
            return refused(&format!("there is no row `{unknown}`: --list names those there are"));
        }
        let file = match self.json.as_ref().map(|path| File::create(path).map_err(|error| (path, error))) {
            None => None,
            Some(Ok(file)) => Some(file),
            Some(Err((path, error))) => {
                return refused(&format!("cannot create {}: {error}", path.display()));
            }
        };
        let finish = |report: Option<Report>| -> io::Result<usize> {
            let Some(Report { summary, json, missed }) = report else { return Ok(0) };
            if let Some(mut file) = file {
                serde_json::to_writer_pretty(&file, &json)?;
                writeln!(file)?;
            }
            if self.keep {
                results::keep(&self.program, &summary, json)?;
            }
            Ok(missed)
        };
        match report(&mut io::stdout()).and_then(finish) {
            Ok(missed) if missed > 0 && self.check => ExitCode::from(1),
            Ok(_) => ExitCode::SUCCESS,
            // The reader of the tables has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cannot write the report: {error}");
                ExitCode::from(1)
            }
        }
    }
}

/// The code for what cannot be done, which is explained on standard error.
pub fn refused(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(2)
}
