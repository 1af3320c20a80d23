//! Sources of events outside the process, and who waits for them.
//!
//! | file | what it is |
//! | --- | --- |
//! | `readiness` | one source: what it is ready for, and who waits. Knows no descriptor |
//! | `driver` | the runtime's poll: from events to sources to wakers |
//! | `registration` | a socket and its source: operations that wait |
//! | `eager` | the same under the eager flag: the thread waits for the descriptor itself |
//! | `net` | the sockets; names |
//! | `signal` | signals, each a pipe |
//!
//! # Who polls
//!
//! There is no I/O thread. The worker that keeps the time sleeps in the poll, instead of on its parker, as soon as the
//! runtime has a driver, and that is when the first source is registered. Whoever has to wake that worker does it through
//! the poll. Workers that are busy poll without waiting every so many polls of tasks, unless somebody is in the poll
//! already. So an event makes its task runnable on the thread that hears of it.
//!
//! Whoever polls takes away what was to wake another that polls. So the one that sleeps says that it does only when it has
//! the poll to itself; `scheduler::parker` has the states, and `scheduler::models` tries every interleaving.
//!
//! # No event is lost
//!
//! Sources are registered for both directions, once, and are told of *changes* (edge-triggered). What a source is ready for
//! is kept in its word until an operation has found that it is not so any more. The word counts events: an operation takes
//! back only what it saw before it tried.
//!
//! ```text
//!   whoever wants to read              the poll
//!   ─────────────────────              ────────
//!   R1  look at the word               E1  set the bit, count
//!   R2  try; it would block:           E2  lock the waiters, take those of the
//!         take the bit back,               direction, unlock
//!         if the count is R1's         E3  wake them
//!   R3  lock the waiters, enter
//!   R4  look again, unlock
//! ```
//!
//! E1 comes before E2 and R3 before R4, and the lock puts E2 and R3..R4 in an order. E2 first: R4 sees the bit. R4 first:
//! E2 finds the waiter. R2 leaves the bit alone if there was an event after R1, for then what was tried may be of before it.
//!
//! # A source's number
//!
//! Sources stand in a slab. Events carry a source's place and its generation, so what was on its way to a source that is
//! gone does not reach the next one in its place, which may well have the same descriptor.

pub(crate) mod driver;
pub(crate) mod readiness;

#[cfg(all(test, loom))]
mod models;
