//! quinn, with segmentation by the kernel (GSO, GRO) and congestion marks (ECN) where the kernel
//! has them.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::poll_fn;
use heirloom::{spawn, spawn_background, wait_for};
use heirloom_adaptors::Heirloom;
use heirloom_ecosystem::{Library, TENANT, note_own, tests};
use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::PrivateKeyDer;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{
    AsyncTimer, AsyncUdpSocket, ClientConfig, Connection, Endpoint, EndpointConfig, Incoming, Runtime,
    ServerConfig,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};

/// The adaptor, whose tasks are looked at.
#[derive(Debug)]
struct Noted(Heirloom);

impl Runtime for Noted {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        self.0.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn(Box::pin(async {
            note_own::<Quinn>();
            future.await;
        }));
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.0.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        self.0.now()
    }
}

pub struct Quinn;

impl Library for Quinn {
    const PACKAGE: &'static str = "quinn";
    const GUEST: bool = false;
    const ADAPTOR: &'static str = "quinn";
    const GLUE: usize = 1;
    const SPAWNS: &'static str = "a task per endpoint, one per connection";
    type Client = (Endpoint, SocketAddr);

    async fn connect() -> (Endpoint, SocketAddr) {
        let (server, client) = endpoints().unwrap();
        let address = server.local_addr().unwrap();
        spawn_background(async move {
            while let Some(incoming) = server.accept().await {
                spawn_background(async { drop(echo(incoming).await) });
            }
        });
        (client, address)
    }

    async fn call(client: (Endpoint, SocketAddr)) {
        let connection = connect(client).await;
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        let sent = vec![7; 100_000];
        send.write_all(&sent).await.unwrap();
        send.finish().unwrap();
        assert_eq!(receive.read_to_end(LENGTH).await.unwrap(), sent);
    }

    async fn endless(client: (Endpoint, SocketAddr)) -> String {
        format!("{:?}", connect(client).await.accept_uni().await)
    }
}

tests!(Quinn, without a guest);

const LENGTH: usize = 1 << 20;

async fn connect((client, server): (Endpoint, SocketAddr)) -> Connection {
    client.connect(server, "localhost").unwrap().await.unwrap()
}

async fn echo(incoming: Incoming) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let connection = incoming.await?;
    let (mut send, mut receive) = connection.accept_bi().await?;
    send.write_all(&receive.read_to_end(LENGTH).await?).await?;
    send.finish()?;
    connection.closed().await;
    Ok(())
}

fn endpoint(server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(Noted(Heirloom::current()))) // glue
}

/// A server and a client that trust each other.
fn endpoints() -> io::Result<(Endpoint, Endpoint)> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let server = ServerConfig::with_single_cert(vec![cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let mut client = endpoint(None)?;
    client.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots)).unwrap());
    Ok((endpoint(Some(server))?, client))
}

/// Two connections of one endpoint at a time, a task per connection, streams of a mebibyte.
#[heirloom::test(timeout = "120s")]
async fn quinn_sends_and_receives_in_tasks_that_keep_their_context() -> Result<(), Box<dyn std::error::Error>>
{
    let (server, client) = endpoints()?;
    let address = server.local_addr()?;
    let accepting = spawn({
        let server = server.clone();
        async move {
            let mut connections = Vec::new();
            for number in 0..2 {
                let connecting = server.accept().await.unwrap();
                TENANT.set(100 + number);
                connections.push(spawn(async move {
                    let connection = connecting.await.unwrap();
                    let (mut send, mut receive) = connection.accept_bi().await.unwrap();
                    let bytes = receive.read_to_end(LENGTH).await.unwrap();
                    send.write_all(&bytes).await.unwrap();
                    send.finish().unwrap();
                    connection.closed().await;
                    TENANT.get()
                }));
            }
            let mut seen = Vec::new();
            for connection in connections {
                seen.push(connection.await.unwrap());
            }
            seen
        }
    });
    let mut calls = Vec::new();
    for number in 0..2 {
        TENANT.set(number);
        let client = client.clone();
        calls.push(spawn(async move {
            let connection = client.connect(address, "localhost").unwrap().await.unwrap();
            let (mut send, mut receive) = connection.open_bi().await.unwrap();
            let sent: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
            send.write_all(&sent).await.unwrap();
            send.finish().unwrap();
            assert_eq!(receive.read_to_end(LENGTH).await.unwrap(), sent);
            // A limit of ours cuts what quinn waits for.
            assert!(wait_for(connection.accept_uni(), Duration::from_millis(5)).await.is_err());
            connection.close(0_u32.into(), b"done");
            (TENANT.get(), connection.stats())
        }));
    }
    let segments = socket()?.max_transmit_segments();
    for (number, call) in (0..).zip(calls) {
        let (tenant, stats) = call.await?;
        assert_eq!(tenant, Some(number));
        println!("{segments} segments a call at most; {:?}", stats.udp_tx);
        // Where the kernel cuts a call's bytes into datagrams, it was asked to.
        assert_eq!(segments > 1, stats.udp_tx.ios < stats.udp_tx.datagrams);
    }
    assert_eq!(accepting.await?, [Some(100), Some(101)]);
    client.wait_idle().await;
    server.close(0_u32.into(), b"");
    server.wait_idle().await;
    Ok(())
}

fn socket() -> io::Result<Arc<dyn AsyncUdpSocket>> {
    Heirloom::current().wrap_udp_socket(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?)
}

/// What is sent by one call is received as the datagrams that it stands for, each with its mark.
#[heirloom::test(timeout = "60s")]
async fn datagrams_keep_their_borders_and_their_congestion_mark() -> io::Result<()> {
    const SEGMENT: usize = 1_000;
    let (from, to) = (socket()?, socket()?);
    let segments = from.max_transmit_segments().min(3);
    let sent: Vec<u8> = (0..segments).flat_map(|number| [number as u8; SEGMENT]).collect();
    let transmit = Transmit {
        destination: to.local_addr()?,
        ecn: Some(EcnCodepoint::Ect0),
        contents: &sent,
        segment_size: (segments > 1).then_some(SEGMENT),
        src_ip: None,
    };
    let mut room = from.clone().create_io_poller();
    poll_fn(|cx| room.as_mut().poll_writable(cx)).await?;
    from.try_send(&transmit)?;
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let mut buffer = vec![0; SEGMENT * to.max_receive_segments()];
        let mut meta = [RecvMeta::default()];
        let count = poll_fn(|cx| to.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)).await?;
        assert_eq!((count, meta[0].stride, meta[0].ecn), (1, SEGMENT, Some(EcnCodepoint::Ect0)));
        received.extend_from_slice(&buffer[..meta[0].len]);
    }
    assert_eq!(received, sent);
    Ok(())
}
