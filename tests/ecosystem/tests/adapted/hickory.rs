//! hickory-resolver asks a real name server, dnsmasq: by UDP, and by TCP for what is too long.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::time::Duration;

use heirloom_adaptors::{Heirloom, TcpStream, UdpSocket as OurUdpSocket};
use heirloom_ecosystem::{LONG, Library, note_own, server, tests};
use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::{RuntimeProvider, Spawn};
use hickory_resolver::proto::rr::{RData, RecordType};

/// The adaptor, whose tasks are looked at.
#[derive(Clone)]
pub struct Noted(Heirloom);

impl RuntimeProvider for Noted {
    type Handle = Noted;
    type Timer = Heirloom;
    type Udp = OurUdpSocket;
    type Tcp = TcpStream;

    fn create_handle(&self) -> Noted {
        self.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        from: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<TcpStream>>>> {
        self.0.connect_tcp(server, from, limit)
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<OurUdpSocket>>>> {
        self.0.bind_udp(local, server)
    }
}

impl Spawn for Noted {
    fn spawn_bg(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn_bg(async {
            note_own::<Hickory>();
            future.await;
        });
    }
}

/// One that asks each time, and for as long as it takes.
fn resolver(server: SocketAddr, from: Option<SocketAddr>) -> Resolver<Noted> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection.bind_addr = from;
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    let config = ResolverConfig::from_parts(None, vec![], vec![server]);
    let mut builder = Resolver::builder_with_config(config, Noted(Heirloom::current())); // glue
    let options = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = LONG;
    builder.build().unwrap()
}

fn dnsmasq() -> SocketAddr {
    server("DNS_SERVER").parse().unwrap()
}

pub struct Hickory;

impl Library for Hickory {
    const PACKAGE: &'static str = "hickory-resolver";
    const GUEST: bool = false;
    const ADAPTOR: &'static str = "hickory-resolver";
    const GLUE: usize = 1;
    const SPAWNS: &'static str = "a task for each connection to a name server";
    type Client = Resolver<Noted>;

    async fn connect() -> Resolver<Noted> {
        resolver(dnsmasq(), None)
    }

    async fn call(resolver: Resolver<Noted>) {
        let addresses = resolver.lookup_ip("seven.test.").await.unwrap();
        assert_eq!(addresses.iter().collect::<Vec<_>>(), [IpAddr::from([127, 0, 0, 7])]);
        assert_eq!(text(&resolver).await, 8 * 200);
    }

    async fn endless(_: Resolver<Noted>) -> String {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let resolver = resolver(silent.local_addr().unwrap(), None);
        format!("{:?}", resolver.lookup_ip("seven.test.").await)
    }
}

tests!(Hickory, without a guest);

/// The length of a text that the server gives by TCP alone.
async fn text(resolver: &Resolver<Noted>) -> usize {
    let answer = resolver.lookup("long.test.", RecordType::TXT).await.unwrap();
    let texts = answer.answers().iter().map(|record| match &record.data {
        RData::TXT(text) => text.txt_data.iter().map(|part| part.len()).sum::<usize>(),
        data => panic!("{data:?}"),
    });
    texts.sum()
}

#[heirloom::test(timeout = "60s")]
async fn a_resolver_asks_from_the_address_that_it_was_given() {
    let resolver = resolver(dnsmasq(), Some((Ipv4Addr::new(127, 0, 0, 3), 0).into()));
    assert_eq!(text(&resolver).await, 8 * 200);
}

#[heirloom::test(timeout = "60s")]
async fn a_name_server_that_is_not_there_is_an_error_and_no_wait() {
    let closed = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let connected = Heirloom::current().connect_tcp(closed, None, None).await;
    assert_eq!(connected.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let from = (Ipv4Addr::LOCALHOST, 0).into();
    let connected = Heirloom::current().connect_tcp(closed, Some(from), None).await;
    assert_eq!(connected.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}
