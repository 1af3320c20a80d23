//! TLS over the executor's sockets: by `futures-rustls`, and by `tokio-rustls` through
//! `tokio_util::compat`.

use std::io;
use std::sync::Arc;

use futures::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::pki_types::{PrivateKeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use heirloom::net::{TcpListener, TcpStream};
use heirloom::{context_var, spawn};
use rcgen::{CertifiedKey, generate_simple_self_signed};

context_var! { static TENANT: u32; }

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

#[heirloom::test(timeout = "60s")]
async fn futures_rustls_speaks_over_our_sockets() -> io::Result<()> {
    let (server, client) = configs();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    TENANT.set(7);
    let serving = spawn(async move {
        let acceptor = futures_rustls::TlsAcceptor::from(server);
        let mut stream = acceptor.accept(listener.accept().await?.0).await?;
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).await?;
        stream.write_all(&ping).await?;
        stream.flush().await?;
        io::Result::Ok(TENANT.get())
    });
    let connector = futures_rustls::TlsConnector::from(client);
    let mut stream = connector.connect(localhost(), TcpStream::connect(address).await?).await?;
    stream.write_all(b"ping").await?;
    stream.flush().await?;
    let mut pong = [0; 4];
    stream.read_exact(&mut pong).await?;
    assert_eq!(&pong, b"ping");
    assert_eq!(serving.await??, Some(7));
    Ok(())
}

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

#[heirloom::test(timeout = "60s")]
async fn tokio_rustls_speaks_over_our_sockets() -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::compat::FuturesAsyncReadCompatExt;

    let (server, client) = configs();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(server);
        let mut stream = acceptor.accept(listener.accept().await?.0.compat()).await?;
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).await?;
        stream.write_all(&ping).await?;
        stream.flush().await
    });
    let connector = tokio_rustls::TlsConnector::from(client);
    let mut stream = connector.connect(localhost(), TcpStream::connect(address).await?.compat()).await?;
    stream.write_all(b"ping").await?;
    stream.flush().await?;
    let mut pong = [0; 4];
    stream.read_exact(&mut pong).await?;
    assert_eq!(&pong, b"ping");
    serving.await?
}
