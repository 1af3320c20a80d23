//! Tasks of pools start from the root.

use std::time::{Duration, Instant};

use heirloom_context::raw::{self, Execution};
use heirloom_context::tokio::DETACHED;

use crate::{REQUEST, each, hyper_util, pooling, wait_until_none_is_left};

#[test]
fn a_task_of_a_pool_starts_from_the_root_and_keeps_what_it_sets() {
    each(|runtime, carry| {
        runtime.block_on(async {
            REQUEST.set(1);
            let outer = raw::set_execution(
                Execution::NONE.with_deadline(Some(Instant::now() + Duration::from_secs(9))),
            );
            let pool = hyper_util::spawn(async {
                let start = (REQUEST.get(), raw::execution());
                REQUEST.set(2);
                tokio::task::yield_now().await;
                let child = tokio::spawn(async { REQUEST.get() });
                (start, REQUEST.get(), child.await.unwrap())
            });
            raw::set_execution(outer);
            assert_eq!(pool.await.unwrap(), ((None, Execution::NONE), Some(2), Some(2)));
            assert_eq!(pooling::spawn(async { REQUEST.get() }).await.unwrap(), Some(1));
        });
        wait_until_none_is_left(&carry);
    });
}

#[test]
fn the_list_is_the_users() {
    each(|runtime, carry| {
        let look = |expected: [Option<u64>; 2]| {
            runtime.block_on(async {
                REQUEST.set(1);
                let tasks =
                    (hyper_util::spawn(async { REQUEST.get() }), pooling::spawn(async { REQUEST.get() }));
                assert_eq!([tasks.0.await.unwrap(), tasks.1.await.unwrap()], expected);
            });
        };
        look([None, Some(1)]);
        carry.detached(DETACHED.into_iter().chain(["pooling"]));
        look([None, None]);
        carry.detached(["pooling"]);
        look([Some(1), None]);
        carry.detached([""; 0]);
        look([Some(1), Some(1)]);
    });
}
