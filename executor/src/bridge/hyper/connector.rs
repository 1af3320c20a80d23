//! Connections for hyper-util's client and for tonic's channel.
#![forbid(unsafe_code)]

use std::future::Future;
use std::io;
use std::pin::Pin;
#[cfg(any(unix, feature = "rustls"))]
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
#[cfg(feature = "rustls")]
use tokio_rustls::rustls::ClientConfig;
use tower_service::Service;

use super::stream::HyperStream;
#[cfg(unix)]
use crate::net::UnixStream;
use crate::net::{TcpStream, lookup};
use crate::{remaining, wait_for};

/// Connects clients to servers: over TCP, over a Unix socket, and with feature `rustls` by TLS.
///
/// It is the connector that `hyper_util::client::legacy::Client` and tonic's `Endpoint` ask for, a
/// tower [`Service`] of a [`Uri`]. Neither it nor they need a tokio runtime. A clone connects in
/// the same way.
///
/// | URI | connects to |
/// | --- | --- |
/// | `http://host:port/…`, `http://host/…` | the host's addresses, port 80 by default |
/// | `https://host:port/…`, `https://host/…` | the same by TLS, port 443 by default: see `tls` (feature `rustls`) |
/// | `unix://2f72756e2f612e736f636b/…` | the Unix socket whose path is the host, in hexadecimal: see [`unix_uri`](Self::unix_uri) |
/// | any of the first two, with [`unix_socket`](Self::unix_socket) | the one Unix socket |
///
/// A host has several addresses, of both families. They are tried in the resolver's order, each
/// with an equal part of the time that is left, so that an address that never answers leaves time
/// to the next.
///
/// # hyper-util's client
///
/// The client has a pool of connections. With [`HyperExecutor`](super::HyperExecutor) their tasks
/// are background tasks, which hold nothing of the request that opens them.
///
/// ```
/// use std::time::Duration;
/// use heirloom::hyper::{HyperConnector, HyperExecutor, HyperTimer};
/// use http_body_util::{BodyExt, Empty};
/// use hyper::body::Bytes;
/// use hyper_util::client::legacy::Client;
///
/// # use heirloom::net::TcpListener;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # heirloom::block_on(async {
/// # let listener = TcpListener::bind("127.0.0.1:0").await?;
/// # let port = listener.local_addr()?.port();
/// # let uri = format!("http://localhost:{port}/").parse::<hyper::Uri>()?;
/// # heirloom::spawn_background(async move {
/// #     let (socket, _) = listener.accept().await.unwrap();
/// #     let answer = hyper::service::service_fn(|_| async {
/// #         let hello = http_body_util::Full::new(Bytes::from("hello"));
/// #         Ok::<_, std::convert::Infallible>(hyper::Response::new(hello))
/// #     });
/// #     hyper::server::conn::http1::Builder::new().serve_connection(socket, answer).await
/// # });
/// let mut builder = Client::builder(HyperExecutor);
/// let builder = builder.timer(HyperTimer).pool_timer(HyperTimer);
/// let client: Client<_, Empty<Bytes>> = builder.build(HyperConnector::new());
///
/// let exchange = async {
///     let answer = client.get(uri).await?;
///     Ok::<_, Box<dyn std::error::Error>>(answer.into_body().collect().await?.to_bytes())
/// };
/// let answer = heirloom::wait_for(exchange, Duration::from_secs(5)).await??;
/// assert_eq!(answer, "hello");
/// # Ok(())
/// # })
/// # }
/// ```
///
/// # tonic's channel
///
/// `Endpoint::timeout` and `Request::set_timeout` need tokio's timer, and panic without a tokio
/// guest: in their place is [`wait_for`](crate::wait_for()). With `https` this connector does the
/// TLS, and tonic is built without its own.
///
/// ```text
/// let channel = Endpoint::from_static("http://greeter:50051")
///     .executor(HyperExecutor)
///     .connect_with_connector_lazy(HyperConnector::new());
/// ```
///
/// # Context, deadline, cancellation
///
/// The future of a call connects in the task that polls it, with this task's context and
/// [deadline](crate::deadline()); name resolution uses the [blocking pool](crate::spawn_blocking).
/// hyper-util polls it in the task of the request, and when the request gets another connection
/// first, passes it to the executor. tonic polls it in a task of the channel. The returned
/// connection holds nothing of the context.
///
/// Dropping the future ends the attempt and closes its socket.
///
/// # Errors
/// Those of name resolution, of the system and of TLS, with the URI's host in their text. Of kind
/// [`TimedOut`](io::ErrorKind::TimedOut) if the [time](Self::connect_timeout) is over, and of kind
/// [`InvalidInput`](io::ErrorKind::InvalidInput) if the URI is of none of the forms above.
#[derive(Clone, Debug)]
#[doc(alias = "HttpConnector")]
#[doc(alias = "HttpsConnector")]
pub struct HyperConnector {
    nodelay: bool,
    timeout: Duration,
    #[cfg(unix)]
    unix_socket: Option<Arc<std::path::Path>>,
    #[cfg(feature = "rustls")]
    tls: Option<Arc<ClientConfig>>,
}

impl HyperConnector {
    /// A connector over TCP, without TLS.
    pub fn new() -> HyperConnector {
        HyperConnector {
            nodelay: true,
            timeout: Duration::from_secs(30),
            #[cfg(unix)]
            unix_socket: None,
            #[cfg(feature = "rustls")]
            tls: None,
        }
    }

    /// The time for a connection, from the resolver to the end of the TLS handshake. By default 30
    /// seconds. A nearer deadline of the caller ends the attempt sooner.
    pub fn connect_timeout(mut self, limit: Duration) -> HyperConnector {
        self.timeout = limit;
        self
    }

    /// Whether TCP sends small pieces at once (`TCP_NODELAY`). By default it does: a request is
    /// written at once and whole, and holding it back for more gains nothing.
    pub fn nodelay(mut self, nodelay: bool) -> HyperConnector {
        self.nodelay = nodelay;
        self
    }

    /// Connects to this Unix socket, whatever the URI's host is. The host is still what the server
    /// is told, and with `https` what its certificate must name. Unix only.
    ///
    /// The path may be an abstract name, as for [`UnixStream::connect`].
    ///
    /// ```
    /// use heirloom::hyper::{HyperConnector, HyperExecutor};
    /// use http_body_util::Empty;
    /// use hyper::body::Bytes;
    /// use hyper_util::client::legacy::Client;
    ///
    /// let connector = HyperConnector::new().unix_socket("/run/docker.sock");
    /// let client: Client<_, Empty<Bytes>> = Client::builder(HyperExecutor).build(connector);
    /// let answer = client.get("http://localhost/version".parse().unwrap());
    /// # drop(answer);
    /// ```
    #[cfg(unix)]
    pub fn unix_socket(mut self, path: impl AsRef<std::path::Path>) -> HyperConnector {
        self.unix_socket = Some(path.as_ref().into());
        self
    }

    /// The URI of something behind a Unix socket, for a client that talks to several: the socket's
    /// path, in hexadecimal, is the host. Unix only.
    ///
    /// A pool keeps connections by scheme and host, so the path is in one of these. The server
    /// is told the host, too; for a server that refuses it there is
    /// [`unix_socket`](Self::unix_socket).
    ///
    /// # Errors
    /// If `path_and_query` is not the end of a URI, or the socket's path is empty.
    ///
    /// ```
    /// use heirloom::hyper::HyperConnector;
    ///
    /// let uri = HyperConnector::unix_uri("/run/a.sock", "/orders?day=3")?;
    /// assert_eq!(uri, "unix://2f72756e2f612e736f636b/orders?day=3");
    /// # Ok::<(), hyper::http::Error>(())
    /// ```
    #[cfg(unix)]
    pub fn unix_uri(
        socket: impl AsRef<std::path::Path>,
        path_and_query: &str,
    ) -> Result<Uri, hyper::http::Error> {
        use std::os::unix::ffi::OsStrExt;

        let path = socket.as_ref().as_os_str().as_bytes();
        let host: String = path.iter().map(|byte| format!("{byte:02x}")).collect();
        Uri::builder().scheme("unix").authority(host).path_and_query(path_and_query).build()
    }

    /// Connects by TLS where the URI says `https`. The configuration has the roots of trust, the
    /// client's certificate, and the cryptography.
    ///
    /// Its `alpn_protocols` are what the server may choose from: `h2`, `http/1.1`. An empty list
    /// stands for both, in this order, which hyper-util's client understands. A client of one
    /// version alone sets the one: tonic's is `h2`, a client with `http2_only` as well.
    ///
    /// ```no_run
    /// # use tokio_rustls::rustls;
    /// use heirloom::hyper::HyperConnector;
    /// use rustls::{ClientConfig, RootCertStore};
    ///
    /// # fn certificates() -> Vec<rustls::pki_types::CertificateDer<'static>> { vec![] }
    /// let mut roots = RootCertStore::empty();
    /// roots.add_parsable_certificates(certificates());
    /// let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    /// let connector = HyperConnector::new().tls(config);
    /// ```
    #[cfg(feature = "rustls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
    pub fn tls(mut self, config: impl Into<Arc<ClientConfig>>) -> HyperConnector {
        let mut config = config.into();
        if config.alpn_protocols.is_empty() {
            Arc::make_mut(&mut config).alpn_protocols = super::both_versions();
        }
        self.tls = Some(config);
        self
    }

    async fn connect(&self, uri: &Uri) -> io::Result<HyperStream> {
        let Some(host) = uri.host() else { return Err(invalid("the URI has no host")) };
        // An IPv6 address stands in brackets.
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let socket = |default_port| self.socket(name, uri.port_u16().unwrap_or(default_port));
        match uri.scheme_str() {
            Some("http") => socket(80).await,
            Some("https") => self.secure(name, socket(443)).await,
            #[cfg(unix)]
            Some("unix") => Ok(UnixStream::connect(path_of(host)?).await?.into()),
            _ => Err(invalid("the URI's scheme is none of `http`, `https`, `unix`")),
        }
    }

    /// TLS over the socket. The socket is connected when it is known that there can be TLS.
    async fn secure(
        &self,
        name: &str,
        socket: impl Future<Output = io::Result<HyperStream>>,
    ) -> io::Result<HyperStream> {
        #[cfg(feature = "rustls")]
        if let Some(config) = &self.tls {
            let name = tokio_rustls::rustls::pki_types::ServerName::try_from(name.to_owned());
            let name = name.map_err(|error| invalid(&error.to_string()))?;
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
            let stream = connector.connect(name, hyper_util::rt::TokioIo::new(socket.await?)).await?;
            return Ok(HyperStream::tls(stream));
        }
        let _ = (name, socket);
        Err(invalid("`https` needs `HyperConnector::tls`, by feature `rustls` of heirloom"))
    }

    async fn socket(&self, host: &str, port: u16) -> io::Result<HyperStream> {
        #[cfg(unix)]
        if let Some(path) = &self.unix_socket {
            return Ok(UnixStream::connect(path).await?.into());
        }
        let addresses = lookup((host, port)).await?;
        let mut failed = invalid("the host has no address");
        for (address, left) in addresses.as_slice().iter().zip((1..=addresses.len() as u32).rev()) {
            let part = remaining().map_or(Duration::MAX, |time| time / left);
            match wait_for(TcpStream::connect(address), part).await.unwrap_or_else(|late| Err(late.into())) {
                Ok(socket) => {
                    socket.set_nodelay(self.nodelay)?;
                    return Ok(socket.into());
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

impl Default for HyperConnector {
    fn default() -> HyperConnector {
        HyperConnector::new()
    }
}

impl Service<Uri> for HyperConnector {
    type Response = HyperStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<HyperStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let connected = wait_for(connector.connect(&uri), connector.timeout).await;
            connected.unwrap_or_else(|late| Err(late.into())).map_err(|error| {
                // Without a user's name and password.
                let (_, host) = uri.authority().map_or(("", ""), |authority| {
                    let text = authority.as_str();
                    text.rsplit_once('@').unwrap_or(("", text))
                });
                io::Error::new(error.kind(), format!("no connection to `{host}`: {error}"))
            })
        })
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// The path that a host of [`HyperConnector::unix_uri`] stands for.
#[cfg(unix)]
fn path_of(host: &str) -> io::Result<std::path::PathBuf> {
    use std::os::unix::ffi::OsStringExt;

    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let bytes = host.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    let bytes = bytes.ok_or_else(|| {
        invalid(
            "the host is no path in hexadecimal: `HyperConnector::unix_uri` makes the URI of a Unix socket",
        )
    })?;
    Ok(std::ffi::OsString::from_vec(bytes).into())
}
