//! Foreign ambient state around a task.
#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use heirloom_context::AmbientSnapshot;

pin_project_lite::pin_project! {
    /// A future that is polled, and dropped, with captured ambient states in force.
    pub(crate) struct WithAmbients<F> {
        // `None` only while it is being dropped.
        #[pin]
        future: Option<F>,
        captured: AmbientSnapshot,
    }

    impl<F> PinnedDrop for WithAmbients<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            this.captured.around(|| this.future.set(None));
        }
    }
}

impl<F> WithAmbients<F> {
    pub(crate) fn new(future: F, captured: AmbientSnapshot) -> Self {
        WithAmbients { future: Some(future), captured }
    }
}

impl<F: Future> Future for WithAmbients<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let future = this.future.as_pin_mut().expect("taken by the drop only");
        this.captured.around(|| future.poll(cx))
    }
}
