//! A thread that writes a dump each time the signal `SIGUSR1` comes.
//!
//! The thread is none of the runtime's workers, so that there is a dump also when all of them are
//! blocked. A handler writes a byte into a pipe, from which the thread reads.
#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Weak;

use signal_hook::SigId;
use signal_hook::consts::SIGUSR1;
use signal_hook::low_level::{pipe, unregister};

use crate::runtime::inspect;
use crate::scheduler::shared::Shared;
use crate::util::report::complain;

/// The handler of the signal, and the thread's end of the pipe; dropping it ends the thread.
pub(crate) struct DumpOnSignal {
    handler: SigId,
    reader: UnixStream,
}

impl DumpOnSignal {
    /// The second is what the thread runs.
    pub(crate) fn new(shared: Weak<Shared>) -> io::Result<(DumpOnSignal, impl FnOnce() + Send)> {
        let (reader, writer) = UnixStream::pair()?;
        let mut bytes = reader.try_clone()?;
        let handler = pipe::register(SIGUSR1, writer)?;
        let run = move || {
            let mut several = [0; 64];
            // Several signals that have come meanwhile are one.
            loop {
                match bytes.read(&mut several) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Ok(0) | Err(_) => return,
                }
                let Some(shared) = shared.upgrade() else { return };
                complain(format_args!("dump of {}", inspect::dump(&shared)));
            }
        };
        Ok((DumpOnSignal { handler, reader }, run))
    }
}

impl Drop for DumpOnSignal {
    fn drop(&mut self) {
        unregister(self.handler);
        let _ = self.reader.shutdown(Shutdown::Both);
    }
}
