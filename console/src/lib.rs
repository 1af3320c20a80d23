#![doc = include_str!("../README.md")]
//!
//! # What the tool shows
//!
//! | in the tool | is |
//! | --- | --- |
//! | a task | one of [`Handle::dump`], a blocking closure included; its `task.id` is the one in dumps, errors and reports |
//! | fields | `parent`, `group`, `background`, then the variables of the context, each with the text that it has in dumps: that of a secret is `[secret]` |
//! | polls, busy, sched | the task's [polls](heirloom::runtime::Recorded::polls), [busy](heirloom::runtime::Recorded::busy) and [waited](heirloom::runtime::Recorded::waited) |
//! | wakes | [wake-ups](heirloom::runtime::Recorded::wake_ups) while the task was idle |
//! | current wakers | [wakers](heirloom::runtime::Recorded::wakers), abort handles included; the tool warns of an idle task without any |
//!
//! A task that lives for less than the time between two updates (a second) is not seen. Histograms
//! of single tasks, self-wakes, resources and async operations are not known, and the tool shows
//! none.
//!
//! # What it costs
//!
//! Nothing before [`start`]. Then a thread, and while the tool is connected a second one and one
//! dump a second, which holds up no worker. A runtime that is
//! [inspected](heirloom::runtime::Builder::inspect) has its costs of its own.
//!
//! These threads are of a runtime of their own. So the tool also answers while all workers of the
//! observed runtime are blocked, and its connections are not among the tasks that it shows.
#![forbid(unsafe_code)]

mod service;
mod watch;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc;

use console_api::instrument::instrument_server::InstrumentServer;
use heirloom::net::TcpListener;
use heirloom::{Handle, Runtime};

use service::Service;

/// The address at which `tokio-console` looks when it is told no other: 127.0.0.1, port 6669.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6669);

/// Serves the tool until it is dropped; made by [`start`].
#[must_use = "the tool is served until this is dropped"]
pub struct Console {
    address: SocketAddr,
    /// It ends with this, and the server with it.
    _runtime: Runtime,
}

/// Starts a thread that tells `tokio-console` about a runtime, at an address.
///
/// Names of tasks, places in the source and texts of context variables are sent to any program that
/// connects, so the address is one that only the service's owners can reach, as
/// [`DEFAULT_ADDRESS`] is.
///
/// # Errors
/// If the runtime is not [inspected](heirloom::runtime::Builder::inspect), with
/// [`InvalidInput`](io::ErrorKind::InvalidInput). If the address cannot be bound, or the thread not
/// be started.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = heirloom::Runtime::builder().workers(1).inspect(true).build()?;
/// let console = heirloom_console::start(runtime.handle(), ([127, 0, 0, 1], 0).into())?;
/// assert_ne!(console.address().port(), 0);
/// # Ok(()) }
/// ```
#[doc(alias = "init")]
#[doc(alias = "console_subscriber")]
pub fn start(observed: &Handle, address: SocketAddr) -> io::Result<Console> {
    if observed.stats().times.is_none() {
        let message = "the runtime is not inspected: build it with `Builder::inspect(true)`";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let runtime = Runtime::builder().workers(1).build()?;
    let service = InstrumentServer::new(Service::new(observed.clone()));
    // Not by `block_on`, which no task may call.
    let (tell, told) = mpsc::channel();
    let serving = async move {
        let bound = TcpListener::bind(address).await;
        let listener = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = match listener {
            Ok((address, listener)) => (Ok(address), Some(listener)),
            Err(error) => (Err(error), None),
        };
        let _ = tell.send(address);
        if let Some(listener) = listener {
            heirloom::hyper::serve(listener, service).http2_only(true).run().await;
        }
    };
    runtime.spawn(serving).detach();
    let address = told.recv().map_err(io::Error::other)??;
    Ok(Console { address, _runtime: runtime })
}

impl Console {
    /// The address at which the tool is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("address", &self.address).finish_non_exhaustive()
    }
}
