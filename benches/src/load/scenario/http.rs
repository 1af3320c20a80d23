//! HTTP: `hello` through hyper, on the executor's own sockets where it has some. Connections are
//! kept alive, and each request has variables of its own, bound and read by the code that answers
//! it. The client is a thread of this process: see [`client`](crate::load::client).
//!
//! An answer never suspends. So it is polled once, in the task of its connection.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::{self, JoinHandle};

use futures::channel::oneshot;
use futures::future::select;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};

use super::{About, Scenario};
use crate::load::check::{Own, Rules};
use crate::load::client::Client;
use crate::load::drive::{Load, Plan, Shared};
use crate::load::executor::Loadable;
use crate::net::serve::hello;

/// See the module.
#[derive(Debug)]
pub struct Http;

impl Scenario for Http {
    const ABOUT: About = About {
        name: "http",
        text: "hello through hyper over connections that are kept alive, each request with its own variables",
        unit: "requests",
        clients_per_worker: 32,
        over_connections: true,
    };

    async fn request<E: Loadable>(_: E, mut own: Own) -> u64 {
        own.check("at the start of an answer");
        own.check("in an answer");
        1
    }

    /// Starts the server and the client.
    fn start<E: Loadable>(shared: &Arc<Shared<E>>, plan: &Plan) -> io::Result<Option<JoinHandle<()>>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (executor, rules) = (shared.executor, shared.rules);
        let service = service_fn(move |asked| E::in_own_context(answer(executor, rules, asked)));
        let (stop, stopped) = oneshot::channel::<()>();
        executor.detach(async move {
            // A server that cannot accept answers nothing, which the client notices.
            select(stopped, pin!(executor.http(listener, service))).await;
        });
        let Plan { load, drain, .. } = *plan;
        let connections = match load {
            Load::Closed { clients } => clients,
            Load::Open { most_in_flight, .. } => most_in_flight as usize,
        };
        let client = Client::connect(address, connections)?;
        shared.sources.store(1, SeqCst);
        let shared = Arc::clone(shared);
        let body = move || {
            shared.behind.store(client.run(load, &shared.stop, drain), SeqCst);
            drop((client, stop));
            shared.sources.fetch_sub(1, SeqCst);
        };
        thread::Builder::new().name("client".to_owned()).spawn(body).map(Some)
    }
}

/// The path is the request's number.
async fn answer<E: Loadable>(
    executor: E,
    rules: &'static Rules,
    asked: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut own = Own::request(rules, asked.uri().path()[1..].parse().unwrap_or(u64::MAX));
    own.bind();
    Http::request(executor, own).await;
    hello(asked).await
}
