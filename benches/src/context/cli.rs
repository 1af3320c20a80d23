//! The command line of the programs `context` and `threshold`, and the run it leads to.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Command};

use crate::cli::{self, Common, Report, number};
use crate::goal::{Goal, Verdict};
use crate::harness::{Measured, Plan, Row, measure};
use crate::report;

fn command(program: &'static str, about: &'static str) -> Command {
    let help = "Microseconds one sample should take [default: 3000]".to_owned();
    cli::command(program, about, Plan::FULL.rounds).arg(number("sample-us", 1_000_000, help))
}

fn plan(common: &Common, matches: &ArgMatches) -> Plan {
    let Plan { rounds, sample } = if common.smoke { Plan::SMOKE } else { Plan::FULL };
    let asked = matches.get_one::<u64>("sample-us").copied().map(Duration::from_micros);
    Plan { rounds: common.rounds.unwrap_or(rounds), sample: asked.unwrap_or(sample) }
}

/// The whole program of this name: reads the command line, runs the rows that were asked for, and
/// prints their tables and the goals. [`Common::run`] says with which code it ends.
pub fn main(program: &'static str, about: &'static str, rows: Vec<Row>, goals: &[Goal]) -> ExitCode {
    let matches = command(program, about).get_matches();
    let common = Common::of(program, &matches);
    let plan = plan(&common, &matches);
    let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    common.run(&names, |out| measured(&common, plan, rows, goals, out))
}

fn measured(
    common: &Common,
    plan: Plan,
    rows: Vec<Row>,
    goals: &[Goal],
    out: &mut io::Stdout,
) -> io::Result<Option<Report>> {
    if common.list {
        for row in rows {
            writeln!(out, "{:<18} {}", row.name, row.question)?;
        }
        return Ok(None);
    }
    let Plan { rounds, sample } = plan;
    writeln!(
        out,
        "{rounds} rounds, samples of {sample:?}; ns per operation, ratios within a round: median (min..max)"
    )?;
    let (mut all, mut summary) = (Vec::<Measured>::new(), String::new());
    for row in rows.into_iter().filter(|row| common.wants(row.name)) {
        let from = all.len();
        all.extend(row.cases.into_iter().map(|case| measure(row.name, case, plan)));
        let table = format!("### {}: {}\n\n{}", row.name, row.question, report::row_table(&all[from..]));
        writeln!(out, "\n{table}")?;
        summary.push_str(&table);
        summary.push('\n');
    }
    // A goal about a row that was left out on purpose is not shown at all.
    let asked = goals.iter().filter(|goal| all.iter().any(|case| case.row == goal.row));
    let judged: Vec<_> = asked.map(|goal| goal.judge(&all)).collect();
    let missed = judged.iter().filter(|judged| judged.verdict == Verdict::Missed).count();
    if !judged.is_empty() {
        summary = report::goal_table(&judged);
        writeln!(out, "\n### Goals\n\n{summary}")?;
        writeln!(out, "{} goals, {missed} missed", judged.len())?;
    }
    Ok(Some(Report { summary, json: report::json(plan, &all, &judged), missed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<(Common, Plan), clap::Error> {
        let matches = command("program", "about").try_get_matches_from([&["program"], args].concat())?;
        let common = Common::of("program", &matches);
        let plan = plan(&common, &matches);
        Ok((common, plan))
    }

    #[test]
    fn options_change_the_plan() {
        let (common, plan) = parse(&["read", "set", "--rounds", "9", "--sample-us", "500"]).unwrap();
        assert!(common.wants("read") && !common.wants("fork") && !common.list);
        assert_eq!((plan.rounds, plan.sample), (9, Duration::from_micros(500)));
        assert_eq!(parse(&["--smoke"]).unwrap().1.rounds, 2);
    }

    #[test]
    fn bad_arguments_have_code_2() {
        for bad in
            [&["--rounds", "0"][..], &["--rounds", "many"], &["--fast"], &["--json"], &["read", "--keep"]]
        {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
