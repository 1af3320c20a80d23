//! The default runtime as a program configures it. Each test has a process of its own, since there
//! is one default runtime in each.
//!
//! The kind: what can be said of a runtime of one's own can be said of the default one, and then
//! holds wherever no other runtime is current: in `block_on` on a plain thread, in local tasks, in
//! eager calls.

use std::cell::Cell;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use heirloom::context::{Ambient, Crossing};
use heirloom::runtime::{Builder, Hooks, PanicPolicy};
use heirloom::task::{LocalSet, TaskMeta};
use heirloom::{
    Context, Runtime, block_on, context_var, run_eagerly, spawn, spawn_background, spawn_blocking,
    spawn_local, yield_now,
};
use heirloom_tests::{
    Child, PATIENCE, in_child, in_child_by, outside, quiet_panic, say_as_child, wait_until, watchdog,
};

context_var! {
    static ROOT: u32;
}

thread_local! {
    static FOREIGN: Cell<u32> = const { Cell::new(0) };
}

/// Carries `FOREIGN`.
struct Foreign;

struct Restore(u32);

impl Drop for Restore {
    fn drop(&mut self) {
        FOREIGN.set(self.0);
    }
}

impl Ambient for Foreign {
    type State = u32;
    type Guard<'a> = Restore;

    fn capture(&self, _: &Crossing<'_>) -> Option<u32> {
        Some(FOREIGN.get())
    }

    fn enter(&self, captured: &mut u32) -> Restore {
        Restore(FOREIGN.replace(*captured))
    }
}

/// Counts spawns and ends.
#[derive(Default)]
struct Counts(AtomicUsize, AtomicUsize);

impl Hooks for Counts {
    fn on_spawn(&self, _: &TaskMeta, _: &Context) {
        self.0.fetch_add(1, SeqCst);
    }
    fn on_done(&self, _: &TaskMeta) {
        self.1.fetch_add(1, SeqCst);
    }
}

static COUNTS: OnceLock<Arc<Counts>> = OnceLock::new();

fn counts() -> &'static Arc<Counts> {
    COUNTS.get_or_init(Arc::default)
}

fn configured() -> Builder {
    Runtime::builder()
        .workers(1)
        .thread_name("configured")
        .root_context(Context::empty().with_var(&ROOT, 1))
        .hooks(counts().clone())
        .ambient(&Foreign)
}

/// Spawns of every sort outside of any runtime: each has the ambient state, and the hooks are told
/// of it.
fn everything_is_accompanied() {
    let before = counts().0.load(SeqCst);
    FOREIGN.set(7);
    let seen = block_on(async {
        FOREIGN.set(8);
        let task = spawn(async {
            yield_now().await;
            FOREIGN.get()
        });
        let closure = spawn_blocking(|| FOREIGN.get());
        [FOREIGN.get(), task.await.unwrap(), closure.await.unwrap()]
    });
    assert_eq!(seen, [8; 3], "the future of `block_on` itself has the thread's state");
    let local = LocalSet::new().block_on(async {
        let task = spawn_local(async {
            yield_now().await;
            FOREIGN.get()
        });
        FOREIGN.set(9);
        task.await.unwrap()
    });
    assert_eq!(local, 8);
    let eager = run_eagerly(async {
        let local = spawn_local(async { FOREIGN.get() });
        [spawn(async { FOREIGN.get() }).await.unwrap(), local.await.unwrap()]
    });
    assert_eq!(eager, [9; 2]);
    let (send, receive) = std::sync::mpsc::channel();
    spawn_background(async move { send.send((ROOT.get(), FOREIGN.get())) });
    assert_eq!(receive.recv(), Ok((Some(1), 0)));
    assert_eq!(counts().0.load(SeqCst), before + 6);
    assert!(wait_until(|| counts().1.load(SeqCst) == before + 6));
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn what_is_configured_holds_wherever_no_runtime_is_current() {
    if !in_child("default_runtime::what_is_configured_holds_wherever_no_runtime_is_current", false).is_here()
    {
        return;
    }
    outside(|| {
        let handle = configured().build_default().unwrap();
        assert_eq!(handle.stats().workers.len(), 1);
        everything_is_accompanied();
        let name = block_on(spawn(async { std::thread::current().name().map(str::to_owned) }));
        assert!(name.unwrap().unwrap().starts_with("configured"));
        let again = configured().build_default().unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        // A runtime of one's own is not touched by it.
        let told = counts().0.load(SeqCst);
        let own = Runtime::builder().workers(1).build().unwrap();
        FOREIGN.set(5);
        assert_eq!(own.block_on(own.spawn(async { FOREIGN.get() })).unwrap(), 0);
        assert_eq!(counts().0.load(SeqCst), told);
    });
    say_as_child();
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_default_runtime_that_has_started_is_not_configured_any_more() {
    if !in_child("default_runtime::a_default_runtime_that_has_started_is_not_configured_any_more", false)
        .is_here()
    {
        return;
    }
    outside(|| {
        block_on(spawn(async {})).unwrap();
        let late = configured().build_default().unwrap_err();
        assert_eq!(late.kind(), ErrorKind::AlreadyExists);
        assert!(late.to_string().contains("has started already"), "{late}");
        block_on(spawn(async {})).unwrap();
        assert_eq!(counts().0.load(SeqCst), 0);
    });
    say_as_child();
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_wrong_configuration_is_an_error_and_leaves_the_default_to_be_made() {
    let test = "default_runtime::a_wrong_configuration_is_an_error_and_leaves_the_default_to_be_made";
    if !in_child(test, false).is_here() {
        return;
    }
    outside(|| {
        let error = Runtime::builder().workers(0).build_default().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        configured().build_default().unwrap();
        everything_is_accompanied();
    });
    say_as_child();
}

#[heirloom::main(builder = configured, workers = 2)]
async fn program() -> usize {
    let worker = spawn(async { heirloom::Handle::current().unwrap().stats().workers.len() });
    worker.await.unwrap()
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn the_attribute_configures_the_default_runtime() {
    if !in_child("default_runtime::the_attribute_configures_the_default_runtime", false).is_here() {
        return;
    }
    outside(|| {
        assert_eq!(program(), 2);
        assert_eq!(counts().0.load(SeqCst), 1);
        everything_is_accompanied();
    });
    say_as_child();
}

#[heirloom::test(builder = configured)]
async fn the_attribute_of_a_test_configures_its_runtime() {
    let before = counts().0.load(SeqCst);
    FOREIGN.set(3);
    let seen = spawn(async { (FOREIGN.get(), heirloom::Handle::current().unwrap().stats().workers.len()) });
    FOREIGN.set(0);
    assert_eq!(seen.await.unwrap(), (3, 1));
    // (Its hooks may hear of other tests' tasks too.)
    assert!(counts().0.load(SeqCst) > before);
}

fn aborts(test: &str, deed: fn()) {
    match in_child(test, false) {
        Child::Here => {
            Runtime::builder().workers(1).on_panic(PanicPolicy::Abort).build_default().unwrap();
            outside(deed);
            say_as_child();
        }
        Child::Ended(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(!output.status.success() && !said.contains("got here"), "{said}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn the_panic_policy_holds_for_tasks_of_the_default_runtime() {
    aborts("default_runtime::the_panic_policy_holds_for_tasks_of_the_default_runtime", || {
        let _ = block_on(spawn(async { quiet_panic("a task") }));
    });
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn the_panic_policy_holds_for_local_tasks_outside_of_runtimes() {
    aborts("default_runtime::the_panic_policy_holds_for_local_tasks_outside_of_runtimes", || {
        let _ = LocalSet::new().block_on(async { spawn_local(async { quiet_panic("a task") }).await });
    });
}

/// The kind: a message for standard error is lost where that takes none, and nothing else is.
/// (`eprintln!` panics then; clippy refuses it in the library.)
#[test]
#[cfg(target_os = "linux")]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_complaint_that_cannot_be_written_harms_nothing() {
    let test = "default_runtime::a_complaint_that_cannot_be_written_harms_nothing";
    for stderr in ["2>/dev/full", "2>&-"] {
        if !in_child_by(test, &format!("HEIRLOOM_WORKERS=nonsense exec \"$@\" {stderr}")).is_here() {
            continue;
        }
        watchdog(PATIENCE, || assert_eq!(block_on(spawn(async { 7 })).unwrap(), 7));
        return say_as_child();
    }
}
