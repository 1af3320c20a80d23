//! The command line of the programs `executors` and `net`, and the run it leads to.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::measure::{Measured, Watchdog, measure};
use super::plan::{Plan, WORKERS};
use super::row::{Contender, ONE_CORE, REFERENCE, Row};
use super::{BARE, OURS, print};

/// What was asked for.
#[derive(Debug)]
pub struct Options {
    rows: Vec<String>,
    list: bool,
    plan: Plan,
    json: Option<PathBuf>,
    only: Vec<String>,
    contexts: bool,
    check: bool,
    summary: Summary,
}

/// What is printed when all rows are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summary {
    /// Ours and the best peer beside the goals.
    Goals,
    /// All others beside ours.
    Variants,
}

impl Options {
    /// Reads the command line of the program of this name. A bad one is explained on standard error,
    /// and the process ends with code 2.
    pub fn parse(name: &'static str, about: &'static str, summary: Summary) -> Options {
        Options { summary, ..Options::from_matches(&command(name, about).get_matches()) }
    }

    fn from_matches(matches: &ArgMatches) -> Options {
        let mut plan = if matches.get_flag("smoke") { Plan::SMOKE } else { Plan::FULL };
        if let Some(&rounds) = matches.get_one::<u64>("rounds") {
            plan.rounds = rounds as usize;
        }
        if let Some(&millis) = matches.get_one::<u64>("sample-ms") {
            plan.sample = Duration::from_millis(millis);
        }
        Options {
            rows: matches.get_many("row").unwrap_or_default().cloned().collect(),
            list: matches.get_flag("list"),
            plan,
            json: matches.get_one("json").cloned(),
            only: matches.get_many("only").unwrap_or_default().cloned().collect(),
            contexts: matches.get_one::<String>("contexts").is_none_or(|contexts| contexts == "on"),
            check: matches.get_flag("check"),
            summary: Summary::Goals,
        }
    }

    /// Whose figures are judged.
    fn ours(&self) -> &'static str {
        if self.contexts { OURS } else { BARE }
    }
}

fn command(name: &'static str, about: &'static str) -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
    };
    let number = |name: &'static str, help: String| {
        Arg::new(name)
            .long(name)
            .help(help)
            .value_name("N")
            .value_parser(value_parser!(u64).range(1..=10_000))
    };
    Command::new(name)
        .about(about)
        .arg(Arg::new("row").value_name("ROW").num_args(0..).help("Rows to run [default: all]"))
        .arg(flag("list", "Name the rows and what they ask, and the peers; run nothing"))
        .arg(number("rounds", format!("Samples per peer [default: {}]", Plan::FULL.rounds)))
        .arg(number(
            "sample-ms",
            format!(
                "Milliseconds one sample should take at least [default: {}]",
                Plan::FULL.sample.as_millis()
            ),
        ))
        .arg(flag("smoke", "One round of small samples: does it run? The numbers mean nothing"))
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("PEER,...")
                .value_delimiter(',')
                .help("Only these peers, and those that ratios refer to"),
        )
        .arg(
            Arg::new("contexts")
                .long("contexts")
                .value_parser(["on", "off"])
                .help("off: leave ours with eight variables out, and judge it with none [default: on]"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Also write everything, every round of it, to FILE"),
        )
        .arg(flag("check", "End with code 1 if a goal is missed"))
}

/// Runs the rows that were asked for, prints their tables and the summary, and writes the JSON file.
///
/// The code is 0 when all went well, 1 for a missed goal under `--check` or a report that could not be written, 2 for a
/// row or a peer that does not exist or a file that cannot be created.
pub fn run(options: &Options, rows: &[Row], contenders: Vec<Contender>) -> ExitCode {
    let bad = |sentence: String| {
        eprintln!("{sentence}");
        ExitCode::from(2)
    };
    if let Some(unknown) = options.rows.iter().find(|name| rows.iter().all(|row| row.name != name.as_str())) {
        return bad(format!("there is no row `{unknown}`: --list names those there are"));
    }
    let unknown = |name: &&String| contenders.iter().all(|contender| contender.name != name.as_str());
    if let Some(unknown) = options.only.iter().find(unknown) {
        return bad(format!("there is no peer `{unknown}`: --list names those there are"));
    }
    let file = match options.json.as_ref().map(|path| File::create(path).map_err(|error| (path, error))) {
        None => None,
        Some(Ok(file)) => Some(file),
        Some(Err((path, error))) => return bad(format!("cannot create {}: {error}", path.display())),
    };
    match report(options, rows, contenders, file) {
        Ok(missed) if missed > 0 && options.check => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        // Whoever reads the tables has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write the report: {error}");
            ExitCode::from(1)
        }
    }
}

/// Measures and writes; says how many goals were missed.
fn report(
    options: &Options,
    rows: &[Row],
    mut contenders: Vec<Contender>,
    file: Option<File>,
) -> io::Result<usize> {
    let mut out = io::stdout();
    if options.list {
        for row in rows {
            writeln!(out, "{:<20} {}", row.name, row.question)?;
        }
        let names: Vec<&str> = contenders.iter().map(|contender| contender.name).collect();
        writeln!(out, "\npeers: {}", names.join(", "))?;
        return Ok(0);
    }
    let variants = options.summary == Summary::Variants;
    let needed = |name: &str| name == REFERENCE || name == ONE_CORE || variants && name == OURS;
    contenders.retain(|contender| {
        let asked = options.only.is_empty() || options.only.iter().any(|name| name == contender.name);
        (asked || needed(contender.name)) && (options.contexts || contender.name != OURS)
    });
    let Plan { rounds, sample, .. } = options.plan;
    writeln!(
        out,
        "{rounds} rounds, samples of at least {sample:?}, {WORKERS} workers; ratios within a round: median (min..max)"
    )?;
    let watchdog = Watchdog::default();
    let mut all: Vec<Measured> = Vec::new();
    let asked = |row: &&Row| options.rows.is_empty() || options.rows.iter().any(|name| name == row.name);
    for row in rows.iter().filter(asked) {
        let measured = measure(*row, &contenders, &options.plan, &watchdog);
        writeln!(
            out,
            "\n### {}: {}\n\n{}",
            row.name,
            row.question,
            print::row_tables(&measured, options.ours()).trim_end()
        )?;
        out.flush()?;
        all.push(measured);
    }
    let others: &[&str] = if options.contexts { &[BARE] } else { &[] };
    let (summary, missed) = match options.summary {
        Summary::Goals => print::summary(&all, options.ours(), others),
        Summary::Variants => (print::variants(&all, options.ours()), 0),
    };
    writeln!(out, "\n### Summary\n\n{summary}")?;
    if let Some(mut file) = file {
        serde_json::to_writer_pretty(&file, &print::json(&options.plan, &all, options.ours()))?;
        writeln!(file)?;
    }
    Ok(missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, clap::Error> {
        let matches = command("executors", "").try_get_matches_from([&["executors"], args].concat())?;
        Ok(Options::from_matches(&matches))
    }

    #[test]
    fn options_choose_rows_peers_and_rounds() {
        let options =
            parse(&["chain", "--rounds", "3", "--only", "smol,forte", "--contexts", "off"]).unwrap();
        assert_eq!((options.rows, options.plan.rounds), (vec!["chain".to_owned()], 3));
        assert_eq!(options.only, ["smol", "forte"]);
        assert!(!options.contexts);
    }

    #[test]
    fn bad_arguments_have_code_2() {
        for bad in [&["--rounds", "0"][..], &["--contexts", "maybe"], &["--fast"], &["--json"]] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
