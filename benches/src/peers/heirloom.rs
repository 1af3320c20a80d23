//! Heirloom. `Heirloom<8>` has eight variables bound in the spawner's context, which every task
//! inherits: it is the one that is judged. `Heirloom<0>` has none, and `Heirloom<0, true>` has
//! hooks that do nothing.
//!
//! This file is compiled once for each build of the crate. The module around it says which build
//! `tested` is, and how the two peers are called in tables. `benches/variants` includes it for
//! builds with a mechanism switched off.

use std::future::Future;
use std::hint::black_box;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use heirloom_benches::echo;
use heirloom_benches::load::executor::{Alarms, Inspection, Loadable, MakeVariable, Observed, Variable};
use heirloom_benches::net::serve::{Answers, BUFFER, SMALL, Sockets, hello};
use heirloom_benches::peers::{Executor, Inheriting, Timers, Unwrapped};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::NAMES;
use super::tested::context::{ContextFutureExt as _, ContextVar};
use super::tested::net::{TcpListener, TcpStream};
use super::tested::runtime::{Builder, Hooks};
use super::tested::task::TaskMeta;
use super::tested::{self, Context, Handle, JoinHandle, Runtime, context_var};

macro_rules! variables {
    ($($name:ident)*) => {
        context_var! { $(static $name: u64;)* }

        /// Binds the first `count` variables in the current context.
        fn bind(count: usize) {
            let mut bound = 0;
            $(
                if bound < count {
                    $name.set(bound as u64);
                    bound += 1;
                }
            )*
            assert_eq!(bound, count, "there are not so many variables to bind");
        }
    };
}

variables! {
    V0 V1 V2 V3 V4 V5 V6 V7 V8 V9 V10 V11 V12 V13 V14 V15
    V16 V17 V18 V19 V20 V21 V22 V23 V24 V25 V26 V27 V28 V29 V30 V31
}

context_var! {
    /// The number of a request, where requests have contexts.
    static REQUEST_ID: u64;
}

/// A context for the next request, on top of what the connection has.
fn next_request() -> Context {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Context::current().with_var(&REQUEST_ID, NEXT.fetch_add(1, Relaxed))
}

/// Heirloom, with `BOUND` variables in the context that every task inherits; `HOOKED` if its hooks
/// are `Nothing`.
#[derive(Clone, Copy, Debug)]
pub struct Heirloom<const BOUND: usize, const HOOKED: bool = false>(&'static Started);

/// Hooks that are called, and do nothing.
struct Nothing;

impl Hooks for Nothing {
    fn on_spawn(&self, _: &TaskMeta, _: &Context) {}
    fn before_poll(&self, _: &TaskMeta) {}
    fn after_poll(&self, _: &TaskMeta) {}
    fn on_done(&self, _: &TaskMeta) {}
    fn on_wake(&self, _: &TaskMeta) {}
}

#[derive(Debug)]
struct Started {
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
    /// What the watchdog has reported, if there is one.
    alarms: Option<&'static Mutex<Alarms>>,
}

impl<const BOUND: usize, const HOOKED: bool> Heirloom<BOUND, HOOKED> {
    fn build(builder: Builder, alarms: Option<&'static Mutex<Alarms>>) -> Self {
        let runtime = builder.build().expect("no thread for a worker");
        let handle = runtime.handle().clone();
        Heirloom(Box::leak(Box::new(Started { handle, runtime: Mutex::new(Some(runtime)), alarms })))
    }
}

impl<const BOUND: usize, const HOOKED: bool> Executor for Heirloom<BOUND, HOOKED> {
    const NAME: &'static str = match (BOUND, HOOKED) {
        (_, true) => "heirloom-hooks",
        (0, false) => NAMES.bare,
        (_, false) => NAMES.judged,
    };

    type Join<T: Send + 'static> = Unwrapped<JoinHandle<T>>;

    fn start(workers: usize) -> Self {
        let builder = Runtime::builder().workers(workers);
        Self::build(if HOOKED { builder.hooks(Arc::new(Nothing)) } else { builder }, None)
    }

    fn stop(self) {
        drop(self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn within<R>(f: impl FnOnce() -> R) -> R {
        Self::with_bound(BOUND, f)
    }

    #[inline]
    fn spawn<F: Future<Output: Send + 'static> + Send + 'static>(&self, f: F) -> Self::Join<F::Output> {
        Unwrapped(self.0.handle.spawn(f))
    }

    #[inline]
    fn detach<F: Future<Output = ()> + Send + 'static>(&self, f: F) {
        self.0.handle.spawn(f).detach();
    }

    fn block_on<F: Future>(&self, f: F) -> F::Output {
        self.0.handle.block_on(f)
    }

    #[inline]
    fn yield_now() -> impl Future<Output = ()> + Send {
        tested::yield_now()
    }
}

impl<const BOUND: usize, const HOOKED: bool> Timers for Heirloom<BOUND, HOOKED> {
    #[inline]
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send {
        tested::sleep(duration)
    }

    #[inline]
    async fn timeout<F: Future<Output: Send> + Send>(limit: Duration, f: F) -> Option<F::Output> {
        tested::wait_for(f, limit).await.ok()
    }
}

/// The next connection, which sends without delay.
async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// With variables bound, each request over HTTP has a context of its own too, and reads it.
impl<const BOUND: usize, const HOOKED: bool> Sockets for Heirloom<BOUND, HOOKED> {
    async fn echo(self, listener: StdListener) -> io::Result<()> {
        let listener = TcpListener::try_from(listener)?;
        loop {
            let mut stream = accept(&listener).await?;
            self.detach(async move { echo!(stream) });
        }
    }

    async fn echo_small(self, listener: StdListener) -> io::Result<()> {
        let listener = TcpListener::try_from(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            self.detach(async move { echo!(stream, [0; SMALL]) });
        }
    }

    async fn http<S: Answers>(self, listener: StdListener, service: S) -> io::Result<()> {
        let listener = TcpListener::try_from(listener)?;
        loop {
            let stream = accept(&listener).await?;
            let service = service.clone();
            self.detach(async move {
                let _ = http1::Builder::new().serve_connection(stream, service).await;
            });
        }
    }

    async fn hello(self, listener: StdListener) -> io::Result<()> {
        if BOUND == 0 {
            return self.http(listener, service_fn(hello)).await;
        }
        let service = |request| {
            let answer = async move {
                black_box(REQUEST_ID.get());
                hello(request).await
            };
            answer.in_context(next_request())
        };
        self.http(listener, service_fn(service)).await
    }
}

impl<const BOUND: usize, const HOOKED: bool> Inheriting for Heirloom<BOUND, HOOKED> {
    fn with_bound<R>(count: usize, f: impl FnOnce() -> R) -> R {
        Context::empty().run(|| {
            bind(count);
            f()
        })
    }

    async fn echo_in_contexts(self, listener: StdListener) -> io::Result<()> {
        let listener = TcpListener::try_from(listener)?;
        loop {
            let mut stream = accept(&listener).await?;
            self.detach(async move {
                echo!(stream, vec![0; BUFFER], buffer, length => {
                    let answer = async {
                        black_box(REQUEST_ID.get());
                        stream.write_all(&buffer[..length]).await
                    };
                    answer.in_context(next_request()).await
                })
            });
        }
    }
}

/// In the load test each request binds its own variables.
impl Loadable for Heirloom<0> {
    const LABEL: &'static str = NAMES.judged;

    const VARIABLE: Option<MakeVariable> = Some(|name| Box::new(Carried(ContextVar::new(name))));

    fn start_inspected(workers: usize, Inspection { times, limit }: Inspection) -> Self {
        let builder = Runtime::builder().workers(workers).inspect(times);
        let Some(limit) = limit else { return Self::build(builder, None) };
        let alarms: &'static Mutex<Alarms> = Box::leak(Box::default());
        let builder = builder.watchdog(limit).on_stall(move |stall| {
            let mut alarms = alarms.lock().unwrap_or_else(PoisonError::into_inner);
            alarms.report(stall.took, stall.ended, stall.to_string());
        });
        Self::build(builder, Some(alarms))
    }

    async fn blocking<F: FnOnce() + Send + 'static>(f: F) {
        let _ = tested::spawn_blocking(f).await;
    }

    fn in_own_context<F: Future + Send>(f: F) -> impl Future<Output = F::Output> + Send {
        f.in_context(Context::inherited())
    }

    fn observe(&self) -> Observed {
        let stats = self.0.handle.stats();
        let workers = &stats.workers;
        let queued = stats.injected + workers.iter().map(|worker| worker.queued).sum::<usize>();
        Observed {
            polls: Some(workers.iter().map(|worker| worker.polls).sum()),
            steals: Some(workers.iter().map(|worker| worker.steals).sum()),
            parks: Some(workers.iter().map(|worker| worker.parks).sum()),
            queued: Some(queued as u64),
            schedule_latency: stats.times.as_ref().map(|times| times.schedule_latency.buckets().collect()),
        }
    }

    fn alarms(&self) -> Option<Alarms> {
        let alarms = self.0.alarms?;
        Some(alarms.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

#[derive(Debug)]
struct Carried(ContextVar<u64>);

impl Variable for Carried {
    fn get(&self) -> Option<u64> {
        self.0.get()
    }

    fn set(&self, value: u64) {
        self.0.set(value);
    }
}
