//! The queue in front of a tower service: in whose context it calls, and what becomes of those that
//! leave the queue.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context as Poller, Poll};
use std::time::{Duration, Instant};

use heirloom::time::now;
use heirloom::tower::{Buffer, RateLimitLayer, TimeoutLayer};
use heirloom::{context_var, deadline, sleep, spawn, wait_for, yield_now};
use heirloom_tests::{Counted, Gate, Ledger, Log, OnDrop, in_a_worker, poll_once, quiet_panic};
use tower::buffer::error::{Closed, ServiceError};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

const HOUR: Duration = Duration::from_secs(3_600);

context_var! {
    static USER: u64;
    static SET_IN_CALL: u64;
}

/// What a step of a service has seen.
type Seen = (Option<u64>, Option<Instant>);

fn see() -> Seen {
    (USER.get(), deadline())
}

/// Is ready when the gate is open; is no `Clone`.
struct Gated {
    gate: Gate,
    ready_seen: Log<Seen>,
    called: Log<u64>,
}

impl Gated {
    fn new(gate: &Gate) -> Gated {
        Gated { gate: gate.clone(), ready_seen: Log::new(), called: Log::new() }
    }
}

impl<T: Send> Service<T> for Gated {
    type Response = [Seen; 2];
    type Error = Infallible;
    type Future = Seeing;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), Infallible>> {
        self.ready_seen.push(see());
        Pin::new(&mut self.gate.opened()).poll(cx).map(Ok)
    }

    fn call(&mut self, request: T) -> Self::Future {
        drop(request);
        SET_IN_CALL.set(1);
        self.called.push(USER.get().unwrap_or(0));
        Seeing { in_call: see(), is_polled: false }
    }
}

/// Is ready at its second poll, with what the call and that poll have seen.
struct Seeing {
    in_call: Seen,
    is_polled: bool,
}

impl Future for Seeing {
    type Output = Result<[Seen; 2], Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Self::Output> {
        if !std::mem::replace(&mut self.is_polled, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok([self.in_call, see()]))
    }
}

fn opened() -> Gate {
    let gate = Gate::new();
    gate.open();
    gate
}

#[test]
fn a_buffer_calls_in_the_context_and_the_deadline_of_the_caller_and_is_ready_in_none() {
    in_a_worker(4, async {
        let service = Gated::new(&opened());
        let ready_seen = service.ready_seen.clone();
        USER.set(1_000); // of the maker: for no call
        let service = Buffer::new(service, 4);
        let calling = (0..200).map(|user| {
            let service = service.clone();
            spawn(async move {
                USER.set(user);
                let call = async {
                    let seen = service.oneshot(()).await.unwrap();
                    assert_eq!(seen, [(Some(user), deadline()); 2]);
                    assert!(!SET_IN_CALL.is_set(), "the call's own");
                };
                match user % 2 {
                    0 => wait_for(call, HOUR + Duration::from_secs(user)).await.unwrap(),
                    _ => call.await,
                }
            })
        });
        for call in calling.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        let ready_seen = ready_seen.take();
        assert!(ready_seen.len() >= 200 && ready_seen.iter().all(|seen| *seen == (None, None)));
    });
}

#[test]
fn a_caller_who_has_gone_is_skipped_and_its_request_is_dropped_in_its_context() {
    struct Named(Log<u64>);
    impl Drop for Named {
        fn drop(&mut self) {
            self.0.push(USER.get().unwrap_or(0));
        }
    }
    in_a_worker(1, async {
        let gate = Gate::new();
        let service = Gated::new(&gate);
        let called = service.called.clone();
        let (service, dropped) = (Buffer::new(service, 4), Log::new());
        let calling = (1..=4).map(|user| {
            let (mut service, request) = (service.clone(), Named(dropped.clone()));
            Box::pin(async move {
                USER.set(user);
                service.ready().await.unwrap().call(request).await
            })
        });
        let mut calls: Vec<_> = calling.collect();
        for call in &mut calls {
            assert!(poll_once(call).is_pending());
        }
        yield_now().await; // the first is at the head
        USER.unset();
        drop(calls.remove(0));
        drop(calls.remove(1));
        gate.open();
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(called.take(), [2, 4]);
        assert_eq!(dropped.take(), [1, 2, 3, 4]);
    });
}

#[test]
fn a_place_that_was_reserved_in_vain_goes_to_a_caller_who_waits() {
    in_a_worker(2, async {
        let gate = Gate::new();
        let service = Buffer::new(Gated::new(&gate), 1);
        let mut reserved = service.clone();
        ServiceExt::<()>::ready(&mut reserved).await.unwrap(); // the only place
        let waiting = spawn(service.clone().oneshot(()));
        for _ in 0..10 {
            yield_now().await;
        }
        assert!(!waiting.is_finished());
        drop(reserved);
        gate.open();
        waiting.await.unwrap().unwrap();
    });
}

#[test]
fn a_service_that_becomes_ready_is_called_by_all_that_wait() {
    in_a_worker(4, async {
        let gate = Gate::new();
        let service = Buffer::new(Gated::new(&gate), 3);
        let calls: Vec<_> = (0..100).map(|_| spawn(service.clone().oneshot(()))).collect();
        yield_now().await;
        gate.open();
        for call in calls {
            call.await.unwrap().unwrap();
        }
    });
}

/// Is ready once, then fails.
struct Failing(usize);

impl Service<()> for Failing {
    type Response = ();
    type Error = fmt::Error;
    type Future = Ready<Result<(), fmt::Error>>;

    fn poll_ready(&mut self, _: &mut Poller<'_>) -> Poll<Result<(), fmt::Error>> {
        self.0 += 1;
        Poll::Ready(if self.0 == 1 { Ok(()) } else { Err(fmt::Error) })
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Err(fmt::Error))
    }
}

#[test]
fn a_service_that_fails_to_be_ready_fails_all_callers_with_the_reason() {
    in_a_worker(2, async {
        let service = Buffer::new(Failing(0), 4);
        let error = service.clone().oneshot(()).await.unwrap_err();
        assert!(error.is::<fmt::Error>(), "the call's error, as it is");
        for _ in 0..3 {
            let error = service.clone().oneshot(()).await.unwrap_err();
            let error = error.downcast::<ServiceError>().unwrap();
            assert!(error.source().unwrap().is::<fmt::Error>());
        }
    });
}

#[test]
fn a_call_that_panics_closes_the_buffer() {
    in_a_worker(2, async {
        let panics = service_fn(|()| -> Ready<Result<(), Infallible>> { quiet_panic("a panic in a call") });
        let service = Buffer::new(panics, 4);
        for _ in 0..2 {
            assert!(service.clone().oneshot(()).await.unwrap_err().is::<Closed>());
        }
    });
}

#[test]
#[should_panic(expected = "`Buffer::new` takes 1 or more")]
fn a_queue_without_places_is_refused() {
    drop(Buffer::<(), _>::new(Gated::new(&opened()), 0));
}

#[test]
fn the_service_is_dropped_with_the_last_clone_of_its_buffer() {
    in_a_worker(2, async {
        let dropped = Gate::new();
        let gate = dropped.clone();
        let note = OnDrop::new(move || gate.open());
        let service = service_fn(move |()| {
            let _held = &note;
            ready(Ok::<_, Infallible>(()))
        });
        let service = Buffer::new(service, 1);
        let clone = service.clone();
        clone.oneshot(()).await.unwrap();
        assert!(!dropped.is_open());
        drop(service);
        dropped.opened().await;
    });
}

/// A call through all layers, dropped after its first poll, its second, and so on: whatever it has
/// reserved by then is there for the next.
#[test]
fn a_call_that_is_dropped_at_any_await_leaves_nothing_reserved() {
    in_a_worker(2, async {
        let (ledger, calls) = (Ledger::new(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&calls);
        let inner = service_fn(move |request: Counted| {
            count.fetch_add(1, SeqCst);
            async move {
                yield_now().await;
                sleep(Duration::from_millis(1)).await;
                drop(request);
                Ok::<_, Infallible>(())
            }
        });
        let period = Duration::from_millis(5);
        let service = ServiceBuilder::new()
            .layer(TimeoutLayer::new(HOUR))
            .layer(ConcurrencyLimitLayer::new(1))
            .layer(RateLimitLayer::new(1, period))
            .layer_fn(|service| Buffer::new(service, 1))
            .service(inner);
        let mut begun = now();
        for polls in 0.. {
            let request = ledger.counted(polls);
            let mut call = Box::pin(service.clone().oneshot(request));
            let mut ended = false;
            for _ in 0..polls {
                // Each poll but the last is followed by a wake-up, so that the call gets on.
                if !ended && futures::poll!(&mut call).is_pending() {
                    sleep(Duration::from_millis(2)).await;
                } else {
                    ended = true;
                }
            }
            drop(call);
            let next = wait_for(service.clone().oneshot(ledger.counted(0)), HOUR);
            next.await.expect("nothing is reserved for ever").unwrap();
            assert!(now() - begun < HOUR);
            begun = now();
            if ended {
                assert!(polls > 2, "there were awaits to be dropped at");
                break;
            }
        }
        while ledger.alive() > 0 {
            yield_now().await; // the buffer's task drops what it has skipped
        }
        assert!(calls.load(SeqCst) >= 3);
    });
}
