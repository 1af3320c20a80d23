//! The results of groups: a failure is the last one, or each child's own, and becomes an error of
//! the caller.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use heirloom::group::GroupError;
use heirloom::task::{CancelReason, JoinError};
use heirloom::{TaskGroup, sleep, spawn, yield_now};
use heirloom_tests::{Countdown, Gate, Ledger, Probe, SCRIPTED, in_a_worker, quiet_panic, run};

const LONG: Duration = Duration::from_secs(3_600);

/// A failure is the last result, and comes once, in a loop over `select!` too: when all children
/// have ended and their results were taken.
#[test]
fn a_loop_over_a_group_that_fails_ends() {
    in_a_worker(2, async {
        for panics in [false, true] {
            let ledger = Ledger::new();
            let held = ledger.counted(0);
            let group = TaskGroup::<&str, u32>::new();
            let gate = Gate::new();
            let opened = gate.opened();
            group.spawn(async move {
                let _held = held;
                std::future::pending().await
            });
            group.spawn(async { Ok(1) });
            group.spawn(async move {
                opened.await;
                if panics { quiet_panic(SCRIPTED) } else { Err("as planned") }
            });
            let mut never = Box::pin(futures::FutureExt::fuse(sleep(LONG)));
            let mut results = Vec::new();
            loop {
                let mut next = Box::pin(futures::FutureExt::fuse(group.next()));
                futures::select! {
                    result = next => match result {
                        Some(Ok(output)) => {
                            results.push(output);
                            gate.open();
                        }
                        Some(Err(GroupError::Failed(error))) => break assert!(!panics && error == "as planned"),
                        Some(Err(GroupError::Panicked(_))) => break assert!(panics),
                        other => panic!("{other:?}"),
                    },
                    () = never => unreachable!("an hour"),
                }
            }
            assert_eq!(results, [1]);
            assert_eq!(ledger.alive(), 0, "the failure came before all children had ended");
            // It has ended: that is an answer each time, and the failure is not returned again.
            assert!(group.next().await.is_none());
            let (probe, watch) = Probe::new([]);
            let late = group.spawn(async move {
                probe.await;
                Ok(2)
            });
            assert!(group.next().await.is_none());
            while !late.is_finished() {
                yield_now().await;
            }
            watch.assert_counts(0, 1);
            assert!(group.join().await.unwrap().is_empty());
        }
    });
}

#[test]
fn one_of_several_waiters_gets_the_failure_and_the_others_the_end() {
    in_a_worker(3, async {
        let group = Arc::new(TaskGroup::<u32>::new());
        let gate = Gate::new();
        let opened = gate.opened();
        group.spawn(async move {
            opened.await;
            Err(7)
        });
        let waiting = Countdown::new(4);
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let (group, waiting) = (group.clone(), waiting.clone());
                spawn(async move {
                    let mut next = std::pin::pin!(group.next());
                    assert!(futures::poll!(next.as_mut()).is_pending());
                    waiting.arrive();
                    next.await
                })
            })
            .collect();
        waiting.done().await;
        gate.open();
        let mut failures = 0;
        for waiter in waiters {
            match waiter.await.unwrap() {
                Some(Err(GroupError::Failed(7))) => failures += 1,
                None => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(failures, 1);
    });
}

/// A body that ignores its results must not take a failure for the end of the children.
#[test]
fn the_body_of_a_scope_that_fails_gets_no_further() {
    // Not on a worker: the body blocks its thread until the child has ended.
    run(2, || async {
        for deref in [false, true] {
            let outcome = TaskGroup::<u32>::scope(async |group| {
                let child = group.spawn(async { Err(7) });
                // The failure comes in the middle of a poll of the body.
                while !child.is_finished() {
                    thread::yield_now();
                }
                if deref {
                    let group: &TaskGroup<u32> = &group;
                    assert!(group.next().await.is_none());
                } else {
                    assert_eq!(group.next().await, None);
                }
                unreachable!("the body goes on");
                #[allow(unreachable_code)]
                Ok(())
            });
            assert!(matches!(outcome.await, Err(GroupError::Failed(7))));
        }
        // A `GroupScope` that another task has: it waits for the end of the scope.
        let mut other = None;
        let outcome = TaskGroup::<u32>::scope(async |group| {
            let gate = Gate::new();
            let opened = gate.opened();
            group.spawn(async move {
                opened.await;
                Err(7)
            });
            other = Some(spawn(async move { group.next().await }));
            yield_now().await;
            gate.open();
            std::future::pending::<Result<(), _>>().await
        });
        assert!(matches!(outcome.await, Err(GroupError::Failed(7))));
        assert_eq!(other.unwrap().await.unwrap(), None);
    });
}

#[test]
fn the_failure_of_a_caught_child_is_its_result() {
    in_a_worker(2, async {
        let group = TaskGroup::<Infallible, Result<u32, JoinError>>::new();
        group.spawn_caught(async { quiet_panic(SCRIPTED) });
        assert_eq!(group.next().await.unwrap().unwrap().unwrap_err().panic_message(), Some(SCRIPTED));
        group.handle().spawn_caught(async { 7 });
        assert_eq!(group.next().await.unwrap().unwrap().unwrap(), 7);
        group.spawn_caught(std::future::pending()).abort_with("by hand");
        let reason = CancelReason::from("by hand");
        assert_eq!(group.next().await.unwrap().unwrap().unwrap_err().reason(), Some(&reason));
        assert!(group.next().await.is_none());
        // Beside children that fail: their failure is the group's all the same.
        let group = TaskGroup::<u32, Result<(), JoinError>>::new();
        group.spawn_caught(std::future::pending());
        group.spawn(async { Err(7) });
        let caught = group.next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(caught.reason(), Some(&CancelReason::SiblingFailed));
        assert!(matches!(group.next().await, Some(Err(GroupError::Failed(7)))));
    });
}

#[derive(Debug)]
struct Unreadable(std::num::ParseIntError);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unreadable")
    }
}

impl Error for Unreadable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn unreadable() -> Unreadable {
    Unreadable("x".parse::<u32>().unwrap_err())
}

const DIGIT: &str = "invalid digit found in string";

/// Each caller's error type has a line, and the causes arrive with it.
#[test]
fn a_failure_becomes_the_error_of_the_caller() {
    type Anything = Box<dyn Error + Send + Sync>;

    #[derive(Debug)]
    enum Own {
        Group(GroupError<Unreadable>),
    }
    impl From<GroupError<Unreadable>> for Own {
        fn from(error: GroupError<Unreadable>) -> Own {
            Own::Group(error)
        }
    }

    async fn into_own() -> Result<(), Own> {
        Ok(TaskGroup::<Unreadable>::scope(async |_| Err(unreadable())).await?)
    }
    async fn anyhow_of_anyhow() -> anyhow::Result<()> {
        let failed = TaskGroup::<anyhow::Error>::scope(async |_| Err(unreadable().into()));
        failed.await.map_err(GroupError::into_error)?;
        Ok(())
    }
    async fn anyhow_of_an_error() -> anyhow::Result<()> {
        Ok(TaskGroup::<Unreadable>::scope(async |_| Err(unreadable())).await?)
    }
    async fn anything_of_anything() -> Result<(), Anything> {
        let failed = TaskGroup::<Anything>::scope(async |_| Err(unreadable().into()));
        Ok(failed.await.map_err(GroupError::into_error)?)
    }
    async fn anything_of_a_text() -> Result<(), Anything> {
        let failed = TaskGroup::<&str>::scope(async |_| Err("no such page"));
        Ok(failed.await.map_err(GroupError::into_error)?)
    }
    async fn anything_of_a_panic() -> Result<(), Anything> {
        let group = TaskGroup::<String>::new();
        group.spawn(async { quiet_panic(SCRIPTED) });
        group.join().await.map_err(GroupError::into_error)?;
        Ok(())
    }

    in_a_worker(2, async {
        assert!(matches!(into_own().await, Err(Own::Group(GroupError::Failed(Unreadable(_))))));
        for error in [anyhow_of_anyhow().await, anyhow_of_an_error().await] {
            assert_eq!(format!("{:#}", error.unwrap_err()), format!("unreadable: {DIGIT}"));
        }
        let error = anything_of_anything().await.unwrap_err();
        assert_eq!(
            (error.to_string(), error.source().unwrap().to_string()),
            ("unreadable".into(), DIGIT.into())
        );
        assert_eq!(anything_of_a_text().await.unwrap_err().to_string(), "no such page");
        let panicked = anything_of_a_panic().await.unwrap_err();
        assert!(panicked.to_string().ends_with(&format!("panicked: {SCRIPTED}")), "{panicked}");
        let inner = GroupError::Failed(unreadable()).into_error().into_inner();
        assert!(inner.is::<Unreadable>());
    });
}
