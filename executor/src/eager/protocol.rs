//! The protocol of a synchronous call: what a leaf and a driver do where they would wait.
//!
//! # Terms
//!
//! * The *eager flag* is one bit of the [execution state](heirloom_context::raw::Execution) of the
//!   current context. Leaves read it.
//! * A *leaf* is a future that waits for something itself: a sleep, a socket, a join handle, a
//!   token.
//! * A *call* is a call of [`run_eagerly`](super::run_eagerly) or
//!   [`try_run_eagerly`](super::try_run_eagerly) on this thread.
//! * A *driver* is the loop that polls a future under the flag and waits between two polls: a call,
//!   or a task that was spawned inside a call and runs inline (`scheduler::inline`).
//! * The *frame* is the thread's record of its innermost driver (`frame`).
//! * The *signal* is what a driver waits with. It lends a waker that allocates only when it is
//!   cloned (`signal`).
//!
//! # States
//!
//! | the frame's driver | is | its leaves |
//! | --- | --- | --- |
//! | **foreign** | another executor, on which the flag was set by hand | block |
//! | **waiting** | a call of `run_eagerly`, or a task inside one | block |
//! | **refusing** | a call of `try_run_eagerly`, or a task inside one | are pending; the first one's name is noted |
//!
//! A frame is **limited** while its driver polls inside a [`wait_for`](crate::wait_for()) of the
//! call, and **overdue** once the deadline around the whole call has passed. It is **unfinished**
//! when a refusing call has started a child that is not ready: such a call returns an error.
//!
//! # Transitions
//!
//! | step | event | function | effect |
//! | --- | --- | --- | --- |
//! | EA1 | a leaf that only the clock or the kernel ends is not ready | `not_ready` | it blocks there, at most until the ambient deadline |
//! | EA2 | a leaf that another task or thread wakes is not ready | `suspends` | it has left its waker, and is pending |
//! | EA3 | a `wait_for` is pending | `wake_at` | the frame notes the instant at which it is to be polled again |
//! | EA4 | the driver's poll was pending | `Frame::wait` | waits for the signal, the noted instant or the deadline; then polls again |
//! | EA5 | the deadline around the call has passed | `Frame::wait` | limited: the driver stops; else the frame is overdue |
//! | EA6 | a refusing call has a pending child | `keep_unfinished` | the frame is unfinished; the child is cancelled when the call returns |
//!
//! After EA1 no future above the leaf is polled twice, so deep calls are cheap. EA2 returns to the
//! driver, which then polls the other branches of a `join!`: one of them may be what the leaf waits
//! for.
//!
//! # Deadlines
//!
//! A leaf blocks until the ambient deadline, and then is pending. In a limited frame the `wait_for`
//! of that deadline ends. Otherwise the deadline is that of the code around the call, which cannot
//! end anything inside it: after EA5 the frame is overdue, and leaves block for as long as they
//! need.
//!
//! A child that was started inline and is pending when its time is up is handed to its scheduler.
//!
//! # Why no wake-up is lost
//!
//! A wake-up during a poll is stored: by the lent waker in the signal, by a clone in the signal's
//! wake flag. EA4 looks at both before it waits, and at the wake flag under the lock of
//! its condition variable. EA3 happens on this thread.
#![forbid(unsafe_code)]
