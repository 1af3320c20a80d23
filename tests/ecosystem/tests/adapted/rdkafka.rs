//! rdkafka against the brokers that librdkafka has for tests, which speak the protocol by TCP.

use std::sync::Arc;
use std::time::Duration;

use heirloom::spawn_blocking;
use heirloom::time::Sleep;
use heirloom_adaptors::Heirloom;
use heirloom_ecosystem::{Library, note_own, tests};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, DefaultConsumerContext, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::util::{AsyncRuntime, Timeout};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// The adaptor, whose tasks are looked at.
pub struct Noted;

impl AsyncRuntime for Noted {
    type Delay = Sleep;

    fn spawn<T: Future<Output = ()> + Send + 'static>(task: T) {
        Heirloom::spawn(async {
            note_own::<Kafka>();
            task.await;
        });
    }

    fn delay_for(duration: Duration) -> Sleep {
        Heirloom::delay_for(duration)
    }
}

/// The consumer is dropped first: it takes its leave of the brokers, which are the producer's.
pub struct Clients {
    consumer: StreamConsumer<DefaultConsumerContext, Noted>,
    producer: FutureProducer<DefaultClientContext, Noted>,
}

pub struct Kafka;

impl Library for Kafka {
    const PACKAGE: &'static str = "rdkafka";
    const WAY: &'static str = "`FutureProducer`, `StreamConsumer`";
    const GUEST: bool = false;
    const ADAPTOR: &'static str = "rdkafka";
    const GLUE: usize = 2; // a type each
    const SPAWNS: &'static str = "a task per `StreamConsumer`";
    type Client = Arc<Clients>;

    async fn connect() -> Arc<Clients> {
        // Blocks, as librdkafka's calls do that ask a broker.
        spawn_blocking(|| Arc::new(clients())).await.unwrap()
    }

    async fn call(clients: Arc<Clients>) {
        let sent = clients.producer.send(FutureRecord::<(), _>::to("seven").payload("seven"), Timeout::Never);
        let received =
            async { clients.consumer.recv().await.map(|message| message.payload().map(<[u8]>::to_vec)) };
        let (sent, received) = futures::join!(sent, received);
        sent.unwrap();
        assert_eq!(received.unwrap().unwrap(), b"seven");
    }

    async fn endless(clients: Arc<Clients>) -> String {
        format!("{:?}", clients.consumer.recv().await.map(drop))
    }
}

tests!(Kafka, without a guest);

fn clients() -> Clients {
    let producer: FutureProducer<_, Noted> =
        ClientConfig::new().set("test.mock.num.brokers", "1").set("linger.ms", "0").create().unwrap();
    let brokers = producer.client().mock_cluster().unwrap();
    brokers.create_topic("seven", 1, 1).unwrap();
    let consumer: StreamConsumer<_, Noted> = ClientConfig::new()
        .set("bootstrap.servers", brokers.bootstrap_servers())
        .set("group.id", "heirloom")
        .create()
        .unwrap();
    let mut topic = TopicPartitionList::new();
    topic.add_partition_offset("seven", 0, Offset::Beginning).unwrap();
    consumer.assign(&topic).unwrap();
    drop(brokers);
    Clients { consumer, producer }
}
