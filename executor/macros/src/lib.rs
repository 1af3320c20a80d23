//! The attributes of the `heirloom` executor. Use them from there: what they expand to names
//! `::heirloom`.
#![forbid(unsafe_code)]

mod expand;
mod function;
mod options;

use proc_macro::TokenStream;

use crate::expand::Kind;

/// Makes an `async fn main` a program: the body runs to its end on the thread that starts the
/// program, and what it spawns on a runtime's workers.
///
/// What the function returns is what the program returns, so `Result` and `ExitCode` work.
///
/// When it returns, or panics, **the runtime is shut down, so that destructors run**: tasks that
/// have not ended may do so within the time of `shutdown`, and are cancelled then. Without that
/// option they are cancelled at once. A poll or destructor that is in progress is waited for, five
/// seconds at most; a blocking closure that has started, within the time of `shutdown`. Tasks that
/// outlast this, and with `shutdown` also those that were cancelled, are named on standard error.
///
/// `std::process::exit` ends the process without any of this, here as everywhere.
///
/// | option | meaning |
/// | --- | --- |
/// | `workers = N` | a runtime of its own with that many workers; without it, the default runtime |
/// | `builder = path::to::function` | the default runtime is made by the `Builder` that the function returns: hooks, ambient states, panic policy and all else; with `workers = N` besides, it has that many |
/// | `tokio` | the runtime has a tokio guest, for libraries that need tokio's runtime; feature `tokio` |
/// | `tracing` | the span of `tracing` that is current where a task is spawned is current in the task; feature `tracing` |
/// | `opentelemetry` | likewise the current context of OpenTelemetry; feature `opentelemetry` |
/// | `shutdown = "5s"` | how long tasks may run on when the function has returned; a number with `ms`, `s`, `m` or `h`; without it, no time |
///
/// The function takes no arguments and is not generic.
///
/// The default runtime belongs to the process. Threads that still run when `main` has ended it find
/// it ended: what they spawn is cancelled at once. A `main` in a module ends it too: the attribute
/// knows the function's name and not where it stands. A function of another name than `main` that
/// has this attribute leaves the default runtime as it is; a runtime of its own (`workers = N`) it
/// shuts down as `main` does.
///
/// # Examples
///
/// ```
/// #[heirloom::main]
/// async fn main() -> Result<(), heirloom::task::JoinError> {
///     let answer = heirloom::spawn(async { 6 * 7 }).await?;
///     println!("{answer}");
///     Ok(())
/// }
/// ```
///
/// With options:
///
/// ```
/// #[heirloom::main(workers = 2)]
/// async fn main() {
///     println!("two workers");
/// }
/// ```
///
/// With everything that a builder can be told:
///
/// ```
/// fn configured() -> heirloom::runtime::Builder {
///     use heirloom::runtime::PanicPolicy;
///     heirloom::Runtime::builder().thread_name("mill").on_panic(PanicPolicy::Abort)
/// }
///
/// #[heirloom::main(builder = configured)]
/// async fn main() {
///     let name = async { std::thread::current().name().map(str::to_owned) };
///     let name = heirloom::spawn(name).await;
///     assert!(name.unwrap().unwrap().starts_with("mill"));
/// }
/// ```
///
/// Without the attribute, the first of them reads:
///
/// ```
/// fn main() -> Result<(), heirloom::task::JoinError> {
///     heirloom::block_on(async {
///         let answer = heirloom::spawn(async { 6 * 7 }).await?;
///         println!("{answer}");
///         Ok(())
///     })
/// }
/// ```
///
/// # Panics
/// If the runtime's threads cannot be started; with `builder`, also if the default runtime has
/// started before.
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Kind::Main, options, item)
}

/// Makes an `async fn` a test. It runs on a runtime of its own, which ends with it: what a test
/// leaves running does not disturb the next one.
///
/// | option | meaning |
/// | --- | --- |
/// | `workers = N` | how many workers; two, if not given |
/// | `builder = path::to::function` | the runtime is made by the `Builder` that the function returns, which says how many workers there are, unless `workers` does |
/// | `virtual_time` | the clock stands still while anything can run, and jumps to the next timer when nothing can: an hour of sleeps takes milliseconds. One worker, no sockets; the page of the builder's option has the rules |
/// | `tokio` | the runtime has a tokio guest, for libraries that need tokio's runtime; feature `tokio` |
/// | `tracing` | the span of `tracing` that is current where a task is spawned is current in the task; feature `tracing` |
/// | `opentelemetry` | likewise the current context of OpenTelemetry; feature `opentelemetry` |
/// | `timeout = "5s"` | the test fails when it has not ended after that time; a number with `ms`, `s`, `m` or `h` |
///
/// `seed` is reserved, and refused, until there is a simulator to give it to. With `virtual_time`,
/// a `timeout` is virtual time as well.
///
/// The limit is a [`wait_for`](https://docs.rs/heirloom/latest/heirloom/fn.wait_for.html) around
/// the body: it is noticed at an `.await`. It does not interrupt code that never gets to one.
///
/// A panic in the body fails the test, as in any. A panic in a task that the test has spawned is
/// seen by its joiner alone: to have it fail the test, await the handle and `unwrap`, or spawn in
/// a `TaskGroup`.
///
/// `#[should_panic]`, `#[ignore]` and all other attributes of a test work as they do without this
/// one.
///
/// # Examples
///
/// ```
/// #[heirloom::test(workers = 4, timeout = "5s")]
/// async fn a_child_inherits() -> Result<(), heirloom::task::JoinError> {
///     heirloom::context_var! { static TENANT: u32; }
///     TENANT.set(7);
///     assert_eq!(heirloom::spawn(async { TENANT.get() }).await?, Some(7));
///     Ok(())
/// }
/// ```
///
/// # Panics
/// The test, if the runtime's threads cannot be started.
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Kind::Test, options, item)
}
