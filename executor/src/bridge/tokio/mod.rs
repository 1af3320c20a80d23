//! Libraries that need tokio's runtime, in tasks of this executor: tokio as a guest.
//!
//! `tokio::time`, `tokio::net`, `tokio::fs`, `tokio::process`, `tokio::spawn` and what stands on
//! them (reqwest, sqlx, tonic, most database drivers) ask for a tokio runtime on their thread. A
//! *guest* is such a runtime, of which the threads of a [`Runtime`](crate::Runtime) are inside: the
//! workers, the threads of the blocking pool, and each thread that is in a
//! [`block_on`](crate::block_on) of the runtime.
//!
//! ```
//! use std::time::Duration;
//! use heirloom::tokio::TokioGuest;
//! use heirloom::{context_var, spawn, wait_for};
//!
//! context_var! { static REQUEST_ID: u64; }
//!
//! # fn main() -> std::io::Result<()> {
//! let runtime = heirloom::Runtime::builder().tokio(TokioGuest::new()).build()?;
//! runtime.block_on(async {
//!     REQUEST_ID.set(7);
//!     let task = spawn(async {
//!         tokio::time::sleep(Duration::from_millis(5)).await; // tokio's timer, this crate's task
//!         REQUEST_ID.get()
//!     });
//!     assert_eq!(task.await.unwrap(), Some(7));
//!
//!     let never = tokio::time::sleep(Duration::from_secs(3_600));
//!     assert!(wait_for(never, Duration::from_millis(5)).await.is_err());
//! });
//! # Ok(()) }
//! ```
//!
//! `#[heirloom::main(tokio)]` and `#[heirloom::test(tokio)]` say the same for a program and a test;
//! [`build_default`](crate::runtime::Builder::build_default) for the default runtime of a program
//! that has no such `main`.
//!
//! # What runs where
//!
//! | what | where | context and deadline |
//! | --- | --- | --- |
//! | a future of tokio's that a task awaits | in the task, on its worker; the guest's thread wakes the task | the task's |
//! | what a library spawns by `tokio::spawn` | on the guest | none, unless it is wrapped by [`in_context`](crate::context::ContextFutureExt::in_context), or the guest [carries contexts](#contexts-in-what-the-guest-runs) |
//! | `tokio::task::spawn_blocking`, `tokio::fs` | on the blocking pool of the guest | none; `tokio::fs` needs none |
//!
//! A poll costs nothing more: a thread enters the guest once, when it starts or begins a
//! `block_on`. (A runtime without a guest asks for one in each `block_on`, and nowhere else.)
//!
//! # Contexts in what the guest runs
//!
//! With feature `tokio-hooks` and `--cfg tokio_unstable`, `heirloom::context::tokio::carry` has a
//! guest's tasks inherit too: a `tokio::spawn`, also inside a library that a task of this crate
//! calls, starts from what the task hands down, with its deadline; and a [`spawn`](crate::spawn())
//! of this crate in a task of the guest inherits back. Pools are detached, as the page of that
//! module says.
//!
//! ```
//! # #[cfg(all(feature = "tokio-hooks", tokio_unstable))]
//! # fn main() -> std::io::Result<()> {
//! use heirloom::context::tokio::carry;
//! use heirloom::tokio::TokioGuest;
//! use heirloom::{context_var, spawn};
//!
//! context_var! { static REQUEST_ID: u64; }
//!
//! let guest = TokioGuest::configured(|builder| {
//!     carry(builder);
//! });
//! let runtime = heirloom::Runtime::builder().tokio(guest).build()?;
//! runtime.block_on(async {
//!     REQUEST_ID.set(7);
//!     let there = tokio::spawn(async {
//!         let back = spawn(async { REQUEST_ID.get() }).await.unwrap();
//!         (REQUEST_ID.get(), back)
//!     });
//!     assert_eq!(there.await.unwrap(), (Some(7), Some(7)));
//! });
//! # Ok(()) }
//! # #[cfg(not(all(feature = "tokio-hooks", tokio_unstable)))]
//! # fn main() {}
//! ```
//!
//! # Shutdown
//!
//! First the tasks of the runtime are dropped, as ever. Then a guest of [`TokioGuest::new`] or
//! [`TokioGuest::configured`] is ended: its tasks are dropped, its thread ends, and blocking
//! closures that run in its pool are not waited for. A guest from a handle is the program's, and
//! goes on.

#[cfg(feature = "net")]
mod sockets;

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use crate::runtime::Builder;
use crate::util::threads::{Guest, Threads};

/// How long a runtime from a handle may take to poll a first task. Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(1);

/// A tokio runtime of which a [`Runtime`](crate::Runtime)'s threads are inside; for
/// [`Builder::tokio`]. The [module](self) says what for.
#[derive(Clone, Default)]
pub struct TokioGuest(Origin);

#[derive(Clone, Default)]
enum Origin {
    #[default]
    Plain,
    /// What sets up the builder of the guest's runtime.
    Configured(Arc<dyn Fn(&mut tokio::runtime::Builder) + Send + Sync>),
    /// The program's own runtime.
    Program(Handle),
}

impl TokioGuest {
    /// A guest that starts and ends with the runtime: a current-thread runtime of tokio with its
    /// I/O and time drivers, on a thread that is named `heirloom-tokio` (or with the runtime's own
    /// [`thread_name`](Builder::thread_name) in place of `heirloom`).
    #[must_use]
    pub fn new() -> TokioGuest {
        TokioGuest::default()
    }

    /// The same with a function that sets up the builder of the guest's runtime first: hooks of
    /// tasks, as `heirloom::context::tokio::carry` sets them; the size of its blocking pool.
    ///
    /// The builder is that of a current-thread runtime, with its drivers and the names of its
    /// threads set. The function is called once for each runtime that the guest is given to, on the
    /// thread that builds that runtime.
    ///
    /// ```
    /// use heirloom::tokio::TokioGuest;
    ///
    /// let guest = TokioGuest::configured(|builder| {
    ///     builder.max_blocking_threads(4);
    /// });
    /// # let _ = guest;
    /// ```
    #[must_use]
    pub fn configured(set_up: impl Fn(&mut tokio::runtime::Builder) + Send + Sync + 'static) -> TokioGuest {
        TokioGuest(Origin::Configured(Arc::new(set_up)))
    }

    fn start(&self, threads: &Threads) -> io::Result<Arc<dyn Guest>> {
        match &self.0 {
            Origin::Plain => Ok(Arc::new(OwnGuest::start(threads, &|_| ())?)),
            Origin::Configured(set_up) => Ok(Arc::new(OwnGuest::start(threads, &**set_up)?)),
            Origin::Program(handle) => {
                check(handle)?;
                Ok(Arc::new(handle.clone()))
            }
        }
    }
}

impl fmt::Debug for TokioGuest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Origin::Plain => "new",
            Origin::Configured(_) => "configured",
            Origin::Program(_) => "from a handle",
        };
        f.debug_tuple("TokioGuest").field(&format_args!("{kind}")).finish()
    }
}

/// A guest that is the program's. It must have its drivers enabled, and outlive the runtime's
/// tasks.
///
/// [`Builder::build`] returns an error of the kind [`InvalidInput`](io::ErrorKind::InvalidInput) if
/// the runtime of the handle has ended, or if it is a current-thread runtime that does not poll a
/// task within a second, since no thread drives it by `block_on`.
impl From<Handle> for TokioGuest {
    fn from(handle: Handle) -> TokioGuest {
        TokioGuest(Origin::Program(handle))
    }
}

impl Builder {
    /// The runtime's threads are inside a tokio runtime, for libraries that need one; see
    /// [`heirloom::tokio`](crate::tokio). Default: none.
    ///
    /// # Errors
    /// [`build`](Self::build) returns an error of the kind
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a second guest, for one together with
    /// [virtual time](Self::virtual_time), and for a handle that [cannot be
    /// used](TokioGuest#impl-From<Handle>-for-TokioGuest); and the error of the operating system if
    /// it refuses a thread or a descriptor.
    #[must_use]
    pub fn tokio(mut self, guest: TokioGuest) -> Self {
        self.guest = Some(match self.guest {
            None => Arc::new(move |threads| guest.start(threads)),
            Some(_) => Arc::new(|_| {
                Err(invalid("a runtime has one tokio guest, and got two: call `Builder::tokio` once"))
            }),
        });
        self
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, message)
}

/// Looks whether a runtime runs what is spawned on it.
fn check(handle: &Handle) -> io::Result<()> {
    // The thread that drives it cannot wait for it.
    if Handle::try_current().is_ok_and(|current| current.id() == handle.id()) {
        return Ok(());
    }
    let (polled, answer) = mpsc::channel();
    handle.spawn(async move { polled.send(()) });
    match answer.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Disconnected) => Err(invalid(
            "the tokio runtime of this handle has ended: keep it until the runtime that it is a guest of has, or use \
             `TokioGuest::new()`",
        )),
        Err(RecvTimeoutError::Timeout) if handle.runtime_flavor() == RuntimeFlavor::CurrentThread => {
            Err(invalid(
                "no thread drives the current-thread tokio runtime of this handle: have a thread in its `block_on` \
                 all the time, or use `TokioGuest::new()`, which has such a thread",
            ))
        }
        Ok(()) | Err(RecvTimeoutError::Timeout) => Ok(()),
    }
}

impl Guest for Handle {
    fn inside(&self, body: &mut dyn FnMut()) {
        let _entered = self.enter();
        body();
    }

    fn end(&self, _wait: bool) {}
}

/// A current-thread runtime with a thread that drives it.
struct OwnGuest {
    handle: Handle,
    /// Until the end: what ends the thread, and the thread.
    running: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
}

impl OwnGuest {
    fn start(threads: &Threads, set_up: &dyn Fn(&mut tokio::runtime::Builder)) -> io::Result<OwnGuest> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().thread_name(format!("{}-tokio-blocking", threads.name));
        set_up(&mut builder);
        let runtime = builder.build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = threads.start("tokio", move || {
            // An error says that the sender is gone, which is an end as well.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(OwnGuest { handle, running: Mutex::new(Some((end, thread))) })
    }
}

impl Guest for OwnGuest {
    fn inside(&self, body: &mut dyn FnMut()) {
        self.handle.inside(body);
    }

    fn end(&self, wait: bool) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((end, thread)) = running else { return };
        drop(end);
        // A task of the guest may end the runtime.
        if wait && thread.thread().id() != thread::current().id() {
            // A panic there is a bug of the guest's, and the panic hook has reported it.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for OwnGuest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnGuest").field("handle", &self.handle).finish_non_exhaustive()
    }
}
