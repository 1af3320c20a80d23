//! A request for the stacks of one task, as a word in the task's record.
//!
//! # Terms
//!
//! The *looker* is a thread that asks for stacks. A *ticket* is its number for this task. Who takes
//! the ticket out answers it; so each ticket is answered once.
//!
//! # Transitions
//!
//! | step | who | effect | function |
//! | --- | --- | --- | --- |
//! | TK1 | the looker | puts the ticket in, then wakes the task | `Ticket::put` |
//! | TK2 | the thread that has the stage | takes the ticket when a poll begins, and again when the task ends | `Ticket::take` |
//! | TK3 | the looker | takes the ticket back: it sees that the task is done, or the time is up | `Ticket::take` |
//!
//! # Why no ticket is forgotten
//!
//! The ticket is in before the wake-up changes the [state word](super::state). If the task is
//! polled again, that poll begins after the wake-up in the history of that word, and TK2 sees the
//! ticket. If the task is not, it is done, or will be; it may have looked for a ticket for the last
//! time before TK1. So the looker looks at the tasks that have not answered now and then: TK3. The
//! operations on the ticket need no order of their own: the history of the state word has one.
#![forbid(unsafe_code)]

use crate::util::sync::atomic::AtomicU64;
use crate::util::sync::atomic::Ordering::Relaxed;

/// The place for a ticket: zero if there is none.
pub(crate) struct Ticket(AtomicU64);

impl Ticket {
    pub(crate) fn none() -> Ticket {
        Ticket(AtomicU64::new(0))
    }

    /// TK1. One looker asks at a time.
    pub(crate) fn put(&self, number: u64) {
        self.0.store(number, Relaxed);
    }

    /// TK2 and TK3.
    #[inline]
    pub(crate) fn take(&self) -> Option<u64> {
        if self.0.load(Relaxed) == 0 {
            return None;
        }
        Some(self.0.swap(0, Relaxed)).filter(|number| *number != 0)
    }
}

#[cfg(all(test, loom))]
mod models {
    use std::sync::Arc;

    use loom::thread;

    use super::super::TaskState;
    use super::super::state::{AfterPending, AfterRelease, AfterStart, Close, StateWord, Wake};
    use super::*;
    use crate::util::sync::atomic::AtomicUsize;
    use crate::util::sync::model::{check, check_without};
    use crate::util::sync::weakened;

    struct Task {
        state: StateWord,
        ticket: Ticket,
        answers: AtomicUsize,
        /// Its next poll is the last.
        ends: bool,
    }

    impl Task {
        /// A task that is idle and detached.
        fn idle(ends: bool) -> Arc<Task> {
            let (state, ticket) = (StateWord::vacant(), Ticket::none());
            state.publish(false);
            assert_eq!(state.release_handle(true), AfterRelease::Released(Wake::Nothing));
            assert!(matches!(state.start(), AfterStart::Poll { .. }));
            assert_eq!(state.pend(false), AfterPending::Idle);
            // The reference of the looker keeps the task.
            state.retain();
            Arc::new(Task { state, ticket, answers: AtomicUsize::new(0), ends })
        }

        /// TK2, TK3.
        fn take_and_answer(&self) {
            if self.ticket.take().is_some() {
                self.answers.fetch_add(1, Relaxed);
            }
        }

        fn run(&self) {
            loop {
                let AfterStart::Poll { .. } = self.state.start() else { return };
                self.take_and_answer();
                if self.ends {
                    let _ = self.state.seal();
                    self.take_and_answer();
                    assert_eq!(self.state.complete(1, false), Close::Nothing);
                    return;
                }
                if self.state.pend(false) == AfterPending::Idle {
                    return;
                }
            }
        }

        fn wake(&self) {
            if self.state.wake() == Wake::Schedule {
                self.run();
            }
        }

        /// TK1.
        fn ask(&self) {
            if weakened("ticket before wake-up") {
                self.wake();
                self.ticket.put(1);
            } else {
                self.ticket.put(1);
                self.wake();
            }
        }
    }

    /// The task is woken by another thread while it is asked.
    fn ask(task: &Arc<Task>) {
        let waker = {
            let task = Arc::clone(task);
            thread::spawn(move || task.wake())
        };
        task.ask();
        waker.join().unwrap();
    }

    fn ask_a_task_that_waits_on() {
        let task = Task::idle(false);
        ask(&task);
        assert_eq!(task.answers.load(Relaxed), 1, "answers");
    }

    #[test]
    fn a_task_that_waits_on_answers_once() {
        check(ask_a_task_that_waits_on);
    }

    #[test]
    #[should_panic = "answers"]
    fn a_ticket_must_be_in_before_the_wake_up() {
        check_without("ticket before wake-up", ask_a_task_that_waits_on);
    }

    fn ask_a_task_that_ends() {
        let task = Task::idle(true);
        ask(&task);
        if !weakened("look at the end") {
            assert_eq!(task.state.phase(), TaskState::Done);
            task.take_and_answer();
        }
        assert_eq!(task.answers.load(Relaxed), 1, "answers");
    }

    #[test]
    fn a_task_that_ends_is_answered_for_once() {
        check(ask_a_task_that_ends);
    }

    #[test]
    #[should_panic = "answers"]
    fn the_looker_must_look_at_the_end() {
        check_without("look at the end", ask_a_task_that_ends);
    }
}
