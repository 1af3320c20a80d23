//! async-nats: messages, requests and answers.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use async_nats::{Client, ConnectOptions, HeaderMap};
use futures::StreamExt;
use heirloom::context::ContextFutureExt;
use heirloom::tokio::TokioGuest;
use heirloom::wire::{self, Inbound};
use heirloom::{Context, Runtime, context_var, wait_for};
use heirloom_adaptors::NatsHeaders;
use heirloom_ecosystem::{Library, PATIENCE, note_own, server, tests};

pub struct Nats;

impl Library for Nats {
    const PACKAGE: &'static str = "async-nats";
    const SPAWNS: &'static str =
        "two tasks per connection, one of which calls back; one for each subscription that is dropped";
    type Client = Client;

    async fn connect() -> Client {
        let options = ConnectOptions::new().event_callback(|_| async { note_own::<Nats>() });
        options.connect(server("NATS_URL")).await.unwrap()
    }

    async fn call(client: Client) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let subject = format!("heirloom.{}", NUMBER.fetch_add(1, Relaxed));
        let mut questions = client.subscribe(subject.clone()).await.unwrap();
        let answer = async {
            let question = questions.next().await.unwrap();
            client.publish(question.reply.unwrap(), "seven".into()).await.unwrap();
        };
        let (answer, ()) = futures::join!(client.request(subject, "how many?".into()), answer);
        assert_eq!(&answer.unwrap().payload[..], b"seven");
    }

    async fn endless(client: Client) -> String {
        let mut silent = client.subscribe("heirloom.never").await.unwrap();
        format!("{:?}", silent.next().await)
    }
}

tests!(Nats);

/// Some destructors spawn. They need the guest as the calls do, on whichever thread they run.
#[test]
fn a_subscription_that_is_dropped_outside_of_the_runtime_panics() {
    let runtime = Runtime::builder().workers(1).tokio(TokioGuest::new()).build().unwrap();
    let subscribe = || async { Nats::connect().await.subscribe("heirloom.never").await.unwrap() };
    let (inside, outside) = runtime.block_on(async { (subscribe().await, subscribe().await) });
    runtime.block_on(async { drop(inside) });
    let without = Runtime::builder().workers(1).build().unwrap();
    let dropped = without.block_on(without.spawn(async { drop(outside) }));
    let error = dropped.unwrap_err();
    assert!(error.panic_message().unwrap().starts_with("there is no reactor running"), "{error}");
}

context_var! {
    static USER: String, wire = "user";
    static TOKEN: String, wire = "token", secret = true;
}

/// The headers of a message through the server: variables, trace and deadline arrive, a secret does
/// not.
#[heirloom::test(tokio, timeout = "60s")]
async fn a_message_carries_the_context_of_its_sender() {
    let client = Nats::connect().await;
    let mut messages = client.subscribe("heirloom.carried").await.unwrap();
    let sending = async {
        USER.set("Zoë, 100 %; a=b".to_owned());
        TOKEN.set("xyzzy".to_owned());
        wire::TRACE.set(wire::TraceContext::new(7, 8, 1).unwrap());
        let mut headers = HeaderMap::new();
        // A stale one, as another client may have written it.
        headers.insert("Baggage", "user=another");
        headers.insert("other", "stays");
        wire::inject(&mut NatsHeaders(&mut headers));
        client.publish_with_headers("heirloom.carried", headers, "seven".into()).await.unwrap();
    };
    wait_for(sending.in_context(Context::current()), PATIENCE).await.unwrap();

    let headers = messages.next().await.unwrap().headers.unwrap();
    assert_eq!(headers.get("other").unwrap().as_str(), "stays");
    let received = Inbound::new().var(&USER).var(&TOKEN).extract(&NatsHeaders(&headers));
    let left = received.remaining().unwrap().unwrap();
    assert!(left < PATIENCE && left > PATIENCE / 2, "{left:?}");
    let context = received.bind(&Context::empty());
    assert_eq!(context.get(&USER).as_deref(), Some("Zoë, 100 %; a=b"));
    assert_eq!((context.get(&TOKEN), received.dropped().len()), (None, 0));
    assert_eq!(received.trace(), wire::TraceContext::new(7, 8, 1));
}

/// Several lines of a header, in whatever capitals, are read.
#[test]
fn lines_of_another_client_are_read() {
    let mut headers = HeaderMap::new();
    headers.append("Baggage", "user=first");
    headers.append("Baggage", "user=second");
    let received = Inbound::new().var(&USER).extract(&NatsHeaders(&headers));
    assert_eq!(received.bind(&Context::empty()).get(&USER).as_deref(), Some("second"));

    wire::inject(&mut NatsHeaders(&mut headers));
    assert!(headers.is_empty(), "nothing is bound here, so nothing is sent");
}
