//! Signals. Each test has a process of its own, which the signals go to.

use futures::future;
use heirloom::{block_on, signal, spawn};
use heirloom_tests::{PATIENCE, in_child, poll_once, runtime, say_as_child, wait_until, watchdog};
use rustix::process::{Signal, getpid, kill_process};

pub(super) fn send(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

/// Runs the body in a process of its own.
fn apart(test: &str, body: impl FnOnce() + Send + 'static) {
    apart_as(&format!("net::signals::{test}"), body);
}

pub(super) fn apart_as(test: &str, body: impl FnOnce() + Send + 'static) {
    if in_child(test, false).is_here() {
        watchdog(PATIENCE, body);
        say_as_child();
    }
}

#[test]
fn a_signal_resolves_every_listener() {
    apart("a_signal_resolves_every_listener", || {
        let (one, other) = (runtime(1), runtime(2));
        for round in 0..3 {
            let first = one.block_on(async { spawn(signal::ctrl_c()) });
            let second = other.block_on(async { signal::ctrl_c() });
            let third = signal::ctrl_c();
            let far = other.block_on(async { spawn(second) });
            send(Signal::INT);
            let (first, far) = block_on(future::join(first, far));
            first.unwrap().unwrap();
            far.unwrap().unwrap();
            block_on(third).unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
    });
}

#[test]
fn it_listens_from_the_call_on_and_loses_none_between_two_waits() {
    apart("it_listens_from_the_call_on_and_loses_none_between_two_waits", || {
        let mut terminate = signal::terminate();
        for _ in 0..5 {
            // No task has polled yet, or again.
            send(Signal::TERM);
            block_on(&mut terminate).unwrap();
        }
        // Several count as one, and one that was taken is gone.
        for _ in 0..200 {
            send(Signal::TERM);
        }
        block_on(&mut terminate).unwrap();
        // The system may deliver the last of them a little later.
        let terminate = std::cell::RefCell::new(terminate);
        assert!(wait_until(|| poll_once(&mut *terminate.borrow_mut()).is_pending()));
    });
}

#[test]
fn signals_are_told_apart() {
    apart("signals_are_told_apart", || {
        let (mut interrupt, mut terminate) = (signal::ctrl_c(), signal::terminate());
        send(Signal::TERM);
        block_on(&mut terminate).unwrap();
        assert!(poll_once(&mut interrupt).is_pending());
        send(Signal::INT);
        block_on(&mut interrupt).unwrap();
        assert!(poll_once(&mut terminate).is_pending());
    });
}

#[test]
fn signals_come_after_the_runtime_that_asked_first_is_gone() {
    apart("signals_come_after_the_runtime_that_asked_first_is_gone", || {
        let first = runtime(1);
        let lost = first.block_on(async { signal::terminate() });
        let used = first.block_on(async { spawn(signal::ctrl_c()) });
        send(Signal::INT);
        first.block_on(used).unwrap().unwrap();
        drop(first);
        assert!(block_on(lost).is_err());
        for _ in 0..2 {
            let next = runtime(1);
            let waits = next.block_on(async { spawn(signal::ctrl_c()) });
            send(Signal::INT);
            next.block_on(waits).unwrap().unwrap();
        }
        let waits = signal::ctrl_c();
        send(Signal::INT);
        block_on(waits).unwrap();
    });
}

#[test]
fn the_default_action_stays_away_after_the_last_listener() {
    apart("the_default_action_stays_away_after_the_last_listener", || {
        drop((signal::ctrl_c(), signal::terminate()));
        // Either would have ended the process.
        send(Signal::INT);
        send(Signal::TERM);
        // Both are delivered, since the one that follows them is.
        let mut last = signal::ctrl_c();
        send(Signal::INT);
        block_on(&mut last).unwrap();
    });
}

#[test]
fn a_signal_without_a_listener_keeps_its_default_action() {
    let test = "net::signals::a_signal_without_a_listener_keeps_its_default_action";
    match in_child(test, false) {
        heirloom_tests::Child::Here => {
            let _interrupt = signal::ctrl_c();
            send(Signal::TERM);
            // Never comes: the process is gone.
            assert!(!wait_until(|| false));
        }
        heirloom_tests::Child::Ended(output) => {
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(output.status.signal(), Some(Signal::TERM.as_raw()));
        }
    }
}
