//! What sockets are bound and connected to, and names.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::vec;

use crate::runtime::spawn::spawn_blocking;

/// What [`bind`](super::TcpListener::bind) and [`connect`](super::TcpStream::connect) take: addresses, and names that
/// are [looked up](lookup).
///
/// | | |
/// | --- | --- |
/// | [`SocketAddr`], [`SocketAddrV4`], [`SocketAddrV6`] | as it is |
/// | an IP address and a port: `(IpAddr, u16)` and the like | as it is |
/// | `&[SocketAddr]`, `[SocketAddr; N]`, `Vec<SocketAddr>` | each in turn |
/// | `"127.0.0.1:80"`, `"[::1]:80"`, `("127.0.0.1", 80)`, as `&str` or `String` | parsed |
/// | `"example.com:80"`, `("example.com", 80)`, as `&str` or `String` | looked up |
/// | a reference to one of these | as what it refers to |
///
/// The trait is sealed: what it asks for may change. Convert what you have into one of these.
pub trait ToSocketAddrs: sealed::Request {}

impl<T: sealed::Request + ?Sized> ToSocketAddrs for T {}

/// The addresses of `host`, which is best given with a port: `"example.com:80"` or `("example.com", 80)`.
///
/// A name is looked up as [`std::net::ToSocketAddrs`] does it, by the system's resolver, in a closure of the
/// [blocking pool](crate::spawn_blocking), so that no worker waits for it; anything else is answered at once. There
/// may be several addresses, of both families, in the order of the resolver's preference.
///
/// # Errors
/// What the resolver says; of kind [`InvalidInput`](io::ErrorKind::InvalidInput) if there is no port, or no number
/// in its place. If there is no thread to ask on, or the runtime has ended, an error of kind
/// [`Other`](io::ErrorKind::Other) that holds the [`JoinError`](crate::JoinError).
///
/// # Cancel safety
/// Dropping the future forgets the question. A resolver that is being asked cannot be interrupted, and keeps its thread
/// until it answers.
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
pub async fn lookup<A: ToSocketAddrs>(host: A) -> io::Result<vec::IntoIter<SocketAddr>> {
    let asked = host.request()?;
    drop(host);
    let (name, port) = match asked {
        sealed::Asked::Addresses(addresses) => return Ok(addresses.into_iter()),
        sealed::Asked::Name(name, port) => (name, port),
    };
    let resolve = move || match port {
        Some(port) => std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), port)),
        None => std::net::ToSocketAddrs::to_socket_addrs(name.as_str()),
    };
    spawn_blocking(resolve).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Tries `attempt` with each address until one succeeds. The error is the last one's.
///
/// `attempt` is no async closure: the compiler does not see that the future of one that borrows is
/// `Send`.
pub(super) async fn first<T, F>(
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

    /// What is asked for.
    #[derive(Debug)]
    pub enum Asked {
        Addresses(Vec<SocketAddr>),
        /// Without a port if the name has one in it.
        Name(String, Option<u16>),
    }

    pub trait Request {
        fn request(&self) -> io::Result<Asked>;
    }

    impl<T: Request + ?Sized> Request for &T {
        fn request(&self) -> io::Result<Asked> {
            T::request(self)
        }
    }

    impl Request for SocketAddr {
        fn request(&self) -> io::Result<Asked> {
            Ok(Asked::Addresses(vec![*self]))
        }
    }

    macro_rules! convertible {
        ($($type:ty),*) => {$(
            impl Request for $type {
                fn request(&self) -> io::Result<Asked> {
                    SocketAddr::from(*self).request()
                }
            }
        )*};
    }

    convertible!(SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

    impl Request for [SocketAddr] {
        fn request(&self) -> io::Result<Asked> {
            Ok(Asked::Addresses(self.to_vec()))
        }
    }

    impl<const N: usize> Request for [SocketAddr; N] {
        fn request(&self) -> io::Result<Asked> {
            self.as_slice().request()
        }
    }

    impl Request for Vec<SocketAddr> {
        fn request(&self) -> io::Result<Asked> {
            self.as_slice().request()
        }
    }

    impl Request for str {
        fn request(&self) -> io::Result<Asked> {
            match self.parse::<SocketAddr>() {
                Ok(address) => address.request(),
                Err(_) => Ok(Asked::Name(self.to_owned(), None)),
            }
        }
    }

    impl Request for (&str, u16) {
        fn request(&self) -> io::Result<Asked> {
            match self.0.parse::<IpAddr>() {
                Ok(ip) => (ip, self.1).request(),
                Err(_) => Ok(Asked::Name(self.0.to_owned(), Some(self.1))),
            }
        }
    }

    impl Request for String {
        fn request(&self) -> io::Result<Asked> {
            self.as_str().request()
        }
    }

    impl Request for (String, u16) {
        fn request(&self) -> io::Result<Asked> {
            (self.0.as_str(), self.1).request()
        }
    }
}
