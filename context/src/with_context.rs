//! The wrapper that gives a future, a stream or an iterator a context of its own.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll};

use futures_core::Stream;

use crate::context::Context;
use crate::current::Surroundings;
use crate::panicked;
use crate::util::panic::Unclaimed;

pin_project_lite::pin_project! {
    /// A future, stream or iterator with a context of its own; made by [`ContextFutureExt`],
    /// [`ContextStreamExt`] and [`ContextIteratorExt`].
    ///
    /// The inner one is polled, stepped and *dropped* in that context, finished or not, on
    /// whichever thread. A future is dropped as soon as it is ready; it is not to be polled after
    /// that.
    ///
    /// [`ContextFutureExt`]: crate::ContextFutureExt
    /// [`ContextStreamExt`]: crate::ContextStreamExt
    /// [`ContextIteratorExt`]: crate::ContextIteratorExt
    #[must_use = "futures, streams and iterators do nothing unless they are polled"]
    pub struct WithContext<F> {
        // `None` once a future is ready, and while the inner one is being dropped.
        #[pin]
        inner: Option<F>,
        surroundings: Surroundings,
        // A step has begun and not returned: after a panic there are no more.
        broken: bool,
    }

    impl<F> PinnedDrop for WithContext<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.inner.as_mut().as_pin_mut().is_some() {
                let _inside = this.surroundings.enter();
                this.inner.set(None);
            }
        }
    }
}

impl<F> WithContext<F> {
    pub(crate) fn new(inner: F, surroundings: Surroundings) -> Self {
        WithContext { inner: Some(inner), surroundings, broken: false }
    }

    pub(crate) fn isolated(inner: F) -> Self {
        WithContext::new(inner, Surroundings::layer())
    }

    pub(crate) fn in_context(inner: F, context: Context) -> Self {
        WithContext::new(inner, Surroundings::copy(context.into_bindings()))
    }

    /// The future, stream or iterator inside.
    ///
    /// # Panics
    /// If it is a future that was ready, and is dropped.
    pub fn get_ref(&self) -> &F {
        self.inner.as_ref().expect(ENDED)
    }

    /// A copy of the bindings that are its own: of an isolated one only those of its layer.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::ContextFutureExt;
    /// use heirloom::{Context, context_var};
    /// context_var! { static TENANT: u32; }
    ///
    /// let pinned = async {}.in_context(Context::empty().with_var(&TENANT, 7));
    /// assert_eq!(pinned.context().get(&TENANT), Some(7));
    /// ```
    pub fn context(&self) -> Context {
        Context::from_bindings(self.surroundings.bindings())
    }
}

const ENDED: &str = "the future with a context of its own was ready, and is dropped";

/// Runs one step inside; `ended` if a former one has panicked.
fn step<R>(around: &mut Surroundings, broken: &mut bool, ended: R, step: impl FnOnce() -> R) -> R {
    if std::mem::replace(broken, true) {
        return ended;
    }
    let inside = around.enter();
    let result = panicked::noted(step);
    drop(inside);
    *broken = false;
    result
}

impl<F: Future> Future for WithContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let _inside = this.surroundings.enter();
        let inner = this.inner.as_mut().as_pin_mut().expect(ENDED);
        panicked::noted(|| inner.poll(cx)).map(|output| {
            let output = Unclaimed::new(output);
            // Here, since its context is entered: a drop later would have to enter it again.
            this.inner.set(None);
            output.into_inner()
        })
    }
}

impl<F: Stream> Stream for WithContext<F> {
    type Item = F::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<F::Item>> {
        let this = self.project();
        step(this.surroundings, this.broken, Poll::Ready(None), || {
            this.inner.as_pin_mut().expect(ENDED).poll_next(cx)
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.broken { (0, Some(0)) } else { self.get_ref().size_hint() }
    }
}

impl<F: Iterator> Iterator for WithContext<F> {
    type Item = F::Item;

    fn next(&mut self) -> Option<F::Item> {
        step(&mut self.surroundings, &mut self.broken, None, || self.inner.as_mut().expect(ENDED).next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.broken { (0, Some(0)) } else { self.get_ref().size_hint() }
    }
}

impl<F: DoubleEndedIterator> DoubleEndedIterator for WithContext<F> {
    fn next_back(&mut self) -> Option<F::Item> {
        step(&mut self.surroundings, &mut self.broken, None, || self.inner.as_mut().expect(ENDED).next_back())
    }
}

impl<F> fmt::Debug for WithContext<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithContext").field("mode", &self.surroundings.mode()).finish_non_exhaustive()
    }
}

/// The modes that futures, streams and iterators have in common, each with its documentation.
macro_rules! modes {
    (
        $(#[$isolated:meta])* isolated;
        $(#[$in_context:meta])* in_context;
        $(#[$in_current_context:meta])* in_current_context;
        $(#[$with_var:meta])* with_var;
    ) => {
        $(#[$isolated])*
        fn isolated(self) -> WithContext<Self> {
            WithContext::isolated(self)
        }

        $(#[$in_context])*
        fn in_context(self, context: Context) -> WithContext<Self> {
            WithContext::in_context(self, context)
        }

        $(#[$in_current_context])*
        fn in_current_context(self) -> WithContext<Self> {
            WithContext::in_context(self, Context::current())
        }

        $(#[$with_var])*
        #[track_caller]
        fn with_var<T: Send + Sync + 'static, D>(self, var: &ContextVar<T, D>, value: T) -> WithContext<Self> {
            WithContext::new(self, var.surroundings(value))
        }
    };
}
pub(crate) use modes;
