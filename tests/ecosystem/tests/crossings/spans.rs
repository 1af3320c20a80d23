//! A span, and a context of OpenTelemetry, around a future: also while the future is dropped?

use std::future::pending;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use opentelemetry::context::FutureExt as _;
use tracing::Instrument;

/// Calls the function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn instrumented_enters_for_the_drop() {
    tracing::subscriber::with_default(tracing_subscriber::registry(), || {
        let seen = Arc::new(Mutex::new(None));
        let note = seen.clone();
        let mut future = Box::pin(
            async move {
                let _dropped = OnDrop(move || *note.lock().unwrap() = tracing::Span::current().id());
                pending::<()>().await;
            }
            .instrument(tracing::info_span!("request")),
        );
        assert!((&mut future).now_or_never().is_none());
        let span = future.span().id();
        assert!(span.is_some() && tracing::Span::current().id().is_none());
        drop(future);
        assert_eq!(*seen.lock().unwrap(), span);
    });
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Tenant(u32);

#[test]
fn with_context_does_not_attach_for_the_drop() {
    let current = || opentelemetry::Context::current().get::<Tenant>().copied();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    let context = opentelemetry::Context::current().with_value(Tenant(7));
    let mut future = Box::pin(
        async move {
            let polled = note.clone();
            let _dropped = OnDrop(move || note.lock().unwrap().push(current()));
            polled.lock().unwrap().push(current());
            pending::<()>().await;
        }
        .with_context(context),
    );
    assert!((&mut future).now_or_never().is_none());
    drop(future);
    assert_eq!(*seen.lock().unwrap(), [Some(Tenant(7)), None]);
}
