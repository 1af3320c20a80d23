//! Sleeping, ticking, time limits, and how much time is left.
//!
//! | for | see |
//! | --- | --- |
//! | waiting until an instant | [`sleep`](sleep()), [`sleep_until`] |
//! | doing something once per period | [`interval`](interval()), [`MissedTicks`] |
//! | a time limit, elsewhere called timeout | [`wait_for`](wait_for()), [`wait_until`], [`Elapsed`] |
//! | knowing how much time is left | [`deadline`](deadline()), [`remaining`] |
//! | an instant | [`std::time::Instant`] |
//!
//! ```
//! use std::time::Duration;
//! use heirloom::time::{remaining, sleep, wait_for};
//!
//! # heirloom::block_on(async {
//! let answer = wait_for(async { 42 }, Duration::from_secs(1)).await;
//! assert_eq!(answer.unwrap(), 42);
//!
//! let late = wait_for(sleep(Duration::from_secs(60)), Duration::from_millis(5)).await;
//! assert_eq!(late.unwrap_err().to_string(), "the time limit has elapsed");
//!
//! // Code inside a limit, and what it spawns, can ask for what is left of it.
//! let patience = wait_for(async { remaining() }, Duration::from_secs(1)).await;
//! assert!(patience.unwrap().unwrap() <= Duration::from_secs(1));
//! # });
//! ```
//!
//! # Promises
//!
//! * Never early, and not much later than the [precision](#precision) of timers.
//! * Every duration and every instant is allowed. A duration of zero, and an instant that has
//!   passed, is ready at once. What is beyond an [`Instant`](std::time::Instant) is pending for
//!   ever. Only an interval without a period panics.
//! * A timer that is dropped costs nothing afterwards: no entry, no wake-up. A timer whose instant
//!   had passed when it was made never had an entry.
//! * There is no timer thread: idle workers sleep until the next timer.
//!
//! # Precision
//!
//! | the instant is | rounded up by less than | an idle runtime gets up for it |
//! | --- | --- | --- |
//! | less than 1 ms ahead when the timer is set | a 64th of a millisecond | then |
//! | further ahead | a 32nd of the time, and 1 ms | at the end of that millisecond |
//!
//! So an idle runtime gets up once for all timers of one millisecond. Workers that are awake do not
//! wait for the end of the millisecond.
//!
//! In [virtual time](crate::runtime::Builder::virtual_time) nothing is rounded.
//!
//! The machine adds what it takes to wake a thread: on an idle Linux some 10 to 20 µs. Where the
//! workers are busy, timers are fired between two polls of tasks, every tenth of a millisecond or
//! as soon as the polls permit.
//!
//! Once the runtime has a socket (feature `net`), an idle worker sleeps in the system's poll. Those
//! of macOS and the BSDs count nanoseconds. Those of Linux and Windows count milliseconds, and add
//! up to one. On Linux a wait of less than a millisecond is made by `ppoll(2)`, which counts
//! nanoseconds; on Windows a near timer is late by up to 1 ms, too.
//!
//! # Under another executor
//!
//! These futures may be polled anywhere. On a thread without a runtime of this crate they use the
//! timers of the default one.
#![doc(alias = "Instant")]
// `clock` and `wheel` do not know each other; `driver` joins them, and futures find the driver
// through `current`. Nothing here knows the scheduler: the scheduler calls `enter`, `fire`,
// `prepare_park` and `parked`, and gives the driver a function `unpark`.
mod current;
mod driver;
mod interval;
mod sleep;
mod wait_for;
mod wheel;

pub use crate::clock::{deadline, now, remaining};
pub use interval::{Interval, MissedTicks, interval, interval_at};
pub use sleep::{Sleep, sleep, sleep_until};
pub use wait_for::{Elapsed, WaitFor, wait_for, wait_until};

pub(crate) use current::{TimersGuard, enter};
pub(crate) use driver::{ParkUntil, Timers};
#[cfg(feature = "tower")]
pub(crate) use wait_for::StartedLimit;

#[cfg(all(test, not(loom)))]
mod tests;
