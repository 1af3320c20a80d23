//! tower's layers that need neither a timer nor a task: limits of calls.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures::future::BoxFuture;
use heirloom::{sleep, spawn};
use heirloom_ecosystem::{Library, tests};
use tower::limit::ConcurrencyLimit;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt};

const NEVER: u32 = u32::MAX;

type Limited = ConcurrencyLimit<BoxCloneSyncService<u32, u32, Infallible>>;

/// Two calls at once.
fn limited() -> Limited {
    let inside = Arc::new(AtomicU32::new(0));
    let plus_3 = move |number: u32| -> BoxFuture<'static, _> {
        let inside = Arc::clone(&inside);
        Box::pin(async move {
            assert!(inside.fetch_add(1, Relaxed) < 2, "three at once");
            sleep(Duration::from_millis(2)).await;
            if number == NEVER {
                pending::<()>().await;
            }
            inside.fetch_sub(1, Relaxed);
            Ok(number + 3)
        })
    };
    let plus_3 = BoxCloneSyncService::new(tower::service_fn(plus_3));
    ServiceBuilder::new().concurrency_limit(2).service(plus_3)
}

pub struct Tower;

impl Library for Tower {
    const PACKAGE: &'static str = "tower";
    const WAY: &'static str = "`concurrency_limit`, `load_shed`";
    const GUEST: bool = false;
    const SPAWNS: &'static str = "";
    type Client = Limited;

    async fn connect() -> Limited {
        limited()
    }

    async fn call(service: Limited) {
        assert_eq!(service.oneshot(4).await, Ok(7));
    }

    async fn endless(service: Limited) -> String {
        format!("{:?}", service.oneshot(NEVER).await)
    }
}

tests!(Tower, without a guest);

#[heirloom::test(timeout = "60s")]
async fn too_many_calls_wait_or_are_shed() {
    let calls: Vec<_> = {
        let service = limited();
        (0..8).map(|number| spawn(service.clone().oneshot(number))).collect()
    };
    for (number, call) in (0..).zip(calls) {
        assert_eq!(call.await.unwrap(), Ok(number + 3));
    }

    let mut shedding = ServiceBuilder::new().load_shed().service(limited());
    let (one, two) = (shedding.ready().await.unwrap().call(1), shedding.ready().await.unwrap().call(2));
    let refused = shedding.ready().await.unwrap().call(3).await;
    assert!(refused.unwrap_err().is::<tower::load_shed::error::Overloaded>());
    assert_eq!((one.await.unwrap(), two.await.unwrap()), (4, 5));
}
