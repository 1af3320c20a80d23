//! Guards: values bound for as long as something lives.
#![forbid(unsafe_code)]

use std::fmt;
#[cfg(debug_assertions)]
use std::panic::Location;

use crate::bindings::Id;
use crate::current::{self, GuardPlace};

/// Keeps a value bound; made by [`ContextVar::bind`](crate::ContextVar::bind), which has the rules.
///
/// The value's destructor, as that of any value that a context drops, runs with an empty
/// throw-away context current. (Python runs it in the current one.)
///
/// # A guard must end in the context it was made in
///
/// Dropped in another task, thread, [`run`](crate::Context::run) or layer, a guard does nothing:
/// the value stays bound where it was bound, as if the guard lived. A guard inside a future
/// meets this fate if one task begins the future and another one ends it:
/// `futures::future::Shared`, which is polled by each task that awaits it; a connection that a pool
/// finishes in the background; a listener of a cache. The cure is a context of the future's own,
/// [`isolated`](crate::ContextFutureExt::isolated) or
/// [`in_current_context`](crate::ContextFutureExt::in_current_context), which goes with the future:
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use futures::FutureExt;
/// use heirloom::context::ContextFutureExt;
/// use heirloom::{Context, context_var};
///
/// context_var! { static STEP: &'static str; }
///
/// async fn connect() {
///     let _step = STEP.bind("connecting");
///     // The task that polls this next finishes it, and drops the guard.
///     tokio::task::yield_now().await;
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let shared = connect().isolated().shared();
/// let one = tokio::spawn(shared.clone().in_context(Context::inherited()));
/// let other = tokio::spawn(shared.in_context(Context::inherited()));
/// (one.await.unwrap(), other.await.unwrap());
/// # });
/// ```
///
/// In a debug build, a guard that is dropped elsewhere while its value stays bound is reported on
/// standard error, once for each place where guards are made. Such guards do not add up: of one
/// variable in one context, what lies below the newest of them is dropped when the context next
/// binds the variable, or drops another guard of it.
#[must_use = "the value is bound only as long as the binding lives; `let _ = …` drops it at once"]
pub struct Binding {
    id: Id,
    /// The identity of its context, and the place there; nothing in a thread that was being torn
    /// down.
    made: Option<(u64, GuardPlace)>,
    watched: bool,
    origin: Origin,
}

/// The variable of a guard, and where the guard was made; in debug builds only.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    #[cfg(debug_assertions)]
    name: &'static str,
    #[cfg(debug_assertions)]
    place: &'static Location<'static>,
}

impl Origin {
    #[cfg_attr(debug_assertions, track_caller)]
    #[inline]
    pub(crate) fn here(_name: &'static str) -> Origin {
        Origin {
            #[cfg(debug_assertions)]
            name: _name,
            #[cfg(debug_assertions)]
            place: Location::caller(),
        }
    }

    #[cfg(not(debug_assertions))]
    fn report(self) {}

    /// Says once for each place that its guards are dropped where they do nothing.
    #[cfg(debug_assertions)]
    fn report(self) {
        use std::io::Write;
        use std::sync::{Mutex, PoisonError};

        static REPORTED: Mutex<Vec<&'static Location<'static>>> = Mutex::new(Vec::new());
        let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.contains(&self.place) {
            return;
        }
        reported.push(self.place);
        drop(reported);
        // In one piece, and without a panic if standard error is closed.
        let report = format!(
            "heirloom: a guard of the context variable `{}`, made at {}, was dropped in another context, and its \
             value stays bound: keep the guard in the code that made it, where a child inherits the value; or give \
             a future that one task begins and another one ends a context of its own, `.isolated()`\n",
            self.name, self.place
        );
        let _ = std::io::stderr().write_all(report.as_bytes());
    }
}

impl Binding {
    pub(crate) fn new(id: Id, made: Option<(u64, GuardPlace)>, watched: bool, origin: Origin) -> Binding {
        Binding { id, made, watched, origin }
    }

    /// The entry stays where it is: only the context itself could remove it.
    #[cold]
    fn abandon(&self, place: &GuardPlace) {
        if place.abandon() {
            self.origin.report();
        }
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        let Some((identity, place)) = &self.made else { return };
        if current::identity() != Some(*identity) {
            return self.abandon(place);
        }
        let unbound =
            current::observe(self.id, self.watched, || current::write(|frame| frame.unbind(self.id, place)));
        // A guard of a scope that is not entered is abandoned in its own context.
        if let Some(None) = unbound {
            self.abandon(place);
        }
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").finish_non_exhaustive()
    }
}
