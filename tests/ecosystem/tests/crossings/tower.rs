//! tower's `Buffer`: `poll_ready` and `call` run in the worker, the future of `call` in the caller.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use heirloom::{spawn, spawn_background, wait_for};
use heirloom_ecosystem::{LONG, Seen, TENANT, seen};
use tower::buffer::Buffer;
use tower::{Service, ServiceExt};

#[derive(Clone, Default)]
struct Looks(Arc<Mutex<Vec<(&'static str, Seen)>>>);

impl Looks {
    fn note(&self, place: &'static str) {
        self.0.lock().unwrap().push((place, seen()));
    }
}

impl Service<()> for Looks {
    type Response = ();
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.note("poll_ready");
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.note("call");
        let looks = self.clone();
        Box::pin(async move {
            looks.note("future");
            Ok(())
        })
    }
}

#[heirloom::test(timeout = "60s")]
async fn a_buffered_service_is_called_in_the_worker() {
    let [nothing, starter, caller] = [(None, false), (Some(1), false), (Some(7), true)]
        .map(|(tenant, deadline)| Seen { tenant, deadline });
    for (background, worker) in [(true, nothing), (false, starter)] {
        let looks = Looks::default();
        let (buffer, work) = Buffer::pair(looks.clone(), 4);
        TENANT.set(1);
        if background {
            spawn_background(work);
        } else {
            spawn(work).detach();
        }
        TENANT.set(7);
        wait_for(buffer.oneshot(()), LONG).await.unwrap().unwrap();
        let seen = looks.0.lock().unwrap().clone();
        assert_eq!(seen, [("poll_ready", worker), ("call", worker), ("future", caller)]);
    }
}
