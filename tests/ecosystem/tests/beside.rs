//! Other things that users have beside the executor.

use std::sync::Mutex;
use std::time::Duration;

use heirloom::{Context, Runtime, context_var, spawn, spawn_background, spawn_blocking};
use rayon::prelude::*;
use tracing::Instrument;

context_var! { static TENANT: u32; }

#[heirloom::test(timeout = "60s")]
async fn rayon_sees_the_context_that_its_closures_are_wrapped_in() -> Result<(), heirloom::task::JoinError> {
    TENANT.set(7);
    // A computation blocks: on the pool for such, from where rayon takes it to its own threads.
    let (bare, wrapped) = spawn_blocking(|| {
        let context = Context::current();
        let bare = rayon::join(|| (), || TENANT.get()).1;
        let wrapped: Vec<_> = (0..64)
            .into_par_iter()
            .map(|number| context.run(|| TENANT.get().map(|tenant| tenant + number)))
            .collect();
        (bare, wrapped)
    })
    .await?;
    assert_eq!(bare, None);
    assert_eq!(wrapped, (7..71).map(Some).collect::<Vec<_>>());
    Ok(())
}

/// The span around each event.
struct Spans(Mutex<Vec<Option<&'static str>>>);

impl<S> tracing_subscriber::Layer<S> for &'static Spans
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fn on_event(&self, event: &tracing::Event<'_>, cx: tracing_subscriber::layer::Context<'_, S>) {
        self.0.lock().unwrap().push(cx.event_span(event).map(|span| span.name()));
    }
}

#[heirloom::test(timeout = "60s")]
async fn a_span_follows_tasks_that_are_instrumented_and_all_tasks_of_a_runtime_that_is_told()
-> Result<(), heirloom::task::JoinError> {
    use tracing_subscriber::layer::SubscriberExt;

    static SPANS: Spans = Spans(Mutex::new(Vec::new()));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(&SPANS)).unwrap();
    let request = async {
        // A span is no variable: each spawn says so.
        spawn(async { tracing::info!("inside") }.in_current_span()).await?;
        spawn(async { tracing::info!("lost") }).await
    };
    request.instrument(tracing::info_span!("request")).await?;
    assert_eq!(*SPANS.0.lock().unwrap(), [Some("request"), None]);
    SPANS.0.lock().unwrap().clear();

    // Or the runtime does, for all its tasks.
    let runtime = Runtime::builder().workers(2).tracing().build().unwrap();
    let request = runtime.spawn(
        async {
            heirloom::yield_now().await;
            spawn(async { tracing::info!("inside") }).await?;
            let (told, tell) = futures::channel::oneshot::channel();
            spawn_background(async {
                tracing::info!("of no request");
                told.send(())
            });
            tell.await.unwrap();
            Ok::<_, heirloom::task::JoinError>(())
        }
        .instrument(tracing::info_span!("request")),
    );
    request.await??;
    assert_eq!(*SPANS.0.lock().unwrap(), [Some("request"), None]);
    runtime.shutdown(Duration::ZERO);
    Ok(())
}
