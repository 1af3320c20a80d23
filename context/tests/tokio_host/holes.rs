//! What tokio's hooks do not reach is as the page says, and so are the cures.

use std::future::pending;

use heirloom_context::{Context, ContextFutureExt};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{LocalSet, spawn_blocking, spawn_local, yield_now};

use crate::{REQUEST, Seen, each, one_thread, wait_until_none_is_left};

#[test]
fn the_future_of_block_on_runs_in_the_context_of_its_thread() {
    each(|runtime, carry| {
        REQUEST.set(1);
        runtime.block_on(async {
            assert_eq!(REQUEST.get(), Some(1));
            REQUEST.set(2);
            yield_now().await;
        });
        assert_eq!(REQUEST.get(), Some(2));
        runtime.block_on(async { REQUEST.set(3) }.isolated());
        assert_eq!(REQUEST.get(), Some(2));
        assert_eq!(carry.tasks(), 0);
    });
}

#[test]
fn closures_of_the_blocking_pool_share_the_context_of_its_thread() {
    let mut builder = Builder::new_current_thread();
    heirloom_context::tokio::carry(builder.max_blocking_threads(1));
    builder.build().unwrap().block_on(async {
        REQUEST.set(1);
        assert_eq!(spawn_blocking(|| REQUEST.get()).await.unwrap(), None);
        spawn_blocking(|| REQUEST.set(7)).await.map(drop).unwrap();
        assert_eq!(spawn_blocking(|| REQUEST.get()).await.unwrap(), Some(7));

        let carried = Context::inherited().wrap_once(|| {
            let seen = REQUEST.get();
            REQUEST.set(8);
            seen
        });
        assert_eq!(spawn_blocking(carried).await.unwrap(), Some(1));
        assert_eq!(spawn_blocking(|| REQUEST.get()).await.unwrap(), Some(7));
    });
}

#[test]
fn tasks_of_a_local_set_share_the_context_that_the_set_is_polled_in() {
    let (runtime, carry) = one_thread();
    runtime.block_on(LocalSet::new().run_until(async {
        REQUEST.set(1);
        let task = spawn_local(async {
            let seen = REQUEST.get();
            REQUEST.set(2);
            seen
        });
        REQUEST.set(3);
        assert_eq!(task.await.unwrap(), Some(3));
        assert_eq!(REQUEST.get(), Some(2));
        assert_eq!(carry.tasks(), 0);

        let task = spawn_local(
            async {
                let seen = REQUEST.get();
                REQUEST.set(4);
                seen
            }
            .in_context(Context::inherited()),
        );
        REQUEST.set(5);
        assert_eq!(task.await.unwrap(), Some(2));
        assert_eq!(REQUEST.get(), Some(5));
    }));
}

#[test]
fn tasks_of_a_local_runtime_inherit() {
    let mut builder = Builder::new_current_thread();
    let carry = heirloom_context::tokio::carry(&mut builder);
    builder.build_local(LocalOptions::default()).unwrap().block_on(async {
        REQUEST.set(1);
        let task = spawn_local(async {
            let seen = REQUEST.get();
            REQUEST.set(2);
            yield_now().await;
            (seen, REQUEST.get())
        });
        REQUEST.set(3);
        assert_eq!(task.await.unwrap(), (Some(1), Some(2)));
        assert_eq!(REQUEST.get(), Some(3));
    });
    wait_until_none_is_left(&carry);
}

#[test]
fn a_block_in_place_is_in_the_context_of_the_task() {
    let (runtime, _carry) = crate::workers(2);
    runtime.block_on(async {
        REQUEST.set(1);
        let task = tokio::spawn(async {
            tokio::task::block_in_place(|| {
                assert_eq!(REQUEST.get(), Some(1));
                REQUEST.set(2);
            });
            yield_now().await;
            REQUEST.get()
        });
        assert_eq!(task.await.unwrap(), Some(2));
        assert_eq!(REQUEST.get(), Some(1));
    });
}

#[test]
fn a_future_that_is_dropped_by_the_shutdown_is_dropped_outside_of_its_context() {
    each(|runtime, carry| {
        let seen = Seen::default();
        runtime.block_on(async {
            let [plain, wrapped] = [seen.at_drop(), seen.at_drop()];
            let task = |look| async move {
                let _look = look;
                pending::<()>().await;
            };
            REQUEST.set(1);
            tokio::spawn(task(plain));
            tokio::spawn(task(wrapped).in_context(Context::inherited()));
            REQUEST.set(2);
            yield_now().await;
            REQUEST.unset();
        });
        drop(runtime);
        let mut seen = seen.take();
        seen.sort();
        assert_eq!(seen, [None, Some(1)]);
        assert_eq!(carry.tasks(), 0);
    });
}

#[test]
fn an_output_that_no_handle_takes_is_dropped_where_the_page_says() {
    let (runtime, _carry) = one_thread();
    let seen = Seen::default();
    runtime.block_on(async {
        let [kept, left] = [seen.at_drop(), seen.at_drop()];
        REQUEST.set(1);
        let task = tokio::spawn(async move { left });
        drop(task);
        let task = tokio::spawn(async move { kept });
        REQUEST.set(2);
        while !task.is_finished() {
            yield_now().await;
        }
        assert_eq!(seen.take(), [Some(1)]);
        drop(task);
        assert_eq!(seen.take(), [Some(2)]);
    });
}
