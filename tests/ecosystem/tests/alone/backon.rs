//! backon, whose delays are the executor's sleeps.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use heirloom::net::TcpStream;
use heirloom_ecosystem::{LONG, Library, seen, tests};
use socket2::{Domain, Socket, Type};

pub struct Backon;

impl Library for Backon {
    const PACKAGE: &'static str = "backon";
    const GUEST: bool = false;
    const GLUE: usize = 1;
    const SPAWNS: &'static str = "";
    type Client = ();

    async fn connect() {}

    /// Connects to a server that is there at the third attempt.
    async fn call((): ()) {
        let (asks, attempts, (socket, address)) = (seen(), AtomicU32::new(0), not_yet_there());
        let connect = async || {
            assert_eq!(seen(), asks);
            if attempts.fetch_add(1, Relaxed) == 2 {
                socket.listen(1)?;
            }
            TcpStream::connect(address).await
        };
        let delays = ExponentialBuilder::default().with_min_delay(Duration::from_millis(1));
        connect.retry(delays).sleep(heirloom::sleep).await.unwrap(); // glue
        assert_eq!(attempts.into_inner(), 3);
    }

    async fn endless((): ()) -> String {
        let (_socket, address) = not_yet_there();
        let delays = ExponentialBuilder::default().with_min_delay(LONG).with_max_delay(LONG);
        let connect = async || TcpStream::connect(address).await;
        format!("{:?}", connect.retry(delays).sleep(heirloom::sleep).await)
    }
}

tests!(Backon, without a guest);

/// An address that refuses connections until its socket listens.
fn not_yet_there() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}
