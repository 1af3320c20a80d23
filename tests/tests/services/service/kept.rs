//! A client with one connection, which a test holds, as it holds the requests on it.

use std::net::SocketAddr;

use axum::http::{Request, StatusCode, Version, header};
use heirloom::hyper::{HyperExecutor, HyperTimer};
use heirloom::net::TcpStream;
use heirloom::spawn_background;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};

/// A connection that is kept alive.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// Opens a connection. Over HTTP/2 it begins with the preface, in the knowledge that the server
/// understands it.
pub(crate) async fn connect(server: SocketAddr, version: Version) -> std::io::Result<Sender> {
    let socket = TcpStream::connect(server).await?;
    socket.set_nodelay(true)?;
    if version == Version::HTTP_2 {
        let mut http2 = http2::Builder::new(HyperExecutor);
        let (sender, connection) =
            http2.timer(HyperTimer).handshake(socket).await.map_err(std::io::Error::other)?;
        spawn_background(connection);
        return Ok(Sender::Http2(sender));
    }
    let (sender, connection) = http1::handshake(socket).await.map_err(std::io::Error::other)?;
    spawn_background(connection);
    Ok(Sender::Http1(sender))
}

pub(crate) type Answer = hyper::Result<(StatusCode, String)>;

/// Asks for a path and waits for the whole answer.
pub(crate) async fn ask(sender: &mut Sender, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = match sender {
        Sender::Http1(_) => Request::get(path).header(header::HOST, "service"),
        Sender::Http2(_) => Request::get(format!("http://service{path}")),
    };
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::new()).expect("a valid request");
    let response = match sender {
        Sender::Http1(sender) => {
            sender.ready().await?;
            sender.send_request(request).await?
        }
        Sender::Http2(sender) => {
            sender.ready().await?;
            sender.send_request(request).await?
        }
    };
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
