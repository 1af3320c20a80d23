//! quinn on this executor: its sockets, timers and tasks. UDP by `quinn-udp`, with segmentation by
//! the kernel (GSO, GRO) and congestion marks (ECN) where the kernel has them.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use heirloom::net::{Async, Direction};
use heirloom::{context_var, spawn, spawn_background, wait_for};
use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::PrivateKeyDer;
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncTimer, AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, ServerConfig, UdpPoller};
use rcgen::{CertifiedKey, generate_simple_self_signed};

context_var! { static TENANT: u32; }

// The adaptor begins here.

/// Endpoints and connections are driven by background tasks: they outlive the request that opened
/// them, and have neither its context nor its deadline.
#[derive(Debug)]
struct OnHeirloom;

impl quinn::Runtime for OnHeirloom {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer(Box::pin(heirloom::sleep_until(at))))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        spawn_background(future);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Socket { state: UdpSocketState::new((&socket).into())?, io: Async::new(socket)? }))
    }
}

#[derive(Debug)]
struct Timer(Pin<Box<heirloom::time::Sleep>>);

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.as_mut().reset(at);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

#[derive(Debug)]
struct Socket {
    io: Async<std::net::UdpSocket>,
    state: UdpSocketState,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Direction::Write, |socket| self.state.send(socket.into(), transmit))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.io.poll_io(cx, Direction::Read, |socket| self.state.recv(socket.into(), bufs, meta))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Of one connection, which waits for room beside the others of its endpoint.
struct Room {
    socket: Arc<Socket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Room { socket, waiting } = self.get_mut();
        let ready = waiting.get_or_insert_with(|| {
            let socket = socket.clone();
            Box::pin(async move { socket.io.writable().await })
        });
        let result = std::task::ready!(ready.as_mut().poll(cx));
        *waiting = None;
        Poll::Ready(result)
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.socket.fmt(f)
    }
}

// The adaptor ends here.

fn endpoint(server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(OnHeirloom))
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
    const LENGTH: usize = 1 << 20;
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
    let segments = OnHeirloom.segments()?;
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

impl OnHeirloom {
    fn segments(&self) -> io::Result<usize> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(quinn::Runtime::wrap_udp_socket(self, socket)?.max_transmit_segments())
    }
}
