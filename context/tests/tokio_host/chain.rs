//! Hooks of the user's own beside ours.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use heirloom_context::tokio::carry;
use tokio::runtime::Builder;
use tokio::task::yield_now;

use crate::{REQUEST, Seen, one_thread, wait_until_none_is_left, workers};

#[test]
fn chained_hooks_run_in_the_context_of_the_task() {
    let (runtime, carry) = one_thread();
    let kinds = [(); 4].map(|()| Seen::default());
    let [spawn, before, after, end] = kinds.clone();
    carry
        .on_task_spawn(move |_| spawn.look(&REQUEST))
        .on_before_task_poll(move |_| before.look(&REQUEST))
        .on_after_task_poll(move |_| after.look(&REQUEST))
        .on_task_terminate(move |_| end.look(&REQUEST));
    runtime.block_on(async {
        REQUEST.set(1);
        let task = tokio::spawn(async {
            REQUEST.set(2);
            yield_now().await;
            REQUEST.set(3);
        });
        REQUEST.set(9);
        task.await.unwrap();
    });
    let seen = kinds.map(|kind| kind.take());
    assert_eq!(seen[0], [Some(1)]);
    assert_eq!(seen[1], [Some(1), Some(2)]);
    assert_eq!(seen[2], [Some(2), Some(3)]);
    assert_eq!(seen[3], [Some(3)]);
}

#[test]
fn a_second_hook_of_a_kind_is_refused_with_a_sentence() {
    let (_runtime, carry) = one_thread();
    carry.on_task_spawn(|_| {});
    let refused = catch_unwind(AssertUnwindSafe(|| carry.on_task_spawn(|_| {}))).unwrap_err();
    let said = refused.downcast_ref::<&str>().unwrap();
    assert!(said.contains("has a hook of that kind already"), "{said}");
}

/// As tokio has it, and as the page says.
#[test]
fn hooks_of_a_builder_replace_each_other_silently() {
    let (calls, mut builder) = (Arc::new(AtomicUsize::new(0)), Builder::new_current_thread());
    let count = |calls: &Arc<AtomicUsize>| {
        let calls = Arc::clone(calls);
        move |_: &tokio::runtime::TaskMeta<'_>| _ = calls.fetch_add(1, Relaxed)
    };
    builder.on_task_spawn(count(&calls));
    carry(&mut builder);
    builder.build().unwrap().block_on(async {
        REQUEST.set(1);
        assert_eq!(tokio::spawn(async { REQUEST.get() }).await.unwrap(), Some(1));
    });
    assert_eq!(calls.load(Relaxed), 0);

    builder.on_task_spawn(count(&calls));
    builder.build().unwrap().block_on(async {
        REQUEST.set(1);
        // Without our hook there is no entry, so the task runs in whatever is current.
        tokio::spawn(async { REQUEST.set(2) }).await.map(drop).unwrap();
        assert_eq!(REQUEST.get(), Some(2));
    });
    assert_eq!(calls.load(Relaxed), 1);
}

#[test]
fn a_hook_that_panics_leaves_no_context_behind() {
    for is_before in [true, false] {
        let (runtime, carry) = one_thread();
        let fail = |_: &tokio::runtime::TaskMeta<'_>| panic!("on purpose: a hook");
        if is_before {
            carry.on_before_task_poll(fail);
        } else {
            carry.on_after_task_poll(fail);
        }
        let ended = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let task = REQUEST.scope(1, || tokio::spawn(async {}));
                task.await.unwrap();
            });
        }));
        assert!(ended.is_err());
        assert_eq!(REQUEST.get(), None);
        drop(runtime);
        assert_eq!(carry.tasks(), 0);
    }
}

#[test]
fn a_chained_hook_at_the_end_may_panic() {
    let (runtime, carry) = workers(2);
    carry.on_task_terminate(|_| panic!("on purpose: a hook"));
    runtime.block_on(async {
        for _ in 0..10 {
            tokio::spawn(yield_now()).await.unwrap();
        }
    });
    wait_until_none_is_left(&carry);
}

#[test]
fn one_builder_may_build_several_runtimes() {
    let mut builder = Builder::new_current_thread();
    let carry = carry(&mut builder);
    let runtimes = [builder.build().unwrap(), builder.build().unwrap()];
    for runtime in &runtimes {
        REQUEST.set(4);
        assert_eq!(runtime.block_on(runtime.spawn(async { REQUEST.get() })).unwrap(), Some(4));
    }
    assert_eq!(format!("{carry:?}"), "Carry { tasks: 0, .. }");
}
