//! A tokio runtime as a guest: what needs one runs in tasks, with context and deadline.

use std::future::pending;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use heirloom::net::{TcpListener, TcpStream};
use heirloom::task::LocalSet;
use heirloom::tokio::TokioGuest;
use heirloom::{
    Runtime, context_var, remaining, spawn, spawn_background, spawn_blocking, spawn_local, wait_for,
};
use heirloom_tests::{Gate, OnDrop, PATIENCE, threads_named, wait_until, watchdog};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LONG: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_millis(5);

context_var! { static REQUEST_ID: u64; }

fn with_guest(guest: TokioGuest) -> Runtime {
    Runtime::builder().workers(2).tokio(guest).build().unwrap()
}

/// Waits for tokio's timer, and returns what is seen after that.
async fn after_a_nap() -> (Option<u64>, bool) {
    tokio::time::sleep(SOON).await;
    (REQUEST_ID.get(), remaining().is_some())
}

#[test]
fn what_needs_tokio_runs_wherever_tasks_do() {
    watchdog(PATIENCE, || {
        let runtime = with_guest(TokioGuest::new());
        let handle = runtime.handle().clone();
        runtime.block_on(async {
            REQUEST_ID.set(7);
            let all = async {
                assert_eq!(after_a_nap().await, (Some(7), true));
                assert_eq!(spawn(after_a_nap()).await.unwrap(), (Some(7), true));
                let (send, receive) = futures::channel::oneshot::channel();
                spawn_background(async {
                    let _ = send.send(after_a_nap().await);
                });
                assert_eq!(receive.await.unwrap(), (None, false));
                let blocking = spawn_blocking(move || handle.block_on(after_a_nap()));
                assert_eq!(blocking.await.unwrap(), (Some(7), true));
                assert_eq!(spawn_blocking(|| tokio::spawn(async { 7 })).await.unwrap().await.unwrap(), 7);
                let set = LocalSet::new();
                let local = set.run_until(async { spawn_local(after_a_nap()).await.unwrap() });
                assert_eq!(local.await, (Some(7), true));
            };
            wait_for(all, LONG).await.unwrap();
        });
    });
}

#[heirloom::test(tokio)]
async fn the_attribute_gives_a_test_a_guest() {
    REQUEST_ID.set(7);
    assert_eq!(spawn(after_a_nap()).await.unwrap(), (Some(7), false));
}

#[heirloom::test(tokio, timeout = "30s")]
async fn sockets_files_and_processes_of_tokio_work_in_tasks() {
    REQUEST_ID.set(7);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(&request).await.unwrap();
        REQUEST_ID.get()
    });
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!((answer.as_slice(), server.await.unwrap()), (&b"ping"[..], Some(7)));

    let read = spawn(async { (tokio::fs::read("Cargo.toml").await.unwrap().len(), REQUEST_ID.get()) });
    assert!(matches!(read.await.unwrap(), (1.., Some(7))));
    let ran =
        spawn(async { (tokio::process::Command::new("true").status().await.unwrap(), REQUEST_ID.get()) });
    let (status, seen) = ran.await.unwrap();
    assert!(status.success() && seen == Some(7));
}

#[heirloom::test(tokio, timeout = "30s")]
async fn a_limit_cuts_what_waits_for_tokio() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert!(wait_for(listener.accept(), SOON).await.is_err());
    assert!(wait_for(tokio::time::sleep(LONG), SOON).await.is_err());
    assert!(wait_for(spawn(tokio::time::sleep(LONG)), SOON).await.is_err());
    let (_open, mut receive) = tokio::sync::mpsc::channel::<()>(1);
    assert!(wait_for(receive.recv(), SOON).await.is_err());
}

/// A future of tokio's is dropped, and does what it can, while the guest is there.
#[test]
fn the_guest_ends_after_the_tasks() {
    watchdog(PATIENCE, || {
        let builder = Runtime::builder().workers(1).thread_name("ends").tokio(TokioGuest::new());
        let runtime = builder.build().unwrap();
        let (say, said) = mpsc::channel();
        let polled = Gate::new();
        let (begun, dropped) = (polled.clone(), say.clone());
        runtime
            .spawn(async move {
                let _at_the_end = OnDrop::new(move || {
                    let guest = tokio::runtime::Handle::current();
                    let told = say.clone();
                    say.send("a task").unwrap();
                    guest.spawn(async move { told.send("a task of the guest").unwrap() });
                });
                begun.open();
                tokio::time::sleep(LONG).await;
            })
            .detach();
        polled.wait();
        // The guest's tasks are dropped, and what blocks in its pool is not waited for.
        let pending_on_guest = OnDrop::new(move || dropped.send("a pending task of the guest").unwrap());
        let held = Gate::new();
        let blocks = held.clone();
        runtime.block_on(async {
            tokio::spawn(async move {
                let _dropped = pending_on_guest;
                pending::<()>().await;
            });
            tokio::task::spawn_blocking(move || blocks.wait());
        });
        // A thread has its name once it runs.
        assert!(wait_until(|| threads_named("ends-tokio").is_none_or(|threads| threads >= 1)));
        drop(runtime);
        let said: Vec<_> = said.iter().collect();
        assert_eq!(said[0], "a task");
        assert!(said.contains(&"a pending task of the guest"), "{said:?}");
        held.open();
        assert!(wait_until(|| threads_named("ends-tokio").unwrap_or(0) == 0));
    });
}

#[test]
fn a_task_of_the_guest_may_end_the_runtime() {
    watchdog(PATIENCE, || {
        let runtime = with_guest(TokioGuest::new());
        let (ended, end) = mpsc::channel();
        runtime.block_on(async {
            let handle = heirloom::Handle::current().unwrap();
            tokio::spawn(async move {
                handle.shutdown(Duration::ZERO);
                ended.send(()).unwrap();
            });
        });
        end.recv().unwrap();
        drop(runtime);

        let runtime = with_guest(TokioGuest::new());
        let (ended, end) = mpsc::channel();
        let handle = runtime.handle().clone();
        runtime
            .spawn(async move {
                handle.shutdown(Duration::ZERO);
                ended.send(()).unwrap();
            })
            .detach();
        end.recv().unwrap();
    });
}

#[test]
fn the_programs_own_tokio_runtime_may_be_the_guest() {
    watchdog(PATIENCE, || {
        let own = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let runtime = with_guest(own.handle().clone().into());
        assert_eq!(runtime.block_on(runtime.spawn(after_a_nap())).unwrap(), (None, false));
        drop(runtime);
        // It goes on.
        own.block_on(async { tokio::time::sleep(SOON).await });

        let single = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (handle, (end, ended)) = (single.handle().clone(), tokio::sync::oneshot::channel::<()>());
        let drives = std::thread::spawn(move || drop(single.block_on(ended)));
        let runtime = with_guest(handle.into());
        assert_eq!(runtime.block_on(runtime.spawn(after_a_nap())).unwrap(), (None, false));
        drop((runtime, end));
        drives.join().unwrap();
    });
}

#[test]
fn a_guest_is_set_up_as_the_program_says() {
    watchdog(PATIENCE, || {
        let (built, started) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (builds, starts) = (built.clone(), started.clone());
        let guest = TokioGuest::configured(move |builder| {
            builds.fetch_add(1, Relaxed);
            let starts = starts.clone();
            builder.on_thread_start(move || _ = starts.fetch_add(1, Relaxed));
        });
        assert_eq!(format!("{guest:?}"), "TokioGuest(configured)");
        assert_eq!(built.load(Relaxed), 0);
        for runtimes in 1..=2 {
            let runtime = with_guest(guest.clone());
            runtime.block_on(async { tokio::task::spawn_blocking(|| ()).await.unwrap() });
            assert_eq!((built.load(Relaxed), started.load(Relaxed)), (runtimes, runtimes));
        }
    });
}

#[test]
fn guests_that_cannot_be_used_are_refused_with_a_sentence() {
    let refused = |builder: heirloom::runtime::Builder| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    };
    let new = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    let idle = new();
    let text = refused(Runtime::builder().tokio(idle.handle().clone().into()));
    assert!(text.starts_with("no thread drives the current-thread tokio runtime"), "{text}");

    let ended = new().handle().clone();
    let text = refused(Runtime::builder().tokio(ended.into()));
    assert!(text.starts_with("the tokio runtime of this handle has ended"), "{text}");

    let text = refused(Runtime::builder().tokio(TokioGuest::new()).tokio(TokioGuest::new()));
    assert!(text.starts_with("a runtime has one tokio guest, and got two"), "{text}");

    let text = refused(Runtime::builder().virtual_time().tokio(TokioGuest::new()));
    assert!(text.starts_with("a guest has real time"), "{text}");
}

/// The sockets of this crate under tokio's traits, without a guest.
#[heirloom::test(timeout = "30s")]
async fn sockets_have_tokios_traits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::with_capacity(1);
        // Into memory that is not initialised, until the client shuts its side.
        let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut request).await.unwrap();
        assert_eq!(read, request.len());
        tokio::io::AsyncWriteExt::write_all(&mut stream, &request).await.unwrap();
    });
    let sent: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(tokio::io::AsyncWrite::is_write_vectored(&stream));
    let mut halves = sent.as_slice().chain(&b"end"[..]);
    tokio::io::copy(&mut halves, &mut stream).await.unwrap();
    tokio::io::AsyncWriteExt::flush(&mut stream).await.unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut stream).await.unwrap();
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.unwrap();
    assert_eq!(answer, [&sent[..], b"end"].concat());
    server.await.unwrap();
}
