//! Runs all the other programs of this package, in reading order, each under a heading.

mod busy_time;
mod deadlines;
mod decimal;
mod driver;
mod groups;
mod hello;
mod rate_limiter;
mod request_context;
mod telnet_apps;
mod translations;
mod wait_for;
mod web_of_tasks;
mod worker_pool;

use std::env;
use std::error::Error;
use std::process::Command;

type End = Result<(), Box<dyn Error>>;
type Story = (&'static str, fn() -> End);

/// In reading order.
const STORIES: &[Story] = &[
    ("hello", || done(hello::main)),
    ("wait_for", || done(wait_for::main)),
    ("request_context", || request_context::main().map_err(Into::into)),
    ("translations", || done(translations::main)),
    ("decimal", || done(decimal::main)),
    ("telnet_apps", || done(telnet_apps::main)),
    ("busy_time", || done(busy_time::main)),
    ("groups", || done(groups::main)),
    ("deadlines", || done(deadlines::main)),
    ("web_of_tasks", || done(web_of_tasks::main)),
    ("worker_pool", || done(worker_pool::main)),
    ("rate_limiter", || done(rate_limiter::main)),
    ("driver", driver::main),
];

fn done(story: fn()) -> End {
    story();
    Ok(())
}

fn main() -> End {
    // The end of a `main` under the attribute ends the default runtime, so each has a process.
    if let Some(chosen) = env::args().nth(1) {
        let story = STORIES.iter().find(|(name, _)| *name == chosen).ok_or("no such program")?;
        return story.1();
    }
    for (number, (name, _)) in STORIES.iter().enumerate() {
        let heading = format!("{} of {}: {name}", number + 1, STORIES.len());
        println!("{}{heading}\n{}\n", if number == 0 { "" } else { "\n\n" }, "=".repeat(heading.len()));
        if !Command::new(env::current_exe()?).arg(name).status()?.success() {
            return Err(format!("{name} has failed").into());
        }
    }
    println!("\n\nall {} programs have run, and checked what they claim", STORIES.len());
    println!("a web service is a package of its own: cargo run --release -p example-service");
    println!("and so is a job queue: cargo run --release -p example-queue");
    Ok(())
}
