//! Tasks: options for spawning one, which one is running, and how much it may do at a time.
//!
//! The rest of this page is for those who read the source: one task is a future, its context, and the word that says
//! what may be done with them. This module knows no queue, clock or thread: a task reaches whoever runs it through
//! `Schedule`.
//!
//! # Memory
//!
//! One allocation, a `Cell`: header, scheduler, stage. The stage is the future, then its output, then
//! nothing. It is freed with the last reference.
//!
//! # References
//!
//! | kind | how many | may |
//! | --- | --- | --- |
//! | `Runnable` | one at most | poll, cancel |
//! | [`JoinHandle`](crate::JoinHandle) | one at most | cancel, and take the output when the task is done |
//! | [`AbortHandle`](crate::AbortHandle), wakers | any | cancel, wake |
//! | the registry's | one, until the task is done | cancel at shutdown |
//!
//! All are counted in the upper bits of the state word.
//!
//! # States
//!
//! | phase | SCHEDULED | RUNNING | SEALED | DONE | a runnable exists | stage |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | idle | 0 | 0 | 0 | 0 | no | future |
//! | scheduled | 1 | 0 | 0 | 0 | in a queue | future |
//! | running | 0 | 1 | 0 | 0 | being polled | future |
//! | running, woken | 1 | 1 | 0 | 0 | being polled, to be queued again | future |
//! | sealed | – | 1 | 1 | 0 | being closed | output, or nothing if nobody wants it |
//! | done | – | 0 | 1 | 1 | perhaps a stale one, to be dropped | output until it is taken |
//!
//! ```text
//!            1 spawn                    2 start              4 finish            5 close
//!   (nothing) ───────► scheduled ────────────────► running ──────────► sealed ──────────► done
//!                        ▲   ▲                     │  │  ▲
//!                        │   └──── 3b requeue ─────┘  │  │ woken: SCHEDULED is set
//!                        │                            │
//!                        └── 6 wake ── idle ◄── 3a rest
//!
//!   7 cancel: sets CANCELLED; idle: 6. Whoever runs it next (2) or now (3) drops the future and goes to 4.
//!   8 claim (shutdown): idle or scheduled ──► running, by the thread that shuts down; a runnable left in a queue is stale.
//! ```
//!
//! 1 `spawn`; 2 `State::start`; 3 `State::rest`; 4 `State::seal`; 5 `State::close`; 6 `State::wake`; 7
//! `State::cancel`; 8 `State::claim`.
//!
//! # Who may touch what
//!
//! * The **stage** and the **live context**: whoever has set RUNNING (2 or 8), until 4. After 4 the output is the join
//!   handle's if there was one at 4; else it is gone. The context goes between 4 and 5: who sees DONE sees it gone.
//! * The **join waker**: under its own small lock. The handle registers, *then* looks at DONE; the closer sets DONE, *then*
//!   takes the waker. One of the two sees the other.
//! * The **reason** of a cancellation: written once, before CANCELLED is set; read by whoever acts on CANCELLED.
//!
//! # Why every wake-up leads to a poll
//!
//! 6 finds the task idle and makes a runnable, or scheduled, where one exists, or running, where it leaves SCHEDULED
//! for 3 to find. 2 clears SCHEDULED before the poll, so a wake-up during the poll is never taken for one before it. Both
//! sides are read-modify-write operations of one word with acquire and release: what the waker wrote is seen by the poll.

pub mod budget;
pub(crate) mod builder;
pub(crate) mod cell;
pub(crate) mod current;
pub(crate) mod harness;
pub(crate) mod id;
pub(crate) mod join_slot;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod state;
pub(crate) mod waker;

pub use budget::yield_now;
pub use builder::Builder;
pub use current::{TaskMeta, current};
pub use id::Id;

use cell::Runnable;

/// Where a task goes when it is to be polled.
pub(crate) trait Schedule: Send + Sync + 'static {
    /// Takes a task that was woken, or spawned.
    fn schedule(&self, task: Runnable);

    /// The task is done, and no longer to be cancelled at shutdown. Gives back the registry's reference.
    fn forget(&self, task: &cell::Header) -> Option<cell::TaskRef>;

    /// A panic was caught in a task.
    fn panicked(&self) {}
}
