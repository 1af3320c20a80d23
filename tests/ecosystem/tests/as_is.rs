//! Libraries that run on this executor without a line for it, and clients that run by one line.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use heirloom::net::{TcpListener, TcpStream};
use heirloom::task::JoinError;
use heirloom::{context_var, sleep, spawn, spawn_blocking, wait_for, yield_now};

context_var! { static TENANT: u32; }

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
async fn flume_carries_messages_between_tasks_and_threads() -> Result<(), JoinError> {
    let (sender, receiver) = flume::bounded(1);
    let blocking = sender.clone();
    let there = spawn(async move { sender.send_async(1).await.unwrap() });
    let here = spawn_blocking(move || blocking.send(2).unwrap());
    let received: u32 = receiver.stream().fold(0, async |sum, number| sum + number).await;
    assert_eq!(received, 3);
    there.await?;
    here.await
}

#[heirloom::test(timeout = "60s")]
async fn sockets_of_async_net_beside_ours() -> io::Result<()> {
    // Polled by async-io's own thread.
    let listener = async_net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    TENANT.set(7);
    let serving = spawn(async move {
        let mut stream = listener.accept().await?.0;
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).await?;
        stream.write_all(&ping).await?;
        io::Result::Ok(TENANT.get())
    });
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"ping").await?;
    let mut pong = [0; 4];
    stream.read_exact(&mut pong).await?;
    assert_eq!(&pong, b"ping");
    assert_eq!(serving.await??, Some(7));
    Ok(())
}

#[heirloom::test(timeout = "60s")]
async fn moka_makes_a_value_once_in_the_context_of_the_task_that_makes_it() -> Result<(), JoinError> {
    let cache = moka::future::Cache::new(10);
    let made = Arc::new(AtomicUsize::new(0));
    TENANT.set(7);
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let (cache, made) = (cache.clone(), Arc::clone(&made));
            spawn(async move {
                let make = async {
                    sleep(Duration::from_millis(5)).await;
                    made.fetch_add(1, Relaxed);
                    TENANT.get()
                };
                cache.get_with("tenant", make).await
            })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await?, Some(7));
    }
    assert_eq!(made.load(Relaxed), 1);
    Ok(())
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

#[heirloom::test(timeout = "60s")]
async fn tower_limits_and_sheds() -> Result<(), JoinError> {
    use tower::{Service, ServiceBuilder, ServiceExt};

    let inside = Arc::new(AtomicUsize::new(0));
    let service = tower::service_fn(move |number: u32| {
        let inside = Arc::clone(&inside);
        async move {
            assert!(inside.fetch_add(1, Relaxed) < 2, "two at once");
            sleep(Duration::from_millis(2)).await;
            inside.fetch_sub(1, Relaxed);
            Ok::<_, std::convert::Infallible>(number * 2)
        }
    });
    let limited = ServiceBuilder::new().concurrency_limit(2).service(service);
    let calls: Vec<_> = (0..8).map(|number| spawn(limited.clone().oneshot(number))).collect();
    for (number, call) in (0..).zip(calls) {
        assert_eq!(call.await?, Ok(number * 2));
    }

    let mut shedding = ServiceBuilder::new().load_shed().service(limited);
    let (one, two) = (shedding.ready().await.unwrap().call(1), shedding.ready().await.unwrap().call(2));
    let refused = shedding.ready().await.unwrap().call(3).await;
    assert!(refused.unwrap_err().is::<tower::load_shed::error::Overloaded>());
    assert_eq!((one.await.unwrap(), two.await.unwrap()), (2, 4));
    Ok(())
}

/// Answers each command as Redis does.
async fn serve_redis(listener: TcpListener) -> io::Result<()> {
    let mut stream = listener.accept().await?.0;
    let mut read = [0; 1024];
    loop {
        let length = stream.read(&mut read).await?;
        if length == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&read[..length]).into_owned();
        for command in text.split('*').skip(1) {
            let answer: &[u8] = if command.contains("\r\nGET\r\n") { b"$5\r\nseven\r\n" } else { b"+OK\r\n" };
            stream.write_all(answer).await?;
        }
    }
}

#[heirloom::test(timeout = "60s")]
async fn redis_with_its_feature_for_smol() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = redis::Client::open(format!("redis://{}/", listener.local_addr()?))?;
    let serving = spawn(serve_redis(listener));
    let got = spawn(async move {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("GET").arg("tenant").query_async::<String>(&mut connection).await
    });
    assert_eq!(got.await??, "seven");
    drop(serving);
    Ok(())
}

/// Answers the start of a session and one query as PostgreSQL does.
async fn serve_postgres(listener: TcpListener) -> io::Result<()> {
    let mut stream = listener.accept().await?.0;
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut startup).await?;
    stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await?;

    let mut tag = [0];
    stream.read_exact(&mut tag).await?;
    stream.read_exact(&mut length).await?;
    let mut query = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut query).await?;
    assert_eq!((tag, &*query), (*b"Q", &b"SELECT 7\0"[..]));
    let column = b"T\0\0\0\x1a\0\x01n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
    stream.write_all(column).await?;
    stream.write_all(b"D\0\0\0\x0b\0\x01\0\0\0\x017C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I").await?;
    stream.read(&mut tag).await.map(drop) // until the client has gone
}

#[heirloom::test(timeout = "60s")]
async fn tokio_postgres_over_our_sockets() -> Result<(), Box<dyn std::error::Error>> {
    use tokio_postgres::SimpleQueryMessage;
    use tokio_util::compat::FuturesAsyncReadCompatExt;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = spawn(serve_postgres(listener));
    let stream = TcpStream::connect(address).await?.compat();
    let mut config = tokio_postgres::Config::new();
    let (client, connection) = config.user("heirloom").connect_raw(stream, tokio_postgres::NoTls).await?;
    let connection = spawn(connection);
    let rows = wait_for(client.simple_query("SELECT 7"), Duration::from_secs(10)).await??;
    let sevens =
        rows.iter().filter(|row| matches!(row, SimpleQueryMessage::Row(row) if row.get(0) == Some("7")));
    assert_eq!(sevens.count(), 1);
    drop(client);
    connection.await??;
    serving.await??;
    Ok(())
}
