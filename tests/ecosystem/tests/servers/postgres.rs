//! tokio-postgres: by its own `connect`, and over a socket of the executor.

use std::sync::Arc;

use heirloom::net::TcpStream;
use heirloom::spawn_background;
use heirloom_ecosystem::{Library, server};
use tokio_postgres::config::{Config, Host};
use tokio_postgres::{Client, NoTls};

struct Postgres<const GUEST: bool>;

impl<const GUEST: bool> Library for Postgres<GUEST> {
    const PACKAGE: &'static str = "tokio-postgres";
    const WAY: &'static str = if GUEST {
        "`connect`; the connection in `spawn_background`"
    } else {
        "`connect_raw`, over a socket of this crate; the connection in `spawn_background`"
    };
    const GUEST: bool = GUEST;
    const GLUE: usize = if GUEST { 0 } else { 1 };
    // The connection is a future, which the program spawns.
    const SPAWNS: &'static str = "";
    type Client = Arc<Client>;

    async fn connect() -> Arc<Client> {
        let config: Config = server("POSTGRES_URL").parse().unwrap();
        if GUEST {
            let (client, connection) = config.connect(NoTls).await.unwrap();
            drive(connection);
            return Arc::new(client);
        }
        let [Host::Tcp(host), ..] = config.get_hosts() else { panic!("{config:?}") };
        let socket = TcpStream::connect((host.as_str(), config.get_ports()[0])).await.unwrap(); // glue
        let (client, connection) = config.connect_raw(socket, NoTls).await.unwrap();
        drive(connection);
        Arc::new(client)
    }

    async fn call(client: Arc<Client>) {
        let row = client.query_one("SELECT $1::int4 + 3", &[&4]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 7);
    }

    async fn endless(client: Arc<Client>) -> String {
        let waited = client.execute("SELECT pg_sleep(3600)", &[]).await;
        format!("{waited:?}")
    }
}

/// Drives a connection. It outlives the request that has made it, so that it is neither its child
/// nor within its deadline.
fn drive<T: Send>(connection: impl Future<Output = T> + Send + 'static) {
    spawn_background(async { drop(connection.await) });
}

mod by_connect {
    heirloom_ecosystem::tests!(super::Postgres<true>);
}

mod over_our_sockets {
    heirloom_ecosystem::tests!(super::Postgres<false>, without a guest);
}
