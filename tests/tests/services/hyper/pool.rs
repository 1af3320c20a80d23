//! hyper-util's pool of connections: whose context a connector sees, and which callers fail with
//! another one.

use std::error::Error;

use heirloom_tests::poll_once;

use super::*;

/// What a connector has seen: the request, and whether there is a deadline.
type Seen = (Option<u64>, bool);

/// Two callers, the second with a deadline. The second one's connector has begun when the first
/// one's connection is free again, which the second caller then takes. What the second connector
/// sees before and after that.
fn seen_by_the_connector_that_loses<E>(executor: E) -> [Seen; 2]
where
    E: Executor<Pin<Box<dyn Future<Output = ()> + Send>>> + Clone + Send + Sync + 'static,
{
    in_a_worker(2, async move {
        let (seen, [asked, answer, begun, connect, connected]) = (Log::new(), [(); 5].map(|()| Gate::new()));
        let (log, begins, goes_on, ends) = (seen.clone(), begun.clone(), connect.clone(), connected.clone());
        let (asks, answers) = (asked.clone(), answer.clone());
        let count = Arc::new(AtomicUsize::new(0));
        let connector = tower::service_fn(move |_| {
            let first = count.fetch_add(1, Ordering::Relaxed) == 0;
            let (log, begins, goes_on, ends) = (log.clone(), begins.clone(), goes_on.clone(), ends.clone());
            let (asks, answers) = (asks.clone(), answers.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (asks, answers) = (asks.clone(), answers.clone());
                async move {
                    asks.open();
                    answers.opened().await;
                    Answer::Ok(answer_to(&request))
                }
            });
            let connect = async move {
                let look = || (REQUEST_ID.get(), deadline().is_some());
                if !first {
                    log.push(look());
                    begins.open();
                    goes_on.opened().await;
                    log.push(look());
                    ends.open();
                }
                let (near, far) = duplex(1_024);
                let serving =
                    server::conn::http1::Builder::new().serve_connection(HyperIo::new(far), service);
                spawn_background(serving);
                io::Result::Ok(pooled(near))
            };
            connect.boxed()
        });
        let client: legacy::Client<_, Empty<Bytes>> = legacy::Client::builder(executor).build(connector);
        let ask = |id| {
            let client = client.clone();
            let asking = async move { text(client.request(get(id)).await.unwrap()).await };
            asking.with_var(&REQUEST_ID, id)
        };
        let first = spawn(ask(1));
        asked.opened().await;
        let second = spawn(wait_for(ask(2), Duration::from_secs(3_600)));
        begun.opened().await;
        answer.open();
        assert_eq!((first.await.unwrap(), second.await.unwrap().unwrap()), ("1".into(), "2".into()));
        connect.open();
        connected.opened().await;
        seen.take().try_into().unwrap()
    })
}

#[test]
fn a_losing_connector_changes_its_task() {
    assert_eq!(seen_by_the_connector_that_loses(HyperExecutor), [(Some(2), true), (None, false)]);
    // By an executor that spawns like a user the context stays. The deadline ends where the task is
    // detached.
    assert_eq!(seen_by_the_connector_that_loses(Inheriting), [(Some(2), true), (Some(2), false)]);
}

/// How the pool learns that a connection is of HTTP/2.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    Before,
    /// By the negotiation of TLS: while it is connected.
    Negotiated,
}

/// Two callers. The first one gives up while its connection is being made, which the second one
/// waits for. How the second one ends, and how many connections were begun.
fn waits_for_one_that_gives_up(known: Known, retry: bool) -> (Result<String, String>, usize) {
    in_a_worker(2, async move {
        let count = Arc::new(AtomicUsize::new(0));
        let begun = count.clone();
        let connector = tower::service_fn(move |_| {
            let first = begun.fetch_add(1, Ordering::Relaxed) == 0;
            // The first one's server reads nothing, so that the handshake does not end.
            let (near, far) = duplex(8);
            let connected: fn() -> Connected = match known {
                Known::Before => Connected::new,
                Known::Negotiated => || Connected::new().negotiated_h2(),
            };
            let service = service_fn(|request| async move { Answer::Ok(answer_to(&request)) });
            let serving = async move {
                if first {
                    sleep(Duration::MAX).await;
                }
                let http2 = server::conn::http2::Builder::new(HyperExecutor);
                http2.serve_connection(HyperIo::new(far), service).await
            };
            spawn_background(serving);
            std::future::ready(io::Result::Ok(Pooled(HyperIo::new(near), connected)))
        });
        let client: legacy::Client<_, Empty<Bytes>> = legacy::Client::builder(HyperExecutor)
            .http2_only(known == Known::Before)
            .retry_canceled_requests(retry)
            .build(connector);
        let mut first = Box::pin(client.request(get(1)));
        assert!(poll_once(&mut first).is_pending());
        let mut second = Box::pin(client.request(get(2)));
        assert!(poll_once(&mut second).is_pending());
        drop(first);
        let ended = match second.await {
            Ok(response) => Ok(text(response).await),
            Err(error) => Err(format!("{error}: {}", error.source().unwrap())),
        };
        (ended, count.load(Ordering::Relaxed))
    })
}

fn answer_to(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::from(id_of(request).to_string()))
}

#[test]
fn a_caller_that_gives_up_fails_those_that_wait() {
    let failed = Err("client error (Connect): request was canceled".to_owned());
    // With knowledge of the version one connection is begun at a time; by negotiation one per
    // caller, until the first one has ended its own.
    for (known, begun) in [(Known::Before, 1), (Known::Negotiated, 2)] {
        for retry in [true, false] {
            assert_eq!(waits_for_one_that_gives_up(known, retry), (failed.clone(), begun));
        }
    }
}
