//! What is always ready starves nothing that shares its task, its thread or its runtime.
//!
//! The kind: a future whose leaves are always ready never suspends by itself. Every driver of a
//! poll gives it a budget, so that the poll ends, and what could end the future gets its turn. The
//! matrix crosses the drivers of a poll, the leaves that can be ready for ever, and what ends a
//! wait.
//!
//! The exception is documented in `heirloom::task::budget`: a leaf of another crate that is always
//! ready, unless it is wrapped in `cooperative`.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use heirloom::context::{channel, future as branches, join};
use heirloom::net::UdpSocket;
use heirloom::task::LocalSet;
use heirloom::task::budget::{self, cooperative};
use heirloom::{
    CancelToken, Runtime, TaskGroup, interval, run_eagerly, sleep, spawn, spawn_background, spawn_blocking,
    spawn_local, task, try_run_eagerly, wait_for, yield_now,
};
use heirloom_tests::{in_a_worker, outside, run, runtime};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Set by what the busy future must not starve.
#[derive(Clone, Default)]
struct Flag(Arc<AtomicBool>);

impl Flag {
    fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A name, and what makes a busy future.
type Source = (&'static str, fn(Flag) -> Boxed<()>);
/// A name, and what makes a future in which a busy one is ended.
type Ender = (&'static str, fn(Boxed<()>, Flag) -> Boxed<()>);
/// A name, and what runs a future to its end.
type Driver = (&'static str, fn(Boxed<()>));

const SHORT: Duration = Duration::from_millis(3);

/// Futures that are busy until the flag is set: the leaf is ready each time.
const SOURCES: [Source; 13] = [
    ("late ticks", |flag| {
        Box::pin(async move {
            let mut ticks = interval(Duration::from_nanos(1));
            while !flag.is_set() {
                ticks.tick().await;
            }
        })
    }),
    ("a full channel", |flag| {
        Box::pin(async move {
            let (sender, receiver) = channel::unbounded();
            while !flag.is_set() {
                sender.try_send(()).unwrap();
                receiver.recv().await.unwrap();
            }
        })
    }),
    ("a full channel as a stream", |flag| {
        Box::pin(async move {
            let (sender, mut receiver) = channel::unbounded();
            while !flag.is_set() {
                sender.try_send(()).unwrap();
                receiver.next().await.unwrap();
            }
        })
    }),
    ("a channel with room", |flag| {
        Box::pin(async move {
            let (sender, receiver) = channel::bounded(1);
            while !flag.is_set() {
                sender.send(()).await.unwrap();
                receiver.try_recv().unwrap();
            }
        })
    }),
    ("a readable socket", |flag| {
        Box::pin(async move {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            socket.send_to(b"unread", socket.local_addr().unwrap()).await.unwrap();
            while !flag.is_set() {
                socket.readable().await.unwrap();
            }
        })
    }),
    ("a writable socket", |flag| {
        Box::pin(async move {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let to = socket.local_addr().unwrap();
            while !flag.is_set() {
                socket.send_to(b"lost", to).await.unwrap();
            }
        })
    }),
    ("sleep(ZERO)", |flag| {
        Box::pin(async move {
            while !flag.is_set() {
                sleep(Duration::ZERO).await;
            }
        })
    }),
    ("a sleep that is over", |flag| {
        Box::pin(async move {
            let mut over = pin!(sleep(Duration::ZERO));
            while !flag.is_set() {
                over.as_mut().await;
            }
        })
    }),
    ("limits of zero", |flag| {
        Box::pin(async move {
            while !flag.is_set() {
                wait_for(pending::<()>(), Duration::ZERO).await.unwrap_err();
            }
        })
    }),
    ("a cancelled token", |flag| {
        Box::pin(async move {
            let token = CancelToken::new();
            token.cancel("at once");
            while !flag.is_set() {
                token.cancelled().await;
            }
        })
    }),
    ("tasks that end in their first poll", |flag| {
        Box::pin(async move {
            while !flag.is_set() {
                task::Builder::new().start_inline(true).spawn(async {}).await.unwrap();
            }
        })
    }),
    ("an empty group", |flag| {
        Box::pin(async move {
            let group = TaskGroup::<Infallible>::new();
            while !flag.is_set() {
                assert!(group.next().await.is_none());
            }
        })
    }),
    ("a foreign leaf that cooperates", |flag| {
        Box::pin(async move {
            while !flag.is_set() {
                cooperative(ready(())).await;
            }
        })
    }),
];

/// A loop that lets the others run has no leaf that is ready, but under the eager flag.
const YIELDS: Source = ("yields", |flag| {
    Box::pin(async move {
        while !flag.is_set() {
            yield_now().await;
        }
    })
});

/// What has to end a busy future, and does so in any case for the future that is returned.
const ENDERS: [Ender; 7] = [
    ("a limit", |busy, _| {
        Box::pin(async move { assert!(wait_for(busy, SHORT).await.is_err(), "nothing else ends it") })
    }),
    ("a stop token", |busy, _| {
        Box::pin(async move {
            let token = CancelToken::new();
            let stop = token.clone();
            spawn_background(async move {
                sleep(SHORT).await;
                stop.cancel("enough");
            });
            assert_eq!(token.run_until_cancelled(busy).await, None);
        })
    }),
    ("a sibling in join!", |busy, flag| Box::pin(async move { _ = join!(busy, sets(flag)) })),
    ("a sibling in join_all", |busy, flag| {
        Box::pin(async move { _ = branches::join_all([busy, Box::pin(sets(flag))]).await })
    }),
    ("a sibling in select", |busy, _| {
        Box::pin(async move {
            let first = branches::select(busy, sleep(SHORT)).await;
            assert!(matches!(first, branches::Either::Right(())));
        })
    }),
    ("a sibling in another crate's select", |busy, _| {
        Box::pin(async move { drop(futures::future::select(busy, sleep(SHORT)).await) })
    }),
    ("a child that fails", |busy, _| {
        Box::pin(async move {
            let scope = TaskGroup::<&str>::scope(async |group| {
                group.spawn(async {
                    sleep(SHORT).await;
                    Err("as planned")
                });
                busy.await;
                Ok(())
            });
            assert!(scope.await.is_err());
        })
    }),
];

async fn sets(flag: Flag) {
    sleep(SHORT).await;
    flag.set();
}

/// Everything that polls a future of a user's.
const DRIVERS: [Driver; 15] = [
    ("a task", |future| in_a_worker(1, future)),
    ("heirloom::block_on", |future| heirloom::block_on(future)),
    ("Runtime::block_on", |future| run(1, || future)),
    ("LocalSet::block_on", |future| LocalSet::new().block_on(future)),
    ("a local task", |future| LocalSet::new().block_on(async { spawn_local(future).await.unwrap() })),
    ("a local set in a task", |future| {
        in_a_worker(1, async {
            spawn_blocking(|| LocalSet::new().block_on(async { spawn_local(future).await.unwrap() }))
                .await
                .unwrap();
        });
    }),
    ("block_on in the blocking pool", |future| {
        run(1, || async { spawn_blocking(|| heirloom::block_on(future)).await.unwrap() });
    }),
    ("run_eagerly", |future| run_eagerly(future)),
    ("a child in run_eagerly", |future| run_eagerly(async { spawn(future).await.unwrap() })),
    ("run_eagerly in a task", |future| in_a_worker(1, async { run_eagerly(future) })),
    ("a child of a group", |future| {
        in_a_worker(1, async {
            let group = TaskGroup::<Infallible>::new();
            group.spawn(async {
                future.await;
                Ok(())
            });
            group.join().await.unwrap();
        });
    }),
    ("the body of a group", |future| {
        in_a_worker(1, async {
            let scope = TaskGroup::<Infallible>::scope(async |_| {
                future.await;
                Ok(())
            });
            scope.await.unwrap();
        });
    }),
    ("a branch of join!", |future| {
        in_a_worker(1, async { _ = join!(future, async { yield_now().await }) });
    }),
    ("a branch of join_all", |future| {
        in_a_worker(1, async { _ = branches::join_all([future, Box::pin(ready(()))]).await });
    }),
    ("FuturesUnordered", |future| {
        in_a_worker(1, async {
            let mut all: futures::stream::FuturesUnordered<_> = [future].into_iter().collect();
            while all.next().await.is_some() {}
        });
    }),
];

#[test]
fn every_busy_future_can_be_ended_by_everything_under_every_driver() {
    for (driver, drive) in DRIVERS {
        // The watchdog aborts a driver whose futures do not end, and names the test.
        outside(move || {
            for (source, busy) in SOURCES.into_iter().chain([YIELDS]) {
                for (ender, end) in ENDERS {
                    let flag = Flag::default();
                    let cell = format!("{driver}: {source}, ended by {ender}");
                    let ended = Flag::default();
                    let done = ended.clone();
                    let future = end(busy(flag.clone()), flag);
                    drive(Box::pin(async move {
                        future.await;
                        done.set();
                    }));
                    assert!(ended.is_set(), "{cell}");
                }
            }
        });
    }
}

/// A call that refuses to wait ends, too: with its output, or because something would have waited.
#[test]
fn every_busy_future_ends_in_a_call_that_refuses_to_wait() {
    outside(|| {
        for (source, busy) in SOURCES.into_iter().chain([YIELDS]) {
            for (ender, end) in ENDERS {
                let flag = Flag::default();
                let result = try_run_eagerly(end(busy(flag.clone()), flag));
                if ender == "a limit" {
                    assert_eq!(result, Ok(()), "{source}");
                }
            }
        }
    });
}

/// What runs beside the busy future on the same thread.
#[test]
fn a_busy_root_lets_the_tasks_of_its_thread_run() {
    outside(|| {
        for (_, busy) in SOURCES {
            let flag = Flag::default();
            LocalSet::new().block_on(async {
                let sibling = spawn_local(sets(flag.clone()));
                busy(flag).await;
                sibling.await.unwrap();
            });
            let flag = Flag::default();
            in_a_worker(1, async move {
                let sibling = spawn(sets(flag.clone()));
                busy(flag).await;
                sibling.await.unwrap();
            });
        }
    });
}

#[test]
fn a_busy_stream_of_a_group_lets_its_children_run() {
    in_a_worker(1, async {
        let group = TaskGroup::<Infallible, u32>::new();
        for number in 0..1_000 {
            group.spawn(async move { Ok(number) });
        }
        let mut sum = 0;
        // The loop has no end of its own: each round is ended by its limit.
        while sum < 999 * 1_000 / 2 {
            let ended = wait_for(
                async {
                    loop {
                        match group.results().next().await {
                            Some(value) => sum += value.unwrap(),
                            None => task::Builder::new().start_inline(true).spawn(ready(())).await.unwrap(),
                        }
                    }
                },
                SHORT,
            );
            assert!(ended.await.is_err());
        }
    });
}

/// The first branch spends all units of each poll, and every other one goes on by a leaf a poll.
#[test]
fn every_branch_goes_on_though_the_first_spends_the_budget() {
    in_a_worker(1, async {
        let (flag, steps) = (Flag::default(), Arc::new(AtomicUsize::new(0)));
        let slow = |last: bool| {
            let (flag, steps) = (flag.clone(), steps.clone());
            async move {
                for _ in 0..100 {
                    sleep(Duration::ZERO).await;
                    steps.fetch_add(1, Ordering::SeqCst);
                }
                if last {
                    flag.set();
                }
            }
        };
        let polls = AtomicUsize::new(0);
        let mut busy = SOURCES[0].1(flag.clone());
        let busy = poll_fn(|cx| {
            polls.fetch_add(1, Ordering::SeqCst);
            busy.as_mut().poll(cx)
        });
        join!(busy, slow(false), slow(false), slow(true));
        assert_eq!(steps.load(Ordering::SeqCst), 300);
        assert!(polls.load(Ordering::SeqCst) <= 2 * 100 + 2, "a leaf goes on in two polls at most");
    });
}

/// A joiner that is polled right after the task it has waited for has a budget of its own.
#[test]
fn a_joiner_that_is_polled_right_after_its_task_has_a_full_budget() {
    in_a_worker(1, async {
        for _ in 0..10 {
            let child = spawn(async {
                for _ in 0..100 {
                    sleep(Duration::ZERO).await;
                }
            });
            child.await.unwrap();
            // The poll that found the child's end has used nothing else.
            assert!(budget::remaining() >= Some(127), "{:?}", budget::remaining());
        }
    });
}

/// The documented exception, and its cure: without `cooperative` the worker would never poll the
/// other task.
#[test]
fn a_foreign_leaf_that_is_always_ready_needs_to_be_made_cooperative() {
    in_a_worker(1, async {
        let polled = Arc::new(AtomicUsize::new(0));
        let count = polled.clone();
        let other = spawn(async move {
            loop {
                count.fetch_add(1, Ordering::SeqCst);
                yield_now().await;
            }
        });
        // 200,000 messages of a channel that knows no budget.
        let (sender, mut receiver) = futures::channel::mpsc::unbounded();
        for message in 0..200_000 {
            sender.unbounded_send(message).unwrap();
        }
        let before = polled.load(Ordering::SeqCst);
        for _ in 0..100_000 {
            receiver.next().await.unwrap();
        }
        assert_eq!(polled.load(Ordering::SeqCst), before, "as the page on the budget says");
        for _ in 0..50_000 {
            cooperative(receiver.next()).await.unwrap();
        }
        let mut stream = cooperative(receiver);
        for _ in 0..50_000 {
            stream.next().await.unwrap();
        }
        let turns = polled.load(Ordering::SeqCst) - before;
        assert!(turns >= 100_000 / 129 - 4, "{turns} turns of the other task");
        drop(other);
    });
}

/// What other polls on the thread were refused is nothing to a driver that begins: it would have a
/// budget without a bound, and look at no limit.
#[test]
fn a_driver_owes_nothing_to_what_was_refused_before_it() {
    in_a_worker(1, async {
        let refused = poll_fn(|cx| {
            let ready = (0..10_000).filter(|_| budget::consume(cx).is_ready()).count();
            Poll::Ready(ready)
        });
        assert!(refused.await <= 128);
        run_eagerly(async {
            for _ in 0..129 {
                sleep(Duration::ZERO).await;
            }
            assert!(budget::remaining().is_some_and(|left| left <= 128), "{:?}", budget::remaining());
        });
    });
}

/// The budget of a nested driver is its own: the poll around it finds its units as they were.
#[test]
fn a_nested_driver_leaves_the_budget_around_it_alone() {
    in_a_worker(1, async {
        sleep(Duration::ZERO).await;
        let before = budget::remaining();
        run_eagerly(async {
            assert_eq!(budget::remaining(), Some(128));
            for _ in 0..1_000 {
                sleep(Duration::ZERO).await;
            }
        });
        assert_eq!(budget::remaining(), before);
    });
    outside(|| {
        assert_eq!(budget::remaining(), None, "nothing of ours polls here");
        heirloom::block_on(async { assert_eq!(budget::remaining(), Some(128)) });
        assert_eq!(budget::remaining(), None);
        let runtime: Runtime = runtime(1);
        runtime.block_on(poll_fn(|cx| {
            assert!(budget::consume(cx).is_ready());
            assert_eq!(budget::remaining(), Some(127));
            Poll::Ready(())
        }));
    });
}
