//! Contexts for streams.
#![forbid(unsafe_code)]

use futures_core::Stream;

use crate::context::Context;
use crate::var::ContextVar;
use crate::with_context::{WithContext, modes};

/// [`ContextFutureExt`](crate::ContextFutureExt)'s modes, for streams: each step is taken in the
/// stream's context.
///
/// A *plain* stream runs in its consumer's context at each step. A guard that it holds across a
/// yield is therefore alive while its consumer goes on, and shows there: make such a stream
/// [`isolated`](Self::isolated). A hand-written stream behaves like a generated one.
///
/// A panic in a step reaches the awaiting side, with the contexts restored; the wrapped stream then
/// has ended.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use futures::{StreamExt, stream};
/// use heirloom::context::ContextStreamExt;
/// use heirloom::context_var;
///
/// context_var! { static PRECISION: u32 = 28; }
///
/// fn calculate(precision: u32) -> impl futures::Stream<Item = u32> {
///     stream::iter(0..2).map(move |step| {
///         if step == 0 {
///             PRECISION.set(precision);
///         }
///         PRECISION.get()
///     })
/// }
/// # futures::executor::block_on(async {
/// let both = calculate(100).isolated().zip(calculate(50).isolated());
/// assert_eq!(both.collect::<Vec<_>>().await, [(100, 50), (100, 50)]);
/// assert_eq!(PRECISION.get(), 28);
/// # });
/// ```
pub trait ContextStreamExt: Stream + Sized {
    modes! {
        /// A layer of its own: what the stream binds is invisible outside and kept between steps;
        /// what it has not bound itself is what its consumer has bound now.
        isolated;
        /// Every step in a copy of `context` that the stream keeps.
        in_context;
        /// Every step in a copy of the context that is current now: a stream captured at its
        /// creation.
        in_current_context;
        /// One variable bound during each step.
        with_var;
    }
}

impl<F: Stream> ContextStreamExt for F {}
