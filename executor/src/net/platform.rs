//! What several kinds of socket have in common, as macros.
//!
//! Each macro takes a type with a field `io`, the [registration](crate::net::registration) of the
//! socket of the same name in `mio`, which the calling module has imported as `mio`.
#![forbid(unsafe_code)]

/// What all sockets have: conversion from and to the standard library's type, the descriptor, and
/// `Debug`. The type has a function `new` that takes mio's socket.
macro_rules! socket_traits {
    ($type:ident, $std:ty) => {
        /// Takes the socket over, and makes it non-blocking. From now on it belongs to the runtime
        /// of this thread, else to the default one.
        ///
        /// # Errors
        /// Those of the system.
        impl TryFrom<$std> for $type {
            type Error = std::io::Error;

            #[inline]
            fn try_from(socket: $std) -> std::io::Result<Self> {
                socket.set_nonblocking(true)?;
                $type::new(mio::$type::from_std(socket))
            }
        }

        /// Returns the socket as the standard library makes them, that is, blocking. It can then be
        /// made a socket of another runtime.
        ///
        /// # Errors
        /// Those of the system.
        impl TryFrom<$type> for $std {
            type Error = std::io::Error;

            #[inline]
            fn try_from(socket: $type) -> std::io::Result<Self> {
                let socket = <$std>::from(socket.io.into_inner()?);
                socket.set_nonblocking(false)?;
                Ok(socket)
            }
        }

        /// For options that have no method here. A call that reads or writes, accepts or sends
        /// belongs in `try_io`, where the type has it: otherwise the socket does not learn that it
        /// is no longer ready.
        #[cfg(unix)]
        impl std::os::fd::AsFd for $type {
            #[inline]
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.io.get().as_fd()
            }
        }

        /// As [`AsFd`](std::os::fd::AsFd), with the same restriction.
        #[cfg(unix)]
        impl std::os::fd::AsRawFd for $type {
            #[inline]
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.io.get().as_raw_fd()
            }
        }

        /// For options that have no method here.
        #[cfg(windows)]
        impl std::os::windows::io::AsSocket for $type {
            #[inline]
            fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
                self.io.get().as_socket()
            }
        }

        impl std::fmt::Debug for $type {
            #[inline]
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.io.get().fmt(f)
            }
        }
    };
}

/// `try_io`, for system calls that have no method here.
macro_rules! own_calls {
    ($type:ident) => {
        impl $type {
            /// Makes a system call of the caller's own, if `direction` is not known to block.
            ///
            /// `operation` is one attempt on this socket that does not wait. It must return
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if the system does, and only then:
            /// the socket then counts as not ready until the next event, so that
            /// [`readable`](Self::readable) or [`writable`](Self::writable) waits. An operation
            /// that was [`Interrupted`](std::io::ErrorKind::Interrupted) is tried again.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if the direction is known to block:
            /// `operation` is not called then. Otherwise the error that `operation` returns.
            ///
            /// ```
            /// # #[cfg(unix)]
            /// # fn main() -> std::io::Result<()> {
            /// use std::io::{self, ErrorKind};
            /// use heirloom::net::{Direction, UnixStream};
            /// use rustix::net::{RecvFlags, recv};
            ///
            /// /// Copies what has arrived, and leaves it in the socket.
            /// async fn peek(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
            ///     loop {
            ///         stream.readable().await?;
            ///         let call = || Ok(recv(stream, &mut *buffer, RecvFlags::PEEK)?.1);
            ///         match stream.try_io(Direction::Read, call) {
            ///             Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            ///             result => return result,
            ///         }
            ///     }
            /// }
            /// # use futures::AsyncWriteExt;
            /// # heirloom::block_on(async {
            /// # let (here, mut there) = UnixStream::pair()?;
            /// # there.write_all(b"x").await?;
            /// # assert_eq!(peek(&here, &mut [0; 8]).await?, 1);
            /// # Ok(())
            /// # })
            /// # }
            /// # #[cfg(not(unix))]
            /// # fn main() {}
            /// ```
            pub fn try_io<R>(
                &self,
                direction: Direction,
                mut operation: impl FnMut() -> std::io::Result<R>,
            ) -> std::io::Result<R> {
                // Through mio, which may have to ask the system for the next event.
                self.io.try_io(direction, |socket| socket.try_io(&mut operation))
            }
        }
    };
}

/// The time to live of an Internet socket's packets.
macro_rules! time_to_live {
    ($type:ident) => {
        impl $type {
            /// The time to live of the packets that the socket sends, in hops; see
            /// [`set_ttl`](Self::set_ttl).
            ///
            /// # Errors
            /// Those of the system.
            #[inline]
            pub fn ttl(&self) -> std::io::Result<u32> {
                self.io.get().ttl()
            }

            /// Sets the time to live of the packets that the socket sends, in hops: how many
            /// routers may forward them.
            ///
            /// # Errors
            /// Those of the system.
            #[inline]
            pub fn set_ttl(&self, ttl: u32) -> std::io::Result<()> {
                self.io.get().set_ttl(ttl)
            }
        }
    };
}

/// What listeners have in common. The type has fields `io` and `backoff`. The attributes are the
/// texts that only one of the types has.
macro_rules! listener {
    (
        $type:ident, $stream:ident, $address:ty,
        $(#[$accept_text:meta])* accept,
        $(#[$incoming_text:meta])* incoming,
    ) => {
        impl $type {
            #[inline]
            fn new(listener: mio::$type) -> std::io::Result<$type> {
                Ok($type { io: Registration::new(listener)?, backoff: AcceptBackoff::new() })
            }

            /// For a socket that listens already: with the longest queue that the system allows.
            #[inline]
            fn with_longest_queue(listener: mio::$type) -> std::io::Result<$type> {
                #[cfg(unix)]
                crate::net::platform::set_backlog(&listener, u32::MAX)?;
                $type::new(listener)
            }

            $(#[$accept_text])*
            pub async fn accept(&self) -> std::io::Result<($stream, $address)> {
                let accept = async {
                    let (stream, peer) = self.io.io(Direction::Read, |listener| listener.accept()).await?;
                    Ok(($stream::unregistered(stream), peer))
                };
                self.backoff.next(accept, |(stream, _)| stream.io.register()).await
            }

            /// The connections, as a stream: [`accept`](Self::accept) again and again, without the
            /// addresses.
            ///
            /// # Cancel safety
            /// Dropping the stream between two items loses no connection.
            $(#[$incoming_text])*
            #[inline]
            pub fn incoming(&self) -> Incoming<'_, $stream> {
                Incoming::new(self)
            }

            /// The address that the listener is bound to.
            ///
            /// # Errors
            /// Those of the system.
            #[inline]
            pub fn local_addr(&self) -> std::io::Result<$address> {
                self.io.get().local_addr()
            }

            /// How many connections may be in the queue, where the system keeps them until they are
            /// [accepted](Self::accept). Unix only.
            ///
            /// A listener that was bound here has the longest queue that the system allows. One
            /// that was converted from the standard library keeps the length that it was given
            /// there. A number above the system's maximum counts as the maximum:
            /// `net.core.somaxconn` on Linux, 4,096 unless it was changed, `kern.ipc.somaxconn` or
            /// the like elsewhere. Systems take the number as a hint; Linux lets one connection
            /// more in.
            ///
            /// The system decides about a connection that finds the queue full: Linux lets TCP
            /// clients try again for minutes, until it gives them up, and tells Unix clients
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock).
            ///
            /// # Errors
            /// Those of the system.
            ///
            /// ```
            /// use heirloom::net::TcpListener;
            ///
            /// # fn main() -> std::io::Result<()> {
            /// heirloom::block_on(async {
            ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
            ///     // Rather turn clients away than let them wait for long.
            ///     listener.set_backlog(16)
            /// })
            /// # }
            /// ```
            #[cfg(unix)]
            #[inline]
            pub fn set_backlog(&self, backlog: u32) -> std::io::Result<()> {
                crate::net::platform::set_backlog(self.io.get(), backlog)
            }
        }

        impl Accept<$stream> for $type {
            #[inline]
            fn accept_stream(&self) -> Accepting<'_, $stream> {
                Box::pin(async { self.accept().await.map(|(stream, _)| stream) })
            }
        }
    };
}

/// What connected streams have in common. The type has fields `io` and `error`. The attributes are
/// the texts that only one of the types has.
macro_rules! stream {
    (
        $type:ident, $address:ty,
        $(#[$readable_text:meta])* readable,
        $(#[$split_text:meta])* split,
        $(#[$into_split_text:meta])* into_split,
    ) => {
        impl $type {
            #[inline]
            fn new(stream: mio::$type) -> std::io::Result<$type> {
                let mut new = $type::unregistered(stream);
                new.io.register()?;
                Ok(new)
            }

            /// [`Registration::register`] must follow.
            #[inline]
            fn unregistered(stream: mio::$type) -> $type {
                $type { io: Registration::unregistered(stream), error: StoredError::new() }
            }

            /// The peer's address. That of a Unix socket which was not bound is unnamed.
            ///
            /// # Errors
            /// Those of the system, such as [`NotConnected`](std::io::ErrorKind::NotConnected).
            #[inline]
            pub fn peer_addr(&self) -> std::io::Result<$address> {
                self.io.get().peer_addr()
            }

            /// The address of this end. That of a Unix socket which was not bound is unnamed.
            ///
            /// # Errors
            /// Those of the system.
            #[inline]
            pub fn local_addr(&self) -> std::io::Result<$address> {
                self.io.get().local_addr()
            }

            /// Waits until there is something to read, the end of the stream or an error included.
            ///
            /// The answer may be wrong: what seemed ready can be gone, or taken by another task.
            /// [`try_read`](Self::try_read) then returns
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock). A system call of the caller's own
            /// does so only inside [`try_io`](Self::try_io).
            ///
            /// # Errors
            /// If the stream's runtime has ended.
            ///
            /// # Cancel safety
            /// Takes nothing.
            $(#[$readable_text])*
            pub async fn readable(&self) -> std::io::Result<()> {
                self.io.ready(Direction::Read).await
            }

            /// Waits until there is room to write, or an error to be returned. The answer may be
            /// wrong, as that of [`readable`](Self::readable).
            ///
            /// # Errors
            /// If the stream's runtime has ended.
            ///
            /// # Cancel safety
            /// Writes nothing.
            pub async fn writable(&self) -> std::io::Result<()> {
                self.io.ready(Direction::Write).await
            }

            /// Reads what has arrived, without waiting. Returns how many bytes, 0 at the end of the
            /// stream.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if nothing is known to have arrived.
            /// The event of bytes that arrive just now may still be on its way, so wait by
            /// [`readable`](Self::readable) first. Otherwise the errors of the system.
            #[inline]
            pub fn try_read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                if buf.is_empty() {
                    return Ok(0);
                }
                self.io.try_io(Direction::Read, |mut stream| self.error.read(stream.read(buf)))
            }

            /// Writes as much as there is room for, without waiting. Returns how many bytes.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if no room is known: wait by
            /// [`writable`](Self::writable) first. Otherwise the errors of the system.
            #[inline]
            pub fn try_write(&self, buf: &[u8]) -> std::io::Result<usize> {
                self.io.try_io(Direction::Write, |mut stream| self.error.write(|| stream.write(buf)))
            }

            /// Ends one direction or both, for every handle of the connection. After `Write` the
            /// peer reads to an end; after `Read` reading returns what has arrived and then 0.
            ///
            /// # Errors
            /// Those of the system, such as [`NotConnected`](std::io::ErrorKind::NotConnected).
            #[inline]
            pub fn shutdown(&self, how: std::net::Shutdown) -> std::io::Result<()> {
                self.io.get().shutdown(how)
            }

            /// Takes the error that the system keeps for this socket (`SO_ERROR`).
            ///
            /// # Errors
            /// If the system cannot be asked.
            #[inline]
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                self.error.take_error(|| self.io.get().take_error())
            }

            /// Both directions, for use in one task at the same time. Costs nothing.
            ///
            $(#[$split_text])*
            #[inline]
            pub fn split(&mut self) -> (ReadHalf<'_, $type>, WriteHalf<'_, $type>) {
                (ReadHalf(self), WriteHalf(self))
            }

            /// Both directions, each for use by a task of its own. Dropping the half that writes
            /// shuts down writing.
            $(#[$into_split_text])*
            #[inline]
            pub fn into_split(self) -> (OwnedReadHalf<$type>, OwnedWriteHalf<$type>) {
                split::into_halves(self)
            }
        }
    };
}

/// Listening again changes only the length of the queue. The system reduces a number that is too
/// large to its maximum.
#[cfg(unix)]
pub(super) fn set_backlog(listener: &impl std::os::fd::AsFd, backlog: u32) -> std::io::Result<()> {
    crate::util::system::listen(listener, backlog)
}

pub(super) use {listener, own_calls, socket_traits, stream, time_to_live};
