//! From and to the standard library's sockets, and their descriptors.

/// `TryFrom` in both directions for a type that can be made by `new` of a socket of mio's, and has it in its field `io`.
macro_rules! convert_std {
    ($type:ident, $std:ty, $mio:ty) => {
        /// Takes the socket over, and makes it non-blocking. It belongs to the runtime of this thread from now on, else to
        /// the default one.
        ///
        /// # Errors
        /// Those of the system.
        impl TryFrom<$std> for $type {
            type Error = std::io::Error;

            fn try_from(socket: $std) -> std::io::Result<Self> {
                socket.set_nonblocking(true)?;
                $type::new(<$mio>::from_std(socket))
            }
        }

        /// Gives the socket back as the standard library makes them, that is blocking. Made into one of ours again, it
        /// belongs to another runtime.
        ///
        /// # Errors
        /// Those of the system.
        impl TryFrom<$type> for $std {
            type Error = std::io::Error;

            fn try_from(socket: $type) -> std::io::Result<Self> {
                let socket = <$std>::from(socket.io.into_inner()?);
                socket.set_nonblocking(false)?;
                Ok(socket)
            }
        }
    };
}

/// The socket's descriptor, for options that have no method here.
macro_rules! descriptors {
    ($type:ident) => {
        /// For options that have no method here. A call that reads or writes, accepts or sends
        /// belongs in `try_io`, where the type has it: else the socket does not learn that it is
        /// not ready any more.
        #[cfg(unix)]
        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.io.get().as_fd()
            }
        }

        /// As [`AsFd`](std::os::fd::AsFd), with what is said there.
        #[cfg(unix)]
        impl std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.io.get().as_raw_fd()
            }
        }

        /// For options that have no method here.
        #[cfg(windows)]
        impl std::os::windows::io::AsSocket for $type {
            fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
                self.io.get().as_socket()
            }
        }
    };
}

/// System calls that have no method here.
macro_rules! own_calls {
    ($type:ident) => {
        impl $type {
            /// Makes a system call of one's own, if `direction` is not known to block.
            ///
            /// `operation` is one attempt on this socket that does not wait. It returns
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if the system does, and only then:
            /// the socket counts as not ready from then on, until the next event, so that
            /// [`readable`](Self::readable) or [`writable`](Self::writable) waits. An operation
            /// that was [`Interrupted`](std::io::ErrorKind::Interrupted) is tried again.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if the direction is known to block;
            /// `operation` is not called then. Else what `operation` returns.
            ///
            /// ```
            /// # #[cfg(unix)]
            /// # fn main() -> std::io::Result<()> {
            /// use std::io::{self, ErrorKind};
            /// use heirloom::net::{Direction, UnixStream};
            /// use rustix::net::{RecvFlags, recv};
            ///
            /// /// Looks at what has arrived, and leaves it there.
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
                // By mio, which may have to ask for the next event.
                self.io.try_io(direction, |socket| socket.try_io(&mut operation))
            }
        }
    };
}

/// The queue of a listener, which the system fills with connections until they are accepted.
macro_rules! queue {
    ($type:ident, $mio:ty) => {
        impl $type {
            /// With the longest queue that the system allows, for a socket that listens already.
            fn with_longest_queue(listener: $mio) -> std::io::Result<$type> {
                #[cfg(unix)]
                crate::net::platform::set_backlog(&listener, u32::MAX)?;
                $type::new(listener)
            }

            /// How many connections may be in the queue, where the system keeps them until they are
            /// [accepted](Self::accept). Unix only.
            ///
            /// A listener that was bound here has the longest queue that the system allows; one
            /// that was converted from the standard library keeps the length that it was given
            /// there. A number above the system's maximum counts as the maximum:
            /// `net.core.somaxconn` on Linux, 4,096 unless it was changed, `kern.ipc.somaxconn` or
            /// the like elsewhere. Systems take the number as a hint; Linux lets one connection
            /// more in.
            ///
            /// What happens to a connection that finds the queue full is the system's business:
            /// Linux lets TCP clients try again and again, for minutes, until it gives them up, and
            /// tells Unix clients [`WouldBlock`](std::io::ErrorKind::WouldBlock).
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
            pub fn set_backlog(&self, backlog: u32) -> std::io::Result<()> {
                crate::net::platform::set_backlog(self.io.get(), backlog)
            }
        }
    };
}

/// Listening again only changes the length of the queue. The systems cut a number that is too large
/// down to their maximum.
#[cfg(unix)]
pub(super) fn set_backlog(listener: &impl std::os::fd::AsFd, backlog: u32) -> std::io::Result<()> {
    Ok(rustix::net::listen(listener, i32::try_from(backlog).unwrap_or(i32::MAX))?)
}

pub(super) use {convert_std, descriptors, own_calls, queue};
