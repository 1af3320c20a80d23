//! Names and addresses.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use heirloom::net::{ToSocketAddrs, lookup};
use heirloom::task::JoinError;
use heirloom::{JoinHandle, Runtime};
use heirloom_tests::{Gate, PATIENCE, run, runtime, wait_until, watchdog};

/// A runtime whose only thread for questions is in a closure that waits at the gate.
fn with_its_thread_blocked() -> (Runtime, Gate, JoinHandle<()>) {
    let runtime = Runtime::builder().workers(1).max_blocking_threads(1).build().unwrap();
    let (gate, entered) = (Gate::new(), Gate::new());
    let blocked = runtime.spawn_blocking({
        let (gate, entered) = (gate.clone(), entered.clone());
        move || {
            entered.open();
            gate.wait();
        }
    });
    entered.wait();
    (runtime, gate, blocked)
}

async fn all(host: impl ToSocketAddrs) -> Vec<SocketAddr> {
    lookup(host).await.unwrap().collect()
}

#[test]
fn addresses_are_answered_without_a_lookup() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        runtime.block_on(async {
            let v4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80);
            let v6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 0);
            let (four, six) = (SocketAddr::V4(v4), SocketAddr::V6(v6));
            assert_eq!(all(four).await, [four]);
            assert_eq!(all(&v4).await, [four]);
            assert_eq!(all(v6).await, [six]);
            assert_eq!(all((IpAddr::V4(*v4.ip()), 80)).await, [four]);
            assert_eq!(all((*v4.ip(), 80)).await, [four]);
            assert_eq!(all((*v6.ip(), 80)).await, [six]);
            assert_eq!(all("10.0.0.1:80").await, [four]);
            assert_eq!(all("[::1]:80".to_string()).await, [six]);
            assert_eq!(all(("10.0.0.1", 80)).await, [four]);
            assert_eq!(all(("::1".to_string(), 80)).await, [six]);
            assert_eq!(all([four, six]).await, [four, six]);
            assert_eq!(all(&[six, four][..]).await, [six, four]);
            assert_eq!(all(vec![six]).await, [six]);
        });
        assert_eq!(runtime.stats().blocking_threads, 0);
    });
}

#[test]
fn names_are_looked_up() {
    run(1, || async {
        let found = all("localhost:81").await;
        assert!(!found.is_empty());
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 81));
        assert_eq!(all("localhost:81".to_string()).await, found);
        assert_eq!(all(("localhost", 81)).await, found);
        assert_eq!(all(("localhost".to_string(), 81)).await, found);
    });
}

#[test]
fn what_is_no_name_is_an_error() {
    run(1, || async {
        for host in ["localhost", "", "localhost:", "localhost:http", "localhost:65536", "127.0.0.1"] {
            let error = lookup(host).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{host}: {error}");
        }
        assert!(lookup(("no\0name", 80)).await.is_err());
    });
}

#[test]
fn a_question_keeps_no_worker_waiting() {
    watchdog(PATIENCE, || {
        let (runtime, gate, blocked) = with_its_thread_blocked();
        // The only thread for questions is busy, the only worker is not.
        let question = runtime.spawn(async { lookup("localhost:1").await.unwrap().count() });
        assert!(wait_until(|| runtime.stats().blocking_queued == 1));
        runtime.block_on(runtime.spawn(async {})).unwrap();
        assert!(!question.is_finished());
        gate.open();
        runtime.block_on(async {
            blocked.await.unwrap();
            assert!(question.await.unwrap() > 0);
        });
    });
}

#[test]
fn a_question_that_is_given_up_before_it_is_asked_is_not_asked() {
    watchdog(PATIENCE, || {
        let (runtime, gate, blocked) = with_its_thread_blocked();
        runtime.block_on(async {
            let mut question = Box::pin(lookup("localhost:1"));
            assert!(futures::poll!(&mut question).is_pending());
            drop(question);
        });
        gate.open();
        runtime.block_on(blocked).unwrap();
        runtime.wait_until_idle();
        assert_eq!(runtime.stats().blocking_queued, 0);
    });
}

#[test]
fn a_runtime_that_has_ended_answers_no_questions() {
    watchdog(PATIENCE, || {
        let runtime = runtime(1);
        let handle = runtime.handle().clone();
        drop(runtime);
        let error = handle.block_on(lookup("localhost:1")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
        let inner = error.into_inner().unwrap();
        assert!(inner.downcast::<JoinError>().unwrap().is_cancelled());
        // What needs no asking is answered.
        assert_eq!(handle.block_on(lookup("127.0.0.1:1")).unwrap().count(), 1);
    });
}
