//! Every interleaving of a child that wakes and a group that polls it, and twins that must fail.

use std::sync::Arc;
use std::task::{Wake, Waker};

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::ready_list::{ChildWaker, ReadyList};
use crate::util::sync::model::{check, check_without};

/// A queued child waker is woken once more, by a child that has ended, while the group takes the
/// list and looks at the child: it sees the end, or the child is on the list again.
fn wake_while_the_group_looks() {
    let list = ReadyList::new();
    let child_waker = ChildWaker::new(3, &list);
    child_waker.wake_by_ref();
    let ended = Arc::new(AtomicBool::new(false));
    let child = {
        let (child_waker, ended) = (Arc::clone(&child_waker), Arc::clone(&ended));
        thread::spawn(move || {
            ended.store(true, Ordering::Relaxed);
            child_waker.wake();
        })
    };
    let mut waiter = list.waiter();
    assert_eq!(waiter.take_ready(Waker::noop().clone()), [3]);
    child_waker.clear_queued();
    let seen = ended.load(Ordering::Relaxed);
    child.join().unwrap();
    assert!(seen || waiter.take_ready(Waker::noop().clone()) == [3], "the end of a child was missed");
}

#[test]
fn a_woken_child_is_seen_or_listed_again() {
    check(wake_while_the_group_looks);
}

#[test]
#[should_panic(expected = "the end of a child was missed")]
fn twin_whose_wake_up_publishes_nothing_is_caught() {
    check_without("wake", wake_while_the_group_looks);
}

#[test]
#[should_panic(expected = "the end of a child was missed")]
fn twin_that_clears_and_sees_nothing_is_caught() {
    check_without("clear_queued", wake_while_the_group_looks);
}
