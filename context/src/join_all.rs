//! Waiting for many futures in one task, each branch with a layer of its own.
//!
//! Each branch has a waker of its own, which puts the branch's index into a list, once, and wakes
//! the task if the task waits.
//!
//! ```text
//!   a branch's waker                         the task's poll
//!   1. queued: false -> true, else return    a. lock: take the list; unlock
//!   2. lock: list += index, take the task's  b. for each in it, queued := false, poll the branch
//!      waker; unlock                         c. lock: list empty? leave the task's waker; unlock;
//!   3. wake the task, if there was one          else unlock, ask for another poll
//! ```
//!
//! No wake-up is lost. One that comes after `queued := false` finds it so, and is in the list; one
//! that comes before it is for the poll that follows. The list and the task's waker change under
//! one lock: step 2 finds the waker that c has left, or c finds the index.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::current::{self, EnteredLayer, Owned};
use crate::util::panic::Unclaimed;
use crate::util::sync::atomic::AtomicBool;
use crate::util::sync::atomic::Ordering::{AcqRel, Relaxed};
use crate::util::sync::{Mutex, lock, weakened};

/// After so many branches that ask to be polled again while they are polled, the task yields:
/// perhaps its budget is used up, and each further branch would be polled for nothing.
const IMPATIENT: usize = 2;

/// Waits for all, each [isolated](crate::ContextFutureExt::isolated); the outputs come in the order
/// of the futures.
///
/// The first polls go through them in order. Later ones poll the branches that were woken, in the
/// order of the wake-ups: a poll costs what was woken, however many wait. A branch is dropped as
/// soon as it is done. If some branches wake themselves again and again, the task yields between
/// two rounds of them.
///
/// Cancel-safe as its branches are: dropping it drops all that are left, each in its context.
///
/// # Panics
/// If a branch does, and at each further poll after that.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::future;
/// use heirloom::context_var;
/// context_var! { static TENANT: u32; }
/// # futures::executor::block_on(async {
/// let branches = (0..3).map(|tenant| async move {
///     TENANT.set(tenant);
///     TENANT.get()
/// });
/// assert_eq!(future::join_all(branches).await, [Some(0), Some(1), Some(2)]);
/// assert!(!TENANT.is_set());
/// # });
/// ```
pub fn join_all<I>(futures: I) -> JoinAll<I::Item>
where
    I: IntoIterator,
    I::Item: Future,
{
    // At the call, not at the first poll: an iterator that makes its futures may look at the
    // context.
    let woken = Arc::<Woken>::default();
    let branch = |(index, future)| BranchState::Runs {
        branch: Box::pin(Branch { layer: Owned::EMPTY, future: Some(future) }),
        waker: Arc::new(BranchWaker { index, queued: AtomicBool::new(true), woken: Arc::clone(&woken) }),
    };
    let branches: Vec<_> = futures.into_iter().enumerate().map(branch).collect();
    let left = branches.len();
    JoinAll { branches, left, woken, round: (0..left).collect(), broken: false }
}

pin_project_lite::pin_project! {
    /// A branch of [`JoinAll`] in its layer. As `WithContext`, but smaller, and dropped within its
    /// last poll: of many branches, memory is what costs.
    struct Branch<F> {
        // Empty until it is needed.
        layer: Owned,
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Branch<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.as_mut().as_pin_mut().is_some() {
                let _inside = enter(this.layer);
                this.future.set(None);
            }
        }
    }
}

impl<F: Future> Future for Branch<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let inside = enter(this.layer);
        let poll = this.future.as_mut().as_pin_mut().expect("not done yet").poll(cx);
        let poll = poll.map(|output| {
            let output = Unclaimed::new(output);
            this.future.set(None);
            output.into_inner()
        });
        drop(inside);
        if this.layer.is_blank_layer() {
            this.layer.clear();
        }
        poll
    }
}

/// Enters a branch's layer.
fn enter(layer: &mut Owned) -> EnteredLayer<'_> {
    if layer.is_empty() {
        *layer = Owned::layer();
    }
    current::enter_layer(layer)
}

/// Waits for many futures; made by [`join_all`]. It has a name of its own, without the iterator's
/// type in it, so that it may be awaited in a spawned task also if the iterator borrows.
#[must_use = "futures do nothing unless they are polled"]
pub struct JoinAll<F: Future> {
    branches: Vec<BranchState<F>>,
    /// How many are not done.
    left: usize,
    woken: Arc<Woken>,
    /// The branches that are polled now, or, after the task has yielded, first.
    round: VecDeque<usize>,
    /// A poll has begun and not returned: a branch has panicked, and its output will never come.
    broken: bool,
}

enum BranchState<F: Future> {
    Runs { branch: Pin<Box<Branch<F>>>, waker: Arc<BranchWaker> },
    Done { output: F::Output },
}

// Branches are pinned in their boxes, and outputs are not pinned.
impl<F: Future> Unpin for JoinAll<F> {}

/// What wakers of branches and the task that polls share.
#[derive(Default)]
struct Woken {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The branches to poll next, each at most once.
    branches: Vec<usize>,
    /// The task's waker, while the task waits for a branch.
    task: Option<Waker>,
}

struct BranchWaker {
    index: usize,
    /// The index is among those to poll next, or the branch has not been polled since.
    queued: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for BranchWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Pairs with the swap in `poll`: what was done before this call happens before the branch's
        // next poll, also if another call has queued the branch.
        if self.queued.swap(true, AcqRel) {
            return;
        }
        let task = {
            let mut state = lock(&self.woken.state);
            state.branches.push(self.index);
            state.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<F: Future> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<F::Output>> {
        let JoinAll { branches, left, woken, round, broken } = &mut *self;
        assert!(!mem::replace(broken, true), "`join_all` polled after a panic in a branch");
        round.extend(lock(&woken.state).branches.drain(..));
        let mut impatient = 0;
        while impatient < IMPATIENT
            && let Some(index) = round.pop_front()
        {
            let BranchState::Runs { branch, waker } = &mut branches[index] else { continue };
            waker.unqueue();
            let poll = branch.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker))));
            if weakened("join_all: unqueue before the poll") {
                waker.queued.swap(false, AcqRel);
            }
            if let Poll::Ready(output) = poll {
                branches[index] = BranchState::Done { output };
                *left -= 1;
            } else if waker.queued.load(Relaxed) {
                impatient += 1;
            }
        }
        *broken = false;
        if *left == 0 {
            let outputs = mem::take(branches).into_iter().map(|branch| match branch {
                BranchState::Done { output } => output,
                BranchState::Runs { .. } => unreachable!("none is left"),
            });
            return Poll::Ready(outputs.collect());
        }
        match round.is_empty() {
            true => woken.wait(cx.waker().clone()),
            false => cx.waker().wake_by_ref(),
        }
        Poll::Pending
    }
}

impl BranchWaker {
    /// Before the branch is polled: a wake-up during the poll asks for another one.
    fn unqueue(&self) {
        if weakened("join_all: unqueue before the poll") {
            return;
        }
        // Pairs with the swap in `wake_by_ref`.
        let order = if weakened("join_all: see what woke") { Relaxed } else { AcqRel };
        self.queued.swap(false, order);
    }
}

impl Woken {
    /// Leaves the task's waker for the next branch that is woken; if there is one already, wakes
    /// the task.
    fn wait(&self, task: Waker) {
        let former = {
            let mut state = lock(&self.state);
            if !state.branches.is_empty() {
                drop(state);
                return task.wake();
            }
            if weakened("join_all: one lock for the list and the waker") {
                drop(state);
                state = lock(&self.state);
            }
            state.task.replace(task)
        };
        drop(former);
    }
}

impl<F: Future> Drop for JoinAll<F> {
    fn drop(&mut self) {
        // A branch's waker may be kept for long, and the task's memory with the task's waker.
        let task = lock(&self.woken.state).task.take();
        drop(task);
    }
}

impl<F: Future> fmt::Debug for JoinAll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAll").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod models;
