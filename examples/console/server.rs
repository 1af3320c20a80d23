//! The server: the page, its events, and the whole dump for who wants to search in it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, stream};
use heirloom::time::MissedTicks;
use heirloom::{Handle, JoinHandle, task};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use hyper::{Request, Response, StatusCode};

use super::snapshot::snapshot;

/// The time between two events.
const PERIOD: Duration = Duration::from_secs(1);
/// Nothing but the page itself, and its events, is loaded or run.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers requests about one runtime.
#[derive(Clone)]
pub(crate) struct Console {
    runtime: Handle,
    /// The last event. All pages get the same ones, so that many cost what one costs.
    last: Arc<Mutex<Option<(Instant, Bytes)>>>,
}

impl Console {
    pub(crate) fn new(runtime: Handle) -> Console {
        Console { runtime, last: Arc::default() }
    }

    pub(crate) async fn handle(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (status, kind, body) = match request.uri().path() {
            "/" => (StatusCode::OK, "text/html; charset=utf-8", whole(include_str!("page.html"))),
            "/events" => (StatusCode::OK, "text/event-stream", StreamBody::new(self.events()).boxed_unsync()),
            "/dump" => {
                let dump = move || self.runtime.dump().to_string();
                (StatusCode::OK, "text/plain; charset=utf-8", whole(aside(dump).await))
            }
            "/dump.json" => {
                let dump = move || self.runtime.dump().json().to_string();
                (StatusCode::OK, "application/json", whole(aside(dump).await))
            }
            _ => (StatusCode::NOT_FOUND, "text/plain", whole("/, /events, /dump, /dump.json\n")),
        };
        let response = Response::builder()
            .status(status)
            .header(CONTENT_TYPE, kind)
            .header(CACHE_CONTROL, "no-store")
            .header(CONTENT_SECURITY_POLICY, POLICY);
        Ok(response.body(body).expect("valid headers"))
    }

    /// An event now, and one after each period, until the page is closed.
    fn events(self) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
        let interval = heirloom::interval(PERIOD).missed_tick_policy(MissedTicks::Delay);
        let ticks = stream::unfold(interval, async |mut interval| {
            interval.tick().await;
            Some(((), interval))
        });
        ticks.then(move |()| {
            let console = self.clone();
            async move { Ok(Frame::data(console.event().await)) }
        })
    }

    async fn event(&self) -> Bytes {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((made, event)) = last
            && made.elapsed() < PERIOD / 2
        {
            return event;
        }
        let runtime = self.runtime.clone();
        let event = Bytes::from(aside(move || format!("data: {}\n\n", snapshot(&runtime))).await);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), event.clone()));
        event
    }
}

fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

/// Runs on a thread of the blocking pool: a dump of many tasks takes longer than a poll should.
async fn aside<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let dump: JoinHandle<R> = task::Builder::new().name("dump").spawn_blocking(f);
    dump.await.expect("a dump does not panic")
}
