//! The command line of the programs `executors` and `net`, and the run it leads to.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use super::measure::{Measured, Watchdog, measure};
use super::plan::{Plan, WORKERS};
use super::row::{Contender, ONE_CORE, REFERENCE, Row};
use super::{BARE, HOOKED, OURS, print};
use crate::cli::{self, Common, Report, number, refused};

/// What was asked for.
#[derive(Debug)]
struct Options {
    common: Common,
    plan: Plan,
    only: Vec<String>,
    contexts: bool,
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
    fn of(program: &str, matches: &ArgMatches) -> Options {
        let common = Common::of(program, matches);
        let mut plan = if common.smoke { Plan::SMOKE } else { Plan::FULL };
        plan.rounds = common.rounds.unwrap_or(plan.rounds);
        if let Some(&millis) = matches.get_one::<u64>("sample-ms") {
            plan.sample = Duration::from_millis(millis);
        }
        let only = matches.get_many("only").unwrap_or_default().cloned().collect();
        let contexts = matches.get_one::<String>("contexts").is_none_or(|contexts| contexts == "on");
        Options { common, plan, only, contexts }
    }

    /// The contender that is judged.
    fn ours(&self) -> &'static str {
        if self.contexts { OURS } else { BARE }
    }
}

fn command(program: &'static str, about: &'static str) -> Command {
    let sample = Plan::FULL.sample.as_millis();
    let help = format!(
        "Milliseconds one sample should take at least; of sockets, 4 times as many [default: {sample}]"
    );
    cli::command(program, about, Plan::FULL.rounds)
        .arg(number("sample-ms", 10_000, help))
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("PEER,...")
                .value_delimiter(',')
                .conflicts_with("keep")
                .help("Only these peers, and those that ratios refer to"),
        )
        .arg(
            Arg::new("contexts")
                .long("contexts")
                .value_parser(["on", "off"])
                .conflicts_with("keep")
                .help("off: leave ours with eight variables out, and judge it with none [default: on]"),
        )
}

/// The whole program of this name: reads the command line, runs the rows that were asked for, and
/// prints their tables and the summary. [`Common::run`] says with which code it ends; that is 2 for
/// a peer that does not exist, too.
pub fn main(
    program: &'static str,
    about: &'static str,
    rows: &[Row],
    contenders: Vec<Contender>,
    summary: Summary,
) -> ExitCode {
    let options = Options::of(program, &command(program, about).get_matches());
    let unknown = |name: &&String| contenders.iter().all(|contender| contender.name != name.as_str());
    if let Some(unknown) = options.only.iter().find(unknown) {
        return refused(&format!("there is no peer `{unknown}`: --list names those there are"));
    }
    let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    options.common.run(&names, |out| measured(&options, rows, contenders, summary, out))
}

fn measured(
    options: &Options,
    rows: &[Row],
    mut contenders: Vec<Contender>,
    summary: Summary,
    out: &mut io::Stdout,
) -> io::Result<Option<Report>> {
    if options.common.list {
        for row in rows {
            writeln!(out, "{:<20} {}", row.name, row.question)?;
        }
        let names: Vec<&str> = contenders.iter().map(|contender| contender.name).collect();
        writeln!(out, "\npeers: {}", names.join(", "))?;
        return Ok(None);
    }
    let variants = summary == Summary::Variants;
    let needed = |name: &str| name == REFERENCE || name == ONE_CORE || variants && name == OURS;
    contenders.retain(|contender| {
        let named = options.only.iter().any(|name| name == contender.name);
        let asked = named || options.only.is_empty() && contender.name != HOOKED;
        (asked || needed(contender.name)) && (options.contexts || contender.name != OURS)
    });
    let Plan { rounds, sample, .. } = options.plan;
    writeln!(
        out,
        "{rounds} rounds, samples of at least {sample:?}, {WORKERS} workers; ratios within a round: median (min..max)"
    )?;
    let watchdog = Watchdog::default();
    let mut all: Vec<Measured> = Vec::new();
    for row in rows.iter().filter(|row| options.common.wants(row.name)) {
        let measured = measure(*row, &contenders, &options.plan, &watchdog);
        let tables = print::row_tables(&measured, options.ours());
        writeln!(out, "\n### {}: {}\n\n{}", row.name, row.question, tables.trim_end())?;
        out.flush()?;
        all.push(measured);
    }
    let others: &[&str] = if options.contexts { &[BARE] } else { &[] };
    let (summary, missed) = match summary {
        Summary::Goals => print::summary(&all, options.ours(), others),
        Summary::Variants => (print::variants(&all, options.ours()), 0),
    };
    writeln!(out, "\n### Summary\n\n{summary}")?;
    Ok(Some(Report { summary, json: print::json(&options.plan, &all, options.ours()), missed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, clap::Error> {
        let matches = command("executors", "").try_get_matches_from([&["executors"], args].concat())?;
        Ok(Options::of("executors", &matches))
    }

    #[test]
    fn options_choose_rows_peers_and_rounds() {
        let options =
            parse(&["chain", "--rounds", "3", "--only", "smol,forte", "--contexts", "off"]).unwrap();
        assert!(options.common.wants("chain") && !options.common.wants("wake"));
        assert_eq!((options.plan.rounds, options.ours()), (3, BARE));
        assert_eq!(options.only, ["smol", "forte"]);
    }

    #[test]
    fn bad_arguments_have_code_2() {
        for bad in
            [&["--rounds", "0"][..], &["--contexts", "maybe"], &["--fast"], &["--only", "smol", "--keep"]]
        {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
