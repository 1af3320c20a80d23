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
        #[cfg(unix)]
        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.io.get().as_fd()
            }
        }

        #[cfg(unix)]
        impl std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.io.get().as_raw_fd()
            }
        }

        #[cfg(windows)]
        impl std::os::windows::io::AsSocket for $type {
            fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
                self.io.get().as_socket()
            }
        }
    };
}

pub(super) use {convert_std, descriptors};
