//! moka's cache: the task that makes a value does so in its own context.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use heirloom::{sleep, spawn};
use heirloom_ecosystem::{Library, TENANT, seen, tests};
use moka::future::Cache;

pub struct Moka;

impl Library for Moka {
    const PACKAGE: &'static str = "moka";
    const GUEST: bool = false;
    const SPAWNS: &'static str = "";
    type Client = Cache<u32, u32>;

    async fn connect() -> Cache<u32, u32> {
        Cache::new(10)
    }

    async fn call(cache: Cache<u32, u32>) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let asks = seen();
        let make = async {
            sleep(Duration::from_millis(1)).await;
            assert_eq!(seen(), asks);
            7
        };
        assert_eq!(cache.get_with(NUMBER.fetch_add(1, Relaxed), make).await, 7);
    }

    async fn endless(cache: Cache<u32, u32>) -> String {
        format!("{}", cache.get_with(u32::MAX, pending()).await)
    }
}

tests!(Moka, without a guest);

#[heirloom::test(timeout = "60s")]
async fn a_value_is_made_once() {
    let (cache, made) = (Cache::new(10), Arc::new(AtomicU32::new(0)));
    TENANT.set(7);
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let (cache, made) = (cache.clone(), Arc::clone(&made));
            spawn(async move {
                let make = async {
                    sleep(Duration::from_millis(5)).await;
                    made.fetch_add(1, Relaxed);
                    TENANT.get()
                };
                cache.get_with("tenant", make).await
            })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), Some(7));
    }
    assert_eq!(made.load(Relaxed), 1);
}
