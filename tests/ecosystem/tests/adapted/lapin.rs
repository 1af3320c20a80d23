//! lapin against RabbitMQ.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use futures::StreamExt;
use heirloom::context::ContextFutureExt;
use heirloom::wire::{self, Inbound};
use heirloom::{Context, Runtime, context_var, deadline, spawn, wait_for};
use heirloom_adaptors::{AmqpHeaders, Heirloom};
use heirloom_ecosystem::{Library, PATIENCE, SOON, note_own, server, tests, threads};
use lapin::message::DeliveryResult;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};

pub struct Lapin;

impl Library for Lapin {
    const PACKAGE: &'static str = "lapin";
    const GUEST: bool = false;
    const ADAPTOR: &'static str = "async-rs";
    const GLUE: usize = 1;
    const SPAWNS: &'static str =
        "tasks per connection; one for each message that goes to a delegate, which it calls";
    type Client = Arc<Connection>;

    async fn connect() -> Arc<Connection> {
        let runtime = Heirloom::current().into(); // glue
        let options = ConnectionProperties::default();
        Arc::new(Connection::connect_with_runtime(&server("AMQP_URL"), options, runtime).await.unwrap())
    }

    /// A message that a stream receives, and one for a delegate.
    async fn call(connection: Arc<Connection>) {
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();

        let (queue, mut messages) = consume(&channel).await;
        publish(&channel, &queue, b"seven").await;
        let message = messages.next().await.unwrap().unwrap();
        assert_eq!(message.data, b"seven");
        message.ack(BasicAckOptions::default()).await.unwrap();

        let (queue, messages) = consume(&channel).await;
        let (told, mut tell) = futures::channel::mpsc::unbounded();
        messages.set_delegate(move |delivery: DeliveryResult| {
            let told = told.clone();
            async move {
                note_own::<Lapin>();
                if let Ok(Some(message)) = delivery {
                    told.unbounded_send(message.data).unwrap();
                }
            }
        });
        publish(&channel, &queue, b"eight").await;
        assert_eq!(tell.next().await.unwrap(), b"eight");
        channel.close(200, "done".into()).await.unwrap();
    }

    async fn endless(connection: Arc<Connection>) -> String {
        let channel = connection.create_channel().await.unwrap();
        let (_, mut silent) = consume(&channel).await;
        format!("{:?}", silent.next().await.map(|delivery| delivery.map(drop)))
    }
}

tests!(Lapin, without a guest);

/// The thread finds its socket dead. The task that would tell the connection has ended before, so
/// that a call waits for an answer.
#[test]
fn the_thread_of_a_connection_ends_after_its_runtime() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let before = threads();
    let connection = runtime.block_on(Lapin::connect());
    let mut started = threads();
    // Those of other tests that have begun meanwhile end, too.
    started.retain(|number, name| name == "lapin-io-loop" && !before.contains_key(number));
    assert!(!started.is_empty());
    runtime.shutdown(Duration::ZERO);
    let begun = Instant::now();
    while threads().keys().any(|number| started.contains_key(number)) {
        assert!(begun.elapsed() < PATIENCE, "{started:?} are still there");
        thread::yield_now();
    }
    let call = heirloom::block_on(wait_for(connection.create_channel(), SOON));
    assert!(call.is_err(), "{call:?}");
}

context_var! {
    static USER: String, wire = "user";
    static TOKEN: String, wire = "token", secret = true;
}

/// A job through RabbitMQ: it runs in the context and within the deadline of the task that has sent
/// it, and is acknowledged after that; a secret stays.
#[heirloom::test(timeout = "60s")]
async fn a_job_runs_in_the_context_of_its_sender() {
    let connection = Lapin::connect().await;
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let (queue, mut jobs) = consume(&channel).await;
    let sending = async {
        USER.set("Zoë, 100 %; a=b".to_owned());
        TOKEN.set("xyzzy".to_owned());
        wire::TRACE.set(wire::TraceContext::new(7, 8, 1).unwrap());
        let mut headers = FieldTable::default();
        headers.insert("baggage".into(), AMQPValue::LongString("user=another".into()));
        headers.insert("other".into(), AMQPValue::LongInt(1));
        wire::inject(&mut AmqpHeaders(&mut headers));
        publish_with(&channel, &queue, b"seven", BasicProperties::default().with_headers(headers)).await;
    };
    wait_for(sending.in_context(Context::current()), PATIENCE).await.unwrap();
    assert!(!USER.is_set());

    let job = jobs.next().await.unwrap().unwrap();
    let headers = job.properties.headers().clone().unwrap();
    assert!(headers.contains_key("other"));
    let received = Inbound::new().var(&USER).var(&TOKEN).extract(&AmqpHeaders(&headers));
    assert_eq!(received.dropped().len(), 0);
    let left = received.remaining().unwrap().unwrap();
    assert!(left < PATIENCE && left > PATIENCE / 2, "{left:?}");
    let run = async move {
        let seen = (USER.get(), TOKEN.get(), wire::TRACE.get(), deadline().is_some());
        job.ack(BasicAckOptions::default()).await.unwrap();
        seen
    };
    let ran = received.bind(&Context::empty()).run(|| spawn(wait_for(run, left)));
    let trace = wire::TraceContext::new(7, 8, 1);
    assert_eq!(ran.await.unwrap().unwrap(), (Some("Zoë, 100 %; a=b".to_owned()), None, trace, true));
    channel.close(200, "done".into()).await.unwrap();
}

/// Texts and arrays of texts are read, as other clients may write them; a number is not.
#[test]
fn values_of_another_client_are_read() {
    let long = |text: &str| AMQPValue::LongString(text.into());
    let lines = vec![long("user=first"), AMQPValue::ByteArray(b"user=second".to_vec().into())];
    for (value, user) in [
        (AMQPValue::ShortString("user=short".into()), Some("short")),
        (AMQPValue::FieldArray(lines.into()), Some("second")),
        (AMQPValue::FieldArray(vec![AMQPValue::FieldArray(vec![long("user=deep")].into())].into()), None),
        (AMQPValue::LongInt(7), None),
    ] {
        let mut headers = FieldTable::default();
        headers.insert("baggage".into(), value);
        let received = Inbound::new().var(&USER).extract(&AmqpHeaders(&headers));
        assert_eq!(received.bind(&Context::empty()).get(&USER).as_deref(), user);
        wire::inject(&mut AmqpHeaders(&mut headers));
        assert_eq!(headers, FieldTable::default(), "nothing is bound here, so nothing is sent");
    }
}

/// AMQP tells names in capitals from those in lower case: what another client has written is read,
/// and nothing stale of it stays.
#[test]
fn names_are_compared_without_their_case() {
    let mut headers = FieldTable::default();
    headers.insert("Baggage".into(), AMQPValue::LongString("user=ada".into()));
    headers.insert("X-Other".into(), AMQPValue::LongInt(7));
    let received = Inbound::new().var(&USER).extract(&AmqpHeaders(&headers));
    assert_eq!(received.bind(&Context::empty()).get(&USER).as_deref(), Some("ada"));
    let context = Context::empty().with_var(&USER, "eve".to_owned());
    context.run(|| wire::inject(&mut AmqpHeaders(&mut headers)));
    let names: Vec<_> = headers.inner().keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["X-Other", "baggage"]);
    let received = Inbound::new().var(&USER).extract(&AmqpHeaders(&headers));
    assert_eq!(received.bind(&Context::empty()).get(&USER).as_deref(), Some("eve"));
}

/// A queue of its own, which ends with the connection.
async fn consume(channel: &Channel) -> (String, Consumer) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let queue = format!("heirloom.{}.{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default());
    let consumer = consumer.await.unwrap();
    (queue, consumer)
}

/// Waits until the server has the message.
async fn publish(channel: &Channel, queue: &str, message: &[u8]) {
    publish_with(channel, queue, message, BasicProperties::default()).await;
}

async fn publish_with(channel: &Channel, queue: &str, message: &[u8], properties: BasicProperties) {
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), queue.into(), options, message, properties).await.unwrap();
    assert!(sent.await.unwrap().is_ack());
}
