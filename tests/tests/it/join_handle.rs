//! Join handles, abort handles, and what becomes of futures and outputs.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use heirloom::task::{AbortHandle, CancelReason};
use heirloom::{JoinHandle, Runtime, context_var, shield, sleep, spawn, task, yield_now};
use heirloom_tests::{
    Counted, CountingWaker, Fault, Gate, Ledger, Log, MARK, OnDrop, PATIENCE, Probe, SCRIPTED, Step, idle,
    in_a_worker, occupy, poll_once, poll_with, quiet_panic, runtime, scaled, wait_until, watchdog,
    with_runtime,
};

#[test]
fn dropping_the_handle_cancels_the_task() {
    with_runtime(2, |runtime| {
        let (probe, watch) = Probe::new([Step::Wait]);
        let handle = runtime.spawn(probe);
        idle(runtime);
        watch.assert_counts(1, 0);
        drop(handle);
        idle(runtime);
        watch.assert_counts(1, 1);
        let (probe, watch) = Probe::new([Step::Wait]);
        let _ = runtime.spawn(probe);
        idle(runtime);
        assert_eq!(watch.drops(), 1, "`let _ =` drops at once");
    });
}

#[test]
fn a_detached_task_runs_on() {
    with_runtime(2, |runtime| {
        let (probe, watch) = Probe::new([Step::Wait, Step::Yield]);
        runtime.spawn(probe).detach();
        idle(runtime);
        watch.wake();
        idle(runtime);
        watch.assert_counts(3, 1);
    });
}

#[test]
fn awaiting_a_borrowed_handle_does_not_give_it_up() {
    in_a_worker(2, async {
        let gate = Gate::new();
        let opened = gate.opened();
        let mut handle = spawn(async move {
            opened.await;
            7
        });
        heirloom::wait_for(&mut handle, Duration::from_millis(1)).await.unwrap_err();
        assert!(!handle.is_finished());
        gate.open();
        assert_eq!((&mut handle).await.unwrap(), 7);
        assert!(handle.is_finished());
    });
}

#[test]
fn an_aborted_task_is_seen_as_cancelled_only_after_its_future_is_dropped() {
    with_runtime(3, |runtime| {
        for round in 0..scaled(300) {
            let (probe, watch) = Probe::new([Step::Wait]);
            let handle = runtime.spawn(probe);
            if round % 2 == 0 {
                idle(runtime);
            }
            if round % 3 == 0 {
                let abort = handle.abort_handle();
                std::thread::spawn(move || abort.abort()).join().unwrap();
            } else {
                handle.abort();
            }
            let error = runtime.block_on(handle).unwrap_err();
            assert_eq!(watch.drops(), 1, "round {round}");
            watch.assert_sound();
            assert!(error.is_cancelled() && !error.is_panic());
            assert_eq!(error.reason(), Some(&CancelReason::Aborted));
            assert!(error.panic_message().is_none());
            assert!(error.into_panic().is_err());
        }
    });
}

#[test]
fn a_slow_destructor_delays_the_joiner() {
    with_runtime(2, |runtime| {
        let (entered, gate) = (Gate::new(), Gate::new());
        let slow = OnDrop::new({
            let (entered, gate) = (entered.clone(), gate.clone());
            move || {
                entered.open();
                gate.wait();
            }
        });
        let mut handle = runtime.spawn(async move {
            let _slow = slow;
            std::future::pending::<()>().await;
        });
        idle(runtime);
        handle.abort();
        entered.wait();
        let (waker, counts) = CountingWaker::create(Fault::None);
        assert!(poll_with(&mut handle, &waker).is_pending());
        assert!(!handle.is_finished());
        gate.open();
        assert!(runtime.block_on(&mut handle).unwrap_err().is_cancelled());
        drop((handle, waker));
        assert!(counts.wakes() <= 1);
    });
}

#[test]
fn reasons_reach_the_joiner() {
    with_runtime(2, |runtime| {
        let pending = || runtime.spawn(std::future::pending::<()>());
        let reasons: [CancelReason; 4] = [
            "the client has gone".into(),
            format!("round {}", 7).into(),
            CancelReason::DeadlineElapsed,
            CancelReason::Other("as it is".into()),
        ];
        for reason in reasons {
            let handle = pending();
            handle.abort_handle().abort_with(reason.clone());
            let error = runtime.block_on(handle).unwrap_err();
            assert_eq!(error.reason(), Some(&reason));
            assert!(error.to_string().contains(&reason.to_string()), "{error}");
        }
        // The first reason stands.
        let handle = pending();
        let abort = handle.abort_handle();
        abort.abort_with("first");
        abort.abort_with("second");
        handle.abort();
        assert_eq!(runtime.block_on(handle).unwrap_err().reason(), Some(&"first".into()));
    });
}

#[test]
fn errors_name_the_task() {
    with_runtime(1, |runtime| {
        let named = runtime.block_on(runtime.spawn(async {
            let cancelled = task::Builder::new().name("patient").spawn(std::future::pending::<()>());
            let panicked = task::Builder::new().name(format!("number {}", 5)).spawn(async {
                assert_eq!(task::current().unwrap().name(), Some("number 5"));
                quiet_panic(SCRIPTED)
            });
            let ids = (cancelled.id(), panicked.id());
            cancelled.abort();
            (cancelled.await.unwrap_err(), panicked.await.unwrap_err(), ids)
        }));
        let (cancelled, panicked, ids) = named.unwrap();
        assert_eq!((cancelled.task_name(), panicked.task_name()), (Some("patient"), Some("number 5")));
        assert_eq!((cancelled.id(), panicked.id()), ids);
        assert!(cancelled.to_string().contains("patient"), "{cancelled}");
        assert!(panicked.to_string().contains(SCRIPTED), "{panicked}");
        let as_error: Box<dyn std::error::Error + Send + Sync> = Box::new(cancelled);
        assert!(!format!("{as_error:?}").is_empty());
    });
}

#[test]
fn an_abort_after_the_end_changes_nothing() {
    with_runtime(2, |runtime| {
        let handle = runtime.spawn(async { 7 });
        idle(runtime);
        assert!(handle.is_finished());
        let abort = handle.abort_handle();
        assert!(abort.is_finished());
        assert_eq!(abort.id(), handle.id());
        abort.abort();
        handle.abort();
        assert_eq!(runtime.block_on(handle).unwrap(), 7);
        abort.abort_with("much too late");
        assert!(abort.is_finished());
    });
}

#[test]
fn a_handle_that_is_polled_after_it_was_ready_panics_in_clear_words() {
    with_runtime(2, |runtime| {
        let mut handle = runtime.spawn(async { 1 });
        assert_eq!(runtime.block_on(&mut handle).unwrap(), 1);
        let again = std::panic::AssertUnwindSafe(|| poll_once(&mut handle));
        let panic = std::panic::catch_unwind(again).expect_err("it has given its output away");
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap();
        assert!(text.contains("JoinHandle") || text.contains("join handle"), "{text}");
        assert!(handle.is_finished());
        drop(handle);
        assert_eq!(runtime.block_on(runtime.spawn(async { 2 })).unwrap(), 2);
    });
}

#[test]
fn only_the_last_waker_of_a_joiner_is_needed() {
    with_runtime(2, |runtime| {
        let gate = Gate::new();
        let mut handle = runtime.spawn(gate.opened());
        let (first, first_counts) = CountingWaker::create(Fault::None);
        let (second, second_counts) = CountingWaker::create(Fault::None);
        assert!(poll_with(&mut handle, &first).is_pending());
        assert!(poll_with(&mut handle, &first).is_pending());
        assert!(poll_with(&mut handle, &second).is_pending());
        drop(first);
        assert!(first_counts.is_gone(), "the replaced waker is not kept");
        gate.open();
        idle(runtime);
        assert_eq!((first_counts.wakes(), second_counts.wakes()), (0, 1));
        assert!(matches!(poll_with(&mut handle, &second), Poll::Ready(Ok(()))));
        drop((handle, second));
        assert!(second_counts.is_gone());
    });
}

#[test]
fn an_unclaimed_output_is_dropped_in_the_context_of_its_task_or_with_the_handle() {
    with_runtime(1, |runtime| {
        let log: Log<(&str, Option<u64>, bool)> = Log::new();
        let output = |name: &'static str, log: &Log<(&'static str, Option<u64>, bool)>| {
            let log = log.clone();
            OnDrop::new(move || log.push((name, MARK.get(), task::current().is_some())))
        };
        // The handle goes first: in the task's context.
        MARK.set(5);
        let made = output("detached", &log);
        let occupied = occupy(runtime, 1);
        runtime.spawn(async move { made }).detach();
        occupied.release();
        idle(runtime);
        assert_eq!(log.take(), [("detached", Some(5), true)]);
        // The task goes first: where the handle is dropped.
        let made = output("unclaimed", &log);
        let handle = runtime.spawn(async move { made });
        idle(runtime);
        assert!(handle.is_finished());
        MARK.set(6);
        assert!(log.is_empty());
        drop(handle);
        assert_eq!(log.take(), [("unclaimed", Some(6), false)]);
        // Claimed, it is the joiner's.
        let made = output("claimed", &log);
        let claimed = runtime.block_on(runtime.spawn(async move { made })).unwrap();
        assert!(log.is_empty());
        MARK.set(7);
        drop(claimed);
        assert_eq!(log.take(), [("claimed", Some(7), false)]);
    });
}

#[test]
fn a_panicking_output_is_its_owners_business() {
    with_runtime(1, |runtime| {
        let bomb = || OnDrop::new(|| quiet_panic(SCRIPTED));
        // With the handle: the panic reaches the code that drops it; the cell is in order
        // afterwards.
        let made = bomb();
        let handle = runtime.spawn(async move { made });
        idle(runtime);
        let abort = handle.abort_handle();
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(handle)));
        // Caught inside or passed on: both are sane, a second drop would not be.
        let _ = dropped;
        assert!(abort.is_finished());
        abort.abort();
        // Without a handle: the panic reaches no code.
        let made = bomb();
        let occupied = occupy(runtime, 1);
        runtime.spawn(async move { made }).detach();
        occupied.release();
        idle(runtime);
        assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
    });
}

/// Otherwise it would depend on which ends first, the task or its handle, whether the
/// caller of `detach` is harmed.
#[test]
fn a_payload_that_panics_when_dropped_harms_no_holder_of_the_task() {
    with_runtime(1, |runtime| {
        for detach in [false, true] {
            let payload = OnDrop::new(|| quiet_panic("in the payload"));
            let handle = runtime.spawn(async move { std::panic::resume_unwind(Box::new(payload)) });
            idle(runtime);
            assert!(handle.is_finished());
            let let_go = || if detach { handle.detach() } else { drop::<JoinHandle<()>>(handle) };
            assert!(std::panic::catch_unwind(let_go).is_ok(), "detach: {detach}");
        }
    });
}

/// When the task is aborted, what is done with its handle, and in which order.
#[test]
fn abort_and_drop_agree_in_every_order() {
    with_runtime(1, |runtime| {
        for polled_before in [false, true] {
            for (abort, first, by_handle) in [
                (false, false, false),
                (true, true, false),
                (true, false, false),
                (true, true, true),
                (true, false, true),
            ] {
                for from_a_worker in [false, true] {
                    let case = format!("{polled_before} {abort} {first} {by_handle} {from_a_worker}");
                    let ledger = Ledger::new();
                    let (probe, watch) = Probe::returning(ledger.counted(1), [Step::Wait]);
                    let occupied = (!polled_before).then(|| occupy(runtime, 1));
                    let handle = runtime.spawn(probe);
                    if polled_before {
                        idle(runtime);
                    }
                    let deed = move || {
                        let other = handle.abort_handle();
                        let stop = |handle: Option<&JoinHandle<_>>| match handle {
                            Some(handle) if by_handle => handle.abort(),
                            _ => other.abort(),
                        };
                        if abort && first {
                            stop(Some(&handle));
                            drop(handle);
                        } else {
                            drop(handle);
                            if abort {
                                stop(None);
                            }
                        }
                        other
                    };
                    let other: AbortHandle = if from_a_worker && polled_before {
                        runtime.block_on(runtime.spawn(async move { deed() })).unwrap()
                    } else {
                        std::thread::spawn(deed).join().unwrap()
                    };
                    drop(occupied);
                    idle(runtime);
                    watch.assert_counts(usize::from(polled_before), 1);
                    assert_eq!(ledger.alive(), 0, "{case}");
                    assert!(other.is_finished(), "{case}");
                }
            }
        }
    });
}

#[test]
fn a_task_that_aborts_itself_ends_at_its_next_suspension() {
    with_runtime(2, |runtime| {
        // It learns its own handle from outside.
        let slot: Arc<std::sync::Mutex<Option<AbortHandle>>> = Arc::default();
        let (gate, ledger) = (Gate::new(), Ledger::new());
        let log = Log::new();
        let handle = runtime.spawn({
            let (slot, gate, log, value) = (slot.clone(), gate.clone(), log.clone(), ledger.counted(1));
            async move {
                let _value = value;
                gate.opened().await;
                slot.lock().unwrap().as_ref().unwrap().abort();
                log.push("after the abort, in the same poll");
                yield_now().await;
                log.push("never");
            }
        });
        *slot.lock().unwrap() = Some(handle.abort_handle());
        gate.open();
        assert!(runtime.block_on(handle).unwrap_err().is_cancelled());
        assert_eq!(log.take(), ["after the abort, in the same poll"]);
        assert_eq!(ledger.alive(), 0);
        // If that poll is its last, it has finished and nothing else.
        let gate = Gate::new();
        let handle = runtime.spawn({
            let (slot, gate) = (slot.clone(), gate.clone());
            async move {
                gate.opened().await;
                slot.lock().unwrap().as_ref().unwrap().abort();
                7
            }
        });
        *slot.lock().unwrap() = Some(handle.abort_handle());
        gate.open();
        match runtime.block_on(handle) {
            Ok(output) => assert_eq!(output, 7),
            Err(error) => assert!(error.is_cancelled()),
        }
    });
}

#[test]
fn a_task_that_holds_its_own_handle_ends_with_the_runtime() {
    watchdog(PATIENCE, || {
        let runtime = runtime(2);
        let (sender, receiver) = futures::channel::oneshot::channel::<JoinHandle<()>>();
        let ledger = Ledger::new();
        let value = ledger.counted(1);
        let handle = runtime.spawn(async move {
            let _value = value;
            // It waits for itself.
            let own = receiver.await.unwrap();
            let _ = own.await;
        });
        sender.send(handle).unwrap();
        idle(&runtime);
        assert_eq!(ledger.alive(), 1);
        drop(runtime);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn two_tasks_that_wait_for_each_other_are_freed_with_the_runtime() {
    watchdog(PATIENCE, || {
        let runtime = runtime(2);
        let ledger = Ledger::new();
        let (to_first, first) = futures::channel::oneshot::channel::<JoinHandle<()>>();
        let (to_second, second) = futures::channel::oneshot::channel::<JoinHandle<()>>();
        let wait_for_other = |other: futures::channel::oneshot::Receiver<JoinHandle<()>>, value| async move {
            let _value = value;
            let _ = other.await.unwrap().await;
        };
        let one = runtime.spawn(wait_for_other(first, ledger.counted(1)));
        let two = runtime.spawn(wait_for_other(second, ledger.counted(2)));
        to_first.send(two).unwrap();
        to_second.send(one).unwrap();
        idle(&runtime);
        assert_eq!(ledger.alive(), 2);
        drop(runtime);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn a_shielded_task_survives_its_joiner() {
    with_runtime(2, |runtime| {
        let (probe, watch) = Probe::returning(7, [Step::Wait]);
        let waiting = runtime.spawn(shield(runtime.spawn(probe)));
        idle(runtime);
        drop(waiting);
        idle(runtime);
        watch.assert_counts(1, 0);
        watch.wake();
        idle(runtime);
        watch.assert_counts(2, 1);
        // What ends under it is passed on.
        assert_eq!(runtime.block_on(shield(runtime.spawn(async { 8 }))).unwrap(), 8);
        let aborted = runtime.spawn(std::future::pending::<()>());
        aborted.abort();
        assert!(runtime.block_on(shield(aborted)).unwrap_err().is_cancelled());
    });
}

#[test]
fn a_handle_may_be_awaited_on_any_executor_and_moved_while_it_waits() {
    with_runtime(1, |runtime| {
        let gate = Gate::new();
        let opened = gate.opened();
        let mut handle = runtime.spawn(async move {
            opened.await;
            7
        });
        assert!(poll_once(&mut handle).is_pending());
        let joiner = std::thread::spawn(move || futures::executor::block_on(Pin::new(&mut handle)));
        gate.open();
        assert_eq!(joiner.join().unwrap().unwrap(), 7);
    });
}

#[test]
fn tasks_know_their_id_their_name_and_their_place() {
    in_a_worker(2, async {
        let own = async {
            task::current().map(|task| (task.id(), task.spawned_at().file(), task.spawned_at().line()))
        };
        let (spawned, here) = (spawn(own), line!());
        let id = spawned.id();
        let (own, file, line) = spawned.await.unwrap().unwrap();
        assert_eq!((own, line), (id, here));
        assert!(file.ends_with("join_handle.rs"), "{file}");
        let others: Vec<_> = (0..10).map(|_| spawn(sleep(Duration::ZERO))).collect();
        let mut ids: Vec<_> = others.iter().map(|task| task.id().to_string()).collect();
        ids.push(id.to_string());
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 11);
    });
    assert!(task::current().is_none());
}

#[test]
fn a_long_chain_of_handles_in_outputs_needs_no_stack_to_go() {
    struct Link {
        _next: Option<JoinHandle<Link>>,
        _value: Counted,
        panics: bool,
    }
    impl Drop for Link {
        fn drop(&mut self) {
            if self.panics && !std::thread::panicking() {
                quiet_panic(SCRIPTED);
            }
        }
    }
    const LENGTH: u64 = if cfg!(miri) { 200 } else { 100_000 };
    watchdog(PATIENCE, || {
        let runtime = Runtime::builder().workers(1).stack_size(128 << 10).build().unwrap();
        let ledger = Ledger::new();
        // All of them have finished, each with the handle of the one before in its output.
        let chain = |panics: fn(u64) -> bool| {
            let mut last = None;
            for number in 0..LENGTH {
                let link = Link { _next: last, _value: ledger.counted(number), panics: panics(number) };
                last = Some(runtime.spawn(async move { link }));
            }
            idle(&runtime);
            last.unwrap()
        };
        let on_a_small_stack = |f: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().stack_size(128 << 10).spawn(f).unwrap().join()
        };
        // By a thread, by a thread that takes the first output, and by a worker.
        let whole = chain(|_| false);
        on_a_small_stack(Box::new(|| drop(whole))).unwrap();
        assert_eq!(ledger.alive(), 0);
        let taken = chain(|_| false);
        on_a_small_stack(Box::new(|| drop(heirloom::block_on(taken)))).unwrap();
        assert_eq!(ledger.alive(), 0);
        let unclaimed = chain(|_| false);
        runtime.spawn(async { unclaimed }).detach();
        idle(&runtime);
        assert_eq!(ledger.alive(), 0);
        // Panics on the way: the first one is passed on, and everything goes all the same.
        let panicking = chain(|number| number == LENGTH / 2 || number == LENGTH / 4);
        let panic = on_a_small_stack(Box::new(|| drop(panicking))).unwrap_err();
        assert_eq!(*panic.downcast::<&'static str>().unwrap(), SCRIPTED);
        assert_eq!(ledger.alive(), 0);
    });
}

#[test]
fn the_first_reason_stays_also_if_it_is_none() {
    with_runtime(1, |runtime| {
        let occupied = occupy(runtime, 1);
        let none_first = runtime.spawn(std::future::pending::<()>());
        none_first.abort();
        none_first.abort_handle().abort_with("too late");
        let reason_first = runtime.spawn(std::future::pending::<()>());
        reason_first.abort_handle().abort_with("in time");
        reason_first.abort();
        let named =
            task::Builder::new().name("named").on(runtime.handle()).spawn(std::future::pending::<()>());
        named.abort();
        named.abort_handle().abort_with("too late");
        occupied.release();
        let reason = |handle: JoinHandle<()>| runtime.block_on(handle).unwrap_err().reason().cloned();
        assert_eq!(reason(none_first), Some(CancelReason::Aborted));
        assert_eq!(reason(reason_first), Some(CancelReason::from("in time")));
        assert_eq!(reason(named), Some(CancelReason::Aborted));
    });
}

context_var! { static CLOSER: Arc<OnDrop>; }

#[test]
fn a_joiner_that_comes_while_the_context_goes_is_told_once() {
    with_runtime(1, |runtime| {
        let (dropping, held) = (Gate::new(), Gate::new());
        let (tell, wait) = (dropping.clone(), held.clone());
        let mut handle = runtime.spawn(async move {
            CLOSER.set(Arc::new(OnDrop::new(move || {
                tell.open();
                wait.wait();
            })));
            7
        });
        dropping.wait();
        // The future is gone, and its context is going.
        let (waker, counts) = CountingWaker::create(Fault::None);
        assert!(poll_with(&mut handle, &waker).is_pending());
        assert!(poll_with(&mut handle, &waker).is_pending());
        // One that does not know its own copy again, which is up to the compiler, is told to look
        // again.
        let looked = counts.wakes();
        assert!(looked == 0 || !waker.clone().will_wake(&waker), "there is nothing to look at yet");
        held.open();
        assert!(wait_until(|| counts.wakes() == looked + 1));
        assert!(matches!(poll_with(&mut handle, &waker), Poll::Ready(Ok(7))));
        drop(waker);
        assert!(wait_until(|| counts.is_gone()), "a waker is kept");
    });
}

/// What else a task does in the poll in which it begins to wait for others.
#[derive(Clone, Copy, Debug)]
enum Besides {
    Nothing,
    DropTheHandle,
    Yield,
    WakeItself,
    KeepItsWaker,
    End,
    Panic,
}

/// Waits for two tasks at once, and sums up what they return.
struct Both {
    first: Option<JoinHandle<u64>>,
    second: Option<JoinHandle<u64>>,
    sum: u64,
    besides: Option<Besides>,
    waker: Option<Waker>,
}

impl Both {
    fn wait(handle: &mut Option<JoinHandle<u64>>, cx: &mut Context<'_>) -> u64 {
        match handle.as_mut().map(|handle| Pin::new(handle).poll(cx)) {
            Some(Poll::Ready(output)) => {
                *handle = None;
                output.unwrap()
            }
            _ => 0,
        }
    }
}

impl Future for Both {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        self.sum += Both::wait(&mut self.first, cx);
        match self.besides.take() {
            None | Some(Besides::Nothing) => {}
            Some(Besides::DropTheHandle) => self.first = None,
            Some(Besides::Yield) => {
                let mut turn = std::pin::pin!(yield_now());
                assert!(turn.as_mut().poll(cx).is_pending());
            }
            Some(Besides::WakeItself) => cx.waker().wake_by_ref(),
            Some(Besides::KeepItsWaker) => self.waker = Some(cx.waker().clone()),
            Some(Besides::End) => return Poll::Ready(self.sum),
            Some(Besides::Panic) => quiet_panic(SCRIPTED),
        }
        self.sum += Both::wait(&mut self.second, cx);
        if self.first.is_none() && self.second.is_none() { Poll::Ready(self.sum) } else { Poll::Pending }
    }
}

#[test]
fn a_task_that_begins_to_wait_for_others_may_do_anything_else_in_that_poll() {
    use Besides::*;
    for besides in [Nothing, DropTheHandle, Yield, WakeItself, KeepItsWaker, End, Panic] {
        for workers in [1, 2] {
            with_runtime(workers, move |runtime| {
                let (gate, ledger) = (Gate::new(), Ledger::new());
                let child = |number| {
                    let (opened, value) = (gate.opened(), ledger.counted(number));
                    runtime.spawn(async move {
                        opened.await;
                        value.id()
                    })
                };
                let (first, second) = (Some(child(1)), Some(child(2)));
                let both = Both { first, second, sum: 0, besides: Some(besides), waker: None };
                let own = ledger.counted(3);
                let task = runtime.spawn(async move {
                    let sum = both.await;
                    drop(own);
                    sum
                });
                idle(runtime);
                gate.open();
                let output = runtime.block_on(task);
                match besides {
                    Panic => assert!(output.unwrap_err().is_panic()),
                    End => assert_eq!(output.unwrap(), 0),
                    DropTheHandle => assert_eq!(output.unwrap(), 2),
                    _ => assert_eq!(output.unwrap(), 3, "{besides:?}"),
                }
                idle(runtime);
                assert_eq!(ledger.alive(), 0, "{besides:?}");
            });
        }
    }
}
