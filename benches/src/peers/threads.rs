//! Threads for peers that bring none of their own.

use std::sync::{Mutex, PoisonError};
use std::thread;

use futures::channel::oneshot;

/// Threads that each run one function, which ends when its receiver is told to.
#[derive(Debug)]
pub struct Threads(Mutex<Vec<(oneshot::Sender<()>, thread::JoinHandle<()>)>>);

impl Threads {
    /// Starts `count` threads.
    ///
    /// # Panics
    /// If the machine has no thread to give.
    pub fn start(
        name: &str,
        count: usize,
        body: impl Fn(oneshot::Receiver<()>) + Clone + Send + 'static,
    ) -> Self {
        let thread = |_| {
            let (stop, stopped) = oneshot::channel();
            let body = body.clone();
            let run = move || body(stopped);
            (stop, thread::Builder::new().name(name.to_owned()).spawn(run).expect("no thread for a worker"))
        };
        Threads(Mutex::new((0..count).map(thread).collect()))
    }

    /// Tells all threads to end, and waits for them.
    ///
    /// # Panics
    /// If one of them has.
    pub fn stop(&self) {
        let threads = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let handles: Vec<_> = threads
            .into_iter()
            .map(|(stop, handle)| {
                let _ = stop.send(());
                handle
            })
            .collect();
        for handle in handles {
            handle.join().expect("a worker panicked");
        }
    }
}
