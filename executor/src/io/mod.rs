//! Events from the operating system, and the tasks that wait for them.
//!
//! | file | what it is |
//! | --- | --- |
//! | `readiness` | one source: what it is ready for, and which tasks wait. Knows no descriptor |
//! | `driver` | the runtime's poll: from events to sources to wakers |
//! | `sources` | the driver's table of its sources |
//! | `none` | the driver of a build without the feature `net` |
//!
//! The sockets are in `net`, signals in `signal`: `net::registration` is a socket and its source.
//!
//! # Terms
//!
//! * A *source* is a descriptor that is registered with the driver, and its readiness.
//! * The *driver* is the runtime's poll (epoll, kqueue or the like) and the table of its sources.
//! * An *event* is what the system reports of a source: that it has become readable, writable, or
//!   closed in one direction.
//! * An *operation* is one system call that does not wait, such as `read` or `accept`.
//! * A *waiter* is a task whose waker is registered with a source.
//! * The *time keeper* is the worker that sleeps until the next timer (see `scheduler`).
//!
//! # Which thread polls
//!
//! There is no I/O thread. The driver starts with the runtime's first source. From then on the time
//! keeper sleeps in the poll instead of on its parker, and a thread that has to wake it does so
//! through the driver. Busy workers poll without waiting, once per so many polls of tasks, unless
//! another worker is in the poll. So an event makes its task runnable on the thread that received
//! the event.
//!
//! The driver's wake-up is an event like the others: the thread that polls next consumes it. So a
//! worker publishes that it sleeps in the poll only while it holds the lock of the poll. States and
//! transitions are in `scheduler::parker`, and `scheduler::models` tries every interleaving.
//!
//! # The readiness protocol
//!
//! A source is registered once, for both directions, and is told of *changes* (edge-triggered). So
//! each direction keeps in the source's word what the last events said:
//!
//! * **blocked**: no event came since an operation would have blocked, or since the source was
//!   registered. New operations wait.
//! * **ready**: an event came since. An operation is tried.
//! * **closed**: the peer sends or receives no more. An operation is tried, and does not wait.
//! * **ended**: the driver has ended. Every operation fails.
//!
//! The word also counts events. An operation clears bits only if the count is still the one that it
//! read before it tried.
//!
//! ```text
//!   operation
//!   IO1  read the word: ready, closed or ended, or IO3           Readiness::observe
//!   IO2  try; if it would block, and the count is IO1's,
//!        clear the direction's bits: IO1                         Readiness::would_block
//!   IO3  lock, register the waker                                Readiness::wait
//!   IO4  read the word again, unlock: IO2, or pending            Readiness::wait
//!
//!   event
//!   IO5  set the bit, and add 1 to the count                     Readiness::record
//!   IO6  lock, take the wakers of the direction, unlock          Readiness::record
//!   IO7  wake them                                               wake_all
//! ```
//!
//! **No event is lost.** IO5 comes before IO6, and IO3 before IO4. The lock puts IO6 and IO3 to IO4
//! in an order. If IO6 is first, IO4 sees the bit. If IO4 is first, IO6 finds the waker. IO2 keeps
//! the bit if an event came after IO1, because the operation may have been tried before that event.
//!
//! # A source's token
//!
//! Events name a source by a token: the source's key in the driver's table, and a generation. The
//! generation tells a source from the former one under the same key, which may have had the same
//! descriptor: an event that was on its way to a removed source does not reach the next one.

// The one place that decides whether there is a poll; `none.rs` has the same interface.
#[cfg_attr(not(feature = "net"), path = "none.rs")]
pub(crate) mod driver;
#[cfg(all(test, loom, feature = "net"))]
mod models;
#[cfg(feature = "net")]
pub(crate) mod readiness;
#[cfg(feature = "net")]
pub(crate) mod sources;
