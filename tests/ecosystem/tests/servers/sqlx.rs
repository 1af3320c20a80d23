//! sqlx with its features `postgres` and `runtime-tokio`.

use std::time::Instant;

use heirloom::wait_for;
use heirloom_ecosystem::{LONG, Library, SOON, note_own, server, tests};
use sqlx::postgres::{PgPool, PgPoolOptions};

pub struct Sqlx;

impl Library for Sqlx {
    const PACKAGE: &'static str = "sqlx";
    const SPAWNS: &'static str = "a task per pool; one for each connection that goes back to it";
    type Client = PgPool;

    async fn connect() -> PgPool {
        let options = PgPoolOptions::new().max_connections(4).acquire_timeout(LONG);
        let options = options.after_release(|_, _| {
            Box::pin(async {
                note_own::<Sqlx>();
                Ok(true)
            })
        });
        options.connect(&server("POSTGRES_URL")).await.unwrap()
    }

    async fn call(pool: PgPool) {
        let sum = sqlx::query_scalar("SELECT $1::int4 + 3").bind(4_i32).fetch_one(&pool).await;
        assert_eq!(sum.ok(), Some(7_i32));
    }

    async fn endless(pool: PgPool) -> String {
        let waited = sqlx::query("SELECT pg_sleep(3600)").execute(&pool).await;
        format!("{waited:?}")
    }
}

tests!(Sqlx);

/// Whatever runtime a query runs on: the server does not hear that it was given up.
#[heirloom::test(tokio, timeout = "120s")]
async fn a_query_that_was_cut_keeps_its_place_in_the_pool_until_the_server_has_done_it() {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(LONG);
    let pool = pool.connect(&server("POSTGRES_URL")).await.unwrap();
    let begun = Instant::now();
    let second = sqlx::query("SELECT pg_sleep(1)").execute(&pool);
    assert!(wait_for(second, SOON).await.is_err());
    assert!(begun.elapsed().as_millis() < 900, "{:?}", begun.elapsed());
    Sqlx::call(pool).await;
    assert!(begun.elapsed().as_millis() >= 1_000, "{:?}", begun.elapsed());
}
