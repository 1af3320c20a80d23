//! What a `send` that was given up has done, and which receivers a message wakes.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use heirloom::wait_for;
use heirloom_tests::{CountingWaker, Fault, in_a_worker, poll_with};

const SOON: Duration = Duration::from_millis(5);

#[test]
fn a_send_given_up_is_delivered() {
    in_a_worker(1, async {
        let (mut sender, receiver) = futures::channel::mpsc::channel(0);
        assert!(wait_for(sender.send(1), SOON).await.is_err());
        drop(sender);
        assert_eq!(receiver.collect::<Vec<_>>().await, [1]);

        let (sender, receiver) = async_channel::bounded(1);
        sender.send(1).await.unwrap();
        assert!(wait_for(sender.send(2), SOON).await.is_err());
        drop(sender);
        assert_eq!(receiver.collect::<Vec<_>>().await, [1]);

        let (sender, receiver) = heirloom::context::channel::bounded(1);
        sender.send(1).await.unwrap();
        assert!(wait_for(sender.send(2), SOON).await.is_err());
        drop(sender);
        assert_eq!(receiver.recv().await.unwrap().0, 1);
        assert!(receiver.recv().await.is_err());
    });
}

/// How many of five receivers one message has woken: when it was sent, and when the first one of
/// those has taken it.
fn woken<R>(waits: impl Fn(async_channel::Receiver<u32>) -> R) -> [usize; 2]
where
    R: Future<Output = u32>,
{
    let (sender, receiver) = async_channel::unbounded();
    let mut receivers: Vec<_> = (0..5).map(|_| Box::pin(waits(receiver.clone()))).collect();
    let (wakers, counts): (Vec<_>, Vec<_>) = (0..5).map(|_| CountingWaker::create(Fault::None)).unzip();
    for (receiver, waker) in receivers.iter_mut().zip(&wakers) {
        assert!(poll_with(receiver, waker).is_pending());
    }
    let woken = || counts.iter().filter(|counts| counts.wakes() > 0).count();
    sender.try_send(1).unwrap();
    let sent = woken();
    let first = counts.iter().position(|counts| counts.wakes() > 0).expect("a message wakes a receiver");
    assert!(poll_with(&mut receivers[first], &wakers[first]).is_ready());
    [sent, woken()]
}

#[test]
fn a_message_wakes_two_receivers_and_all_streams() {
    assert_eq!(woken(|receiver| async move { receiver.recv().await.unwrap() }), [1, 2]);
    assert_eq!(woken(|receiver| async move { pin!(receiver).next().await.unwrap() }), [5, 5]);
}
