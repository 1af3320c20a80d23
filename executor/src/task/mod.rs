//! Tasks: options for spawning one, which one is running, and how much it may do at a time.
//!
//! The rest of this page is for those who read the source: one task is a future, its context, and the word that says
//! what may be done with them. This module knows no queue, clock or thread: a task reaches whoever runs it through
//! `Schedule`.
//!
//! # Memory
//!
//! A `Cell`: header, stage. The stage is the future, then its output, then nothing. It stands in a slot of a page (`page.rs`),
//! which is free again when the last reference is given up.
//!
//! # References
//!
//! | kind | how many | may |
//! | --- | --- | --- |
//! | the task's own | one, until it is done | nothing: it keeps the task for whoever may yet cancel it |
//! | `Runnable` | one at most, but for a stale one | poll, cancel |
//! | [`JoinHandle`](crate::JoinHandle) | one at most | cancel, and take the output when the task is done |
//! | [`AbortHandle`](crate::AbortHandle), wakers | any | cancel, wake |
//! | a walker's | any, made from the slot while the task is not done | cancel at shutdown, look |
//!
//! All are counted in the upper bits of the state word. Who polls a task has the runnable's reference. A task that waits for another
//! leaves that with its waker (`current::copy`), instead of a further one: then 3 and 5 give none up.
//!
//! # States
//!
//! | phase | SCHEDULED | RUNNING | SEALED | DONE | a runnable exists | stage |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | idle | 0 | 0 | 0 | 0 | no | future |
//! | scheduled | 1 | 0 | 0 | 0 | in a queue | future |
//! | running | 0 | 1 | 0 | 0 | being polled | future |
//! | running, woken | 1 | 1 | 0 | 0 | being polled, to be queued again | future |
//! | yielded, seized | – | 1 | 0 | 0 | begun: in a queue, in a worker's hands | future |
//! | sealed | – | 1 | 1, if there is a handle | 0 | being closed | output, or nothing if nobody wants it |
//! | done | – | 0 | – | 1 | perhaps a stale one, to be dropped | output until it is taken |
//!
//! ```text
//!            1 spawn                    2 start              4 seal              5 close
//!   (nothing) ───────► scheduled ────────────────► running ──────────► sealed ──────────► done
//!                        ▲   ▲                     │  │  ▲
//!                        │   └──── 3b requeue ─────┘  │  │ woken: SCHEDULED is set
//!                        │                            │
//!                        └── 6 wake ── idle ◄── 3a rest
//!
//!   3c stay: a task that has yielded is queued as it is, and 2 is a look at the word (resume).
//!   7 cancel: sets CANCELLED; idle: 6. Whoever runs it next (2) or now (3) drops the future and goes to 4.
//!   8 claim (shutdown): idle or scheduled ──► running, by the thread that shuts down; a runnable left in a queue is stale.
//!   9 leave: the handle goes. 10 offer, 11 withdraw: the handle's waker is lent to 5, and taken back.
//! ```
//!
//! A worker may take steps 3 and 5 of one task when it has taken step 2 of the next (`turn.rs`): until then the first one is
//! *running*, and so is the second, though neither is being polled. If the second is the joiner of the first, idle so far, its
//! steps 6 and 2 are one. If foreign code has to run in between, the second is put back to before step 2.
//!
//! A task that has yielded to a worker's queue stays *running*: its runnable is *begun*, that is, it has the stage, and whoever
//! takes it from the queue goes on. So of three locked operations a yield needs one, the queue's. It cannot be claimed: a
//! shutdown asks for its end, and takes it from the queue.
//!
//! Steps 2 to 5 are mostly a worker's; of a task that begins where it is spawned they are its spawner's (`scheduler/inline.rs`).
//! An *attendant* may poll it again and again between 2 and 4: the future then wakes the attendant, not the task.
//!
//! Each step is a method of `State`, which says what its caller owes: 1 `publish`, 2 `start` or `resume`, 3 `rest` or `stay`, 4
//! `seal`, 5 `close`, 6 `wake` (by reference), `wake_owned`, and `seize` (with 2), 7 `cancel`, 8 `claim`, 9 `leave`, 10
//! `offer_waker`, 11 `withdraw_waker`. Where a step gives a reference up, or turns it into a runnable's, it does so in the same
//! change of the word.
//!
//! # Who may touch what
//!
//! * The **stage** and the **live context**: whoever has set RUNNING (2 or 8), or has the runnable that is begun, until 4. After
//!   4 the output is the join handle's if there was one at 4; else it is gone. The context goes between 4 and 5: who sees DONE sees it gone.
//! * The **joiner's waker**: the handle's, but while WAKER is set (10 to 11). If SEALED comes while it is set, it is the
//!   closer's; so it is if it is offered between SEALED and DONE. The handle offers, and learns by the same change of the word
//!   whether it came too late, after DONE; the closer sets SEALED, then DONE, and learns by the same changes whether there is
//!   a waker. One of the two sees the other.
//! * The **reason** of a cancellation: written once, before CANCELLED is set; read by whoever acts on CANCELLED.
//! * **Everything**, by whoever has the last reference; none is made of a task that is done but from another.
//!
//! # Why every wake-up leads to a poll
//!
//! 6 finds the task idle and makes a runnable, or scheduled, where one exists, or running, where it leaves SCHEDULED for 3 to
//! find. 2 clears SCHEDULED before the poll, so a wake-up during the poll is not taken for one before it. Both sides are
//! read-modify-write operations of one word with acquire and release: what the waker wrote is seen by the poll. A task that
//! wakes itself to have another turn ([`yield_now`]) leaves a note on its thread instead, which 3 is told of. Of a runnable
//! that is begun 2 changes the word only if it sees that the task was woken. It may miss that; but the poll to come is followed
//! by a 3 that does not, or by another poll.

pub mod budget;
pub(crate) mod cell;
pub(crate) mod current;
pub(crate) mod harness;
pub(crate) mod id;
pub(crate) mod info;
pub(crate) mod join_handle;
pub(crate) mod join_waker;
#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod order_tests;
pub(crate) mod output;
pub(crate) mod state;
pub(crate) mod waker;

pub use crate::runtime::task_builder::Builder;
pub use budget::yield_now;
pub use current::{TaskMeta, current};
pub use id::Id;

use std::ptr::NonNull;
use std::task::Waker;

use cell::{Header, Runnable};

use crate::slab;

/// Where a task goes when it is to be polled, and whence its memory comes.
pub(crate) trait Schedule: 'static {
    /// What the tasks of this scheduler share. Their pages keep it.
    type Shared: Send + Sync + 'static;

    /// Takes a task that was woken, or spawned.
    fn schedule(shared: &Self::Shared, task: Runnable);

    /// Takes a task that was woken by somebody who keeps nothing: what is shared may go with the task, during the call.
    ///
    /// # Safety
    /// The caller gives up a reference that a transition has counted for a runnable; the task is this scheduler's.
    unsafe fn wake(task: NonNull<Header>) {
        // SAFETY: says the caller.
        unsafe { Self::schedule(slab::shared_of(task.cast()), Runnable::from_raw(task)) }
    }

    /// Takes a task that was spawned, by somebody who keeps what is shared. If that accepts no more, the task is cancelled.
    fn launch(shared: &Self::Shared, task: Runnable) {
        Self::schedule(shared, task);
    }

    /// Gives the slot of a task back; see [`slab::free`].
    ///
    /// # Safety
    /// The task is gone; its heap's pages hold a `Self::Shared`.
    unsafe fn free(task: NonNull<Header>);

    /// A task is about to be done.
    fn ending(_shared: &Self::Shared) {}

    /// A panic was caught in a task.
    fn panicked(_shared: &Self::Shared) {}
}

/// Stays with a task while it is polled.
pub(crate) trait Attendant {
    /// Whom the future wakes, instead of the task.
    fn waker(&self) -> &Waker;

    /// Called inside the task when its future was pending: waits until it is to be polled again, or says no.
    fn again(&self) -> bool;
}
