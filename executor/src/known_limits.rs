//! Known limits: what this crate does not do, or not by itself, and what to write instead.
//!
//! # Fairness
//!
//! * A leaf of another crate that is always ready keeps its worker to itself, and no limit around it
//!   ends it. Wrap it in [`cooperative`](crate::task::budget::cooperative).
//! * A poll that blocks delays the task that was woken or spawned last on its worker, even if other
//!   workers are idle. Use [`spawn_blocking`](crate::spawn_blocking).
//! * Work from outside is taken after a tenth of a millisecond if polls are about as long as they
//!   were. If they become a hundred times longer all at once, one look around comes late.
//! * A receiver of `context::channel` that is used as a stream keeps its place while
//!   it is not polled. In a `select!`, use `recv`.
//! * Closures that wait for other closures need a blocking thread each. If all threads of
//!   [`max_blocking_threads`](crate::Builder::max_blocking_threads) are held so, they wait for ever.
//!
//! # Contexts
//!
//! * A guard of [`bind`](crate::ContextVar::bind) that one task makes and another drops leaves its
//!   newest value bound in the first, as if it lived. Use `.isolated()` on what may change its task,
//!   such as the future inside a `Shared`.
//! * A forgotten guard that outlives its context leaves a few bytes.
//! * A default of a variable that waits for another thread or task which needs the same default
//!   waits for ever. (One that needs itself panics.)
//! * A thread that ends between the two calls of [`raw::swap`](crate::context::raw::swap), and never
//!   wrote a variable, leaks what was installed.
//! * Executors that are polled inside a task (tokio's `LocalSet`, futures' `LocalPool`) have their
//!   tasks share its context. Wrap each in `.in_context(Context::inherited())`.
//!
//! # Memory
//!
//! * One task that lives on keeps its page of 32 KiB: a burst of which a few tasks live on can hold
//!   the memory of many. Box large futures where that matters. See
//!   [`Runtime`](crate::Runtime#memory).
//! * A worker that never pauses, or is in a long poll, gives the memory of tasks that others ended
//!   back when it spawns again, or pauses.
//! * On Linux an eighth of each page that a burst has left may stay with the process; elsewhere the
//!   allocator decides.
//! * A kept handle, waker or `TaskMeta` keeps about 20 KiB of a runtime that has ended, and no value
//!   of the user's. Blocking closures that outlive the end keep the hooks and ambient states that
//!   they captured until they are over.
//!
//! # Sockets
//!
//! * A read that exactly fills its buffer costs a second system call before it waits. A buffer one
//!   byte larger saves it.
//! * TCP urgent data, and descriptors passed over Unix streams, are not received by the read
//!   methods. What follows them is read when more arrives or the peer closes.
//! * A system call of one's own takes readiness back only inside `try_io`. A reset that such a call
//!   is told of is not remembered.
//! * Of two tasks that read one stream, one may see a clean end while the other is being told of a
//!   reset.
//! * More connections at once than the system's maximum (`net.core.somaxconn` on Linux) are put off
//!   or given up by the system. Listeners converted from std keep their own queue length.
//!
//! # HTTP
//!
//! * Over HTTP/1 all requests of a connection share its task's context. Wrap the service:
//!   `.isolated()`, or `.in_context(…)`. What a service's `call` sets before it returns is seen by
//!   later requests over both versions.
//! * A body that is made as it is sent does not see its request's context or deadline by itself. Use
//!   `.in_current_context()`, and limit each part with [`wait_until`](crate::wait_until).
//! * tonic's `transport::Server`, limits of tonic's client, and reqwest panic without tokio's
//!   reactor. tonic's `Routes` on hyper ignore `grpc-timeout`.
//! * The end of a connection asks for the end of its streams and does not wait for it.
//!
//! # The process
//!
//! * Forking is not supported while a runtime exists, except to call `exec`.
