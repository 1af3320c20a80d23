//! Contexts through a plain `tokio::spawn`, also inside libraries.
//!
//! [`carry`] makes a tokio runtime, which is otherwise as it always is, inherit: each task starts
//! from what its spawner's context hands down, and each of its polls runs in the task's own
//! context. Nothing is written at the spawn call, so a spawn inside a library inherits as well.
//!
//! ```
//! # #[cfg(not(tokio_unstable))]
//! # fn main() {}
//! # #[cfg(tokio_unstable)]
//! # fn main() {
//! # use heirloom_context::internal::heirloom;
//! use heirloom::context_var;
//!
//! context_var! { static REQUEST_ID: u64; }
//!
//! let mut builder = tokio::runtime::Builder::new_multi_thread();
//! heirloom::context::tokio::carry(&mut builder);
//! let runtime = builder.enable_all().build().unwrap();
//!
//! runtime.block_on(async {
//!     REQUEST_ID.set(7);
//!     let task = tokio::spawn(async {
//!         tokio::task::yield_now().await;
//!         REQUEST_ID.get()
//!     });
//!     assert_eq!(task.await.unwrap(), Some(7));
//! });
//! # }
//! ```
//!
//! # What it takes
//!
//! The feature `tokio-hooks` of this crate, and `--cfg tokio_unstable` for the whole build: the
//! hooks that tokio calls around spawns and polls are not among its stable interfaces. In
//! `.cargo/config.toml`:
//!
//! ```toml
//! [build]
//! rustflags = ["--cfg", "tokio_unstable"]
//! ```
//!
//! Without that flag a call of `carry` does not compile, and the compiler says why. (The
//! environment variable `RUSTFLAGS` takes precedence over the file.)
//!
//! # What is carried, and what is not
//!
//! | code | runs in | to have it otherwise |
//! | --- | --- | --- |
//! | a task of `tokio::spawn`, `JoinSet::spawn`, `Handle::spawn`, `spawn_local` on a `LocalRuntime`: each poll; the drop of its future when it ends or is aborted | its own context: [`Context::inherited`](crate::Context::inherited) of the spawner, taken at the spawn call, and the spawner's deadline | `tokio::spawn(task.in_context(…))`; `Context::empty().run(\|\| tokio::spawn(task))` |
//! | a task that is spawned in hyper-util, h2, reqwest, tonic, tower: pools, connections | its own context, empty at first, without a deadline | `Carry::detached`, or `in_context` where the future is yours |
//! | the future of `Runtime::block_on`, `Handle::block_on` | the context of the calling thread; what it sets stays there | `block_on(main.isolated())` |
//! | a task of a `LocalSet` | whatever context the set is polled in, shared among its tasks | `spawn_local(task.in_context(Context::inherited()))` |
//! | a closure of `spawn_blocking` | the context of a thread of the pool; what it sets stays there, for other closures to see | `spawn_blocking(Context::inherited().wrap_once(f))` |
//! | `block_in_place` | the task's context | |
//! | drops of futures that are pending when the runtime shuts down | the context of the thread that shuts the runtime down | end the tasks before the runtime; or `in_context`, which goes with the future |
//! | the drop of a task's output that no handle has taken | while the task ends, the task's; later, that of the code that drops the `JoinHandle` | |
//! | functions of `on_thread_start`, `on_thread_park` and the like | the context of their thread | |
//! | [ambient states](crate::Ambient) | are not carried: they belong to an executor | wrap the future, as `tracing`'s `Instrument` does |
//!
//! The deadline is [`raw::Execution`](crate::raw::Execution)'s. A time budget that has not begun
//! begins at the spawn call. A task is never eager: tokio alone polls it.
//!
//! A task's context goes when the task ends, in whichever way: it completes, panics, is aborted, or
//! its runtime shuts down. One case is left: a spawn call on another thread, which the shutdown
//! interrupts before the hook, while hundreds of closures of `spawn_blocking` end. Such a task's
//! context goes with the runtime and its `Carry`.
//!
//! If a variable's `Derive` function panics in a spawn call, the panic hook reports it, and the
//! task starts from the empty context: a hook of tokio's must not unwind.
//!
//! # Pools are detached
//!
//! A connection in a pool outlives the request that opened it. If its task inherited, the request's
//! variables would live as long as the connection does, and what the connection logs would name the
//! wrong request. So a task that is spawned by code of one of the crates in [`DETACHED`] starts
//! from the root. Tokio tells the file of each spawn call: a crate is recognized by the folder of
//! its sources (`hyper-util-0.1.21/src/…`). If paths are remapped so that the folder is lost, no
//! crate is recognized. `Carry::detached` changes the list.
//!
//! # Hooks of your own
//!
//! **A tokio runtime has one hook of each kind, and a later one silently replaces an earlier one.**
//! `carry` takes `on_task_spawn`, `on_before_task_poll`, `on_after_task_poll` and
//! `on_task_terminate`. A program that sets one of these on the builder afterwards takes it away
//! from `carry`, and contexts get mixed up; one that was set before is not called. Give them to the
//! `Carry` instead, under the same names: they run inside the task's context.
//!
//! # What it costs
//!
//! A poll: one atomic exchange and a few loads and stores, whatever is in the context; some 12 ns
//! where a poll that does nothing takes 21. A spawn: one exchange, one count of the context, and a
//! slot of 64 bytes, which later tasks use again; with the task's end 20 ns, or 40 to 70 on a
//! runtime with several threads. That is a third to two thirds of what a map under a mutex costs.
//! (Measured by `.ci/tokio_host --measure`.)
//!
//! No lock is taken. But if a task is woken while it is polled, another thread may begin the next
//! poll before the first thread has called the hook after its own. Then the second thread waits for
//! that hook: a few instructions, and the hook of the user's that is chained there.

#[cfg(any(tokio_unstable, all(test, not(loom))))]
mod places;
#[cfg(any(tokio_unstable, test))]
mod table;

#[cfg(tokio_unstable)]
mod hooks;

#[cfg(tokio_unstable)]
pub use hooks::{Carry, carry};
#[cfg(not(tokio_unstable))]
pub use unavailable::{BuilderWithTaskHooks, carry};

/// The crates whose tasks start from the root, unless the list is changed.
pub const DETACHED: [&str; 5] = ["hyper-util", "h2", "reqwest", "tonic", "tower"];

/// What there is without `--cfg tokio_unstable`: enough for an error that says what to do. (A
/// `compile_error!` would also hit builds that have all features on and call nothing here.)
#[cfg(not(tokio_unstable))]
mod unavailable {
    #![forbid(unsafe_code)]

    use std::convert::Infallible;

    /// A builder of runtimes that has hooks for tasks: `tokio::runtime::Builder`, if the program is
    /// built with `--cfg tokio_unstable`. **This documentation was not**, so no type is one.
    #[diagnostic::on_unimplemented(
        message = "`heirloom_context::tokio::carry` needs the hooks of tokio, which this build does not have",
        label = "tokio is built without `--cfg tokio_unstable`",
        note = "add `rustflags = [\"--cfg\", \"tokio_unstable\"]` under `[build]` in `.cargo/config.toml`, or set \
                `RUSTFLAGS=\"--cfg tokio_unstable\"`, which takes precedence over that file"
    )]
    pub trait BuilderWithTaskHooks {}

    /// Makes the runtimes of a builder carry contexts. With `--cfg tokio_unstable` the builder is
    /// `tokio::runtime::Builder`, and the answer a `Carry`; without it no type fits, and a call
    /// does not compile.
    pub fn carry<B: BuilderWithTaskHooks>(_builder: &mut B) -> Infallible {
        unreachable!("no type is a builder with hooks in this build")
    }
}
