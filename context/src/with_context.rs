//! The wrapper that gives a future, a stream or an iterator a context of its own.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};

use futures_core::Stream;

use crate::context::Context;
use crate::layer::Surroundings;

pin_project_lite::pin_project! {
    /// A future, stream or iterator with a context of its own; made by [`ContextFutureExt`], [`ContextStreamExt`] and
    /// [`ContextIteratorExt`].
    ///
    /// What is inside is polled, stepped and *dropped* in that context, finished or not, whichever thread does it.
    ///
    /// [`ContextFutureExt`]: crate::ContextFutureExt
    /// [`ContextStreamExt`]: crate::ContextStreamExt
    /// [`ContextIteratorExt`]: crate::ContextIteratorExt
    #[must_use = "futures, streams and iterators do nothing unless they are polled"]
    pub struct WithContext<F> {
        // `None` only while it is being dropped.
        #[pin]
        inner: Option<F>,
        surroundings: Surroundings,
        // A step has begun and not returned: after a panic there are no more.
        broken: bool,
    }

    impl<F> PinnedDrop for WithContext<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _inside = this.surroundings.enter();
            this.inner.set(None);
        }
    }
}

impl<F> WithContext<F> {
    pub(crate) fn new(inner: F, surroundings: Surroundings) -> Self {
        WithContext { inner: Some(inner), surroundings, broken: false }
    }

    /// What is inside.
    pub fn get_ref(&self) -> &F {
        self.inner.as_ref().expect("taken by the drop only")
    }

    /// A copy of the bindings that are its own: of an isolated one only those of its layer.
    ///
    /// ```
    /// use heirloom_context::{Context, ContextFutureExt, context_var};
    /// context_var! { static TENANT: u32; }
    ///
    /// let pinned = async {}.in_context(Context::empty().with_var(&TENANT, 7));
    /// assert_eq!(pinned.context().get(&TENANT), Some(7));
    /// ```
    pub fn context(&self) -> Context {
        Context::from_bindings(self.surroundings.bindings())
    }

    /// Runs one step inside; `ended` if a former one has panicked.
    fn step<R>(self: Pin<&mut Self>, ended: R, step: impl FnOnce(Pin<&mut F>) -> R) -> R {
        let this = self.project();
        if std::mem::replace(this.broken, true) {
            return ended;
        }
        let inside = this.surroundings.enter();
        let result = step(this.inner.as_pin_mut().expect("taken by the drop only"));
        drop(inside);
        *this.broken = false;
        result
    }
}

impl<F: Future> Future for WithContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _inside = this.surroundings.enter();
        this.inner.as_pin_mut().expect("taken by the drop only").poll(cx)
    }
}

impl<F: Stream> Stream for WithContext<F> {
    type Item = F::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<F::Item>> {
        self.step(Poll::Ready(None), |inner| inner.poll_next(cx))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.broken { (0, Some(0)) } else { self.get_ref().size_hint() }
    }
}

impl<F: Iterator> WithContext<F> {
    fn iterate<R>(&mut self, step: impl FnOnce(&mut F) -> Option<R>) -> Option<R> {
        if std::mem::replace(&mut self.broken, true) {
            return None;
        }
        let inside = self.surroundings.enter();
        let result = step(self.inner.as_mut().expect("taken by the drop only"));
        drop(inside);
        self.broken = false;
        result
    }
}

impl<F: Iterator> Iterator for WithContext<F> {
    type Item = F::Item;

    fn next(&mut self) -> Option<F::Item> {
        self.iterate(Iterator::next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.broken { (0, Some(0)) } else { self.get_ref().size_hint() }
    }
}

impl<F: DoubleEndedIterator> DoubleEndedIterator for WithContext<F> {
    fn next_back(&mut self) -> Option<F::Item> {
        self.iterate(DoubleEndedIterator::next_back)
    }
}

impl<F> fmt::Debug for WithContext<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match &self.surroundings {
            Surroundings::Copy(_) => "in_context",
            Surroundings::Layer(_) => "isolated",
            Surroundings::Scope { .. } => "with_var",
        };
        f.debug_struct("WithContext").field("mode", &mode).finish_non_exhaustive()
    }
}
