//! Runtimes inside of tasks of other runtimes.

use tokio::task::{block_in_place, yield_now};

use crate::{REQUEST, one_thread, wait_until_none_is_left, workers};

#[test]
fn a_runtime_in_a_task_of_another_one_inherits_and_gives_back() {
    let (outer, outer_carry) = workers(2);
    outer.block_on(async {
        let tasks = (0..20).map(|request| {
            REQUEST.set(request);
            tokio::spawn(async move {
                yield_now().await;
                block_in_place(|| {
                    let (inner, inner_carry) = one_thread();
                    inner.block_on(async {
                        let child = tokio::spawn(async move {
                            assert_eq!(REQUEST.get(), Some(request));
                            REQUEST.set(100);
                            yield_now().await;
                            assert_eq!(REQUEST.get(), Some(100));
                        });
                        child.await.unwrap();
                        assert_eq!(REQUEST.get(), Some(request));
                    });
                    assert_eq!(inner_carry.tasks(), 0);
                });
                yield_now().await;
                assert_eq!(REQUEST.get(), Some(request));
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
    wait_until_none_is_left(&outer_carry);
}

#[test]
fn a_spawn_on_another_runtime_inherits() {
    let ((one, one_carry), (other, other_carry)) = (workers(2), workers(2));
    let handle = other.handle().clone();
    one.block_on(async {
        REQUEST.set(1);
        let task = tokio::spawn(async move {
            REQUEST.set(2);
            handle.spawn(async { REQUEST.get() }).await.unwrap()
        });
        assert_eq!(task.await.unwrap(), Some(2));
    });
    wait_until_none_is_left(&one_carry);
    wait_until_none_is_left(&other_carry);
}

#[test]
fn a_runtime_without_hooks_is_left_alone() {
    let plain = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (carried, _carry) = workers(2);
    carried.block_on(async {
        REQUEST.set(1);
        let task = tokio::spawn(async move {
            block_in_place(|| {
                plain.block_on(async {
                    tokio::spawn(async { REQUEST.set(2) }).await.unwrap();
                });
                drop(plain);
            });
            REQUEST.get()
        });
        // The task of the other runtime ran in the context of the one around it.
        assert_eq!(task.await.unwrap(), Some(2));
        assert_eq!(REQUEST.get(), Some(1));
    });
}
