//! opentelemetry_sdk sends spans in batches to a collector: from a task, by the adaptor; and as it
//! is, from a thread of its own.

use std::future::pending;
use std::io::{self, Write};
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use futures::io::BufReader;
use futures::{AsyncBufReadExt, AsyncWriteExt, StreamExt};
use heirloom::net::{TcpListener, TcpStream};
use heirloom::{spawn_background, spawn_blocking};
use heirloom_adaptors::Heirloom;
use heirloom_ecosystem::{Library, note_own};
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor as InTask;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter};

/// Sends the names of the spans, a line each. `None` for a collector that does not answer.
#[derive(Debug)]
struct Exporter<const TASK: bool>(Option<SocketAddr>);

impl<const TASK: bool> SpanExporter for Exporter<TASK> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        note_own::<OpenTelemetry<TASK>>();
        let Some(collector) = self.0 else { pending().await };
        let lines: String = batch.iter().map(|span| format!("{}\n", span.name)).collect();
        let send = async {
            if TASK {
                TcpStream::connect(collector).await?.write_all(lines.as_bytes()).await
            } else {
                // A thread of its own may block.
                std::net::TcpStream::connect(collector)?.write_all(lines.as_bytes())
            }
        };
        send.await.map_err(|error: io::Error| OTelSdkError::InternalFailure(error.to_string()))
    }
}

/// The collector's end.
type Collected = Arc<Mutex<Vec<String>>>;

async fn collector() -> (SocketAddr, Collected) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, collected) = (listener.local_addr().unwrap(), Collected::default());
    let into = Arc::clone(&collected);
    spawn_background(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut lines = BufReader::new(stream).lines();
            while let Some(Ok(line)) = lines.next().await {
                into.lock().unwrap().push(line);
            }
        }
    });
    (address, collected)
}

fn provider<const TASK: bool>(collector: Option<SocketAddr>) -> SdkTracerProvider {
    let builder = SdkTracerProvider::builder();
    let exporter = Exporter::<TASK>(collector);
    let provider = if TASK {
        builder.with_span_processor(InTask::builder(exporter, Heirloom::current()).build()).build() // glue
    } else {
        builder.with_span_processor(BatchSpanProcessor::builder(exporter).build()).build()
    };
    // The drop of the last one blocks until all is sent. A program has one, for as long as it runs.
    mem::forget(provider.clone());
    provider
}

/// Makes a span, and has it sent. That blocks a thread until it has been.
async fn span(provider: SdkTracerProvider, name: String) -> OTelSdkResult {
    provider.tracer("test").start(name).end();
    spawn_blocking(move || provider.force_flush()).await.unwrap()
}

struct OpenTelemetry<const TASK: bool>;

impl<const TASK: bool> Library for OpenTelemetry<TASK> {
    const PACKAGE: &'static str = "opentelemetry_sdk";
    const WAY: &'static str = if TASK {
        "`BatchSpanProcessor` of `span_processor_with_async_runtime`"
    } else {
        "`BatchSpanProcessor`"
    };
    const GUEST: bool = false;
    const ADAPTOR: &'static str = if TASK { "opentelemetry_sdk" } else { "" };
    const GLUE: usize = if TASK { 1 } else { 0 };
    const SPAWNS: &'static str = if TASK {
        "a task per processor, which calls the exporter"
    } else {
        "a thread per processor, which calls the exporter"
    };
    type Client = (SdkTracerProvider, Collected);

    async fn connect() -> (SdkTracerProvider, Collected) {
        let (address, collected) = collector().await;
        (provider::<TASK>(Some(address)), collected)
    }

    async fn call((provider, collected): (SdkTracerProvider, Collected)) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("span {}", NUMBER.fetch_add(1, Relaxed));
        span(provider, name.clone()).await.unwrap();
        // Sent, and on its way.
        while !collected.lock().unwrap().contains(&name) {
            heirloom::yield_now().await;
        }
    }

    async fn endless(_: (SdkTracerProvider, Collected)) -> String {
        format!("{:?}", span(provider::<TASK>(None), "lost".to_owned()).await)
    }
}

mod in_a_task {
    heirloom_ecosystem::tests!(super::OpenTelemetry<true>, without a guest);
}

mod in_its_thread {
    heirloom_ecosystem::tests!(super::OpenTelemetry<false>, without a guest);
}
