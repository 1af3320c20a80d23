//! The frame's answers to leaves, and the signal, each by itself.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use heirloom_context::raw::{self, Execution};

use super::frame::{EagerDriver, Frame};
use super::{DriverSignal, NotReady, limited, not_ready, suspends, wake_at};
use crate::{run_eagerly, time, try_run_eagerly, wait_for};

const HOUR: Duration = Duration::from_secs(3_600);

/// Calls `f` inside a call of this driver, with the flag, and with this deadline around it.
fn inside<R>(
    driver: EagerDriver,
    deadline: Option<Instant>,
    f: impl FnOnce(&Frame, &DriverSignal, &mut Context<'_>) -> R,
) -> R {
    struct Restore(Execution);
    impl Drop for Restore {
        fn drop(&mut self) {
            raw::set_execution(self.0);
        }
    }
    let _restore = Restore(raw::set_execution(Execution::NONE.with_deadline(deadline).with_eager(true)));
    let frame = Frame::of_call(driver);
    let signal = DriverSignal::new();
    signal.with_waker(|cx| f(&frame, &signal, cx))
}

#[test]
fn without_the_flag_every_leaf_suspends() {
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(not_ready(&cx, "leaf"), NotReady::Suspend);
    suspends("leaf");
    // Also inside a call, in a task that is not part of it.
    inside(EagerDriver::Waiting, None, |_, _, _| {
        let eager = raw::set_execution(Execution::NONE);
        assert_eq!(not_ready(&cx, "leaf"), NotReady::Suspend);
        raw::set_execution(eager);
    });
    // With timers at hand, so that no default runtime is started.
    let timers = Arc::new(time::Timers::new(1, crate::clock::Clock::real(), Box::new(|| ())));
    let _entered = time::enter(&timers, 0);
    assert!(pin!(crate::sleep(HOUR)).poll(&mut cx).is_pending());
}

#[test]
fn a_leaf_blocks_until_the_ambient_deadline_and_is_pending_then() {
    let (past, future) = (Instant::now(), Instant::now() + HOUR);
    inside(EagerDriver::Waiting, None, |_, _, cx| assert_eq!(not_ready(cx, "leaf"), NotReady::Block(None)));
    inside(EagerDriver::Waiting, Some(future), |_, _, cx| {
        assert!(matches!(not_ready(cx, "leaf"), NotReady::Block(Some(until)) if until == future));
    });
    inside(EagerDriver::Waiting, Some(past), |_, _, cx| {
        assert_eq!(not_ready(cx, "leaf"), NotReady::Pending);
        // Behind another executor, the leaf must store its waker.
        assert_eq!(not_ready(&Context::from_waker(Waker::noop()), "leaf"), NotReady::Suspend);
    });
    // Without a driver, too.
    inside(EagerDriver::Foreign, Some(future), |_, _, cx| {
        assert!(matches!(not_ready(cx, "leaf"), NotReady::Block(Some(_))));
    });
    inside(EagerDriver::Foreign, Some(past), |_, _, cx| assert_eq!(not_ready(cx, "leaf"), NotReady::Suspend));
}

#[test]
fn an_overdue_call_blocks_for_as_long_as_it_must_but_not_within_a_limit() {
    inside(EagerDriver::Waiting, Some(Instant::now()), |frame, signal, cx| {
        assert_eq!(not_ready(cx, "leaf"), NotReady::Pending);
        assert!(frame.wait(signal), "to be polled again at once");
        assert_eq!(not_ready(cx, "leaf"), NotReady::Block(None));
        let limited = limited();
        assert_eq!(not_ready(cx, "leaf"), NotReady::Pending);
        assert!(!frame.wait(signal), "the `wait_for` around it ends");
        drop(limited);
        assert_eq!(not_ready(cx, "leaf"), NotReady::Block(None));
    });
}

#[test]
fn a_refusing_call_never_blocks_and_notes_the_first_name() {
    inside(EagerDriver::Refusing, None, |frame, signal, cx| {
        assert_eq!(not_ready(cx, "first"), NotReady::Pending);
        suspends("second");
        assert!(!frame.wait(signal));
        assert_eq!((frame.leaf(), frame.has_unfinished()), (Some("first"), false));
    });
    // A wait whose deadline has passed has not suspended.
    inside(EagerDriver::Refusing, Some(Instant::now()), |frame, _, cx| {
        assert_eq!(not_ready(cx, "leaf"), NotReady::Pending);
        assert_eq!(frame.leaf(), None);
    });
    assert_eq!(
        try_run_eagerly(wait_for(crate::sleep(HOUR), Duration::ZERO)).map(|end| end.is_err()),
        Ok(true)
    );
}

#[test]
fn a_driver_waits_for_the_earliest_note() {
    inside(EagerDriver::Waiting, Some(Instant::now() + HOUR), |frame, signal, cx| {
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(wake_at(cx, soon + HOUR) && wake_at(cx, soon) && wake_at(cx, soon + HOUR));
        assert!(!wake_at(&Context::from_waker(Waker::noop()), soon), "the driver would not be woken");
        assert!(frame.wait(signal));
        assert!(Instant::now() >= soon);
    });
}

#[test]
fn a_signal_keeps_a_wake_up_until_it_is_waited_for() {
    let signal = DriverSignal::new();
    signal.with_waker(|cx| cx.waker().wake_by_ref());
    signal.wait(None);
    let clone = signal.with_waker(|cx| cx.waker().clone());
    clone.wake_by_ref();
    clone.wake_by_ref();
    signal.wait(None);
    // Both are one wake-up: the next wait ends by its limit.
    let until = Instant::now() + Duration::from_millis(5);
    signal.wait(Some(until));
    assert!(Instant::now() >= until);
    let thread = std::thread::spawn(move || clone.wake());
    signal.wait(None);
    thread.join().unwrap();
}

#[test]
fn a_wake_flag_is_used_again_unless_a_clone_is_kept() {
    let data = |keep: bool| {
        let waker = run_eagerly(std::future::poll_fn(|cx| Poll::Ready(keep.then(|| cx.waker().clone()))));
        let mut seen = None;
        run_eagerly(std::future::poll_fn(|cx| {
            seen = Some(cx.waker().clone().data().addr());
            Poll::Ready(())
        }));
        (waker, seen)
    };
    let (_, first) = data(false);
    assert_eq!(data(false).1, first);
    // The kept clone wakes no other call.
    let (kept, other) = data(true);
    let kept = kept.expect("it was kept");
    assert_eq!(kept.data().addr(), first.expect("there was one"));
    assert_ne!(other, first);
    kept.wake();
}
