//! Does one operation with so many workers, and prints how often a line of memory went from one
//! thread to another, by function. Started by the program `scaling`, which builds it as it must be
//! built:
//!
//! ```text
//! counted OPERATION WORKERS ROUNDS
//! ```
//!
//! The first line of the output is the number of operations. Each further line has four counts and
//! a function; `lines` says what they are.

mod lines;

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;

use heirloom::Runtime;
use heirloom_scaling::operation;
use lines::Counts;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [operation, workers, rounds] = &arguments[..] else {
        eprintln!("usage: counted OPERATION WORKERS ROUNDS");
        return ExitCode::from(2);
    };
    let operation = operation::ALL.iter().find(|known| known.name == operation);
    let (Some(operation), Ok(workers), Ok(rounds)) = (operation, workers.parse(), rounds.parse::<usize>()) else {
        eprintln!("there is no such operation, or a number is none");
        return ExitCode::from(2);
    };
    let runtime = Runtime::builder().workers(workers).build().expect("threads for the workers");
    if !lines::is_recording() {
        eprintln!("this build records no accesses: start `scaling`");
        return ExitCode::from(2);
    }
    lines::forget();
    (operation.run)(&runtime, workers, rounds.div_ceil(4));
    let turns = env::var_os("NO_TURNS").is_none();
    let operations = lines::count(turns, || (operation.run)(&runtime, workers, rounds));
    println!("{operations}");
    let mut functions = BTreeMap::<String, Counts>::new();
    for (address, counts) in lines::counted() {
        let sum = functions.entry(function(address)).or_default();
        sum.shared_writes += counts.shared_writes;
        sum.takes += counts.takes;
        sum.copies += counts.copies;
        sum.fetches += counts.fetches;
    }
    for (function, Counts { shared_writes, takes, copies, fetches }) in functions {
        println!("{shared_writes} {takes} {copies} {fetches} {function}");
    }
    // What is left to do is not measured.
    std::process::exit(0)
}

/// The function that an access belongs to: of those that were compiled into one, the innermost of
/// Heirloom's. Behind it stands the function of another crate that it calls, if there is one. What
/// belongs to no function of Heirloom's is the operation's own, or a standard type's.
fn function(address: usize) -> String {
    let mut names = Vec::new();
    // The address is the one behind the call.
    backtrace::resolve((address - 1) as *mut _, |symbol| {
        names.extend(symbol.name().map(|name| format!("{name:#}")));
    });
    let is_of = |name: &str, crates: &[&str]| {
        let name = name.trim_start_matches('<');
        crates.iter().any(|of| name.strip_prefix(of).is_some_and(|rest| rest.starts_with("::")))
    };
    let outermost = names.last().cloned().unwrap_or_else(|| "?".to_owned());
    names.retain(|name| !is_of(name, &["core", "alloc", "std", "heirloom_context::util::sync"]));
    let Some(innermost) = names.first() else { return outermost };
    match names.iter().find(|name| is_of(name, &["heirloom", "heirloom_context"])) {
        Some(ours) if ours == innermost => ours.clone(),
        Some(ours) if !is_of(innermost, &["heirloom_scaling", "futures", "futures_util"]) => format!("{ours} > {innermost}"),
        None if !is_of(innermost, &["heirloom_scaling"]) => innermost.clone(),
        _ => "the operation itself".to_owned(),
    }
}
