//! The stack of a team: a shop on axum, with sqlx and redis, that asks a second service by reqwest
//! and a third by tonic; a log in a file, and spans to a collector. One request id, one deadline
//! and one trace go through all of it, and no function passes them on.
//!
//! ```text
//! cargo run                                                     in this folder: SQLite, a map
//! POSTGRES_URL=postgres://… REDIS_URL=redis://… cargo run       with real servers
//! .ci/ecosystem --servers cargo run --manifest-path examples/shop/Cargo.toml    starts them
//! ```
//!
//! | file | |
//! | --- | --- |
//! | `wire` | what a request carries, and the layers that take it from service to service |
//! | `telemetry` | log and spans |
//! | `shop`, `store` | the first service; its database and its cache |
//! | `prices`, `stock` | the second and the third service, each with its client |
//! | `buyer` | the client that drives the shop |
//! | `order`, `check` | what the program knows of an order without contexts; the comparison |

mod buyer;
mod check;
mod order;
mod prices;
mod shop;
mod stock;
mod store;
mod telemetry;
mod wire;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, process};

use axum::Router;
use axum::middleware::from_fn_with_state;
use heirloom::hyper::serve;
use heirloom::hyper::serve::Served;
use heirloom::net::TcpListener;
use heirloom::tokio::TokioGuest;
use heirloom::tower::BoxError;
use heirloom::{CancelToken, JoinHandle, Runtime, spawn};

use buyer::Answer;
use check::Seen;
use shop::Shop;
use telemetry::Telemetry;

const ORDERS: u64 = 200;

/// A service that runs.
struct Server {
    address: SocketAddr,
    stop: CancelToken,
    serving: JoinHandle<Served>,
}

impl Server {
    /// Serves on a port of its own. Only by headers does a request bring anything along.
    async fn start(name: &'static str, router: Router) -> Result<Server, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, stop) = (listener.local_addr()?, CancelToken::new());
        let router = router.layer(from_fn_with_state(name, wire::in_span));
        let server = serve(listener, router).request_context(wire::incoming());
        let serving = spawn(server.with_graceful_shutdown(stop.clone()).run());
        Ok(Server { address, stop, serving })
    }

    async fn stop(self) -> Result<Served, BoxError> {
        self.stop.cancel("the end");
        Ok(self.serving.await?)
    }
}

/// Starts the three services, places the orders, and stops the services.
async fn run(folder: &Path) -> Result<Seen, BoxError> {
    let store = store::Store::open(folder).await?;
    println!("{}", store.names);
    let prices = Server::start("prices", prices::router()).await?;
    let stock = Server::start("stock", stock::router()).await?;
    let (ask_prices, ask_stock) = (prices::client(prices.address)?, stock::Stock::new(stock.address)?);
    let state = Arc::new(Shop { store, prices: ask_prices, stock: ask_stock });
    let shop = Server::start("shop", shop::router(Arc::clone(&state))).await?;

    let answers = buyer::buy(shop.address, ORDERS).await?;
    let mut seen = Seen { answers, ..Seen::default() };
    for server in [shop, prices, stock] {
        seen.cut += server.stop().await?.cut;
    }
    seen.rows = state.store.close().await?;
    seen.looks = order::looks();
    Ok(seen)
}

fn main() -> Result<ExitCode, BoxError> {
    let begun = Instant::now();
    let folder = env::temp_dir().join(format!("heirloom-shop-{}", process::id()));
    fs::create_dir_all(&folder)?;
    let log = folder.join("shop.log");
    let telemetry = Telemetry::start(&log)?;
    let runtime = Runtime::builder().tokio(TokioGuest::new()).tracing().build()?;
    let mut seen = runtime.block_on(run(&folder))?;
    runtime.shutdown(Duration::from_secs(1));
    seen.spans = telemetry.spans()?;
    seen.log = fs::read_to_string(&log)?;

    let sold = seen.count(|answer| matches!(answer, Answer::Sold(_)));
    let sold_out = seen.count(|answer| *answer == Answer::SoldOut);
    let late = seen.count(|answer| *answer == Answer::OutOfTime);
    let given_up = seen.count(|answer| *answer == Answer::GivenUp);
    println!("{ORDERS} orders: {sold} sold, {sold_out} sold out, {late} out of time, {given_up} given up");
    let (looks, lines, spans) = (seen.looks.len(), seen.log.lines().count(), seen.spans.len());
    println!("{looks} looks, {lines} lines of the log, {spans} spans, {} rows", seen.rows.len());
    let violations = seen.violations();
    for violation in violations.iter().take(20) {
        println!("{violation}");
    }
    println!("{} violations, after {:.1} s", violations.len(), begun.elapsed().as_secs_f64());
    if violations.is_empty() {
        fs::remove_dir_all(&folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("the log is {}", log.display());
    Ok(ExitCode::FAILURE)
}
