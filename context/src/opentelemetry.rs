//! OpenTelemetry: variables as baggage, and futures in a context of OpenTelemetry's.
//!
//! | for | see |
//! | --- | --- |
//! | OpenTelemetry's current context in all tasks | `Builder::opentelemetry` of the executor |
//! | a future in a context, also while it is dropped | [`OtelFutureExt`] |
//! | variables in the baggage of a call to another service, and back there | [`BaggageVars`] |
#![forbid(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{self, Poll};

use opentelemetry::Context;
use opentelemetry::baggage::{Baggage, BaggageExt};

use crate::ContextVar;

/// Puts a future into a context of OpenTelemetry's.
pub trait OtelFutureExt: Sized {
    /// The future in `context`: it is current in each poll, and while the future is dropped.
    ///
    /// OpenTelemetry's own `FutureExt::with_context` does not attach the context while the future
    /// is dropped: what a destructor reports is then in no trace.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::opentelemetry::OtelFutureExt;
    /// use opentelemetry::Context;
    ///
    /// #[derive(Debug, PartialEq)]
    /// struct Tenant(u32);
    ///
    /// let context = Context::new().with_value(Tenant(7));
    /// let future = async { Context::current().get() == Some(&Tenant(7)) };
    /// assert!(futures::executor::block_on(future.with_otel_context(context)));
    /// ```
    #[doc(alias = "with_context")]
    fn with_otel_context(self, context: Context) -> InOtelContext<Self> {
        InOtelContext { future: Some(self), context }
    }

    /// The future in the current context of OpenTelemetry.
    #[doc(alias = "with_current_context")]
    fn in_current_otel_context(self) -> InOtelContext<Self> {
        self.with_otel_context(Context::current())
    }
}

impl<F: Future> OtelFutureExt for F {}

pin_project_lite::pin_project! {
    /// A future in a context of OpenTelemetry's; made by [`OtelFutureExt`].
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct InOtelContext<F> {
        // `None` only while it is being dropped.
        #[pin]
        future: Option<F>,
        context: Context,
    }

    impl<F> PinnedDrop for InOtelContext<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _attached = this.context.clone().attach();
            this.future.set(None);
        }
    }
}

impl<F: Future> Future for InOtelContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, poller: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _attached = this.context.clone().attach();
        this.future.as_pin_mut().expect("taken by the drop only").poll(poller)
    }
}

impl<F> fmt::Debug for InOtelContext<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InOtelContext").field("context", &self.context).finish_non_exhaustive()
    }
}

/// Variables that travel to other services in OpenTelemetry's baggage.
///
/// The side that calls puts them into the context that its propagator injects into the request; the
/// side that is called takes them from the context that its propagator has extracted.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::opentelemetry::BaggageVars;
/// use heirloom::{Context, context_var};
///
/// context_var! { static TENANT: u32; static USER: String; static SECRET: String; }
///
/// let baggage = BaggageVars::new().var("tenant", &TENANT).var("user", &USER);
///
/// let outgoing = Context::empty().with_var(&TENANT, 7).with_var(&SECRET, "xyzzy".into());
/// let sent = outgoing.run(|| baggage.store_in(&opentelemetry::Context::new()));
///
/// Context::empty().run(|| {
///     baggage.set_from(&sent);
///     assert_eq!((TENANT.get(), USER.get(), SECRET.get()), (Some(7), None, None));
/// });
/// ```
///
/// Baggage goes to each service that is called, also to foreign ones, unencrypted. Nothing goes
/// into it that is not named here, and no [secret](crate::VarOptions::secret) that is.
#[derive(Clone, Default)]
pub struct BaggageVars {
    list: Vec<(&'static str, &'static dyn InBaggage)>,
}

/// A variable whose values have a text, and can be made of one.
trait InBaggage: Send + Sync {
    fn text(&self) -> Option<String>;
    /// Binds the value of a text, if it has one, in the current context.
    fn set(&self, text: &str);
}

impl<T: Send + Sync + ToString + FromStr + 'static, D: Send + Sync> InBaggage for ContextVar<T, D> {
    fn text(&self) -> Option<String> {
        if self.options().secret {
            return None;
        }
        self.with_bound(|value| value.map(ToString::to_string))
    }

    fn set(&self, text: &str) {
        if let Ok(value) = text.parse() {
            // The token is not needed: the caller decides how long its context lives.
            let _ = ContextVar::set(self, value);
        }
    }
}

impl BaggageVars {
    /// No variables.
    #[must_use]
    pub fn new() -> BaggageVars {
        BaggageVars::default()
    }

    /// Adds a variable, under a name that both services use.
    #[must_use]
    pub fn var<T, D>(mut self, name: &'static str, var: &'static ContextVar<T, D>) -> BaggageVars
    where
        T: Send + Sync + ToString + FromStr + 'static,
        D: Send + Sync,
    {
        self.list.push((name, var));
        self
    }

    /// A copy of `context` with the values that the variables have in the current context of this
    /// crate, as baggage. Other baggage stays; an entry of a variable that has no value goes.
    #[must_use]
    pub fn store_in(&self, context: &Context) -> Context {
        let others = context.baggage().into_iter().map(|(key, entry)| (key.clone(), entry.clone()));
        let mut baggage = Baggage::from_iter(others);
        for (name, var) in &self.list {
            match var.text() {
                Some(text) => drop(baggage.insert(*name, text)),
                None => drop(baggage.remove(name)),
            }
        }
        context.with_baggage(baggage)
    }

    /// Sets the variables that are in the baggage of `context`, in the current context of this
    /// crate. A variable that is not there, or whose text is no value of its type, stays as it is:
    /// what another service sends is no reason to fail.
    pub fn set_from(&self, context: &Context) {
        for (name, var) in &self.list {
            if let Some(text) = context.baggage().get(name) {
                var.set(text.as_str());
            }
        }
    }
}

impl fmt::Debug for BaggageVars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list.iter().map(|(name, _)| name)).finish()
    }
}
