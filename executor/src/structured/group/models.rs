//! Every interleaving of a child that rings and a group that looks, and twins that must fail.

use std::sync::Arc;
use std::task::Waker;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::bells::{Bell, Bells};
use crate::util::sync::model::{check, check_without};

/// A bell that has rung rings once more, for a child that has ended, while the group takes the list
/// and looks at the child: it sees the end, or the child is on the list again.
fn ring_while_the_group_looks() {
    let bells = Bells::new();
    let bell = Bell::new(3, &bells);
    bell.ring();
    let ended = Arc::new(AtomicBool::new(false));
    let child = {
        let (bell, ended) = (Arc::clone(&bell), Arc::clone(&ended));
        thread::spawn(move || {
            ended.store(true, Ordering::Relaxed);
            bell.ring();
        })
    };
    let mut waiter = bells.waiter();
    assert_eq!(waiter.begin(Waker::noop().clone()), [3]);
    bell.hush();
    let seen = ended.load(Ordering::Relaxed);
    child.join().unwrap();
    assert!(seen || waiter.begin(Waker::noop().clone()) == [3], "the end of a child was missed");
}

#[test]
fn a_ring_is_heard_or_makes_the_group_look_again() {
    check(ring_while_the_group_looks);
}

#[test]
#[should_panic(expected = "the end of a child was missed")]
fn twin_whose_ring_publishes_nothing_is_caught() {
    check_without("ring", ring_while_the_group_looks);
}

#[test]
#[should_panic(expected = "the end of a child was missed")]
fn twin_that_hushes_and_sees_nothing_is_caught() {
    check_without("hush", ring_while_the_group_looks);
}
