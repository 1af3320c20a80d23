//! The shop's database and its cache: sqlx on PostgreSQL, and redis. Where the environment names no
//! server, SQLite in a file, and a map in memory.

use std::collections::HashMap;
use std::env;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use heirloom::tower::BoxError;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;

use crate::order::look;
use crate::wire::REQUEST;

pub(crate) struct Store {
    pool: AnyPool,
    cache: Cache,
    /// Which of them, in words.
    pub(crate) names: String,
}

enum Cache {
    Redis(MultiplexedConnection),
    Memory(Mutex<HashMap<String, u64>>),
}

impl Store {
    /// `POSTGRES_URL` and `REDIS_URL`, if they are set.
    pub(crate) async fn open(folder: &Path) -> Result<Store, BoxError> {
        sqlx::any::install_default_drivers();
        let (database, url, connections) = match env::var("POSTGRES_URL") {
            Ok(url) => ("PostgreSQL", url, 8),
            // SQLite has one writer.
            Err(_) => ("SQLite", format!("sqlite://{}?mode=rwc", folder.join("shop.db").display()), 1),
        };
        let pool = AnyPoolOptions::new().max_connections(connections).connect(&url).await?;
        sqlx::query("DROP TABLE IF EXISTS heirloom_shop_orders").execute(&pool).await?;
        let table =
            "CREATE TABLE heirloom_shop_orders (number BIGINT PRIMARY KEY, request TEXT, price BIGINT)";
        sqlx::query(table).execute(&pool).await?;
        let (store, cache) = match env::var("REDIS_URL") {
            Ok(url) => {
                let client = redis::Client::open(url)?;
                ("Redis", Cache::Redis(client.get_multiplexed_async_connection().await?))
            }
            Err(_) => ("a map", Cache::Memory(Mutex::default())),
        };
        Ok(Store { pool, cache, names: format!("{database}, {store}") })
    }

    /// The price of an item, if it was remembered.
    pub(crate) async fn price(&self, order: u64, item: u64) -> Result<Option<u64>, BoxError> {
        let price = match &self.cache {
            Cache::Redis(connection) => {
                let mut connection = connection.clone();
                cmd("GET").arg(key(item)).query_async(&mut connection).await?
            }
            Cache::Memory(map) => map.lock().unwrap_or_else(PoisonError::into_inner).get(&key(item)).copied(),
        };
        look("cache", order);
        Ok(price)
    }

    /// Remembers the price of an item for a minute.
    pub(crate) async fn remember(&self, item: u64, price: u64) -> Result<(), BoxError> {
        match &self.cache {
            Cache::Redis(connection) => {
                let mut connection = connection.clone();
                let mut set = cmd("SET");
                set.arg(key(item)).arg(price).arg("EX").arg(60).exec_async(&mut connection).await?;
            }
            Cache::Memory(map) => {
                map.lock().unwrap_or_else(PoisonError::into_inner).insert(key(item), price);
            }
        }
        Ok(())
    }

    /// Writes down an order, with the id of its request.
    pub(crate) async fn insert(&self, order: u64, price: u64) -> Result<(), BoxError> {
        sqlx::query("INSERT INTO heirloom_shop_orders VALUES ($1, $2, $3)")
            .bind(order as i64)
            .bind(REQUEST.get())
            .bind(price as i64)
            .execute(&self.pool)
            .await?;
        look("database", order);
        Ok(())
    }

    /// The orders and the ids of their requests; and takes the table away.
    pub(crate) async fn close(&self) -> Result<Vec<(u64, Option<String>)>, BoxError> {
        let rows: Vec<(i64, Option<String>)> =
            sqlx::query_as("SELECT number, request FROM heirloom_shop_orders").fetch_all(&self.pool).await?;
        sqlx::query("DROP TABLE heirloom_shop_orders").execute(&self.pool).await?;
        self.pool.close().await;
        Ok(rows.into_iter().map(|(order, request)| (order as u64, request)).collect())
    }
}

/// Of this run: a server of Redis may be shared.
fn key(item: u64) -> String {
    format!("heirloom-shop:{}:price:{item}", std::process::id())
}
