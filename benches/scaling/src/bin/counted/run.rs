//! One operation, and the functions in which it has transfers.

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;

use heirloom::Runtime;
use heirloom_scaling::operation;

use crate::lines::{self, Counts};

pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [operation, workers, rounds] = &arguments[..] else {
        eprintln!("usage: counted OPERATION WORKERS ROUNDS");
        return ExitCode::from(2);
    };
    let operation = operation::ALL.iter().find(|known| known.name == operation);
    let (Some(operation), Ok(workers), Ok(rounds)) = (operation, workers.parse(), rounds.parse::<usize>())
    else {
        eprintln!("there is no such operation, or a number is none");
        return ExitCode::from(2);
    };
    let runtime = Runtime::builder().workers(workers).build().expect("threads for the workers");
    if !lines::is_recording() {
        eprintln!("this build records no accesses: start `scaling`");
        return ExitCode::from(2);
    }
    (operation.run)(&runtime, workers, rounds.div_ceil(4));
    let operations = lines::count(|| (operation.run)(&runtime, workers, rounds));
    println!("{operations}");
    let mut functions = BTreeMap::<String, Counts>::new();
    for (place, counts) in lines::counted() {
        let Some(function) = function(place) else { continue };
        let sum = functions.entry(function).or_default();
        sum.takes += counts.takes;
        sum.copies += counts.copies;
        sum.fetches += counts.fetches;
    }
    for (function, Counts { takes, copies, fetches }) in functions {
        println!("{takes} {copies} {fetches} {function}");
    }
    // What is left to do is not measured.
    std::process::exit(0)
}

/// The function that an access belongs to: of those that were compiled into one, the innermost of
/// Heirloom's; behind it the function of another crate that it calls, if there is one. A function
/// that is not Heirloom's is told by its caller. None if it is the operation that shares something
/// of its own.
fn function(place: [usize; 2]) -> Option<String> {
    const SKIPPED: &[&str] = &["core", "alloc", "std", "heirloom_context::util::sync"];
    const OURS: &[&str] = &["heirloom", "heirloom_context"];
    const OPERATION: &[&str] = &["heirloom_scaling", "futures", "futures_core", "futures_util"];
    let mut names = Vec::new();
    for address in place {
        // The address is the one behind the call.
        backtrace::resolve((address - 1) as *mut _, |symbol| {
            names.extend(symbol.name().map(|name| format!("{name:#}")));
        });
        names.retain(|name| !is_of(name, SKIPPED));
        let called = names.first();
        if called.is_some_and(|called| is_of(called, OPERATION)) {
            return None;
        }
        let ours = names.iter().find(|name| is_of(name, OURS));
        match (ours, called) {
            (Some(ours), Some(called)) if ours == called => return Some(ours.clone()),
            (Some(ours), Some(called)) => return Some(format!("{ours} > {called}")),
            _ => {}
        }
    }
    names.into_iter().next()
}

fn is_of(name: &str, crates: &[&str]) -> bool {
    let name = name.trim_start_matches('<');
    crates.iter().any(|of| name.strip_prefix(of).is_some_and(|rest| rest.starts_with("::")))
}
