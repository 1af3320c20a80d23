//! Traced polls: how a task says through which functions it waits.
//!
//! # Terms
//!
//! * A *traced poll* is a poll in which each leaf of this crate that reports pending captures its
//!   stack. In all else it is the poll that follows a spurious wake-up: wakers are registered,
//!   timers run on, leaves that are ready are ready.
//! * A *stack* is the return addresses between the leaf and the poll of the task, from the leaf on.
//!   What functions they are in is looked up later, by the thread that has asked.
//! * A *pass* is one call that asks for the stacks of many tasks. A process has one at a time.
//! * A [ticket](super::ticket) asks one task: the number of the pass, and the task's index in it.
//!
//! # Which frames are the task's
//!
//! Stacks grow downwards. The harness hands in the address of a variable of its own frame, the
//! *base*; the frames of what it calls lie below. A frame above the base ends the stack. The few
//! frames of the harness itself are left out by name, when the stack is printed.
//!
//! Without the feature `stacks`, `no_trace.rs` stands for this file.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashSet;
use std::mem;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::leaf::Leaf;
use super::ticket::Ticket;
use crate::util::sync::lock;

/// The most stacks that are kept of one task.
const STACKS: usize = 8;
/// The most frames of a stack that are kept, those at the leaf.
const FRAMES: usize = 256;

/// What a record has for traced polls.
pub(crate) struct Trace {
    ticket: Ticket,
    /// The poll in progress is a traced one. For the thread that has the stage.
    traced: AtomicBool,
}

/// A stack as it was captured.
#[derive(Clone)]
pub(crate) struct Captured {
    pub(crate) leaf: Leaf,
    pub(crate) stack: Addresses,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Addresses {
    /// That of the leaf first.
    pub(crate) list: Arc<[usize]>,
    /// There were more.
    pub(crate) cut: bool,
}

/// What became of a ticket.
pub(crate) enum TicketAnswer {
    /// The traced poll was pending.
    Pending {
        captured: Vec<Captured>,
        /// How many leaves of this crate have reported pending.
        leaves: u64,
        /// The task has yielded.
        yielded: bool,
    },
    /// The task has ended.
    Ended,
}

/// A traced poll in progress.
struct TracedPoll {
    ticket: u64,
    base: usize,
    captured: Vec<(Leaf, Vec<usize>, bool)>,
}

thread_local! {
    /// Those of this thread, an inner one behind the outer ones.
    static TRACED: RefCell<Vec<TracedPoll>> = const { RefCell::new(Vec::new()) };
}

impl Trace {
    pub(crate) fn new() -> Trace {
        Trace { ticket: Ticket::none(), traced: AtomicBool::new(false) }
    }

    /// A poll begins, in a frame with a variable at this address.
    #[inline]
    pub(crate) fn poll_begins(&self, base: usize) {
        if let Some(ticket) = self.ticket.take() {
            let poll = TracedPoll { ticket, base, captured: Vec::new() };
            let pushed = TRACED.try_with(|traced| traced.borrow_mut().push(poll));
            // During thread teardown there is no list, and no answer.
            self.traced.store(pushed.is_ok(), Relaxed);
        }
    }

    /// A leaf is pending, after this many others.
    #[inline]
    pub(crate) fn note(&self, index: u64, leaf: Leaf) {
        if self.traced.load(Relaxed) {
            let _ = TRACED.try_with(|traced| {
                if let Some(poll) = traced.borrow_mut().last_mut() {
                    poll.note(index, leaf);
                }
            });
        }
    }

    /// A poll was pending, after this many leaves.
    #[inline]
    pub(crate) fn poll_ends(&self, leaves: u64, yielded: bool) {
        if let Some(TracedPoll { ticket, captured, .. }) = self.take_poll() {
            give(ticket, |pass| {
                let captured = captured.into_iter();
                let captured = captured.map(|(leaf, stack, cut)| pass.captured(leaf, stack, cut)).collect();
                TicketAnswer::Pending { captured, leaves, yielded }
            });
        }
    }

    /// The task has ended.
    #[inline]
    pub(crate) fn task_ends(&self) {
        if let Some(ticket) = self.take_poll().map(|poll| poll.ticket).or_else(|| self.ticket.take()) {
            give(ticket, |_| TicketAnswer::Ended);
        }
    }

    fn take_poll(&self) -> Option<TracedPoll> {
        if !self.traced.load(Relaxed) {
            return None;
        }
        self.traced.store(false, Relaxed);
        TRACED.try_with(|traced| traced.borrow_mut().pop()).ok().flatten()
    }
}

impl TracedPoll {
    #[cold]
    fn note(&mut self, index: u64, leaf: Leaf) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        // A leaf may stand for others that have been noted.
        self.captured.truncate(index);
        if index < STACKS {
            let (addresses, cut) = capture(self.base);
            self.captured.push((leaf, addresses, cut));
        }
    }
}

fn capture(base: usize) -> (Vec<usize>, bool) {
    let (mut addresses, mut cut) = (Vec::with_capacity(FRAMES / 4), false);
    backtrace::trace(|frame| {
        // Null if it is not known.
        if frame.sp().addr() > base {
            return false;
        }
        cut = addresses.len() == FRAMES;
        if !cut {
            addresses.push(frame.ip().addr());
        }
        !cut
    });
    (addresses, cut)
}

/// The pass in progress.
static PASS: Mutex<State> = Mutex::new(State { number: 0, current: None });
/// Something of it has changed.
static CHANGED: Condvar = Condvar::new();

struct State {
    /// The number of the last pass.
    number: u32,
    current: Option<Answers>,
}

#[derive(Default)]
struct Answers {
    by_index: Vec<Option<TicketAnswer>>,
    count: usize,
    /// Most tasks of a program wait at few places.
    stacks: HashSet<Addresses>,
}

impl Answers {
    fn captured(&mut self, leaf: Leaf, addresses: Vec<usize>, cut: bool) -> Captured {
        let stack = Addresses { list: addresses.into(), cut };
        let stack = match self.stacks.get(&stack) {
            Some(known) => known.clone(),
            None => {
                self.stacks.insert(stack.clone());
                stack
            }
        };
        Captured { leaf, stack }
    }
}

/// Gives an answer, if the pass that has asked still waits.
fn give(ticket: u64, answer: impl FnOnce(&mut Answers) -> TicketAnswer) {
    let mut state = lock(&PASS);
    let State { number, current: Some(answers) } = &mut *state else { return };
    if (ticket >> 32) as u32 != *number {
        return;
    }
    let answer = answer(answers);
    if let Some(place) = answers.by_index.get_mut(ticket as u32 as usize) {
        *place = Some(answer);
        answers.count += 1;
        CHANGED.notify_all();
    }
}

/// A call that asks for stacks. Dropped, it takes no more answers.
pub(crate) struct Pass {
    number: u32,
}

impl Pass {
    /// A pass over so many tasks, when no other one is in progress. `None` if the time is up.
    pub(crate) fn begin(tasks: usize, until: Instant) -> Option<Pass> {
        let mut state = lock(&PASS);
        while state.current.is_some() {
            let left = until.checked_duration_since(Instant::now())?;
            state = CHANGED.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        // Never zero, so that no ticket is.
        state.number = state.number.wrapping_add(1).max(1);
        let by_index = std::iter::repeat_with(|| None).take(tasks).collect();
        state.current = Some(Answers { by_index, ..Answers::default() });
        Some(Pass { number: state.number })
    }

    /// Asks the task with this index. The caller wakes the task next.
    pub(crate) fn ask(&self, index: u32, trace: &Trace) {
        trace.ticket.put(u64::from(self.number) << 32 | u64::from(index));
    }

    /// Takes the ticket back, if the task has not taken it.
    pub(crate) fn withdraw(&self, trace: &Trace) {
        trace.ticket.take();
    }

    /// For a task that has ended: says so, unless the task has answered or is about to.
    pub(crate) fn has_ended(&self, trace: &Trace) {
        if let Some(ticket) = trace.ticket.take() {
            give(ticket, |_| TicketAnswer::Ended);
        }
    }

    /// Waits for so many answers, and returns how many there are. Fewer if the time is up.
    pub(crate) fn wait(&self, answers: usize, until: Instant) -> usize {
        let mut state = lock(&PASS);
        loop {
            let count = state.current.as_ref().map_or(0, |current| current.count);
            let left = until.saturating_duration_since(Instant::now());
            if count >= answers || left.is_zero() {
                return count;
            }
            state = CHANGED.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The answers that there are, by the tasks' indices.
    pub(crate) fn take_answers(&self) -> Vec<Option<TicketAnswer>> {
        lock(&PASS).current.as_mut().map(|answers| mem::take(&mut answers.by_index)).unwrap_or_default()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let ended = lock(&PASS).current.take();
        CHANGED.notify_all();
        drop(ended);
    }
}
