//! What common mistakes look like: the texts on the guide's page `mistakes`, and the reports that
//! must not come.
//!
//! Each scenario has a process of its own, whose standard error is read. Numbers and places in it
//! are replaced by those of the page.

use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use heirloom::context::{ContextCell, ContextFutureExt};
use heirloom::runtime::PanicPolicy;
use heirloom::task::Builder;
use heirloom::{
    Context, Runtime, TaskGroup, block_on, context_var, spawn, spawn_blocking, wait_for, yield_now,
};
use heirloom_tests::{Child, Gate, PATIENCE, in_child, in_child_by, run, runtime, say_as_child, watchdog};

const PAGE: &str = include_str!("../../../executor/src/guide/mistakes.md");

context_var! {
    static REQUEST_ID: u64, debug = Debug;
    static PASSWORD: &'static str;
    static BROKEN: Broken, debug = Debug;
    static TENANT: &'static str;
    static UNSET: u32;
}

struct Broken;

impl std::fmt::Debug for Broken {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("no text")
    }
}

/// Runs `scenario` in a process of its own. In the parent, the lines that begin with `heirloom:`,
/// with the numbers and places of the page.
#[track_caller]
fn reports_of(test: &str, scenario: impl FnOnce() + Send + 'static) -> Option<Vec<String>> {
    match in_child(&format!("mistakes::{test}"), false) {
        Child::Here => {
            watchdog(PATIENCE, scenario);
            say_as_child();
            None
        }
        Child::Ended(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("got here"), "{said}\n{stderr}");
            Some(reports_in(&stderr))
        }
    }
}

fn reports_in(stderr: &str) -> Vec<String> {
    stderr.lines().filter(|line| line.starts_with("heirloom:")).map(as_on_the_page).collect()
}

/// The text with `src/main.rs:12:9` for each place of this file, 7 for the number of a task, and
/// 1200 for milliseconds.
fn as_on_the_page(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.strip_prefix(file!()) {
        Some(rest) => {
            let end = rest.trim_end_matches(|c: char| !c.is_ascii_digit());
            format!("src/main.rs:12:9{}", &rest[end.len()..])
        }
        None => word.to_owned(),
    });
    let mut words: Vec<String> = words.collect();
    for index in 1..words.len() {
        let number = words[index].trim_end_matches(',').parse::<u64>();
        let comma = if words[index].ends_with(',') { "," } else { "" };
        if number.is_ok() && words[index - 1] == "task" {
            words[index] = format!("7{comma}");
        } else if number.is_ok() && words.get(index + 1).is_some_and(|unit| unit == "ms,") {
            words[index] = "1200".to_owned();
        }
    }
    words.join(" ")
}

#[track_caller]
fn assert_is_on_the_page(text: &str) {
    assert!(PAGE.lines().any(|line| line == text), "not on the page:\n{text}");
}

/// The reports, one each of these texts, are on the page.
#[track_caller]
fn assert_reported(reports: Option<Vec<String>>, times: usize) {
    let Some(reports) = reports else { return };
    assert_eq!(reports.len(), times, "{reports:#?}");
    reports.iter().for_each(|report| assert_is_on_the_page(report));
}

#[track_caller]
fn assert_silent(reports: Option<Vec<String>>) {
    assert_reported(reports, 0);
}

/// Runs the future on the only worker of a runtime, so that what it spawns waits until it yields.
fn on_the_only_worker(future: impl Future<Output = ()> + Send + 'static) {
    let runtime = runtime(1);
    runtime.block_on(runtime.spawn(future)).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_task_whose_handle_is_dropped_at_once_is_reported() {
    let reports = reports_of("a_task_whose_handle_is_dropped_at_once_is_reported", || {
        on_the_only_worker(async {
            for _ in 0..3 {
                // One place, one report.
                let _ = spawn(pending::<()>());
            }
            drop(spawn_blocking(|| ()));
            yield_now().await;
        });
    });
    // The closure may have begun.
    if let Some(reports) = reports {
        assert!(matches!(reports.len(), 1 | 2), "{reports:#?}");
        reports.iter().for_each(|report| assert_is_on_the_page(report));
    }
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_handle_that_is_lost_over_a_question_mark_is_reported() {
    let reports = reports_of("a_handle_that_is_lost_over_a_question_mark_is_reported", || {
        on_the_only_worker(async {
            let lost = async {
                let handle = Builder::new().name("audit").spawn(async {});
                "x".parse::<u32>()?;
                handle.await.unwrap();
                Ok::<_, std::num::ParseIntError>(())
            };
            lost.await.unwrap_err();
        });
    });
    if let Some(reports) = reports {
        let text = "heirloom: task `audit`, spawned at src/main.rs:12:9, was cancelled before its first poll, because \
                    its handle was dropped: keep the handle, await it, or call `detach`";
        assert_eq!(reports, [text]);
    }
}

/// Of the kind: the drop is meant, or follows from something else.
#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_task_that_is_cancelled_for_a_reason_is_not_reported() {
    let reports = reports_of("a_task_that_is_cancelled_for_a_reason_is_not_reported", || {
        on_the_only_worker(async {
            // Aborted.
            let handle = spawn(pending::<()>());
            handle.abort();
            drop(handle);
            spawn(async {}).detach();
            // Its group goes, or has gone.
            let group = TaskGroup::<()>::new();
            let late = group.handle();
            group.spawn(pending());
            drop(group);
            late.spawn(pending());
            // It was awaited.
            assert!(wait_for(spawn(pending::<()>()), Duration::ZERO).await.is_err());
        });
        // The task that owns it is cancelled, before its first poll and later; by a panic too.
        for polls in [0, 1] {
            on_the_only_worker(async move {
                let owned = spawn(pending::<()>());
                let owner = spawn(async move {
                    pending::<()>().await;
                    drop(owned);
                });
                for _ in 0..polls {
                    yield_now().await;
                }
                owner.abort();
                assert!(owner.await.unwrap_err().is_cancelled());
            });
        }
        on_the_only_worker(async {
            let panics = spawn(async {
                let _owned = spawn(pending::<()>());
                heirloom_tests::quiet_panic("as planned")
            });
            let error = panics.await.unwrap_err();
            assert!(error.is_panic());
        });
        // Its runtime ends, or has ended.
        let runtime = runtime(1);
        let gate = Gate::new();
        let (handle, held) = (runtime.handle().clone(), gate.clone());
        let (begun, began) = std::sync::mpsc::channel();
        runtime
            .spawn(async move {
                begun.send(()).unwrap();
                held.wait();
            })
            .detach();
        began.recv().unwrap();
        let queued = runtime.spawn(pending::<()>());
        let ends = std::thread::spawn(move || drop(runtime));
        while !queued.is_finished() {
            std::thread::yield_now();
        }
        drop(queued);
        drop(handle.spawn(async {}));
        gate.open();
        ends.join().unwrap();
        // The runtime was told.
        let quiet = Runtime::builder().workers(1).report_mistakes(false).build().unwrap();
        quiet
            .block_on(quiet.spawn(async {
                let _ = spawn(async {});
                std::thread::sleep(Duration::from_millis(1_100));
            }))
            .unwrap();
        quiet.block_on(async { assert_eq!(block_on(async { 7 }), 7) });
    });
    assert_silent(reports);
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_block_on_inside_a_block_on_works_and_is_reported_once() {
    let reports = reports_of("a_block_on_inside_a_block_on_works_and_is_reported_once", || {
        block_on(async {
            for _ in 0..2 {
                assert_eq!(block_on(async { 7 }), 7);
            }
            // The documented way.
            assert_eq!(spawn_blocking(|| block_on(async { 8 })).await.unwrap(), 8);
        });
        assert_eq!(block_on(async { 9 }), 9);
    });
    assert_reported(reports, 1);
}

#[test]
fn a_block_on_inside_a_task_says_what_to_do() {
    let error = run(1, || async { spawn(async { block_on(async {}) }).await.unwrap_err() });
    assert_is_on_the_page(error.panic_message().unwrap());
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_poll_that_blocks_is_reported() {
    let reports = reports_of("a_poll_that_blocks_is_reported", || {
        on_the_only_worker(async {
            // A closure may block.
            spawn_blocking(|| std::thread::sleep(Duration::from_millis(1_100))).await.unwrap();
            spawn(async { std::thread::sleep(Duration::from_millis(1_100)) }).await.unwrap();
        });
    });
    assert_reported(reports, 1);
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_call_that_needs_tokios_reactor_names_the_way_out() {
    let reports = reports_of("a_call_that_needs_tokios_reactor_names_the_way_out", || {
        on_the_only_worker(async {
            let calls = spawn(async { tokio::time::sleep(Duration::from_secs(1)).await });
            assert_is_on_the_page(calls.await.unwrap_err().panic_message().unwrap());
        });
    });
    assert_reported(reports, 1);
}

/// What needs tokio fails then, and names the way out where it panics.
#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_guest_that_ends_before_the_tasks_is_named() {
    let reports = reports_of("a_guest_that_ends_before_the_tasks_is_named", || {
        let own = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let runtime = Runtime::builder().workers(1).tokio(own.handle().clone().into()).build().unwrap();
        own.shutdown_background();
        runtime.block_on(async {
            let calls = spawn(async { tokio::time::sleep(Duration::from_secs(1)).await });
            assert_is_on_the_page(calls.await.unwrap_err().panic_message().unwrap());
            assert!(tokio::net::TcpListener::bind("127.0.0.1:0").await.is_err());
            assert!(tokio::spawn(async {}).await.unwrap_err().is_cancelled());
        });
    });
    assert_reported(reports, 1);
}

/// Variables that opted in to a text are in the report, and no others.
#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_panic_of_a_detached_task_says_for_whom() {
    let reports = reports_of("a_panic_of_a_detached_task_says_for_whom", || {
        on_the_only_worker(async {
            PASSWORD.set("xyzzy");
            REQUEST_ID.set(7);
            spawn(async { panic!("as planned") }).detach();
            yield_now().await;
            // What a joiner sees is not reported.
            assert!(spawn(async { panic!("seen") }).await.unwrap_err().is_panic());
        });
    });
    assert_reported(reports, 1);
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn each_panic_without_a_joiner_is_reported() {
    let reports = reports_of("each_panic_without_a_joiner_is_reported", || {
        on_the_only_worker(async {
            // The handle is given up after the panic.
            REQUEST_ID.set(1);
            let late = Builder::new().name("late").spawn(async { panic!("one") });
            while !late.is_finished() {
                yield_now().await;
            }
            let late: heirloom::JoinHandle<()> = late;
            late.detach();
            // The task is cancelled, and its destructor panics.
            let (begun, began) = oneshot::channel();
            let cancelled = Builder::new().name("cancelled").spawn(async {
                let _panics = heirloom_tests::OnDrop::new(|| panic!("two"));
                begun.send(()).unwrap();
                pending::<()>().await
            });
            began.await.unwrap();
            drop(cancelled);
            yield_now().await;
            // Without variables, with a payload that is no text, with a text that panics.
            REQUEST_ID.unset();
            let odd = async { std::panic::panic_any(3) };
            Builder::new().name("odd").spawn(odd).detach();
            yield_now().await;
            BROKEN.set(Broken);
            Builder::new().name("broken").spawn(async { panic!("four") }).detach();
            yield_now().await;
            let closure = Builder::new().name("closure").spawn_blocking(|| panic!("five"));
            while !closure.is_finished() {
                yield_now().await;
            }
            let closure: heirloom::JoinHandle<()> = closure;
            drop(closure);
        });
    });
    let Some(reports) = reports else { return };
    let at = "spawned at src/main.rs:12:9, has panicked without a joiner";
    let expected = [
        format!("heirloom: task `late`, {at}: one [REQUEST_ID = 1]"),
        format!("heirloom: task `cancelled`, {at}: two [REQUEST_ID = 1]"),
        format!("heirloom: task `odd`, {at}: (the payload is no text)"),
        format!("heirloom: task `broken`, {at}: four [BROKEN = (its text panics)]"),
        format!("heirloom: task `closure`, {at}: five [BROKEN = (its text panics)]"),
    ];
    assert_eq!(reports, expected);
}

/// A future with a context of its own has left it when the task's panic is caught.
#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_panic_is_of_the_innermost_context() {
    let reports = reports_of("a_panic_is_of_the_innermost_context", || {
        on_the_only_worker(async {
            REQUEST_ID.set(1);
            async fn panic() {
                panic!("as planned")
            }
            spawn(panic().with_var(&REQUEST_ID, 2)).detach();
            let sets = async {
                REQUEST_ID.set(3);
                panic!("as planned")
            };
            spawn(sets.isolated()).detach();
            let nested = panic().with_var(&REQUEST_ID, 4).isolated().with_var(&REQUEST_ID, 5);
            spawn(nested.in_context(Context::empty())).detach();
            let cell = ContextCell::new(Context::empty().with_var(&REQUEST_ID, 6));
            spawn(panic().in_cell(cell)).detach();
            // One that was caught leaves nothing for the next.
            spawn(async {
                let caught = AssertUnwindSafe(panic().with_var(&REQUEST_ID, 7)).catch_unwind();
                let payload: Result<(), _> = caught.await;
                drop(payload);
                panic!("another")
            })
            .detach();
            for _ in 0..10 {
                yield_now().await;
            }
        });
    });
    let Some(reports) = reports else { return };
    let of = |report: &String| report.rsplit_once(": ").unwrap().1.to_owned();
    let mut told: Vec<_> = reports.iter().map(of).collect();
    told.sort_unstable(); // which task was first is not the matter
    let expected = |id| format!("as planned [REQUEST_ID = {id}]");
    let expected = [2, 3, 4, 6].map(expected);
    assert_eq!((told[0].as_str(), &told[1..]), ("another [REQUEST_ID = 1]", &expected[..]));
}

/// A process that aborts says for whom before: no joiner will.
#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_panic_that_aborts_is_reported_before() {
    match in_child("mistakes::a_panic_that_aborts_is_reported_before", false) {
        Child::Here => {
            let runtime = Runtime::builder().workers(1).on_panic(PanicPolicy::Abort).build().unwrap();
            let task = async {
                REQUEST_ID.set(7);
                panic!("as planned")
            };
            let _: Result<(), _> = runtime.block_on(runtime.spawn(task));
        }
        Child::Ended(output) => {
            assert!(!output.status.success());
            let reports = reports_in(&String::from_utf8_lossy(&output.stderr));
            assert_reported(Some(reports), 1);
        }
    }
}

/// A report that cannot be written harms nothing.
#[test]
#[cfg(target_os = "linux")]
#[cfg_attr(miri, ignore = "starts a process")]
fn reports_on_a_closed_standard_error_are_lost() {
    let test = "mistakes::reports_on_a_closed_standard_error_are_lost";
    for stderr in ["2>/dev/full", "2>&-"] {
        if !in_child_by(test, &format!("exec \"$@\" {stderr}")).is_here() {
            continue;
        }
        watchdog(PATIENCE, || {
            on_the_only_worker(async {
                let _ = spawn(pending::<()>());
                spawn(async { std::panic::resume_unwind(Box::new("quiet")) }).detach();
                yield_now().await;
                assert_eq!(spawn(async { 7 }).await.unwrap(), 7);
            });
        });
        return say_as_child();
    }
}

#[heirloom::test(workers = 1)]
async fn a_variable_that_is_required_and_unset_says_where_to_look() {
    let text = |error: heirloom::task::JoinError| error.panic_message().unwrap().to_owned();
    let required = || spawn(async { UNSET.require() });

    let never = text(required().await.unwrap_err());
    assert!(never.starts_with("the context variable `UNSET` is unset in task "), "{never}");
    assert!(never.contains("no code of this program has bound it so far\n  way out: "), "{never}");

    spawn(async { UNSET.set(7) }).await.unwrap();
    let elsewhere = text(required().await.unwrap_err());
    let lines: Vec<_> = elsewhere.lines().collect();
    assert_is_on_the_page(&as_on_the_page(lines[0]).replace("`UNSET`", "`TENANT`"));
    assert_is_on_the_page(&as_on_the_page(lines[1]));
    assert_is_on_the_page(lines[2]);
    assert_eq!(lines.len(), 3, "{elsewhere}");

    UNSET.set(8);
    assert_eq!(required().await.unwrap(), 8);
}

#[test]
#[cfg_attr(miri, ignore = "starts a process")]
fn a_guard_that_is_dropped_in_a_child_is_reported_once() {
    let reports = reports_of("a_guard_that_is_dropped_in_a_child_is_reported_once", || {
        block_on(async {
            for _ in 0..2 {
                let guard = TENANT.bind("acme");
                spawn(async move { drop(guard) }).await.unwrap();
                assert_eq!(TENANT.get(), Some("acme"));
            }
            // As it should be.
            let guard = TENANT.bind("other");
            assert_eq!(spawn(async { TENANT.get() }).await.unwrap(), Some("other"));
            drop(guard);
        });
    });
    assert_reported(reports, 1);
}

/// The page's texts of the compiler are those of the tests of the package `heirloom`, and its last
/// ones name what there is.
#[test]
fn the_page_quotes_the_compiler() {
    let outputs = [
        include_str!("../../../executor/tests/ui/mistake_forgotten_handle.stderr"),
        include_str!("../../../executor/tests/ui/mistake_not_send.stderr"),
    ];
    let quoted = [
        "  = note: dropping a join handle cancels its task, and `let _ =` drops it: await it, keep it, or `detach` it",
        "note: future is not `Send` as this value is used across an await",
        "note: required by a bound in `heirloom::spawn`",
        "     F: Future + Send + 'static, // if not `Send`: drop what is not before the `.await`, or `spawn_local`",
    ];
    for text in quoted {
        assert_is_on_the_page(text);
        assert!(outputs.iter().any(|output| output.contains(text.trim())), "{text}");
    }
}
