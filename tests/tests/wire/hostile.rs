//! Peers that mean harm: what their headers lead to at a server that takes contexts, in how much
//! time and memory, and that the log says it once.
//!
//! The requests are written by hand, byte by byte, where a client library would not send them.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use futures::io::{AsyncReadExt, AsyncWriteExt};
use heirloom::hyper::serve::{Event, Served};
use heirloom::hyper::{HyperExecutor, serve};
use heirloom::net::{TcpListener, TcpStream};
use heirloom::tower::RequestContextLayer;
use heirloom::wire::{Reason, dropped};
use heirloom::{CancelToken, JoinHandle, remaining, spawn, spawn_background, wait_for};
use heirloom_tests::{Child, in_a_worker, in_child, resident_bytes};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::{Request, Response};
use tower::service_fn;

use super::{inbound, seen};

/// No request takes as long: each is answered, or its connection closed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    address: std::net::SocketAddr,
    stop: CancelToken,
    serving: JoinHandle<Served>,
}

impl Server {
    /// Answers with what a handler sees.
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancelToken::new());
        let look = service_fn(async |_: Request<Incoming>| {
            let left = remaining().map_or("-".to_owned(), |left| left.as_secs().to_string());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(format!("{}|{left}", seen())))))
        });
        let server = serve(listener, look)
            .request_context(RequestContextLayer::new().inbound(inbound()))
            .on_event(|event| assert!(matches!(event, Event::Broken(_) | Event::Draining(_)), "{event:?}"))
            .with_graceful_shutdown(stop.clone());
        Server { address, stop, serving: spawn(server.run()) }
    }

    /// Sends a request by HTTP/1 with these headers. Returns the status and the answer's body, or
    /// `None` if the connection was closed without one.
    async fn ask(&self, headers: &[u8]) -> Option<(u16, String)> {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let mut head = b"GET / HTTP/1.1\r\nhost: server\r\nconnection: close\r\n".to_vec();
        head.extend_from_slice(headers);
        head.extend_from_slice(b"\r\n");
        let exchange = async {
            // The server may close before it has read everything.
            let _written = socket.write_all(&head).await;
            let mut answer = Vec::new();
            let _read = socket.read_to_end(&mut answer).await;
            answer
        };
        let answer = wait_for(exchange, PATIENCE).await.expect("an answer, or an end, in time");
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// The server still serves, and knows nothing of the requests before.
    async fn end(self) {
        let answer = self.ask(b"baggage: tenant=after\r\n").await;
        assert_eq!(answer, Some((200, "after|-|-|-|-|-".to_owned())));
        self.stop.cancel("the end of the test");
        assert_eq!(self.serving.await.unwrap().panicked, 0);
    }
}

fn line(name: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    [name.as_bytes(), b": ", value.as_ref(), b"\r\n"].concat()
}

#[test]
fn great_headers_are_refused_or_cut_at_the_cap_in_bounded_time_and_memory() {
    in_a_worker(2, async {
        let server = Server::start().await;
        server.ask(b"").await;
        let before = resident_bytes();
        let begun = Instant::now();
        // Of a megabyte: more than the server reads of a head.
        for name in ["baggage", "traceparent", "tracestate", "x-request-timeout", "x-other"] {
            let answer = server.ask(&line(name, "a".repeat(1 << 20))).await;
            assert!(matches!(answer, None | Some((431, _))), "{name}: {answer:?}");
        }
        // That it does read, and over the caps: what is within them is taken.
        let value = "a".repeat(200_000);
        for (header, expected) in [
            (format!("tenant=a,note={value}"), "a|-|-|-|-|-"),
            (format!("note={value},tenant=a"), "-|-|-|-|-|-"),
            (format!("tenant=a,request-id=7,note={}", "b".repeat(5_000)), "a|7|-|-|-|-"),
        ] {
            let answer = server.ask(&line("baggage", header)).await;
            assert_eq!(answer, Some((200, expected.to_owned())));
        }
        let answer = server.ask(&[line("traceparent", &value), line("tracestate", &value)].concat()).await;
        assert_eq!(answer, Some((200, "-|-|-|-|-|-".to_owned())));
        let answer = server.ask(&line("x-request-timeout", &value)).await;
        assert_eq!(answer.map(|(status, _)| status), Some(400));

        // Ten thousand members, in one line, and in as many lines as a head may have.
        let many = (0..10_000).fold(String::from("tenant=a"), |mut text, number| {
            write!(text, ",k{number}=v").unwrap();
            text
        });
        let members = dropped(Reason::Members) + dropped(Reason::Bytes);
        let answer = server.ask(&line("baggage", &many)).await;
        assert_eq!(answer, Some((200, "a|-|-|-|-|-".to_owned())));
        let last = many.replace("tenant=a,", "") + ",tenant=a";
        assert_eq!(server.ask(&line("baggage", &last)).await, Some((200, "-|-|-|-|-|-".to_owned())));
        assert!(dropped(Reason::Members) + dropped(Reason::Bytes) >= members + 2);
        let lines: Vec<u8> = (0..90).flat_map(|number| line("baggage", format!("k{number}=v"))).collect();
        let answer = server.ask(&[&*lines, &line("baggage", "tenant=late")].concat()).await;
        assert_eq!(answer, Some((200, "-|-|-|-|-|-".to_owned())), "it is the 91st member");
        let lines = lines.repeat(100);
        assert_eq!(server.ask(&lines).await.map(|(status, _)| status), Some(431));

        let took = begun.elapsed();
        assert!(took < PATIENCE, "{took:?}");
        // The largest head that the server holds has less than half a megabyte, and the connections
        // are closed.
        if let (Some(before), Some(now)) = (before, resident_bytes()) {
            assert!(now < before + (64 << 20), "{now} bytes, and {before} before");
        }
        server.end().await;
    });
}

#[test]
fn bytes_that_no_header_has_are_refused_and_those_that_no_value_has_are_dropped() {
    in_a_worker(2, async {
        let server = Server::start().await;
        for value in [&b"tenant=a\0"[..], b"tenant=\x01", b"tenant=a\x7f", b"tenant=a\rb"] {
            let answer = server.ask(&line("baggage", value)).await;
            assert_eq!(answer.map(|(status, _)| status), Some(400), "{value:?}");
        }
        // Of other bytes the value of a header may consist, a value of a variable may not.
        for value in [&b"tenant=\xff\xfe,request-id=7"[..], "tenant=ä,request-id=7".as_bytes()] {
            let answer = server.ask(&line("baggage", value)).await;
            assert_eq!(answer, Some((200, "-|7|-|-|-|-".to_owned())), "{value:?}");
        }
        let answer = server.ask(&line("traceparent", b"\xff")).await;
        assert_eq!(answer, Some((200, "-|-|-|-|-|-".to_owned())));
        let answer = server.ask(&line("x-request-timeout", b"\xff")).await;
        assert_eq!(answer.map(|(status, _)| status), Some(400));
        server.end().await;
    });
}

#[test]
fn each_deadline_is_a_limit_or_an_end_or_refused() {
    in_a_worker(2, async {
        let server = Server::start().await;
        for (text, expected) in [
            ("0S", (504, "")),
            ("0n", (504, "")),
            ("100000000000000000000H", (400, "")),
            ("-1S", (400, "")),
            ("-100000000000000000000H", (400, "")),
            ("Sun, 06 Nov 1994 08:49:37 GMT", (400, "")),
            ("1994-11-06T08:49:37Z", (400, "")),
            ("784111777", (400, "")),
            ("", (400, "")),
            ("NaN", (400, "")),
        ] {
            let answer = server.ask(&line("x-request-timeout", text)).await;
            assert_eq!(answer, Some((expected.0, expected.1.to_owned())), "{text}");
        }
        let (status, body) = server.ask(&line("x-request-timeout", "99999999H")).await.unwrap();
        let left: u64 = body.rsplit('|').next().unwrap().parse().unwrap();
        assert_eq!(status, 200);
        assert!(left > 100 * 365 * 24 * 3_600, "{body}");
        // The shortest that is no zero: answered in time or not, but answered.
        let (status, _) = server.ask(&line("x-request-timeout", "1n")).await.unwrap();
        assert!(matches!(status, 200 | 504));
        server.end().await;
    });
}

#[test]
fn over_http2_a_great_head_ends_its_stream_and_many_members_are_cut() {
    in_a_worker(2, async {
        let server = Server::start().await;
        let socket = TcpStream::connect(server.address).await.unwrap();
        let (mut sender, connection) = http2::handshake(HyperExecutor, socket).await.unwrap();
        spawn_background(connection);
        let mut ask = async |baggage: String| {
            let request = Request::get("http://server/").header("baggage", baggage);
            let sent = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
            match wait_for(sent, PATIENCE).await.expect("an answer, or an end, in time") {
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    let body = answer.into_body().collect().await.unwrap().to_bytes();
                    Some((status, String::from_utf8(body.to_vec()).unwrap()))
                }
                Err(_) => None,
            }
        };
        let many = (0..1_000).fold(String::from("tenant=a"), |mut text, number| {
            write!(text, ",k{number}=v").unwrap();
            text
        });
        assert_eq!(ask(many).await, Some((200, "a|-|-|-|-|-".to_owned())));
        let answer = ask(format!("tenant={}", "a".repeat(1 << 20))).await;
        assert!(matches!(answer, None | Some((431, _))), "{answer:?}");
        server.end().await;
    });
}

#[test]
fn the_log_says_each_kind_once_however_often_it_occurs() {
    let output = match in_child("hostile::the_log_says_each_kind_once_however_often_it_occurs", false) {
        Child::Here => {
            return in_a_worker(2, async {
                let server = Server::start().await;
                for _ in 0..50 {
                    let headers = [
                        line("baggage", "tenant,request-id=seven"),
                        line("traceparent", "00-1-1-1"),
                        line("baggage", "a".repeat(10_000)),
                    ];
                    assert_eq!(server.ask(&headers.concat()).await.unwrap().0, 200);
                    assert_eq!(server.ask(&line("x-request-timeout", "soon")).await.unwrap().0, 400);
                }
                server.end().await;
            });
        }
        Child::Ended(output) => output,
    };
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("heirloom: ")).collect();
    for kind in ["more bytes", "member of a baggage is malformed", "no value", "traceparent", "deadline"] {
        let count = lines.iter().filter(|line| line.contains(kind)).count();
        assert_eq!(count, 1, "{kind}: {said}");
    }
    assert_eq!(lines.len(), 5, "{said}");
}
