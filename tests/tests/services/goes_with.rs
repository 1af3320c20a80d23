//! What users have beside the executor: locks, channels, processes, files, other reactors. The page
//! `guide::goes_with` says what is tried here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::FutureExt;
use heirloom::context::ContextFutureExt;
use heirloom::task::budget::cooperative;
use heirloom::{Context, context_var, sleep, spawn, wait_for, yield_now};
use heirloom_tests::in_a_worker;

context_var! { static TENANT: u32; }

/// Spawns so many tasks, and waits for all of them.
async fn in_tasks<F>(tasks: usize, task: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let tasks: Vec<_> = (0..tasks).map(|_| spawn(task())).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn async_lock_keeps_tasks_apart() {
    in_a_worker(2, async {
        let sum = Arc::new(async_lock::Mutex::new(0));
        in_tasks(8, || {
            let sum = Arc::clone(&sum);
            async move {
                for _ in 0..100 {
                    let mut guard = sum.lock().await;
                    let before = *guard;
                    yield_now().await; // the guard is held while the task moves
                    *guard = before + 1;
                }
            }
        })
        .await;
        assert_eq!(*sum.lock().await, 8 * 100);

        let table = async_lock::RwLock::new(1);
        {
            let (one, other) = (table.read().await, table.read().await);
            assert_eq!(*one + *other, 2);
            assert!(table.try_write().is_none());
        }
        *table.write().await += 1;
        assert_eq!(*table.read().await, 2);

        let permits = Arc::new(async_lock::Semaphore::new(2));
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        in_tasks(8, || {
            let (permits, inside, most) = (Arc::clone(&permits), Arc::clone(&inside), Arc::clone(&most));
            async move {
                let _permit = permits.acquire().await;
                most.fetch_max(inside.fetch_add(1, Relaxed) + 1, Relaxed);
                yield_now().await;
                inside.fetch_sub(1, Relaxed);
            }
        })
        .await;
        assert!((1..=2).contains(&most.load(Relaxed)));

        let barrier = Arc::new(async_lock::Barrier::new(3));
        let leaders = Arc::new(AtomicUsize::new(0));
        in_tasks(3, || {
            let (barrier, leaders) = (Arc::clone(&barrier), Arc::clone(&leaders));
            async move {
                leaders.fetch_add(barrier.wait().await.is_leader().into(), Relaxed);
            }
        })
        .await;
        assert_eq!(leaders.load(Relaxed), 1);

        let once = Arc::new(async_lock::OnceCell::new());
        let made = Arc::new(AtomicUsize::new(0));
        in_tasks(4, || {
            let (once, made) = (Arc::clone(&once), Arc::clone(&made));
            async move {
                let make = async { made.fetch_add(1, Relaxed) + 41 };
                let value = *once.get_or_init(|| make.then(|value| yield_now().map(move |()| value))).await;
                assert_eq!(value, 41);
            }
        })
        .await;
        assert_eq!(made.load(Relaxed), 1);
    });
}

#[test]
fn event_listener_notifies() {
    in_a_worker(2, async {
        let event = Arc::new(event_listener::Event::new());
        let listener = event.listen();
        let notifier = Arc::clone(&event);
        spawn(async move { notifier.notify(1) }).detach();
        listener.await;
    });
}

#[test]
fn async_channel_and_futures_channels_carry_messages() {
    in_a_worker(2, async {
        let (sender, receiver) = async_channel::bounded(1);
        let sending = spawn(async move {
            for number in 0..1_000 {
                sender.send(number).await.unwrap();
            }
        });
        let mut sum = 0;
        while let Ok(number) = cooperative(receiver.recv()).await {
            sum += number;
        }
        sending.await.unwrap();
        assert_eq!(sum, (0..1_000).sum::<u32>());

        let (sender, receiver) = futures::channel::oneshot::channel();
        spawn(async move { sender.send(7) }).detach();
        assert_eq!(receiver.await, Ok(7));

        let lock = futures::lock::Mutex::new(1);
        *lock.lock().await += 1;
        assert_eq!(*lock.lock().await, 2);
    });
}

#[test]
fn tokio_sync_needs_no_runtime_of_tokio() {
    use tokio::sync::{Mutex, Notify, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};

    in_a_worker(2, async {
        let (sender, mut receiver) = mpsc::channel(1);
        let sending = spawn(async move {
            for number in 0..1_000 {
                sender.send(number).await.unwrap();
            }
        });
        let mut received = 0;
        while let Some(number) = cooperative(receiver.recv()).await {
            assert_eq!(number, received);
            received += 1;
        }
        sending.await.unwrap();
        assert_eq!(received, 1_000);

        let (sender, receiver) = oneshot::channel();
        spawn(async move { sender.send(7) }).detach();
        assert_eq!(receiver.await, Ok(7));

        let (sender, mut receiver) = watch::channel("old");
        spawn(async move {
            sender.send("new").unwrap();
            sender.closed().await;
        })
        .detach();
        receiver.changed().await.unwrap();
        assert_eq!(*receiver.borrow(), "new");

        let (sender, mut one) = broadcast::channel(2);
        let mut other = sender.subscribe();
        spawn(async move { sender.send(7) }).detach();
        assert_eq!((one.recv().await, other.recv().await), (Ok(7), Ok(7)));

        let notify = Arc::new(Notify::new());
        let notifier = Arc::clone(&notify);
        spawn(async move { notifier.notify_one() }).detach();
        notify.notified().await;

        let sum = Arc::new(Mutex::new(0));
        in_tasks(4, || {
            let sum = Arc::clone(&sum);
            async move {
                let mut guard = sum.lock().await;
                yield_now().await;
                *guard += 1;
            }
        })
        .await;
        assert_eq!(*sum.lock().await, 4);

        let table = RwLock::new(1);
        assert_eq!(*table.read().await + *table.read().await, 2);
        let permits = Semaphore::new(1);
        let permit = permits.acquire().await.unwrap();
        assert!(permits.try_acquire().is_err());
        drop(permit);
        assert!(permits.try_acquire().is_ok());
    });
}

#[test]
fn select_and_join_of_futures() {
    in_a_worker(2, async {
        let mut slow = std::pin::pin!(sleep(Duration::from_secs(3600)).fuse());
        let first = futures::select! {
            () = slow => "slow",
            seven = async { 7 }.fuse() => if seven == 7 { "quick" } else { "wrong" },
        };
        assert_eq!(first, "quick");
        let parts = futures::try_join!(async { io::Result::Ok(1) }, async { Ok(2) });
        assert_eq!(parts.unwrap(), (1, 2));
    });
}

#[test]
#[cfg(unix)]
fn async_process_and_async_fs() {
    in_a_worker(2, async {
        let output = async_process::Command::new("echo").arg("hello").output().await.unwrap();
        assert_eq!(output.stdout, b"hello\n");

        // Dropped with the future, at the limit: the child is killed.
        let mut sleeping = async_process::Command::new("sleep");
        let limited = wait_for(sleeping.arg("60").kill_on_drop(true).output(), Duration::from_millis(10));
        assert!(limited.await.is_err());

        let file = std::env::temp_dir().join(format!("heirloom-goes-with-{}", std::process::id()));
        async_fs::write(&file, "seven").await.unwrap();
        assert_eq!(async_fs::read_to_string(&file).await.unwrap(), "seven");
        async_fs::remove_file(&file).await.unwrap();
    });
}

#[test]
fn tokios_io_traits_on_our_sockets() {
    use heirloom::net::{TcpListener, TcpStream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::compat::FuturesAsyncReadCompatExt;

    in_a_worker(2, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = spawn(async move {
            let mut stream = listener.accept().await.unwrap().0.compat();
            let mut ping = [0; 4];
            stream.read_exact(&mut ping).await.unwrap();
            stream.write_all(&ping).await.unwrap();
        });
        let mut client = TcpStream::connect(address).await.unwrap().compat();
        client.write_all(b"ping").await.unwrap();
        let mut pong = [0; 4];
        client.read_exact(&mut pong).await.unwrap();
        assert_eq!(&pong, b"ping");
        serving.await.unwrap();
    });
}

#[test]
fn a_tokio_runtime_beside() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let beside = tokio.handle().clone();
    in_a_worker(2, async move {
        TENANT.set(7);
        // What needs tokio's reactor runs there, and is awaited here.
        let call = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            TENANT.get()
        };
        let seen = spawn(async move { beside.spawn(call.in_context(Context::inherited())).await.unwrap() });
        assert_eq!(seen.await.unwrap(), Some(7));
    });
}

#[test]
#[cfg(unix)]
fn the_reactor_of_async_io_wakes_our_tasks() {
    use futures::{AsyncReadExt, AsyncWriteExt};
    use std::os::unix::net::UnixStream;

    in_a_worker(2, async {
        let (mut one, mut other) = async_io::Async::<UnixStream>::pair().unwrap();
        let reading = spawn(async move {
            let mut ping = [0; 4];
            other.read_exact(&mut ping).await.unwrap();
            ping
        });
        yield_now().await;
        one.write_all(b"ping").await.unwrap();
        assert_eq!(&reading.await.unwrap(), b"ping");
        async_io::Timer::after(Duration::from_millis(1)).await;
    });
}
