//! What runs on this executor without a line for it, and has no call for the questions of `alone`.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use heirloom::task::JoinError;
use heirloom::{sleep, spawn, yield_now};

#[heirloom::test(timeout = "60s")]
async fn tokios_select_chooses_between_leaves_of_ours_and_of_tokio() -> Result<(), JoinError> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let selecting = spawn(async move {
        let (mut sum, mut ticks) = (0, heirloom::interval(Duration::from_millis(1)));
        loop {
            tokio::select! {
                biased;
                Some(number) = receiver.recv() => sum += number,
                _ = ticks.tick() => {}
                _ = stopped.changed() => return sum,
            }
        }
    });
    for number in 1..=3 {
        sender.send(number).await.unwrap();
        sleep(Duration::from_millis(2)).await;
    }
    drop(sender);
    stop.send(true).unwrap();
    assert_eq!(selecting.await?, 6);

    let joined = tokio::join!(async { 1 }, yield_now());
    assert_eq!(joined, (1, ()));
    let failed = tokio::try_join!(async { Err::<(), _>("no") }, sleep_for_ever());
    assert_eq!(failed, Err("no"));
    Ok(())
}

async fn sleep_for_ever() -> Result<(), &'static str> {
    sleep(Duration::MAX).await;
    Ok(())
}

#[heirloom::test(timeout = "60s")]
async fn what_tokio_util_and_tokio_stream_build_on_tokio_sync() -> Result<(), JoinError> {
    use tokio_util::sync::{CancellationToken, PollSemaphore, PollSender};

    let token = CancellationToken::new();
    let waiting = spawn(token.child_token().cancelled_owned());
    token.cancel();
    waiting.await?;

    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut sender = PollSender::new(sender);
    let sending = spawn(async move {
        for number in 0..10 {
            futures::future::poll_fn(|cx| sender.poll_reserve(cx)).await.unwrap();
            sender.send_item(number).unwrap();
        }
    });
    let received: Vec<_> = tokio_stream::wrappers::ReceiverStream::new(receiver).collect().await;
    assert_eq!(received, (0..10).collect::<Vec<_>>());
    sending.await?;

    let mut permits = PollSemaphore::new(Arc::new(tokio::sync::Semaphore::new(1)));
    assert!(futures::future::poll_fn(|cx| permits.poll_acquire(cx)).await.is_some());

    // The name says `task`; the tracker only counts.
    let tracker = tokio_util::task::TaskTracker::new();
    let tracked = spawn(tracker.track_future(yield_now()));
    tracker.close();
    tracker.wait().await;
    tracked.await
}

#[heirloom::test(timeout = "60s")]
async fn dashmap_counts_for_all_tasks() -> Result<(), JoinError> {
    let counts = Arc::new(dashmap::DashMap::new());
    let counting: Vec<_> = (0..8)
        .map(|task| {
            let counts = Arc::clone(&counts);
            spawn(async move {
                for _ in 0..100 {
                    *counts.entry(task % 2).or_insert(0) += 1; // no guard across an await
                    yield_now().await;
                }
            })
        })
        .collect();
    for task in counting {
        task.await?;
    }
    assert_eq!((*counts.get(&0).unwrap(), *counts.get(&1).unwrap()), (400, 400));
    Ok(())
}
