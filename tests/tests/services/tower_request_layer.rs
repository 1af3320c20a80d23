//! The layer that gives a request a context and a deadline, without a server: in virtual time, when
//! what ends, and what it answers by itself. With servers: `tower_requests`.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use futures::stream;
use heirloom::time::{Elapsed, now};
use heirloom::tower::{Refused, RequestContextLayer, ResponseBody, grpc_timeout};
use heirloom::{context_var, remaining, sleep, wait_for};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame};
use hyper::{Request, Response};
use tower::{Layer, Service, ServiceExt, service_fn};

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

context_var! {
    static USER: u64;
    static LANG: &'static str;
}

fn layer() -> RequestContextLayer {
    RequestContextLayer::new()
        .header("x-user", &USER, str::parse)
        .deadline_header("grpc-timeout", grpc_timeout)
}

/// A request to the layer itself, without a server.
async fn direct<S, B>(
    layer: &RequestContextLayer,
    service: S,
    headers: &[(&str, &str)],
) -> Response<ResponseBody<B>>
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    let request =
        headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
    layer.layer(service).oneshot(request.body(()).unwrap()).await.unwrap()
}

#[heirloom::test(virtual_time)]
async fn the_deadline_is_the_nearest_of_all_and_ends_call_and_body_exactly_then() {
    let begun = now();
    for (header, limit, around, end) in [
        (None, None, Duration::MAX, None),
        (Some("2S"), None, Duration::MAX, Some(2_000)),
        (None, Some(1_500), Duration::MAX, Some(1_500)),
        (Some("1S"), Some(1_500), HOUR, Some(1_000)),
        (Some("2S"), Some(1_500), HOUR, Some(1_500)),
        (Some("2S"), None, 500 * MILLISECOND, Some(500)),
    ] {
        let begun = now();
        let limited = match limit {
            Some(limit) => layer().limit(Duration::from_millis(limit)),
            None => layer(),
        };
        let service = service_fn(async |_| {
            let in_call = remaining();
            sleep(300 * MILLISECOND).await;
            let ticks = stream::unfold((), async |()| {
                sleep(10 * MILLISECOND).await;
                (remaining() < Some(HOUR))
                    .then_some((Ok::<_, Infallible>(Frame::data(Bytes::from("tick"))), ()))
            });
            Ok::<_, Infallible>((in_call, ticks))
        });
        let service = service.map_response(|(in_call, ticks)| {
            let mut response = Response::new(http_body_util::StreamBody::new(Box::pin(ticks)));
            response.extensions_mut().insert(in_call);
            response
        });
        let headers: Vec<_> = header.iter().map(|time| ("grpc-timeout", *time)).collect();
        let response = wait_for(direct(&limited, service, &headers), around).await.unwrap();
        let end = end.map(Duration::from_millis);
        assert_eq!(response.extensions().get::<Option<Duration>>(), Some(&end));
        let mut body = response.into_body();
        let mut ticks = 0;
        let error = loop {
            match body.frame().await {
                Some(Ok(_)) => ticks += 1,
                Some(Err(error)) => break Some(error),
                None => break None,
            }
            if ticks == 1_000 {
                break None;
            }
        };
        match end {
            Some(end) => {
                assert!(error.unwrap().is::<Elapsed>());
                assert_eq!(now() - begun, end);
                assert!(body.frame().await.is_none(), "the body has ended");
            }
            None => assert_eq!((error.is_some(), ticks), (false, 1_000)),
        }
    }
    assert!(now() > begun);
}

#[heirloom::test(virtual_time)]
async fn a_body_that_is_always_ready_ends_in_time_as_well() {
    let service = service_fn(async |_| {
        let parts = stream::repeat_with(|| Ok::<_, Infallible>(Frame::data(Bytes::from("part"))));
        Ok::<_, Infallible>(Response::new(http_body_util::StreamBody::new(parts)))
    });
    let mut body = direct(&layer().limit(100 * MILLISECOND), service, &[]).await.into_body();
    let begun = now();
    let error = loop {
        match body.frame().await.unwrap() {
            Ok(_) => sleep(MILLISECOND).await,
            Err(error) => break error,
        }
    };
    assert!(error.is::<Elapsed>());
    assert_eq!(now() - begun, 100 * MILLISECOND);
}

#[heirloom::test]
async fn an_answer_that_is_whole_goes_out_whole_although_time_is_up_by_then() {
    let service = service_fn(async |_: Request<()>| {
        std::thread::sleep(remaining().unwrap() + 2 * MILLISECOND);
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("whole"))))
    });
    let response = direct(&layer().limit(5 * MILLISECOND), service, &[]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "whole");
}

#[heirloom::test(virtual_time)]
async fn the_answers_are_the_programs_to_change_and_are_made_in_the_requests_context() {
    let layer = layer().header("x-lang", &LANG, |_| Err::<&str, _>("no such language")).limit(MILLISECOND);
    let layer = layer.answer(|refused| {
        let source = refused.source().unwrap().to_string();
        let status = match refused {
            Refused::BadHeader { name, .. } => {
                Response::builder().status(422).header("x-name", name.as_str())
            }
            _ => Response::builder().status(408),
        };
        status.header("x-why", format!("{refused}: {source}, {:?}", USER.get())).body(()).unwrap()
    });
    let never = || service_fn(|_| std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>());
    let why = |response: &Response<_>| response.headers()["x-why"].to_str().unwrap().to_string();
    let refused = direct(&layer, never(), &[("x-user", "7"), ("x-lang", "xx")]).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["x-name"]), (422, &"x-lang".parse().unwrap()));
    assert_eq!(why(&refused), "the value of the header x-lang was refused: no such language, Some(7)");
    let late = direct(&layer, never(), &[("x-user", "7")]).await;
    assert_eq!(late.status().as_u16(), 408);
    assert_eq!(why(&late), "the request's time is up: the time limit has elapsed, Some(7)");
    assert!(late.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[test]
#[should_panic(expected = r#""x user" is no name of a header"#)]
fn a_name_that_no_header_has_is_refused() {
    drop(RequestContextLayer::new().header("x user", &USER, str::parse));
}

#[test]
fn the_time_limits_of_grpc_are_read_as_it_says() {
    let read = |text| grpc_timeout(text).ok();
    assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
    assert_eq!(read("2M"), Some(Duration::from_secs(120)));
    assert_eq!(read("0S"), Some(Duration::ZERO));
    assert_eq!(read("7m"), Some(Duration::from_millis(7)));
    assert_eq!(read("7u"), Some(Duration::from_micros(7)));
    assert_eq!(read("00000007n"), Some(Duration::from_nanos(7)));
    for text in ["", "S", "7", "7s", "-7S", "+7S", " 7S", "7 S", "123456789S", "7é", "٣S"] {
        assert_eq!(read(text), None, "{text:?}");
    }
}
