//! Lines of the log in a file, and spans to a collector in this process. Both have the request's id
//! without a call that says so.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use heirloom::context::LogVars;
use heirloom::tower::BoxError;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::wire::REQUEST;

/// The collector: keeps what it is sent.
#[derive(Clone, Debug, Default)]
struct Collector(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Collector {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no panic under the lock").extend(batch);
        Ok(())
    }
}

/// Made before the runtime, and dropped after it: the drop of the provider waits for the thread
/// that sends the spans, and is not for a task.
pub(crate) struct Telemetry {
    provider: SdkTracerProvider,
    collector: Collector,
}

impl Telemetry {
    /// Sets the subscriber of the program.
    pub(crate) fn start(log: &Path) -> Result<Telemetry, BoxError> {
        let collector = Collector::default();
        let provider = SdkTracerProvider::builder().with_batch_exporter(collector.clone()).build();
        let request = || LogVars::new().var(&REQUEST);
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(File::create(log)?);
        let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
        // Of the libraries, the queries of sqlx.
        let which = Targets::new().with_target("shop", Level::INFO).with_target("sqlx::query", Level::DEBUG);
        tracing_subscriber::registry()
            .with(which)
            .with(request().layer(lines))
            .with(request().layer(spans))
            .try_init()?;
        Ok(Telemetry { provider, collector })
    }

    /// All spans that have ended.
    pub(crate) fn spans(&self) -> Result<Vec<SpanData>, BoxError> {
        self.provider.force_flush()?;
        Ok(self.collector.0.lock().expect("no panic under the lock").clone())
    }
}
