//! Known limits: what this crate does not do, or does not do by itself, and what to write instead.
//!
//! # Fairness
//!
//! * A leaf of another crate that is always ready occupies its worker, and no limit around it
//!   can end it. Wrap it in [`cooperative`](crate::task::budget::cooperative).
//! * A poll that blocks delays the task that was woken or spawned last on its worker, even if other
//!   workers are idle. Use [`spawn_blocking`](crate::spawn_blocking).
//! * A worker that is busy takes a task that was spawned or woken outside of the runtime after a
//!   tenth of a millisecond, if its polls are about as long as they were. If they suddenly become a
//!   hundred times longer, it takes the next such task late.
//! * A receiver of `context::channel` that is used as a stream keeps its wake-up while
//!   it is not polled. In a `select!`, use `recv`.
//! * Closures that wait for other closures need a blocking thread each. If such closures hold all
//!   [`max_blocking_threads`](crate::runtime::Builder::max_blocking_threads), they wait for ever.
//!
//! # Contexts
//!
//! * If one task makes a guard of [`bind`](crate::ContextVar::bind) and another task drops it, the
//!   guard's newest value stays bound in the first task. Use `.isolated()` on a future that
//!   different tasks may poll, such as the future inside a `Shared`.
//! * A guard that was passed to `mem::forget` and outlives its context leaks a few bytes.
//! * A default of a variable that waits for another thread or task which needs the same default
//!   waits for ever. (One that needs itself panics.)
//! * A thread that ends between the two calls of [`raw::swap`](crate::context::raw::swap), and
//!   never wrote a variable, leaks the context that the first call installed.
//! * An executor that is polled inside a task (tokio's `LocalSet`, futures' `LocalPool`) runs all
//!   its tasks in that task's context. Wrap each in `.in_context(Context::inherited())`.
//!
//! # Seeing inside
//!
//! * The tasks of a [`LocalSet`](crate::task::LocalSet) are in the dumps of a runtime that is
//!   inspected, but in no numbers, and a watchdog does not watch their polls.
//! * A `LocalSet` that is not being run answers no request for stacks: `dump_stacks` waits for its
//!   idle tasks until the limit.
//!
//! # Memory
//!
//! * A task keeps its page of 32 KiB: after a burst of which a few tasks are left, these can keep
//!   the memory of many. Box large futures where that matters. See
//!   [`Runtime`](crate::Runtime#memory).
//! * The memory of a task that another worker ended returns to its own worker when that one spawns
//!   again, or pauses; a worker that does neither, or is in a long poll, does not reclaim it.
//! * On Linux an eighth of each page that a burst has left may stay with the process; elsewhere the
//!   allocator decides.
//! * A handle, waker or `TaskMeta` keeps about 20 KiB of a runtime that has ended, and no value of
//!   the user's. A blocking closure that is still running after the end keeps the hooks and ambient
//!   states that it captured until it ends.
//!
//! # Sockets
//!
//! * A read that exactly fills its buffer costs a second system call before the next wait. A buffer
//!   that is one byte larger avoids it.
//! * TCP urgent data, and descriptors passed over Unix streams, are not received by the read
//!   methods. The data behind them is read when more arrives or the peer closes.
//! * A system call of your own clears readiness only inside `try_io`. A reset that such a call
//!   returns is not remembered.
//! * [`net::Async`](crate::net::Async) is for Unix, and waits for reading and writing only: not for
//!   priority data (`POLLPRI`), by which some files in `/sys` and `/proc` tell of a change. Each of
//!   its reads asks the system before it waits, also after one that left room.
//! * Of two tasks that read one stream, one may see a clean end while the other gets the error of a
//!   reset.
//! * The system delays or drops connections beyond its maximum of waiting ones
//!   (`net.core.somaxconn` on Linux). Listeners converted from std keep their own queue length.
//!
//! # HTTP
//!
//! * Over HTTP/1 all requests of a connection share its task's context. Wrap the service:
//!   `.isolated()`, or `.in_context(…)`. Variables that a service's `call` sets before it returns
//!   are seen by later requests, over both versions.
//! * A streamed body does not see its request's context or deadline by itself. Use
//!   `.in_current_context()`, and limit each part with [`wait_until`](crate::wait_until).
//! * tonic's `transport::Server`, limits of tonic's client, and reqwest panic without tokio's
//!   reactor. tonic's `Routes` on hyper ignore `grpc-timeout`.
//! * When a connection ends, it cancels the tasks of its streams and does not wait for them.
//!
//! # The process
//!
//! * Forking is not supported while a runtime exists, except to call `exec`.
