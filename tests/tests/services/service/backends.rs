//! The service's calls of its backends: attempts, limits, and what is said of them.

use super::*;

/// A backend that answers with what the closure says of the attempt, and how often it was asked.
async fn backend_that(
    answers: impl Fn(u32) -> StatusCode + Clone + Send + Sync + 'static,
) -> (SocketAddr, Log<u32>) {
    let (listener, attempts) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Log::new());
    let (address, log) = (listener.local_addr().unwrap(), attempts.clone());
    let handler = async move |headers: HeaderMap| {
        let attempt = headers[ATTEMPT_HEADER].to_str().unwrap().parse().unwrap();
        log.push(attempt);
        answers(attempt)
    };
    spawn_background(heirloom::hyper::serve(listener, Router::new().fallback(get(handler))).run());
    (address, attempts)
}

#[test]
fn a_call_is_tried_again_while_that_may_help() {
    in_a_worker(2, async {
        let metrics = Arc::new(Metrics::default());
        let backend = |address| Backend::new("tried", address, false, metrics.clone());

        let second = |attempt| if attempt < 2 { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
        let (address, attempts) = backend_that(second).await;
        assert!(backend(address).get("/").await.is_ok());
        assert_eq!(attempts.take(), [1, 2]);
        assert!(metrics.page().contains("backend_retries_total{backend=\"tried\"} 1\n"));

        let (address, attempts) = backend_that(|_| StatusCode::BAD_GATEWAY).await;
        assert!(matches!(backend(address).get("/").await, Err(CallError::Status(StatusCode::BAD_GATEWAY))));
        assert_eq!(attempts.take(), [1, 2, 3]);

        let (address, attempts) = backend_that(|_| StatusCode::NOT_FOUND).await;
        assert!(matches!(backend(address).get("/").await, Err(CallError::Status(StatusCode::NOT_FOUND))));
        assert_eq!(attempts.take(), [1], "it would be as missing again");
    });
}

#[test]
fn so_many_calls_to_a_backend_are_under_way_at_a_time() {
    in_a_worker(2, async {
        const AT_A_TIME: usize = 16;
        let (asked, gate) = (Log::new(), Gate::new());
        let (log, until) = (asked.clone(), gate.clone());
        let handler = async move || {
            log.push(());
            until.opened().await;
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn_background(heirloom::hyper::serve(listener, Router::new().fallback(handler)).run());
        let backend = Arc::new(Backend::new("busy", address, false, Arc::default()));
        let calls: Vec<_> = (0..2 * AT_A_TIME)
            .map(|_| {
                let backend = backend.clone();
                spawn(async move { backend.get("/").await.is_ok() })
            })
            .collect();
        while asked.len() < AT_A_TIME {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(20)).await;
        assert_eq!(asked.len(), AT_A_TIME);
        gate.open();
        for call in calls {
            assert!(call.await.unwrap());
        }
    });
}

#[test]
fn a_backend_that_is_down_is_left_out_if_it_is_optional_and_fails_the_order_if_not() {
    in_a_worker(2, async {
        // A port at which no server listens.
        let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let up = upstream::start(&CancelToken::new()).await.unwrap();
        let server = Running::start(App::new(Upstreams { reviews: nowhere, ..up }).router(), PATIENT).await;
        let headers = [(ID_HEADER, "partial"), (TENANT_HEADER, "acme")];
        let (status, answer) =
            ask_once(server.address, Version::HTTP_2, "/orders/1", &headers).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        assert!(
            answer.contains("\nprices partial acme ") && answer.contains("\nreviews left out\n"),
            "{answer}"
        );
        let line = server.said("event=left out").await;
        assert!(line.contains(r#"request="partial" tenant="acme""#), "{line}");
        server.end().await;

        let server = Running::start(App::new(Upstreams { prices: nowhere, ..up }).router(), PATIENT).await;
        let (status, _) = ask_once(server.address, Version::HTTP_2, "/orders/1", &[]).await.unwrap();
        assert_eq!(status, StatusCode::BAD_GATEWAY);
        assert!(server.said("event=failed").await.contains("no connection"));
        server.end().await;
    });
}

#[test]
fn the_page_of_metrics_counts_answers_and_requests_whose_client_has_left() {
    in_a_worker(2, async {
        let app = app().await;
        let metrics = app.metrics.clone();
        let server = Running::start(app.router(), PATIENT).await;
        let address = server.address;
        assert!(ask_once(address, Version::HTTP_11, "/slow/1", &[]).await.is_ok());
        let leaves = spawn(async move { ask_once(address, Version::HTTP_11, "/slow/3600000", &[]).await });
        while !metrics.page().contains("http_requests_in_flight 1\n") {
            sleep(Duration::from_millis(1)).await;
        }
        drop(leaves);
        while !metrics.page().contains("http_requests_in_flight 0\n") {
            sleep(Duration::from_millis(1)).await;
        }
        let (status, page) = ask_once(address, Version::HTTP_11, "/metrics", &[]).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        let numbers = page.strip_prefix(&metrics.page()).expect("first the numbers of the service");
        assert!(numbers.contains("\nheirloom_tasks_spawned_total "), "{numbers}");
        for line in [
            "http_requests_total{status=\"200\"} 1",
            "http_requests_total{status=\"gone\"} 1",
            "http_request_duration_seconds_bucket{le=\"+Inf\"} 2",
            "http_request_duration_seconds_count 2",
        ] {
            assert!(page.lines().any(|it| it == line), "{page}");
        }
        server.end().await;
    });
}
