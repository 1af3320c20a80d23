//! async-nats: messages, requests and answers.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use async_nats::{Client, ConnectOptions};
use futures::StreamExt;
use heirloom::Runtime;
use heirloom::tokio::TokioGuest;
use heirloom_ecosystem::{Library, note_own, server, tests};

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
