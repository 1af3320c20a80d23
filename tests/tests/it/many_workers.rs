//! Many more workers than processors: nothing is lost, and nothing waits for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use heirloom::{Runtime, context_var, sleep, spawn, yield_now};
use heirloom_tests::{PATIENCE, idle, scaled, watchdog};

const WORKERS: usize = if cfg!(miri) { 4 } else { 64 };

context_var! { static ROOT: usize; }

/// A tree of tasks of which each sees its root's variable; returns how many there were.
fn tree(root: usize, depth: usize) -> BoxFuture<'static, usize> {
    let branch = async move {
        assert_eq!(ROOT.get(), Some(root));
        match depth % 3 {
            0 => yield_now().await,
            1 => sleep(Duration::from_micros(200)).await,
            _ => {}
        }
        if depth == 0 {
            return 1;
        }
        let children = [(); 3].map(|()| spawn(tree(root, depth - 1)));
        let mut count = 1;
        for child in children {
            count += child.await.unwrap();
        }
        assert_eq!(ROOT.get(), Some(root));
        count
    };
    Box::pin(branch)
}

#[test]
fn sixty_four_workers_lose_no_task_no_timer_and_no_context() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(WORKERS).build().unwrap();
        let roots = scaled(64);
        let trees: Vec<_> =
            (0..roots).map(|root| ROOT.scope(root, || runtime.spawn(tree(root, 4)))).collect();
        for tree in trees {
            assert_eq!(runtime.block_on(tree).unwrap(), 1 + 3 + 9 + 27 + 81);
        }
        // Every worker finds its way to sleep, and each is found there by later work.
        idle(&runtime);
        let ended = Arc::new(AtomicUsize::new(0));
        let sleepers = runtime.spawn({
            let ended = Arc::clone(&ended);
            async move {
                let sleepers: Vec<_> = (0..WORKERS)
                    .map(|_| {
                        let ended = Arc::clone(&ended);
                        spawn(async move {
                            sleep(Duration::from_millis(1)).await;
                            ended.fetch_add(1, Ordering::Relaxed);
                        })
                    })
                    .collect();
                for sleeper in sleepers {
                    sleeper.await.unwrap();
                }
            }
        });
        runtime.block_on(sleepers).unwrap();
        assert_eq!(ended.load(Ordering::Relaxed), WORKERS);
    });
}

#[test]
fn busy_tasks_on_sixty_four_workers_starve_neither_tasks_nor_timers() {
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(WORKERS).build().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..2 * WORKERS)
            .map(|_| {
                let stop = Arc::clone(&stop);
                runtime.spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::black_box((0..1_000).sum::<u64>());
                        yield_now().await;
                    }
                })
            })
            .collect();
        for _ in 0..scaled(20) {
            runtime
                .block_on(runtime.spawn(async {
                    spawn(sleep(Duration::from_micros(500))).await.unwrap();
                }))
                .unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for task in busy {
            runtime.block_on(task).unwrap();
        }
    });
}
