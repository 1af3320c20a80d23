//! Thread-locals that use contexts in their destructors, before and after the root context of the
//! thread is gone.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use heirloom_context::{
    Binding, Context, ContextCell, ContextFutureExt, ContextIteratorExt, ContextVar, Token, context_var, raw,
};

use crate::support::{Ledger, Probe, block_on, forget, on_a_fresh_thread, yield_once};

context_var! {
    static LEVEL: u32;
    static DEFAULTED: u32 = 7;
    static PROBE: Probe;
    static MIRRORED: u32, on_change = ignore;
}

fn ignore(_: Option<&u32>, _: Option<&u32>) {}

/// What a destructor of a thread-local has to tell.
type Report = Arc<Mutex<Vec<Result<(), String>>>>;

/// Uses contexts when it is dropped, which is when its thread ends.
struct Late {
    report: Report,
    ledger: Ledger,
    token: Option<Token<u32>>,
    guard: Option<Binding>,
    snapshot: Context,
}

thread_local! {
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    static LATER: RefCell<Option<Late>> = const { RefCell::new(None) };
}

impl Drop for Late {
    fn drop(&mut self) {
        // A panic in the destructor of a thread-local would abort the process.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            self.read_and_write();
            self.enter();
        }));
        let outcome = outcome.map_err(|panic| match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(_) => "another panic".to_string(),
        });
        self.report.lock().unwrap().push(outcome);
    }
}

impl Late {
    fn read_and_write(&mut self) {
        // The root context is there still, or gone: 1 or nothing.
        let seen = LEVEL.get();
        assert!(seen.is_none_or(|level| level == 1), "saw {seen:?}");
        assert_eq!(LEVEL.is_set(), seen.is_some());
        assert_eq!(DEFAULTED.get(), 7);
        assert_eq!(Context::current().get(&LEVEL), seen);
        assert_eq!(Context::inherited().get(&LEVEL), seen);
        drop(LEVEL.set(2));
        let token = LEVEL.unset();
        let _ = LEVEL.reset(token);
        drop(LEVEL.bind(3));
        drop(MIRRORED.set(4));
        PROBE.set(self.ledger.probe(1));
        drop(PROBE.bind(self.ledger.probe(2)));
        PROBE.scope(self.ledger.probe(3), || PROBE.with(|probe| probe.map(|probe| probe.id)));
        drop(self.guard.take());
        if let Some(token) = self.token.take() {
            let _ = LEVEL.reset(token);
        }
        raw::set_execution(raw::Execution::NONE);
    }

    /// A context that is entered works as ever, whatever has become of the root.
    fn enter(&mut self) {
        assert_eq!(self.snapshot.get(&LEVEL), Some(1));
        self.snapshot.run(|| {
            assert_eq!(LEVEL.get(), Some(1));
            let token = LEVEL.set(5);
            assert_eq!(LEVEL.get(), Some(5));
            LEVEL.reset(token).unwrap();
            let guard = LEVEL.bind(6);
            LEVEL.scope(7, || assert_eq!(LEVEL.get(), Some(7)));
            assert_eq!(LEVEL.get(), Some(6));
            drop(guard);
            PROBE.set(self.ledger.probe(4));
            assert_eq!(Context::current().len(), 2);
        });
        let cell = ContextCell::new(Context::empty());
        cell.run(|| PROBE.set(self.ledger.probe(5))).unwrap();
        drop(cell);
        let waited = async {
            LEVEL.set(8);
            yield_once().await;
            LEVEL.get()
        };
        assert_eq!(block_on(waited.in_context(Context::empty())), Some(8));
        let layered = async {
            LEVEL.set(9);
            yield_once().await;
            LEVEL.get()
        };
        assert_eq!(block_on(layered.isolated()), Some(9));
        assert_eq!(std::iter::repeat_with(|| DEFAULTED.get()).isolated().next(), Some(7));
    }
}

#[derive(Clone, Copy, Debug)]
enum Order {
    /// The thread-local is there before the thread's first use of a context, so it is destroyed
    /// after the context.
    Before,
    After,
    /// One of each.
    Both,
}

fn run(order: Order) {
    let (report, ledger) = (Report::default(), Ledger::new());
    on_a_fresh_thread(|| {
        let late = |token, guard| Late {
            report: report.clone(),
            ledger: ledger.clone(),
            token,
            guard,
            snapshot: Context::empty().with_var(&LEVEL, 1),
        };
        let use_contexts = || {
            let token = LEVEL.set(1);
            PROBE.set(ledger.probe(100));
            forget(PROBE.bind(ledger.probe(101)));
            (token, MIRRORED.bind(1))
        };
        match order {
            Order::Before => {
                LATE.set(Some(late(None, None)));
                let (token, guard) = use_contexts();
                LATE.set(Some(late(Some(token), Some(guard))));
                // The first one was replaced, which is no end of a thread.
                report.lock().unwrap().clear();
            }
            Order::After => {
                let (token, guard) = use_contexts();
                LATE.set(Some(late(Some(token), Some(guard))));
            }
            Order::Both => {
                LATE.set(Some(late(None, None)));
                let (token, guard) = use_contexts();
                LATER.set(Some(late(Some(token), Some(guard))));
            }
        }
    });
    let expected = if matches!(order, Order::Both) { 2 } else { 1 };
    assert_eq!(*report.lock().unwrap(), vec![Ok(()); expected], "{order:?}");
    assert_eq!(ledger.alive(), 0, "{order:?}: what was set while the thread was ending must not stay");
}

#[test]
fn a_thread_local_that_is_older_than_the_root_context() {
    run(Order::Before);
}

#[test]
fn a_thread_local_that_is_younger_than_the_root_context() {
    run(Order::After);
}

#[test]
fn thread_locals_on_both_sides() {
    run(Order::Both);
}

#[test]
fn a_thread_that_uses_contexts_in_its_last_destructor_only() {
    let (report, ledger) = (Report::default(), Ledger::new());
    on_a_fresh_thread(|| {
        LATE.set(Some(Late {
            report: report.clone(),
            ledger: ledger.clone(),
            token: None,
            guard: None,
            snapshot: Context::empty().with_var(&LEVEL, 1),
        }));
    });
    assert_eq!(*report.lock().unwrap(), [Ok(())]);
    assert_eq!(ledger.alive(), 0);
}

#[test]
fn values_bound_at_the_end_of_a_thread_may_use_contexts_in_their_destructors() {
    struct Curious(Report);
    impl Drop for Curious {
        fn drop(&mut self) {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                LEVEL.set(11);
                let _guard = LEVEL.bind(12);
                assert_eq!(Context::empty().with_var(&LEVEL, 13).run(|| LEVEL.get()), Some(13));
                drop(Context::current());
            }));
            self.0.lock().unwrap().push(outcome.map_err(|_| "a panic".to_string()));
        }
    }
    let report = Report::default();
    static CURIOUS: ContextVar<Curious> = ContextVar::new("curious");
    on_a_fresh_thread(|| {
        CURIOUS.set(Curious(report.clone()));
        forget(CURIOUS.bind(Curious(report.clone())));
    });
    assert_eq!(*report.lock().unwrap(), [Ok(()), Ok(())]);
}

/// The process ends while the main thread, and a thread that is not joined, have values bound.
///
/// The test starts itself again as a child: a test binary that ends badly would otherwise be the
/// only sign.
#[cfg(not(miri))]
#[test]
fn a_process_may_end_with_values_bound() {
    const CHILD: &str = "HEIRLOOM_CONTEXT_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            LEVEL.set(1);
            PROBE.set(Ledger::new().probe(1));
            ready.send(()).unwrap();
            std::thread::park();
        });
        is_ready.recv().unwrap();
        LEVEL.set(1);
        MIRRORED.set(2);
        LATE.set(Some(Late {
            report: Report::default(),
            ledger: Ledger::new(),
            token: None,
            guard: Some(LEVEL.bind(1)),
            snapshot: Context::empty().with_var(&LEVEL, 1),
        }));
        println!("the child got here");
        return;
    }
    // With one test thread the child runs this test on its main thread, whose thread-locals are
    // destroyed by `exit`.
    for threads in ["1", "2"] {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "teardown::a_process_may_end_with_values_bound",
                "--nocapture",
                "--test-threads",
                threads,
            ])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(said.contains("the child got here"), "{said}");
        assert!(child.status.success(), "{:?}: {}", child.status, String::from_utf8_lossy(&child.stderr));
    }
}
