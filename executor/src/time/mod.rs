//! Sleeping, ticking, and bounding a wait.
//!
//! | for | see |
//! | --- | --- |
//! | waiting until an instant | [`sleep`](sleep()), [`sleep_until`] |
//! | doing something once per period | [`interval`](interval()), [`MissedTicks`] |
//! | waiting no longer than a limit | [`wait_for`](wait_for()), [`wait_until`] |
//! | knowing how much time is left | [`deadline`](deadline()), [`remaining`] |
//!
//! # Promises
//!
//! * Never early. Deadlines are rounded up to whole milliseconds.
//! * Any duration and any instant will do: no time, and an instant that has passed, is ready at once; what is beyond an
//!   [`Instant`](std::time::Instant) is pending for ever. Nothing panics but an interval without a period.
//! * A timer that is dropped costs nothing afterwards: no entry, no wake-up. One whose instant had passed when it was made
//!   never had an entry.
//! * No thread of its own: idle workers sleep until the next timer.
//!
//! # Under another executor
//!
//! These futures may be polled anywhere. On a thread without a runtime of this crate they use the timers of the default
//! one.
// Clock and wheel know nothing of each other, the driver joins them; futures know the driver through `current`. Nothing
// here knows the scheduler: it calls `enter`, `fire`, `prepare_park` and `parked`, and is called through `unpark`.
mod current;
mod driver;
mod interval;
mod sleep;
mod wait_for;
mod wheel;

pub use crate::clock::{deadline, remaining};
pub use interval::{Interval, MissedTicks, interval, interval_at};
pub use sleep::{Sleep, sleep, sleep_until};
pub use wait_for::{Elapsed, WaitFor, wait_for, wait_until};

pub(crate) use current::{TimersGuard, enter};
pub(crate) use driver::{ParkUntil, Timers};

#[cfg(all(test, not(loom)))]
mod tests;
