//! Shows that a time limit is no boundary while a spawn is: 42 stays with `wait_for(f)`, and does
//! not with `wait_for(spawn(f))`.

use std::future::pending;
use std::time::Duration;

use futures::channel::oneshot;
use heirloom::{context_var, spawn, wait_for};

context_var! {
    static ANSWER: u32;
}

const LIMIT: Duration = Duration::from_secs(1);

async fn find_the_answer() {
    ANSWER.set(42);
}

fn report(call: &str, expected: Option<u32>) {
    let seen = ANSWER.get();
    println!("{call:<45} the caller sees {seen:?}");
    assert_eq!(seen, expected, "after {call}");
    ANSWER.unset();
}

#[heirloom::main]
pub(crate) async fn main() {
    find_the_answer().await;
    report("find_the_answer().await", Some(42));

    // The same task runs it, so this is a call like the one before.
    wait_for(find_the_answer(), LIMIT).await.expect("in time");
    report("wait_for(find_the_answer(), 1s).await", Some(42));

    // A task of its own runs it, in a context of its own.
    wait_for(spawn(find_the_answer()), LIMIT).await.expect("in time").expect("no panic");
    report("wait_for(spawn(find_the_answer()), 1s).await", None);

    // The limit cuts the call short; what it had done by then is done.
    let cut = wait_for(
        async {
            ANSWER.set(41);
            pending::<()>().await;
            ANSWER.set(42);
        },
        Duration::from_millis(20),
    );
    assert!(cut.await.is_err());
    report("wait_for(never_ending(), 20ms).await", Some(41));

    // When time is up the handle is dropped, and dropping a handle cancels its task.
    let (alive, gone) = oneshot::channel::<()>();
    let task = spawn(async move {
        let _alive = alive;
        pending::<()>().await
    });
    assert!(wait_for(task, Duration::from_millis(20)).await.is_err());
    assert!(gone.await.is_err(), "the sender is dropped with the task");
    println!("{:<45} the task is cancelled", "wait_for(spawn(never_ending()), 20ms).await");
}
