//! TLS over the executor's sockets: by `futures-rustls` and by `tokio-rustls`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_rustls::pki_types::{PrivateKeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use heirloom::net::{TcpListener, TcpStream};
use heirloom::{spawn, spawn_background};
use heirloom_ecosystem::Library;
use rcgen::{CertifiedKey, generate_simple_self_signed};

/// A server and a client that trust each other.
fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

type Client = (SocketAddr, Arc<ClientConfig>);

/// A server in the background, which serves each connection by the function.
async fn serve<F>(connection: impl Fn(TcpStream, Arc<ServerConfig>) -> F + Send + 'static) -> Client
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let (server, client) = configs();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_background(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = connection(stream, Arc::clone(&server));
            // A client that was cut ends it by an error.
            spawn_background(async { drop(serving.await) });
        }
    });
    (address, client)
}

/// The two libraries have the same functions over the traits of two crates.
macro_rules! library {
    ($module:ident, $type:ident, $package:literal, $library:ident, $io:path) => {
        pub struct $type;

        mod $module {
            use $io::{AsyncReadExt, AsyncWriteExt};

            use super::*;

            async fn connect((address, config): Client) -> $library::client::TlsStream<TcpStream> {
                let socket = TcpStream::connect(address).await.unwrap();
                $library::TlsConnector::from(config).connect(localhost(), socket).await.unwrap()
            }

            impl Library for $type {
                const PACKAGE: &'static str = $package;
                const WAY: &'static str = "over a socket of this crate";
                const GUEST: bool = false;
                const SPAWNS: &'static str = "";
                type Client = Client;

                async fn connect() -> Client {
                    let echo = async |socket, config| {
                        let mut stream = $library::TlsAcceptor::from(config).accept(socket).await?;
                        let mut ping = [0; 4];
                        stream.read_exact(&mut ping).await?;
                        stream.write_all(&ping).await?;
                        stream.flush().await?;
                        stream.read(&mut ping).await.map(drop) // until the client has gone
                    };
                    serve(move |socket, config| echo(socket, config)).await
                }

                async fn call(client: Client) {
                    let mut stream = connect(client).await;
                    stream.write_all(b"ping").await.unwrap();
                    stream.flush().await.unwrap();
                    let mut pong = [0; 4];
                    stream.read_exact(&mut pong).await.unwrap();
                    assert_eq!(&pong, b"ping");
                }

                async fn endless(client: Client) -> String {
                    format!("{:?}", connect(client).await.read(&mut [0]).await)
                }
            }

            heirloom_ecosystem::tests!($type, without a guest);
        }
    };
}
library!(over_futures_io, FuturesRustls, "futures-rustls", futures_rustls, futures);
library!(over_tokio_io, TokioRustls, "tokio-rustls", tokio_rustls, tokio::io);

#[heirloom::test(timeout = "60s")]
async fn a_name_that_the_certificate_does_not_have_is_refused() -> io::Result<()> {
    let (server, client) = configs();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = spawn(async move {
        let acceptor = futures_rustls::TlsAcceptor::from(server);
        acceptor.accept(listener.accept().await?.0).await.map(drop)
    });
    let connector = futures_rustls::TlsConnector::from(client);
    let elsewhere = ServerName::try_from("elsewhere").unwrap();
    let refused = connector.connect(elsewhere, TcpStream::connect(address).await?).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
    let _ = serving.await?; // told by an alert, or by the end
    Ok(())
}
