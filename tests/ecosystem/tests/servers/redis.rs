//! redis on tokio, and on smol, which it takes where there is no tokio runtime.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use heirloom_ecosystem::{Library, note_own, server};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, cmd};

struct Redis<const GUEST: bool>;

impl<const GUEST: bool> Library for Redis<GUEST> {
    const PACKAGE: &'static str = "redis";
    const WAY: &'static str = if GUEST { "`tokio-comp`" } else { "`smol-comp`" };
    const GUEST: bool = GUEST;
    const SPAWNS: &'static str = "a task per connection";
    type Client = MultiplexedConnection;

    async fn connect() -> MultiplexedConnection {
        let client = Client::open(format!("{}?protocol=resp3", server("REDIS_URL"))).unwrap();
        // The connection's task calls this for what the server sends unasked.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(|_| {
            note_own::<Self>();
            Ok::<_, ()>(())
        });
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        connection.subscribe("news").await.unwrap();
        connection
    }

    async fn call(mut connection: MultiplexedConnection) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let key = format!("heirloom:{number}");
        cmd("SET").arg(&key).arg(number).exec_async(&mut connection).await.unwrap();
        let got: u32 = cmd("GETDEL").arg(&key).query_async(&mut connection).await.unwrap();
        assert_eq!(got, number);
    }

    async fn endless(mut connection: MultiplexedConnection) -> String {
        let waited = cmd("BLPOP").arg("heirloom:never").arg(0).exec_async(&mut connection).await;
        format!("{waited:?}")
    }
}

mod on_tokio {
    heirloom_ecosystem::tests!(super::Redis<true>);
}

mod on_smol {
    heirloom_ecosystem::tests!(super::Redis<false>, without a guest);
}
