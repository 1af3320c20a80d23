//! Sources and whoever waits for them.
#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};

use mio::event::Source;
use mio::{Events, Interest, Poll as Selector, Registry, Token};
use slab::Slab;

use crate::sync::{Mutex, lock};
use crate::task::budget;
use crate::waiters::{Waiters, wake_all};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

#[derive(Default)]
struct Side {
    ready: bool,
    tick: u64,
    waker: Option<Waker>,
    waiters: Waiters,
}

#[derive(Default)]
struct Sides([Mutex<Side>; 2]);

struct Driver {
    registry: Registry,
    sources: Mutex<Slab<Arc<Sides>>>,
}

fn driver() -> &'static Driver {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    static STARTED: OnceLock<()> = OnceLock::new();
    let mut selector = None;
    let driver = DRIVER.get_or_init(|| {
        let made = Selector::new().expect("a selector");
        let registry = made.registry().try_clone().expect("a registry");
        selector = Some(made);
        Driver { registry, sources: Mutex::default() }
    });
    if let Some(selector) = selector {
        STARTED.get_or_init(|| {
            std::thread::spawn(move || run(selector));
        });
    }
    driver
}

fn run(mut selector: Selector) {
    let mut events = Events::with_capacity(256);
    loop {
        if selector.poll(&mut events, None).is_err() {
            continue;
        }
        for event in &events {
            let sides = lock(&driver().sources).get(event.token().0).cloned();
            let Some(sides) = sides else { continue };
            let closed = event.is_error();
            let hits = [
                event.is_readable() || event.is_read_closed() || closed,
                event.is_writable() || event.is_write_closed() || closed,
            ];
            for (side, hit) in sides.0.iter().zip(hits) {
                if hit {
                    let mut side = lock(side);
                    side.ready = true;
                    side.tick += 1;
                    let mut wakers = side.waiters.take();
                    wakers.extend(side.waker.take());
                    drop(side);
                    wake_all(wakers);
                }
            }
        }
    }
}

pub(crate) struct Registration<S: Source> {
    source: Option<S>,
    sides: Arc<Sides>,
    key: usize,
}

impl<S: Source> Registration<S> {
    pub(crate) fn new(mut source: S) -> io::Result<Self> {
        let sides = Arc::new(Sides::default());
        let key = lock(&driver().sources).insert(sides.clone());
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = driver().registry.register(&mut source, Token(key), both) {
            lock(&driver().sources).remove(key);
            return Err(error);
        }
        Ok(Registration { source: Some(source), sides, key })
    }

    pub(crate) fn get(&self) -> &S {
        self.source.as_ref().expect("taken by `into_inner` alone")
    }

    pub(crate) fn into_inner(mut self) -> io::Result<S> {
        let mut source = self.source.take().expect("taken once");
        driver().registry.deregister(&mut source)?;
        Ok(source)
    }

    fn side(&self, direction: Direction) -> &Mutex<Side> {
        &self.sides.0[direction as usize]
    }

    fn tick(&self, direction: Direction, register: impl FnOnce(&mut Side)) -> Option<u64> {
        let mut side = lock(self.side(direction));
        if side.ready {
            return Some(side.tick);
        }
        register(&mut side);
        None
    }

    fn clear(&self, direction: Direction, tick: u64) {
        let mut side = lock(self.side(direction));
        if side.tick == tick {
            side.ready = false;
        }
    }

    fn poll_with<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut register: impl FnMut(&mut Side, &Waker),
        mut op: impl FnMut(&S) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            let Some(tick) = self.tick(direction, |side| register(side, cx.waker())) else {
                return Poll::Pending;
            };
            ready!(budget::consume(cx));
            match op(self.get()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear(direction, tick),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    pub(crate) fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        op: impl FnMut(&S) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_with(cx, direction, |side, waker| side.waker = Some(waker.clone()), op)
    }

    pub(crate) async fn io<R>(
        &self,
        direction: Direction,
        mut op: impl FnMut(&S) -> io::Result<R>,
    ) -> io::Result<R> {
        struct Waiting<'a>(&'a Mutex<Side>, Option<usize>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                if let Some(key) = self.1 {
                    drop(lock(self.0).waiters.remove(key));
                }
            }
        }
        let mut waiting = Waiting(self.side(direction), None);
        poll_fn(|cx| {
            let register = |side: &mut Side, waker: &Waker| {
                drop(side.waiters.register(&mut waiting.1, waker.clone()));
            };
            self.poll_with(cx, direction, register, &mut op)
        })
        .await
    }

    pub(crate) fn try_io<R>(
        &self,
        direction: Direction,
        op: impl FnOnce(&S) -> io::Result<R>,
    ) -> io::Result<R> {
        let Some(tick) = self.tick(direction, |_| {}) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let result = op(self.get());
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.clear(direction, tick);
        }
        result
    }

    pub(crate) async fn ready(&self, direction: Direction) -> io::Result<()> {
        self.io(direction, |_| Ok(())).await
    }
}

impl<S: Source> Drop for Registration<S> {
    fn drop(&mut self) {
        if let Some(mut source) = self.source.take() {
            let _ = driver().registry.deregister(&mut source);
        }
        lock(&driver().sources).remove(self.key);
    }
}
