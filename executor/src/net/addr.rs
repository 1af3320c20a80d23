//! Socket addresses, and name resolution.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::vec;

use crate::runtime::spawn::spawn_blocking;

/// What [`bind`](super::TcpListener::bind) and [`connect`](super::TcpStream::connect) take:
/// addresses, and names that are [looked up](lookup).
///
/// | | |
/// | --- | --- |
/// | [`SocketAddr`], [`SocketAddrV4`], [`SocketAddrV6`] | as it is |
/// | an IP address and a port: `(IpAddr, u16)` and the like | as it is |
/// | `&[SocketAddr]`, `[SocketAddr; N]`, `Vec<SocketAddr>` | each in turn |
/// | `"127.0.0.1:80"`, `"[::1]:80"`, `("127.0.0.1", 80)`, as `&str` or `String` | parsed |
/// | `"example.com:80"`, `("example.com", 80)`, as `&str` or `String` | looked up |
/// | a reference to one of these | as its target |
///
/// The trait is sealed, because its methods may change. Convert other types into one of these.
pub trait ToSocketAddrs: sealed::Request {}

impl<T: sealed::Request + ?Sized> ToSocketAddrs for T {}

/// The addresses of `host`, which must have a port: `"example.com:80"` or `("example.com", 80)`.
///
/// A name is looked up by the system's resolver, as [`std::net::ToSocketAddrs`] does it, in a
/// closure of the [blocking pool](crate::spawn_blocking), so that no worker waits for it. Addresses
/// are returned at once. There may be several addresses, of both families, in the order of the
/// resolver's preference.
///
/// # Errors
/// Those of the resolver; of kind [`InvalidInput`](io::ErrorKind::InvalidInput) if the port is
/// missing or is not a number. If no thread can be started, or the runtime has ended, an error of
/// kind [`Other`](io::ErrorKind::Other) that holds the [`JoinError`](crate::task::JoinError).
///
/// # Cancel safety
/// Dropping the future discards the answer. A resolver that has started cannot be interrupted, and
/// keeps its thread until it answers.
///
/// ```
/// use heirloom::net;
///
/// # fn main() -> std::io::Result<()> {
/// heirloom::block_on(async {
///     for address in net::lookup("localhost:80").await? {
///         assert!(address.ip().is_loopback());
///         assert_eq!(address.port(), 80);
///     }
///     Ok(())
/// })
/// # }
/// ```
#[doc(alias = "lookup_host")]
pub async fn lookup<A: ToSocketAddrs>(host: A) -> io::Result<vec::IntoIter<SocketAddr>> {
    let query = host.request()?;
    drop(host);
    let (name, port) = match query {
        sealed::Query::Addresses(addresses) => return Ok(addresses.into_iter()),
        sealed::Query::Name(name, port) => (name, port),
    };
    let resolve = move || match port {
        Some(port) => std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), port)),
        None => std::net::ToSocketAddrs::to_socket_addrs(name.as_str()),
    };
    spawn_blocking(resolve).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Tries `attempt` with each address until one succeeds. Otherwise returns the last error.
///
/// `attempt` is not an async closure: the compiler does not prove that the future of an async
/// closure that borrows is `Send`.
pub(super) async fn first_success<T, F>(
    addr: impl ToSocketAddrs,
    mut attempt: impl FnMut(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut failed = None;
    for address in lookup(addr).await? {
        match attempt(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = Some(error),
        }
    }
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "there is no address to bind or connect to");
    Err(failed.unwrap_or_else(none))
}

mod sealed {
    use super::*;

    /// Addresses, or a name to look up.
    #[derive(Debug)]
    pub enum Query {
        Addresses(Vec<SocketAddr>),
        /// The port is `None` if the name contains it.
        Name(String, Option<u16>),
    }

    pub trait Request {
        fn request(&self) -> io::Result<Query>;
    }

    impl<T: Request + ?Sized> Request for &T {
        fn request(&self) -> io::Result<Query> {
            T::request(self)
        }
    }

    impl Request for SocketAddr {
        fn request(&self) -> io::Result<Query> {
            Ok(Query::Addresses(vec![*self]))
        }
    }

    macro_rules! convertible {
        ($($type:ty),*) => {$(
            impl Request for $type {
                fn request(&self) -> io::Result<Query> {
                    SocketAddr::from(*self).request()
                }
            }
        )*};
    }

    convertible!(SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

    impl Request for [SocketAddr] {
        fn request(&self) -> io::Result<Query> {
            Ok(Query::Addresses(self.to_vec()))
        }
    }

    impl<const N: usize> Request for [SocketAddr; N] {
        fn request(&self) -> io::Result<Query> {
            self.as_slice().request()
        }
    }

    impl Request for Vec<SocketAddr> {
        fn request(&self) -> io::Result<Query> {
            self.as_slice().request()
        }
    }

    impl Request for str {
        fn request(&self) -> io::Result<Query> {
            match self.parse::<SocketAddr>() {
                Ok(address) => address.request(),
                Err(_) => Ok(Query::Name(self.to_owned(), None)),
            }
        }
    }

    impl Request for (&str, u16) {
        fn request(&self) -> io::Result<Query> {
            match self.0.parse::<IpAddr>() {
                Ok(ip) => (ip, self.1).request(),
                Err(_) => Ok(Query::Name(self.0.to_owned(), Some(self.1))),
            }
        }
    }

    impl Request for String {
        fn request(&self) -> io::Result<Query> {
            self.as_str().request()
        }
    }

    impl Request for (String, u16) {
        fn request(&self) -> io::Result<Query> {
            (self.0.as_str(), self.1).request()
        }
    }
}
