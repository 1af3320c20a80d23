//! Channels whose messages carry their sender's context.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Poller, Poll, Waker};
use std::time::{Duration, Instant};

use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};
use heirloom::context::ContextFutureExt;
use heirloom::context::channel::{
    self, Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError, bounded, unbounded,
};
use heirloom::{
    Context, context_var, deadline, run_eagerly, spawn, spawn_in, task, try_run_eagerly, wait_until,
};
use heirloom_tests::{
    CountingWaker, Fault, Gate, Ledger, Log, MARK, OnDrop, PATIENCE, in_a_worker, poll_with, run, scaled,
    watchdog,
};

context_var! {
    static TRANSACTION: u64, inherit = Never;
    static DEPTH: u32, inherit = Derive(|depth| Some(depth + 1));
    static COUNTED: Arc<heirloom_tests::Counted>;
}

/// Polls with a waker that does nothing.
fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Poller::from_waker(Waker::noop()))
}

fn marked(mark: u64) -> Context {
    Context::empty().with_var(&MARK, mark)
}

#[test]
fn a_message_carries_its_senders_context_as_it_was_at_the_call() {
    run(1, || async {
        let (sender, receiver) = bounded(4);
        MARK.set(1);
        let sending = sender.send("first");
        MARK.set(2); // after the call, before the first poll
        sending.await.unwrap();
        sender.try_send("second").unwrap();
        MARK.set(3);

        let (message, context) = receiver.recv().await.unwrap();
        assert_eq!((message, context.get(&MARK)), ("first", Some(1)));
        let (message, context) = receiver.try_recv().unwrap();
        assert_eq!((message, context.get(&MARK)), ("second", Some(2)));
        assert_eq!(MARK.get(), Some(3), "receiving changes nothing here");
    });
}

#[test]
fn a_stream_of_messages_hands_out_contexts_too() {
    run(1, || async {
        let (sender, mut receiver) = unbounded();
        for mark in 1..=3 {
            marked(mark).run(|| sender.try_send(mark)).unwrap();
        }
        drop(sender);
        assert!(!receiver.is_terminated());
        for mark in 1..=3 {
            let (message, context) = receiver.next().await.unwrap();
            assert_eq!((message, context.get(&MARK)), (mark, Some(mark)));
            assert_eq!(MARK.get(), None);
        }
        assert!(receiver.is_terminated());
        assert!(receiver.next().await.is_none());
    });
}

#[test]
fn what_is_sent_inside_a_layer_carries_the_merged_view() {
    run(1, || async {
        let (sender, receiver) = unbounded();
        MARK.set(1);
        async {
            DEPTH.set(5);
            sender.send(()).await.unwrap();
        }
        .isolated()
        .await;
        let ((), context) = receiver.recv().await.unwrap();
        assert_eq!((context.get(&MARK), context.get(&DEPTH)), (Some(1), Some(5)));
    });
}

#[test]
fn of_many_senders_and_receivers_each_message_arrives_once_with_its_own_context() {
    const SENDERS: u64 = 8;
    const EACH: u64 = scaled(500) as u64;
    in_a_worker(4, async {
        let (sender, receiver) = bounded(3);
        let log = Log::new();
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let (receiver, log): (Receiver<u64>, _) = (receiver.clone(), log.clone());
                spawn_in(Context::empty(), async move {
                    while let Ok((message, context)) = receiver.recv().await {
                        let seen = async {
                            task::yield_now().await;
                            MARK.get()
                        };
                        assert_eq!(seen.in_context(context).await, Some(message));
                        assert_eq!(MARK.get(), None);
                        log.push(message);
                    }
                })
            })
            .collect();
        drop(receiver);
        let senders: Vec<_> = (0..SENDERS)
            .map(|id| {
                let sender = sender.clone();
                spawn(async move {
                    for number in 0..EACH {
                        MARK.set(id * EACH + number);
                        sender.send(id * EACH + number).await.unwrap();
                    }
                })
            })
            .collect();
        drop(sender);
        for task in senders.into_iter().chain(receivers) {
            task.await.unwrap();
        }
        let mut messages = log.take();
        messages.sort_unstable();
        assert!(messages.into_iter().eq(0..SENDERS * EACH));
    });
}

#[test]
fn a_single_receiver_sees_messages_in_the_order_of_sending() {
    run(2, || async {
        let (sender, receiver) = bounded(2);
        let sending = spawn(async move {
            for number in 0..100 {
                sender.send(number).await.unwrap();
            }
        });
        let received: Vec<_> = receiver.map(|(number, _)| number).collect().await;
        assert!(received.into_iter().eq(0..100));
        sending.await.unwrap();
    });
}

#[test]
fn policies_apply_when_the_receiver_spawns_inside_the_context_and_not_when_it_gives_it() {
    in_a_worker(1, async {
        let (sender, receiver) = bounded(2);
        let sending = async move {
            TRANSACTION.set(9);
            DEPTH.set(1);
            sender.send(()).await
        };
        spawn(sending).await.unwrap().unwrap();
        let ((), context) = receiver.recv().await.unwrap();
        let seen = || (TRANSACTION.get(), DEPTH.get());
        assert_eq!(context.run(|| spawn(async move { seen() })).await.unwrap(), (None, Some(2)));
        assert_eq!(spawn_in(context, async move { seen() }).await.unwrap(), (Some(9), Some(1)));
    });
}

#[test]
fn the_senders_deadline_does_not_travel() {
    run(1, || async {
        let (sender, receiver) = bounded(1);
        let at = Instant::now() + Duration::from_secs(3_600);
        wait_until(
            async {
                assert!(deadline().is_some());
                sender.send(()).await.unwrap();
            },
            at,
        )
        .await
        .unwrap();
        let ((), context) = receiver.recv().await.unwrap();
        assert_eq!(context.run(deadline), None);
    });
}

#[test]
fn a_full_channel_makes_its_sender_wait_and_wakes_it() {
    let (sender, receiver) = bounded(1);
    sender.try_send(1).unwrap();
    assert!(sender.is_full());
    let (waker, counts) = CountingWaker::create(Fault::None);
    let mut sending = Box::pin(marked(7).run(|| sender.send(2)));
    assert!(poll_with(&mut sending, &waker).is_pending());
    assert_eq!(counts.wakes(), 0);
    assert_eq!(receiver.try_recv().unwrap().0, 1);
    assert_eq!(counts.wakes(), 1);
    assert_eq!(poll_with(&mut sending, &waker), Poll::Ready(Ok(())));
    let (message, context) = receiver.try_recv().unwrap();
    assert_eq!((message, context.get(&MARK)), (2, Some(7)));
}

#[test]
fn an_empty_channel_makes_its_receiver_wait_and_only_the_last_waker_is_needed() {
    let (sender, receiver) = bounded(1);
    let (former, former_counts) = CountingWaker::create(Fault::None);
    let (last, counts) = CountingWaker::create(Fault::None);
    let mut receiving = Box::pin(receiver.recv());
    assert!(poll_with(&mut receiving, &former).is_pending());
    assert!(poll_with(&mut receiving, &last).is_pending());
    sender.try_send(1).unwrap();
    assert_eq!((former_counts.wakes(), counts.wakes()), (0, 1));
    assert!(poll_with(&mut receiving, &last).is_ready());
}

#[test]
fn errors_give_the_message_back() {
    let (sender, receiver) = bounded(1);
    sender.try_send(String::from("first")).unwrap();
    let full = sender.try_send(String::from("second")).unwrap_err();
    assert!(full.is_full());
    assert_eq!(full.into_inner(), "second");

    let mut waiting = Box::pin(sender.send(String::from("third")));
    assert!(poll(waiting.as_mut()).is_pending());
    drop(receiver);
    assert_eq!(poll(waiting.as_mut()), Poll::Ready(Err(SendError(String::from("third")))));
    assert_eq!(sender.try_send(String::from("fourth")), Err(TrySendError::Closed(String::from("fourth"))));
    let late = sender.send(String::from("fifth")).now_or_never().unwrap();
    assert_eq!(late.unwrap_err().into_inner(), "fifth");
}

#[test]
fn a_closed_channel_still_hands_out_what_it_has() {
    fn ends(close: impl FnOnce(Sender<u64>, &Receiver<u64>)) {
        let (sender, receiver) = unbounded();
        marked(1).run(|| sender.try_send(1)).unwrap();
        close(sender, &receiver);
        assert!(receiver.is_closed());
        let (message, context) = receiver.recv().now_or_never().unwrap().unwrap();
        assert_eq!((message, context.get(&MARK)), (1, Some(1)));
        assert_eq!(receiver.recv().now_or_never().unwrap().map(|(message, _)| message), Err(RecvError));
        assert_eq!(receiver.try_recv().map(|(message, _)| message), Err(TryRecvError::Closed));
    }
    ends(|sender, _| drop(sender));
    ends(|sender, _| {
        let other = sender.clone();
        assert!(sender.close(), "it was open");
        assert!(!other.close(), "it was closed already");
        assert!(other.is_closed());
        assert_eq!(other.try_send(2), Err(TrySendError::Closed(2)));
    });
    ends(|sender, receiver| {
        assert!(receiver.close());
        assert_eq!(sender.send(2).now_or_never().unwrap(), Err(SendError(2)));
    });
}

#[test]
fn closing_wakes_everyone_who_waits() {
    let (sender, receiver) = bounded::<u64>(1);
    let wakers: Vec<_> = (0..3).map(|_| CountingWaker::create(Fault::None)).collect();
    let mut waits: Vec<_> = wakers.iter().map(|_| Box::pin(receiver.recv())).collect();
    for (wait, (waker, _)) in waits.iter_mut().zip(&wakers) {
        assert!(poll_with(wait, waker).is_pending());
    }
    drop(sender);
    for (wait, (waker, counts)) in waits.iter_mut().zip(&wakers) {
        assert_eq!(counts.wakes(), 1);
        assert!(matches!(poll_with(wait, waker), Poll::Ready(Err(RecvError))));
    }
}

#[test]
fn ends_are_counted_and_a_clone_keeps_the_channel_open() {
    let (sender, receiver) = bounded::<u64>(2);
    let (other_sender, other_receiver) = (sender.clone(), receiver.clone());
    assert_eq!((sender.sender_count(), sender.receiver_count()), (2, 2));
    assert_eq!((receiver.sender_count(), receiver.receiver_count()), (2, 2));
    assert_eq!((sender.capacity(), receiver.capacity()), (Some(2), Some(2)));
    assert_eq!(unbounded::<u64>().0.capacity(), None);
    drop((sender, receiver));
    assert_eq!((other_receiver.sender_count(), other_sender.receiver_count()), (1, 1));
    assert!(!other_sender.is_closed() && other_sender.is_empty() && other_receiver.is_empty());
    other_sender.try_send(1).unwrap();
    assert_eq!((other_sender.len(), other_receiver.len()), (1, 1));
    drop(other_receiver);
    assert_eq!(other_sender.receiver_count(), 0);
    assert!(other_sender.is_closed() && other_sender.is_empty());
}

#[test]
fn an_unreceived_message_is_dropped_in_its_own_context_with_the_last_receiver() {
    let log: Log<(u64, Option<u64>)> = Log::new();
    let message = |id| {
        let log = log.clone();
        OnDrop::new(move || log.push((id, MARK.get())))
    };
    let (sender, receiver) = unbounded();
    for mark in 1..=3 {
        marked(mark).run(|| sender.try_send(message(mark))).unwrap();
    }
    Context::empty().run(|| sender.try_send(message(4))).unwrap();
    let other = receiver.clone();
    marked(99).run(|| {
        drop(receiver);
        assert!(log.is_empty(), "a receiver may still come for them");
        drop(other);
    });
    // The sender is still there, and the joiner of an answer need not wait for it.
    assert_eq!(log.take(), [(1, Some(1)), (2, Some(2)), (3, Some(3)), (4, None)]);
    drop(sender);
    assert!(log.is_empty());
}

#[test]
fn a_send_that_is_given_up_sends_nothing_and_drops_its_message_in_its_context() {
    let log: Log<Option<u64>> = Log::new();
    let message = || {
        let log = log.clone();
        OnDrop::new(move || log.push(MARK.get()))
    };
    let (sender, receiver) = bounded(1);
    let unpolled = marked(1).run(|| sender.send(message()));
    drop(unpolled);
    assert_eq!(log.take(), [Some(1)]);

    marked(2).run(|| sender.try_send(message())).unwrap();
    let mut waiting = Box::pin(marked(3).run(|| sender.send(message())));
    assert!(poll(waiting.as_mut()).is_pending());
    marked(99).run(|| drop(waiting));
    assert_eq!(log.take(), [Some(3)]);

    // One that was received, and one that was given back, end where their owner drops them.
    let (received, context) = receiver.try_recv().unwrap();
    assert_eq!(context.get(&MARK), Some(2));
    marked(4).run(|| drop(received));
    drop(receiver);
    let back = marked(5).run(|| sender.try_send(message())).unwrap_err();
    assert!(log.take() == [Some(4)]);
    marked(6).run(|| drop(back));
    assert_eq!(log.take(), [Some(6)]);
}

#[test]
fn a_receive_that_is_given_up_takes_nothing_and_passes_its_wake_up_on() {
    let (sender, receiver) = bounded(2);
    let (first, first_counts) = CountingWaker::create(Fault::None);
    let (second, second_counts) = CountingWaker::create(Fault::None);
    let mut one = Box::pin(receiver.recv());
    let mut other = Box::pin(receiver.recv());
    assert!(poll_with(&mut one, &first).is_pending());
    assert!(poll_with(&mut other, &second).is_pending());
    sender.try_send(1).unwrap();
    assert_eq!((first_counts.wakes(), second_counts.wakes()), (1, 0));
    drop(one);
    assert_eq!(second_counts.wakes(), 1, "a receiver has to come for the message");
    assert!(matches!(poll_with(&mut other, &second), Poll::Ready(Ok((1, _)))));
}

#[test]
fn a_receiver_that_always_finds_a_message_lets_others_run() {
    fn received_before_the_other(unconstrained: bool, as_stream: bool) -> usize {
        in_a_worker(1, async move {
            const MESSAGES: usize = 1_000;
            let (sender, receiver) = unbounded();
            for number in 0..MESSAGES {
                sender.try_send(number).unwrap();
            }
            drop(sender);
            let received = Arc::new(AtomicUsize::new(0));
            let count = received.clone();
            let receiving = async move {
                if as_stream {
                    receiver.for_each(|_| async { _ = count.fetch_add(1, Ordering::SeqCst) }).await;
                } else {
                    while receiver.recv().await.is_ok() {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
            };
            let other = spawn(async move { received.load(Ordering::SeqCst) });
            if unconstrained {
                task::budget::unconstrained(receiving).await;
            } else {
                receiving.await;
            }
            other.await.unwrap()
        })
    }
    for as_stream in [false, true] {
        let before = received_before_the_other(false, as_stream);
        assert!((1..500).contains(&before), "{before}");
        assert_eq!(received_before_the_other(true, as_stream), 1_000);
    }
}

#[test]
fn a_sender_that_always_finds_room_lets_others_run() {
    let before = in_a_worker(1, async {
        let (sender, receiver) = unbounded();
        let other = spawn(async move { receiver.len() });
        for number in 0..1_000 {
            if sender.send(number).await.is_err() {
                break; // the other has had its turn, and its receiver is gone
            }
        }
        other.await.unwrap()
    });
    assert!((1..500).contains(&before), "{before}");
}

#[test]
fn a_context_that_was_dropped_after_linking_keeps_nothing_alive() {
    let ledger = Ledger::new();
    let values = ledger.clone();
    let linked = in_a_worker(2, async move {
        let (sender, receiver) = bounded(1);
        let (read, gate) = (Gate::new(), Gate::new());
        let (done, go_on) = (read.clone(), gate.clone());
        let worker = spawn_in(Context::empty(), async move {
            let ((), context) = receiver.recv().await.unwrap();
            let cause = context.get(&MARK);
            drop(context);
            done.open();
            go_on.opened().await;
            cause
        });
        let counted = values.clone();
        let request = spawn(async move {
            MARK.set(7);
            COUNTED.set(Arc::new(counted.counted(1)));
            sender.send(()).await.unwrap();
        });
        request.await.unwrap();
        read.opened().await;
        assert_eq!(values.alive(), 0, "the request is over, though the worker is not");
        gate.open();
        worker.await.unwrap()
    });
    assert_eq!((linked, ledger.made()), (Some(7), 1));
}

#[test]
fn contexts_of_messages_in_the_queue_are_kept_and_go_with_it() {
    let ledger = Ledger::new();
    let (sender, receiver) = unbounded();
    for id in 0..3 {
        let context = Context::empty().with_var(&COUNTED, Arc::new(ledger.counted(id)));
        context.run(|| sender.try_send(id)).unwrap();
    }
    assert_eq!(ledger.alive(), 3);
    drop(receiver.try_recv().unwrap());
    assert_eq!(ledger.alive(), 2);
    drop(receiver);
    assert_eq!(ledger.alive(), 0);
}

#[test]
fn a_task_that_waits_at_a_channel_is_dropped_with_its_runtime() {
    let (sender, receiver) = unbounded::<Sender<u64>>();
    let ends = watchdog(PATIENCE, move || {
        let runtime = heirloom_tests::runtime(2);
        let (own, inbox) = unbounded();
        sender.try_send(own.clone()).unwrap();
        runtime.spawn(async move { inbox.recv().await.map(|(message, _)| message) }).detach();
        heirloom_tests::idle(&runtime);
        drop(runtime);
        own
    });
    assert_eq!(ends.try_send(1), Err(TrySendError::Closed(1)));
    drop(receiver);
}

#[test]
fn under_the_eager_flag_a_wait_blocks_and_one_that_must_not_names_the_channel() {
    watchdog(PATIENCE, || {
        let (sender, receiver) = bounded(1);
        let thread = std::thread::spawn(move || marked(7).run(|| run_eagerly(sender.send("from a thread"))));
        let (message, context) = run_eagerly(receiver.recv()).unwrap();
        assert_eq!((message, context.get(&MARK)), ("from a thread", Some(7)));
        thread.join().unwrap().unwrap();

        let (sender, mut receiver) = bounded(1);
        let refused = try_run_eagerly(receiver.recv()).err().unwrap();
        assert!(refused.to_string().contains("channel::Receiver::recv"), "{refused}");
        let refused = try_run_eagerly(receiver.next()).err().unwrap();
        assert!(refused.to_string().contains("channel::Receiver"), "{refused}");
        assert_eq!(try_run_eagerly(sender.send(1)).unwrap(), Ok(()));
        let refused = try_run_eagerly(sender.send(2)).err().unwrap();
        assert!(refused.to_string().contains("channel::Sender::send"), "{refused}");
        assert_eq!(try_run_eagerly(receiver.recv()).unwrap().unwrap().0, 1);
    });
}

#[test]
fn channels_answer_while_a_thread_is_torn_down() {
    struct Late(Sender<u64>, Receiver<u64>, Log<u64>);
    impl Drop for Late {
        fn drop(&mut self) {
            self.0.try_send(1).unwrap();
            self.0.send(2).now_or_never().unwrap().unwrap();
            let (message, context) = self.1.recv().now_or_never().unwrap().unwrap();
            context.run(|| self.2.push(message));
            self.2.push(self.1.try_recv().unwrap().0);
        }
    }
    thread_local! { static LATE: std::cell::OnceCell<Late> = const { std::cell::OnceCell::new() }; }
    let log = Log::new();
    let told = log.clone();
    let thread = std::thread::spawn(move || {
        let (sender, receiver) = unbounded();
        LATE.with(|late| assert!(late.set(Late(sender, receiver, told)).is_ok()));
        MARK.set(1);
    });
    thread.join().unwrap();
    assert_eq!(log.take(), [1, 2]);
}

#[test]
#[should_panic(expected = "use a capacity of 1 or more")]
fn a_channel_without_room_is_a_mistake_that_is_named() {
    bounded::<u64>(0);
}

#[test]
fn ends_and_waits_can_be_sent_to_other_threads() {
    fn shared<T: Send + Sync + Unpin + std::fmt::Debug>(_: &T) {}
    fn sent<T: Send + std::fmt::Debug>(_: &T) {}
    let (sender, receiver) = channel::bounded::<std::cell::Cell<u64>>(1);
    shared(&sender);
    shared(&receiver);
    sent(&sender.send(std::cell::Cell::new(1)));
    sent(&receiver.recv());
    let mut receiving = pin!(receiver.recv());
    assert!(poll(receiving.as_mut()).is_pending());
}

// The kind: one event, many that wait, and a wake-up for each of them. A message is for one
// receiver.

#[test]
fn a_message_wakes_one_of_the_receivers_that_wait_as_streams() {
    const RECEIVERS: usize = 100;
    run(1, || async {
        let (sender, receiver) = unbounded();
        let (polls, log) = (Arc::new(AtomicUsize::new(0)), Log::new());
        let tasks: Vec<_> = (0..RECEIVERS)
            .map(|number| {
                let (mut receiver, polls, log) = (receiver.clone(), polls.clone(), log.clone());
                spawn(async move {
                    let mut next = receiver.next();
                    let counted = std::future::poll_fn(|poller| {
                        polls.fetch_add(1, Ordering::SeqCst);
                        next.poll_unpin(poller)
                    });
                    let (message, _) = counted.await.unwrap();
                    log.push((number, message));
                })
            })
            .collect();
        // All of them wait, in the order of their spawn.
        while polls.load(Ordering::SeqCst) < RECEIVERS {
            task::yield_now().await;
        }
        for message in 0..RECEIVERS {
            sender.try_send(message).unwrap();
        }
        futures::future::join_all(tasks).await;
        let polls = polls.load(Ordering::SeqCst);
        assert!(polls <= 2 * RECEIVERS, "{polls} polls");
        assert_eq!(log.take().len(), RECEIVERS);
    });
}

#[test]
fn streams_are_served_in_the_order_in_which_they_began_to_wait() {
    let (sender, receiver) = unbounded();
    let mut receivers = [receiver.clone(), receiver.clone(), receiver];
    let wakers = [(); 3].map(|()| CountingWaker::create(Fault::None));
    for (receiver, (waker, _)) in receivers.iter_mut().zip(&wakers) {
        assert!(receiver.poll_next_unpin(&mut Poller::from_waker(waker)).is_pending());
    }
    for served in 0..3 {
        sender.try_send(served).unwrap();
        let woken: Vec<_> = wakers.iter().map(|(_, counts)| usize::from(counts.wakes() > 0)).collect();
        assert_eq!(woken.iter().sum::<usize>(), served + 1, "one more for each message: {woken:?}");
        assert!(wakers[served].1.wakes() > 0);
    }
    for (served, receiver) in receivers.iter_mut().enumerate() {
        let received = receiver.next().now_or_never().flatten().unwrap();
        assert_eq!(received.0, served);
    }
}

#[test]
fn a_stream_that_was_woken_and_is_dropped_passes_its_wake_up_on() {
    let (sender, mut first) = unbounded();
    let mut second = first.clone();
    let [(waker, one), (other, two)] = [(); 2].map(|()| CountingWaker::create(Fault::None));
    assert!(first.poll_next_unpin(&mut Poller::from_waker(&waker)).is_pending());
    assert!(second.poll_next_unpin(&mut Poller::from_waker(&other)).is_pending());
    sender.try_send(7).unwrap();
    assert_eq!((one.wakes() > 0, two.wakes() > 0), (true, false));
    drop(first);
    assert!(two.wakes() > 0);
    assert_eq!(second.next().now_or_never().flatten().unwrap().0, 7);
    // The end of the channel wakes those that wait, too.
    assert!(second.poll_next_unpin(&mut Poller::from_waker(&other)).is_pending());
    let before = two.wakes();
    drop(sender);
    assert!(two.wakes() > before);
    assert!(second.next().now_or_never().unwrap().is_none());
}
