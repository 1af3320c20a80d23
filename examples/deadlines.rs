//! Shows a time budget that shrinks down a tree of calls: limits nest, the tightest one holds, and
//! each callee can ask how much is left before it starts something.

use std::time::Duration;

use futures::channel::oneshot;
use heirloom::{context_var, remaining, sleep, spawn, spawn_background, spawn_blocking, wait_for};

context_var! {
    /// How deep the call is, for the printed tree.
    static DEPTH: usize = 0;
}

fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Prints a node of the tree, and returns what is left of the budget there.
fn report(what: &str) -> Option<Duration> {
    let left = remaining();
    let indent = "  ".repeat(DEPTH.get());
    let label = format!("{indent}{what}");
    match left {
        Some(left) => println!("{label:<48}{:>5} ms left", left.as_millis()),
        None => println!("{label:<50}no limit"),
    }
    left
}

/// Does the thorough search only if there is time for it.
async fn search() -> &'static str {
    let _deeper = DEPTH.bind(DEPTH.get() + 1);
    let thorough = milliseconds(350);
    let left = report("search").expect("its callers limit it");
    if left < thorough {
        sleep(milliseconds(10)).await;
        "a quick answer"
    } else {
        sleep(thorough).await;
        "a thorough answer"
    }
}

/// Asks for more than its caller has: gets what its caller has.
async fn catalogue() -> &'static str {
    let _deeper = DEPTH.bind(DEPTH.get() + 1);
    let before = report("catalogue, within its caller's limit").expect("limited");
    let answer = wait_for(
        async {
            let left = report("catalogue, which asks for 10 s").expect("limited");
            assert!(left <= before, "a limit never extends an outer one");
            sleep(milliseconds(80)).await;
            search().await
        },
        Duration::from_secs(10),
    );
    answer.await.expect("in time")
}

/// The children of a limited call are limited as well: tasks and blocking closures take the
/// deadline along.
async fn children() {
    let before = remaining().expect("limited");
    let task = spawn(async {
        let left = report("a spawned task");
        let nested = spawn(async { report("a task of that task") }).await.expect("no panic");
        (left, nested)
    });
    let (left, nested) = task.await.expect("no panic");
    let blocking = spawn_blocking(|| report("a blocking closure")).await.expect("no panic");
    for left in [left, nested, blocking] {
        assert!(left.expect("children inherit the deadline") <= before);
    }

    // The limit around a handle limits the waiting. The task was spawned outside of it, and has the
    // outer deadline.
    let spawned_outside = spawn(async { report("a task, awaited for 1000 ms at most") });
    let left = wait_for(spawned_outside, milliseconds(1000)).await.expect("in time").expect("no panic");
    assert!(left.expect("children inherit the deadline") > milliseconds(1000));

    // Background work has no deadline of the request that started it.
    let (tell, told) = oneshot::channel();
    spawn_background(async { tell.send(report("a background task")) });
    assert_eq!(told.await, Ok(None));
}

#[heirloom::main]
pub(crate) async fn main() {
    assert_eq!(report("no limit yet"), None);

    let answer = wait_for(
        async {
            let left = report("a request, limited to 400 ms").expect("limited");
            assert!(left <= milliseconds(400));
            catalogue().await
        },
        milliseconds(400),
    );
    let answer = answer.await.expect("the search knows how much time is left");
    println!("=> {answer}\n");
    assert_eq!(answer, "a quick answer");

    wait_for(
        async {
            report("another request, limited to 10 s");
            let _deeper = DEPTH.bind(1);
            children().await;
        },
        Duration::from_secs(10),
    )
    .await
    .expect("in time");
    println!();

    // The inner limit is the generous one, yet the outer one cuts.
    let slow = wait_for(sleep(Duration::from_secs(60)), Duration::from_secs(30));
    let cut = wait_for(slow, milliseconds(30)).await;
    println!("30 ms around 30 s around a minute of sleep: {}", if cut.is_err() { "cut" } else { "not cut" });
    assert!(cut.is_err());
    assert_eq!(report("and after all that"), None);
}
