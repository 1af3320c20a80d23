//! Spawning forks, awaiting shares: what a task sees of its spawner, and what its spawner sees of
//! it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::task::{FutureObj, LocalFutureObj, LocalSpawn, Spawn};
use heirloom::context::ContextFutureExt;
use heirloom::context::{ContextCell, context_var};
use heirloom::task::LocalSet;
use heirloom::{
    Context, Runtime, TaskGroup, run_eagerly, sleep, spawn, spawn_background, spawn_blocking, spawn_in,
    spawn_local, task, wait_for, yield_now,
};
use heirloom_tests::{Gate, Log, PATIENCE, in_a_worker, run, runtime, scaled, watchdog};

context_var! {
    static ANSWER: u32;
    static OTHER: u32;
    static NEVER: u32, inherit = Never;
    static DEPTH: u32, inherit = Derive(|depth| Some(depth + 1));
    static BASKET: Arc<Mutex<Vec<u32>>>;
}

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(1);

async fn set_answer() {
    ANSWER.set(42);
}

#[test]
fn what_an_awaited_function_sets_stays() {
    in_a_worker(2, async {
        set_answer().await;
        assert_eq!(ANSWER.get(), Some(42));
    });
}

#[test]
fn what_a_spawned_task_sets_does_not_come_back() {
    in_a_worker(2, async {
        spawn(set_answer()).await.unwrap();
        assert_eq!(ANSWER.get(), None);
        ANSWER.set(1);
        spawn(set_answer()).await.unwrap();
        assert_eq!(ANSWER.get(), Some(1));
    });
}

#[test]
fn a_limit_changes_neither() {
    in_a_worker(2, async {
        wait_for(set_answer(), LONG).await.unwrap();
        assert_eq!(ANSWER.get(), Some(42));
        ANSWER.set(1);
        wait_for(spawn(set_answer()), LONG).await.unwrap().unwrap();
        assert_eq!(ANSWER.get(), Some(1));
        // Also when time is up: what was set until then was set by this task.
        let slow = async {
            ANSWER.set(2);
            sleep(LONG).await;
            ANSWER.set(3);
        };
        wait_for(slow, SHORT).await.unwrap_err();
        assert_eq!(ANSWER.get(), Some(2));
    });
}

#[test]
fn a_subroutine_that_sleeps_leaves_its_value_to_its_caller() {
    async fn sub() {
        assert_eq!(ANSWER.get(), Some(1));
        ANSWER.set(2);
        sleep(Duration::from_millis(20)).await;
        assert_eq!(ANSWER.get(), Some(2));
        ANSWER.set(3);
    }
    // As the root of a block_on, and as a task.
    let main = || async {
        ANSWER.set(1);
        sub().await;
        assert_eq!(ANSWER.get(), Some(3));
        let task = spawn(async {
            ANSWER.set(1);
            sub().await;
        });
        ANSWER.set(10);
        task.await.unwrap();
        assert_eq!(ANSWER.get(), Some(10));
    };
    run(2, main);
    in_a_worker(2, main());
}

#[test]
fn a_future_that_is_made_in_one_task_and_awaited_in_another_runs_in_the_second() {
    in_a_worker(2, async {
        let first = spawn(async {
            ANSWER.set(1);
            let plain: Pin<Box<dyn Future<Output = Option<u32>> + Send>> = Box::pin(async { ANSWER.get() });
            let pinned: Pin<Box<dyn Future<Output = Option<u32>> + Send>> =
                Box::pin(async { ANSWER.get() }.in_current_context());
            (plain, pinned)
        });
        let second = spawn(async {
            let (plain, pinned) = first.await.unwrap();
            ANSWER.set(2);
            (plain.await, pinned.await)
        });
        assert_eq!(second.await.unwrap(), (Some(2), Some(1)));
    });
}

#[test]
fn a_task_starts_from_what_was_there_at_the_spawn_call() {
    in_a_worker(2, async {
        ANSWER.set(1);
        let future = async { ANSWER.get() };
        ANSWER.set(2);
        let task = spawn(future);
        ANSWER.set(3);
        assert_eq!(task.await.unwrap(), Some(2));
        // Neither sees what the other writes while both live.
        let (told, go) = (Gate::new(), Gate::new());
        let child = spawn({
            let (told, go) = (told.clone(), go.clone());
            async move {
                ANSWER.set(4);
                told.open();
                go.opened().await;
                ANSWER.get()
            }
        });
        told.opened().await;
        assert_eq!(ANSWER.get(), Some(3));
        ANSWER.set(5);
        go.open();
        assert_eq!(child.await.unwrap(), Some(4));
    });
}

#[test]
fn a_thread_that_blocks_on_a_future_lends_a_copy() {
    watchdog(PATIENCE, || {
        ANSWER.set(1);
        let seen = heirloom::block_on(async {
            let seen = (ANSWER.get(), spawn(async { ANSWER.get() }).await.unwrap());
            ANSWER.set(2);
            yield_now().await;
            assert_eq!(ANSWER.get(), Some(2));
            seen
        });
        assert_eq!((seen, ANSWER.get()), ((Some(1), Some(1)), Some(1)));
        let runtime = runtime(1);
        assert_eq!(runtime.block_on(async { ANSWER.get() }), Some(1));
        assert_eq!(runtime.block_on(runtime.spawn(async { ANSWER.get() })).unwrap(), Some(1));
    });
}

#[test]
fn policies_apply_once_per_spawn_and_not_to_copies() {
    in_a_worker(2, async {
        NEVER.set(1);
        DEPTH.set(1);
        let seen = || (NEVER.get(), DEPTH.get());
        assert_eq!(spawn(async move { seen() }).await.unwrap(), (None, Some(2)));
        assert_eq!(spawn_blocking(seen).await.unwrap(), (None, Some(2)));
        let grandchild = spawn(async move { spawn(async move { seen() }).await.unwrap() });
        assert_eq!(grandchild.await.unwrap(), (None, Some(3)));
        // What is given is taken as given.
        let given = spawn_in(Context::current(), async move { seen() });
        assert_eq!(given.await.unwrap(), (Some(1), Some(1)));
        let given = task::Builder::new().context(Context::current()).spawn(async move { seen() });
        assert_eq!(given.await.unwrap(), (Some(1), Some(1)));
        // A wait and a plain await are no spawns.
        assert_eq!(wait_for(async move { seen() }, LONG).await.unwrap(), (Some(1), Some(1)));
    });
}

#[test]
fn policies_apply_to_each_way_of_spawning() {
    // Of the kind: each call that starts something new asks the policies by itself, and one that
    // does not hands everything down.
    fn look(log: &Log<(&'static str, Option<u32>, Option<u32>)>, way: &'static str) -> impl Fn() + use<> {
        let log = log.clone();
        move || log.push((way, NEVER.get(), DEPTH.get()))
    }
    watchdog(PATIENCE, || {
        let runtime = runtime(2);
        let handle = runtime.handle().clone();
        let log = Log::new();
        let group = TaskGroup::<()>::new();
        let set = LocalSet::new();
        macro_rules! future {
            ($way:literal) => {{
                let look = look(&log, $way);
                async move { look() }
            }};
        }
        let all = async {
            NEVER.set(1);
            DEPTH.set(1);
            spawn(future!("spawn")).await.unwrap();
            spawn_blocking(look(&log, "spawn_blocking")).await.unwrap();
            handle.spawn(future!("Handle::spawn")).await.unwrap();
            handle.spawn_blocking(look(&log, "Handle::spawn_blocking")).await.unwrap();
            runtime.spawn(future!("Runtime::spawn")).await.unwrap();
            runtime.spawn_blocking(look(&log, "Runtime::spawn_blocking")).await.unwrap();
            let builder = task::Builder::new;
            builder().spawn(future!("Builder::spawn")).await.unwrap();
            builder().start_inline(true).spawn(future!("Builder::start_inline")).await.unwrap();
            builder().spawn_local(future!("Builder::spawn_local")).await.unwrap();
            builder().spawn_blocking(look(&log, "Builder::spawn_blocking")).await.unwrap();
            builder().overlay(Context::empty()).spawn(future!("Builder::overlay")).await.unwrap();
            spawn_local(future!("spawn_local")).await.unwrap();
            set.spawn_local(future!("LocalSet::spawn_local")).await.unwrap();
            let seen = look(&log, "TaskGroup::spawn");
            group.spawn(async move {
                seen();
                Ok(())
            });
            let seen = look(&log, "GroupHandle::spawn");
            group.handle().spawn(async move {
                seen();
                Ok(())
            });
            group.join().await.unwrap();
            // For generic code: without handles.
            for (spawner, way) in [(&runtime as &dyn Spawn, "Runtime as Spawn"), (&handle, "Handle as Spawn")]
            {
                let (gate, seen) = (Gate::new(), look(&log, way));
                let opened = gate.opened();
                let future = Box::pin(async move {
                    seen();
                    gate.open();
                });
                spawner.spawn_obj(FutureObj::new(future)).unwrap();
                opened.await;
            }
            let (gate, seen) = (Gate::new(), look(&log, "LocalSet as LocalSpawn"));
            let opened = gate.opened();
            let future = Box::pin(async move {
                seen();
                gate.open();
            });
            set.spawn_local_obj(LocalFutureObj::new(future)).unwrap();
            opened.await;
            assert_eq!((NEVER.get(), DEPTH.get()), (Some(1), Some(1)));
        };
        runtime.block_on(set.run_until(all));
        // Synchronously, tasks of all kinds begin where they are spawned.
        NEVER.set(1);
        DEPTH.set(1);
        run_eagerly(async {
            spawn(future!("spawn, eagerly")).await.unwrap();
            spawn_local(future!("spawn_local, eagerly")).await.unwrap();
        });
        let seen = log.take();
        assert_eq!(seen.len(), 20);
        for (way, never, depth) in seen {
            assert_eq!((never, depth), (None, Some(2)), "{way}");
        }
    });
}

#[test]
fn a_blocking_closure_inherits_and_keeps_its_writes() {
    in_a_worker(1, async {
        ANSWER.set(1);
        let closure = spawn_blocking(|| {
            let seen = ANSWER.get();
            ANSWER.set(2);
            (seen, ANSWER.get())
        });
        ANSWER.set(3);
        assert_eq!(closure.await.unwrap(), (Some(1), Some(2)));
        assert_eq!(ANSWER.get(), Some(3));
        // The pool's thread is used again and has forgotten.
        ANSWER.unset();
        for _ in 0..10 {
            assert_eq!(spawn_blocking(|| ANSWER.get()).await.unwrap(), None);
        }
    });
}

#[test]
fn a_timer_does_not_change_what_its_task_sees() {
    in_a_worker(2, async {
        let tasks: Vec<_> = (0..scaled(50) as u32)
            .map(|number| {
                ANSWER.set(number);
                spawn(async move {
                    for _ in 0..5 {
                        sleep(Duration::from_millis(u64::from(number % 7))).await;
                        assert_eq!(ANSWER.get(), Some(number));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn children_of_a_group_inherit_at_their_spawn_call() {
    in_a_worker(2, async {
        let log = Log::new();
        let group = TaskGroup::<()>::new();
        for number in 0..10 {
            ANSWER.set(number);
            let log = log.clone();
            group.spawn(async move {
                yield_now().await;
                log.push((number, ANSWER.get()));
                ANSWER.set(99);
                Ok(())
            });
        }
        ANSWER.set(50);
        group.join().await.unwrap();
        assert_eq!(ANSWER.get(), Some(50));
        let mut seen = log.take();
        seen.sort_unstable();
        assert_eq!(seen, (0..10).map(|number| (number, Some(number))).collect::<Vec<_>>());
    });
}

#[test]
fn a_task_in_an_empty_context_holds_nothing_of_its_spawner() {
    in_a_worker(2, async {
        let basket = Arc::new(Mutex::new(Vec::new()));
        BASKET.set(basket.clone());
        let go = Gate::new();
        let opened = go.opened();
        let task = spawn_in(Context::empty(), async move {
            assert!(BASKET.get().is_none() && Context::current().is_empty());
            opened.await;
        });
        yield_now().await;
        BASKET.unset();
        assert_eq!(Arc::strong_count(&basket), 1);
        go.open();
        task.await.unwrap();
        // The same holds for a value that its holder has replaced.
        BASKET.set(basket.clone());
        let seen = spawn(async { BASKET.with(|basket| basket.is_some()) }).await.unwrap();
        BASKET.set(Arc::default());
        assert!(seen);
        assert_eq!(Arc::strong_count(&basket), 1);
    });
}

#[test]
fn a_background_task_starts_from_the_root_context_of_its_runtime() {
    watchdog(PATIENCE, || {
        let root = Context::empty().with_var(&OTHER, 7);
        let runtime = Runtime::builder().workers(2).root_context(root).build().unwrap();
        let task = runtime.spawn(async {
            ANSWER.set(1);
            OTHER.set(2);
            let (log, done) = (Log::new(), Gate::new());
            let task = spawn_background({
                let (log, done) = (log.clone(), done.clone());
                async move {
                    log.push((ANSWER.get(), OTHER.get()));
                    done.open();
                }
            });
            done.opened().await;
            drop(task);
            log.take()
        });
        assert_eq!(runtime.block_on(task).unwrap(), [(None, Some(7))]);
    });
}

#[test]
fn the_builder_takes_a_context_an_overlay_or_a_cell() {
    in_a_worker(2, async {
        ANSWER.set(1);
        OTHER.set(2);
        NEVER.set(3);
        let seen = || (ANSWER.get(), OTHER.get(), NEVER.get());
        let given = Context::empty().with_var(&ANSWER, 10);
        let task = task::Builder::new().context(given.clone()).spawn(async move { seen() });
        assert_eq!(task.await.unwrap(), (Some(10), None, None));
        // An overlay wins where it binds; the rest is inherited, by its policies.
        let overlay = given.with_var(&NEVER, 30);
        let task = task::Builder::new().overlay(overlay.clone()).spawn(async move { seen() });
        assert_eq!(task.await.unwrap(), (Some(10), Some(2), Some(30)));
        let task = task::Builder::new().overlay(given).spawn_blocking(seen);
        assert_eq!(task.await.unwrap(), (Some(10), Some(2), None));
        // A cell is lived in, and keeps what is written in it.
        let cell = ContextCell::new(Context::current());
        let task = task::Builder::new().cell(cell.clone()).spawn(async move {
            let seen = seen();
            ANSWER.set(100);
            yield_now().await;
            OTHER.set(200);
            seen
        });
        assert_eq!(task.await.unwrap(), (Some(1), Some(2), Some(3)));
        assert_eq!(cell.snapshot().get(&ANSWER), Some(100));
        assert_eq!(cell.run(|| (ANSWER.get(), OTHER.get())), Ok((Some(100), Some(200))));
        assert_eq!(seen(), (Some(1), Some(2), Some(3)));
    });
}

#[test]
fn a_task_inherits_the_merged_view_of_a_layer() {
    in_a_worker(2, async {
        ANSWER.set(1);
        OTHER.set(1);
        let layered = async {
            ANSWER.set(2);
            let child = spawn(async { (ANSWER.get(), OTHER.get()) });
            ANSWER.set(3);
            child.await.unwrap()
        };
        assert_eq!(layered.isolated().await, (Some(2), Some(1)));
        assert_eq!(ANSWER.get(), Some(1));
        let scoped = async { spawn(async { ANSWER.get() }).await.unwrap() }.with_var(&ANSWER, 5);
        assert_eq!(scoped.await, Some(5));
    });
}

#[test]
fn a_stream_step_under_a_limit_obeys_its_consumer() {
    in_a_worker(1, async {
        let mut stream = std::pin::pin!(futures::stream::unfold(0, |step| async move {
            yield_now().await;
            Some((ANSWER.get(), step + 1))
        }));
        for number in 0..5 {
            ANSWER.set(number);
            let item = wait_for(stream.next(), LONG).await.unwrap();
            assert_eq!(item, Some(Some(number)));
        }
    });
}

#[test]
fn a_context_crosses_generations_of_tasks() {
    fn generation(left: u32) -> Pin<Box<dyn Future<Output = u32> + Send>> {
        Box::pin(async move {
            let seen = ANSWER.get().unwrap();
            if left == 0 {
                return seen;
            }
            ANSWER.set(seen + 1);
            let deepest = spawn(generation(left - 1)).await.unwrap();
            assert_eq!(ANSWER.get(), Some(seen + 1));
            deepest
        })
    }
    in_a_worker(3, async {
        ANSWER.set(0);
        assert_eq!(generation(scaled(100) as u32).await, scaled(100) as u32);
    });
}

#[test]
fn a_value_is_dropped_when_its_task_ends_not_with_the_handle() {
    in_a_worker(2, async {
        let basket = Arc::new(Mutex::new(Vec::new()));
        let handle = spawn({
            let basket = basket.clone();
            async move {
                BASKET.set(basket);
            }
        });
        let mut handle = handle;
        (&mut handle).await.unwrap();
        assert_eq!(Arc::strong_count(&basket), 1);
        drop(handle);
    });
}
