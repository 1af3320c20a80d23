//! tower's layers that need tokio's timer or a task.

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use heirloom_ecosystem::{LONG, Library, note_own, tests};
use tower::buffer::Buffer;
use tower::timeout::error::Elapsed;
use tower::{Service, ServiceBuilder, ServiceExt};

/// Called in the worker of the buffer.
#[derive(Clone, Copy)]
pub struct Plus3;

impl Service<u32> for Plus3 {
    type Response = u32;
    type Error = Infallible;
    type Future = Ready<Result<u32, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, number: u32) -> Self::Future {
        note_own::<Tower>();
        ready(Ok(number + 3))
    }
}

pub struct Tower;

impl Library for Tower {
    const PACKAGE: &'static str = "tower";
    const WAY: &'static str = "`Buffer`, `RateLimit`, `Timeout`";
    const SPAWNS: &'static str = "the worker of `Buffer`, which calls the service";
    type Client = Buffer<u32, <tower::timeout::Timeout<Plus3> as Service<u32>>::Future>;

    async fn connect() -> Self::Client {
        ServiceBuilder::new().buffer(4).timeout(LONG).service(Plus3)
    }

    async fn call(client: Self::Client) {
        assert_eq!(client.oneshot(4).await.unwrap(), 7);

        let slow = || tower::service_fn(|()| pending::<Result<(), Infallible>>());
        let timed = ServiceBuilder::new().timeout(Duration::from_millis(1)).service(slow());
        assert!(timed.oneshot(()).await.unwrap_err().is::<Elapsed>());
        let twice = tower::service_fn(async |number: u32| Ok::<_, Infallible>(number * 2));
        let mut rare = ServiceBuilder::new().rate_limit(1, Duration::from_millis(1)).service(twice);
        for _ in 0..3 {
            assert_eq!(rare.ready().await.unwrap().call(4).await.unwrap(), 8);
        }
    }

    async fn endless(_: Self::Client) -> String {
        let slow = tower::service_fn(|()| pending::<Result<(), Infallible>>());
        format!("{:?}", ServiceBuilder::new().timeout(LONG).service(slow).oneshot(()).await)
    }
}

tests!(Tower);
