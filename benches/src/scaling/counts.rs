//! How often lines of memory go from one thread to another, by number of workers.
//!
//! The program `counted` of the package `heirloom-scaling` does the counting. It is built here,
//! with an instrumentation of LLVM's, since a build says for the whole program which one it has.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use heirloom_scaling::operation::Operation;
use serde_json::{Value, json};

use super::Plan;
use crate::report::table;
use crate::stats::Spread;

/// What the tables count.
pub(super) const LEGEND: &str = "\
Transfers of cache lines per operation: each thread is taken for a processor with a cache of its
own. A *write* takes a line of which other threads have copies, which are invalid then; a *read*
fetches a line that another thread has written. Below the totals are the functions with the most
transfers. What the operation's own code shares is left out.";

/// The numbers of workers.
const WORKERS: [usize; 4] = [2, 4, 8, 16];
/// Functions in a table.
const FUNCTIONS: usize = 8;
/// Fewer transfers of a function are not shown.
const LEAST: f64 = 0.02;

/// How the compiler is told to have each access recorded, and to leave out what depends on how many
/// processors there are: a throttled worker would do nothing.
const FLAGS: [&str; 4] = [
    "-Cpasses=memprof",
    "-Cllvm-args=-memprof-use-callbacks",
    // The recorder looks for the caller of the function that it is called by.
    "-Cforce-frame-pointers=yes",
    "--cfg=without=\"throttle\"",
];

/// Builds the program that counts, and returns where it is.
pub(super) fn build() -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (target, folder) = (env!("BENCHES_TARGET"), root.join("target/counted"));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // With a target named, the flags are not for build scripts and macros, which record nothing.
    let done = Command::new(cargo)
        .current_dir(&root)
        .args(["build", "--quiet", "--release", "--locked", "--target", target])
        .args(["-p", "heirloom-scaling", "--bin", "counted", "--target-dir"])
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "1")
        .status()?;
    if !done.success() {
        return Err(io::Error::other("the program that counts was not built"));
    }
    Ok(folder.join(target).join("release/counted"))
}

/// Counts per operation.
#[derive(Clone, Copy, Debug, Default)]
struct PerOperation {
    writes: f64,
    copies: f64,
    reads: f64,
}

impl PerOperation {
    fn transfers(self) -> f64 {
        self.writes + self.reads
    }
}

/// One run: the counts of each function.
type Run = BTreeMap<String, PerOperation>;

fn run(program: &Path, operation: &Operation, workers: usize, rounds: usize) -> io::Result<Run> {
    let arguments = [operation.name.to_owned(), workers.to_string(), rounds.to_string()];
    let output = Command::new(program).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).ok_or_else(|| {
        let why = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!("{} with {workers} workers: {}, {why}", operation.name, output.status))
    })
}

/// What `counted` prints: the number of operations, then lines of counts and a function.
fn parse(text: &str) -> Option<Run> {
    let (operations, lines) = text.split_once('\n')?;
    let operations = operations.parse::<f64>().ok()?.max(1.0);
    lines
        .lines()
        .map(|line| {
            let mut fields = line.splitn(4, ' ');
            let mut count = || Some(fields.next()?.parse::<f64>().ok()? / operations);
            let counts = PerOperation { writes: count()?, copies: count()?, reads: count()? };
            Some((fields.next()?.to_owned(), counts))
        })
        .collect()
}

/// The table of an operation, and every figure of it.
pub(super) fn count(program: &Path, operation: &Operation, plan: Plan) -> io::Result<(String, Value)> {
    let workers = if plan.smoke { &WORKERS[..1] } else { &WORKERS };
    let runs = |&workers: &usize| {
        let rounds = plan.rounds(operation);
        let all = (0..plan.runs).map(|_| run(program, operation, workers, rounds));
        Ok((workers, all.collect::<io::Result<Vec<Run>>>()?))
    };
    let by_workers = workers.iter().map(runs).collect::<io::Result<Vec<_>>>()?;
    let table = format!("### {}: {}\n\n{}", operation.name, operation.what, rows(&by_workers));
    let figures = by_workers.iter().map(|(workers, runs)| {
        let of_run = |run: &Run| {
            let each = |(name, counts): (&String, &PerOperation)| {
                (name.clone(), json!([counts.writes, counts.copies, counts.reads]))
            };
            Value::Object(run.iter().map(each).collect())
        };
        json!({ "workers": workers, "runs": runs.iter().map(of_run).collect::<Vec<_>>() })
    });
    let figures = figures.collect::<Vec<_>>();
    Ok((
        table,
        json!({ "operation": operation.name, "counts": ["writes", "copies", "reads"], "by": figures }),
    ))
}

/// The totals, and the functions with the most transfers at the greatest number of workers.
fn rows(by_workers: &[(usize, Vec<Run>)]) -> String {
    let median = |runs: &[Run], figure: &dyn Fn(&Run) -> f64| {
        Spread::of(runs.iter().map(figure)).map_or(0.0, |spread| spread.median)
    };
    let line = |name: &str, figure: &dyn Fn(&Run) -> f64| {
        let cells = by_workers.iter().map(|(_, runs)| format!("{:.2}", median(runs, figure)));
        [name.to_owned()].into_iter().chain(cells).collect::<Vec<String>>()
    };
    let of = |name: &str, run: &Run| run.get(name).copied().unwrap_or_default().transfers();
    let mut rows = vec![
        line("**transfers**", &|run| run.values().map(|counts| counts.transfers()).sum()),
        line("writes among them", &|run| run.values().map(|counts| counts.writes).sum()),
        line("copies made invalid", &|run| run.values().map(|counts| counts.copies).sum()),
    ];
    let names: BTreeSet<&String> = by_workers.iter().flat_map(|(_, runs)| runs).flat_map(Run::keys).collect();
    let most = |name: &String| by_workers.last().map_or(0.0, |(_, runs)| median(runs, &|run| of(name, run)));
    let mut functions: Vec<_> = names.into_iter().map(|name| (most(name), name)).collect();
    functions.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (_, name) in functions.into_iter().take(FUNCTIONS).filter(|(transfers, _)| *transfers >= LEAST) {
        rows.push(line(&format!("`{}`", short(name)), &|run| of(name, run)));
    }
    let numbers = by_workers.iter().map(|(workers, _)| workers.to_string());
    let header: Vec<String> = ["workers".to_owned()].into_iter().chain(numbers).collect();
    table(&header, &rows)
}

/// A path without its folders: types and functions say enough.
fn short(name: &str) -> String {
    name.split(" > ").map(last_two).collect::<Vec<_>>().join(" > ")
}

fn last_two(path: &str) -> &str {
    // A path of a trait's method begins with `<`, and names two types.
    if path.starts_with('<') {
        return path;
    }
    let mut ends = path.rmatch_indices("::").map(|(at, _)| at);
    ends.nth(1).map_or(path, |at| &path[at + 2..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_per_operation_and_named_by_their_last_two_parts() {
        let run =
            parse("4\n8 12 2 heirloom::time::driver::Timers::insert > slab::Slab<T>::insert_at\n").unwrap();
        let (name, counts) = run.first_key_value().unwrap();
        assert_eq!((counts.writes, counts.copies, counts.reads, counts.transfers()), (2.0, 3.0, 0.5, 2.5));
        assert_eq!(short(name), "Timers::insert > Slab<T>::insert_at");
        assert_eq!(short("main"), "main");
    }

    #[test]
    fn what_is_cut_off_is_no_run() {
        assert!(parse("").is_none() && parse("4\n8 12").is_none() && parse("four\n").is_none());
        // An operation that shares nothing.
        assert!(parse("4\n").is_some_and(|run| run.is_empty()));
    }
}
