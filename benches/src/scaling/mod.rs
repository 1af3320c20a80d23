//! What grows with the number of workers: the program `scaling`.
//!
//! `counts` has operations done in a build that records each access to memory, and says how often
//! a line went from one thread to another. `times` times the same operations, at as many workers
//! as there are processors.

use std::io::{self, Write};
use std::process::ExitCode;

use heirloom_scaling::operation::{ALL, Operation};
use serde_json::json;

use crate::cli::{self, Common, Report, flag};

mod counts;
mod times;

/// How often each operation is run, for each number of workers.
const RUNS: usize = 3;

/// How much of an operation is done.
#[derive(Clone, Copy, Debug)]
struct Plan {
    runs: usize,
    smoke: bool,
}

impl Plan {
    fn rounds(self, operation: &Operation) -> usize {
        if self.smoke { operation.rounds.div_ceil(10) } else { operation.rounds }
    }
}

/// The whole program. [`Common::run`] says with which code it ends.
pub fn main() -> ExitCode {
    let about = "Counts the writes to memory that several workers share, and times what it can, by number of workers.";
    let command = cli::command("scaling", about, RUNS)
        .arg(flag("times", "Only time the operations: counting them takes a build of its own"));
    let matches = command.get_matches();
    let common = Common::of("scaling", &matches);
    let plan =
        Plan { runs: common.rounds.unwrap_or(if common.smoke { 1 } else { RUNS }), smoke: common.smoke };
    let names: Vec<&str> = ALL.iter().map(|operation| operation.name).collect();
    common.run(&names, |out| report(&common, plan, !matches.get_flag("times"), out))
}

fn report(common: &Common, plan: Plan, count: bool, out: &mut io::Stdout) -> io::Result<Option<Report>> {
    let wanted: Vec<&Operation> = ALL.iter().filter(|operation| common.wants(operation.name)).collect();
    if common.list {
        for operation in wanted {
            writeln!(out, "{:<14} {}", operation.name, operation.what)?;
        }
        return Ok(None);
    }
    let (times, timed) = times::measure(&wanted, plan);
    writeln!(out, "{times}")?;
    let (mut summary, mut counted) = (times, Vec::new());
    if count {
        let program = counts::build()?;
        writeln!(out, "{}", counts::LEGEND)?;
        for operation in wanted {
            let (table, counts) = counts::count(&program, operation, plan)?;
            writeln!(out, "\n{table}")?;
            summary.push_str(&table);
            counted.push(counts);
        }
    }
    Ok(Some(Report { summary, json: json!({ "times": timed, "counts": counted }), missed: 0 }))
}
