//! Contexts for iterators.
#![forbid(unsafe_code)]

use crate::context::Context;
use crate::var::ContextVar;
use crate::with_context::{WithContext, modes};

/// [`ContextFutureExt`](crate::ContextFutureExt)'s modes, for iterators: each step is taken in the
/// iterator's context.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::ContextIteratorExt;
/// use heirloom::context_var;
///
/// context_var! { static PRECISION: u32 = 28; }
///
/// fn calculate(precision: u32) -> impl Iterator<Item = u32> {
///     (0..2).map(move |step| {
///         if step == 0 {
///             PRECISION.set(precision);
///         }
///         PRECISION.get()
///     })
/// }
///
/// let both: Vec<_> = calculate(100).isolated().zip(calculate(50).isolated()).collect();
/// assert_eq!(both, [(100, 50), (100, 50)]);
/// assert_eq!(PRECISION.get(), 28);
/// ```
pub trait ContextIteratorExt: Iterator + Sized {
    modes! {
        /// A layer of its own: what the iterator binds is invisible outside and kept between steps;
        /// what it has not bound itself is what its consumer has bound now.
        isolated;
        /// Every step in a copy of `context` that the iterator keeps.
        in_context;
        /// Every step in a copy of the context that is current now.
        in_current_context;
        /// One variable bound during each step.
        with_var;
    }
}

impl<F: Iterator> ContextIteratorExt for F {}
