//! async-net, whose sockets a thread of async-io polls.

use std::io;
use std::net::SocketAddr;

use async_net::{TcpListener, TcpStream};
use futures::{AsyncReadExt, AsyncWriteExt};
use heirloom::spawn_background;
use heirloom_ecosystem::{Library, tests};

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut ping = [0; 4];
    stream.read_exact(&mut ping).await?;
    stream.write_all(&ping).await?;
    stream.read(&mut ping).await.map(drop) // until the client has gone
}

pub struct AsyncNet;

impl Library for AsyncNet {
    const PACKAGE: &'static str = "async-net";
    const GUEST: bool = false;
    const SPAWNS: &'static str = "";
    type Client = SocketAddr;

    async fn connect() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn_background(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn_background(async { drop(echo(stream).await) });
            }
        });
        address
    }

    async fn call(address: SocketAddr) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut pong = [0; 4];
        stream.read_exact(&mut pong).await.unwrap();
        assert_eq!(&pong, b"ping");
    }

    async fn endless(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        format!("{:?}", stream.read(&mut [0]).await)
    }
}

tests!(AsyncNet, without a guest);
