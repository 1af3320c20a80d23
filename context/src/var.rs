//! Context variables: typed keys.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::binding::{Binding, Origin};
use crate::bindings::{Entry, Id};
use crate::current::{self, Scope, Surroundings};
use crate::default;
use crate::error::{ResetError, ResetErrorKind};
use crate::token::Token;
use crate::value::{self, Value, VarOptions};

/// A typed key to a value in the current context.
///
/// Usually a `static` made by [`context_var!`](crate::context_var); a run-time value works as well,
/// and may be dropped while contexts still hold its values (they go with those contexts). Two
/// variables are two keys, whatever their names.
///
/// A value is bound *in a context*: that of the current task or, outside any task, of the current
/// thread. Under an executor that knows nothing of this crate, and without one of its adaptors, a
/// [`set`](Self::set) in a task lands in the context of the worker thread that happens to poll it.
///
/// The model is that of Python's [`contextvars`](https://peps.python.org/pep-0567/).
///
/// # Examples
///
/// ```
/// use heirloom_context::context_var;
///
/// context_var! {
///     static REQUEST_ID: u64;
///     static PRECISION: u32 = 28;
/// }
///
/// assert_eq!(REQUEST_ID.get(), None);
/// assert_eq!(PRECISION.get(), Some(28));
///
/// let token = REQUEST_ID.set(42);
/// assert_eq!(REQUEST_ID.get(), Some(42));
///
/// REQUEST_ID.reset(token).unwrap();
/// assert!(!REQUEST_ID.is_set());
/// ```
#[doc(alias = "task_local")]
#[doc(alias = "thread_local")]
#[doc(alias = "contextvars")]
#[doc(alias = "AsyncLocal")]
#[doc(alias = "ScopedValue")]
#[doc(alias = "CoroutineContext")]
#[doc(alias = "baggage")]
pub struct ContextVar<T: Send + Sync + 'static> {
    /// Zero until a value is bound somewhere.
    id: AtomicU64,
    name: &'static str,
    options: VarOptions<T>,
    default: OnceLock<T>,
}

impl<T: Send + Sync + 'static> ContextVar<T> {
    /// A variable without options.
    ///
    /// ```
    /// use heirloom_context::ContextVar;
    ///
    /// static USER: ContextVar<String> = ContextVar::new("USER");
    /// let made_at_run_time = ContextVar::<u8>::new("scratch");
    /// made_at_run_time.set(1);
    /// assert_eq!(made_at_run_time.get(), Some(1));
    /// assert_eq!(USER.get(), None);
    /// ```
    pub const fn new(name: &'static str) -> Self {
        Self::with_options(name, VarOptions::new())
    }

    /// A variable with a default, a policy, a hook or a text; see [`VarOptions`].
    ///
    /// ```
    /// use heirloom_context::{ContextVar, VarOptions};
    ///
    /// const TEN: VarOptions<u32> = VarOptions { default: Some(|| 10), ..VarOptions::new() };
    /// static LIMIT: ContextVar<u32> = ContextVar::with_options("LIMIT", TEN);
    /// assert_eq!(LIMIT.get(), Some(10));
    /// ```
    pub const fn with_options(name: &'static str, options: VarOptions<T>) -> Self {
        ContextVar { id: AtomicU64::new(0), name, options, default: OnceLock::new() }
    }

    /// The name given when the variable was made. It identifies nothing.
    ///
    /// ```
    /// # heirloom_context::context_var! { static TENANT: u32; }
    /// assert_eq!(TENANT.name(), "TENANT");
    /// ```
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A copy of the bound value, else of the default, else `None`.
    ///
    /// ```
    /// # heirloom_context::context_var! { static TENANT: String; }
    /// TENANT.set("acme".to_string());
    /// assert_eq!(TENANT.get().as_deref(), Some("acme"));
    /// ```
    #[inline]
    pub fn get(&self) -> Option<T>
    where
        T: Clone,
    {
        self.with(|value| value.cloned())
    }

    /// Lends the bound value, else the default, else `None`, without copying it.
    ///
    /// The closure may do anything, also set, reset or leave the very binding it looks at: the
    /// value it borrows is kept until it returns.
    ///
    /// # Panics
    /// If the default is evaluated and panics (it is tried again at the next need). If the default
    /// needs itself, through other variables too, also if several threads evaluate them: the text
    /// names the variables. (A default that waits in another way for a thread or a task that needs
    /// it waits for ever.)
    ///
    /// ```
    /// # heirloom_context::context_var! { static TENANT: String; }
    /// TENANT.set("acme".to_string());
    /// TENANT.with(|tenant| {
    ///     TENANT.set("other".to_string());
    ///     assert_eq!(tenant.unwrap(), "acme");
    /// });
    /// ```
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(Option<&T>) -> R) -> R {
        current::read(self.id(), |found| {
            f(match found {
                // SAFETY: only this variable has the id, so the value is a `T`; it is alive until
                // `read` returns.
                Some(pointer) => Some(unsafe { value::get::<T>(pointer) }),
                None => self.default(),
            })
        })
    }

    /// Whether a value is bound in the current context. A default does not count.
    ///
    /// ```
    /// # heirloom_context::context_var! { static PRECISION: u32 = 28; }
    /// assert!(!PRECISION.is_set());
    /// PRECISION.set(28);
    /// assert!(PRECISION.is_set());
    /// ```
    pub fn is_set(&self) -> bool {
        self.id().is_some_and(current::is_bound)
    }

    /// Binds a value in the current context, in place, until it is replaced, reset, or the task
    /// ends.
    ///
    /// All code that shares the context sees it: the caller, and everything awaited from here on.
    /// Tasks spawned before do not. The token undoes it, and may be ignored.
    ///
    /// The token keeps the replaced value; where nothing else does, the value ends with the token.
    /// A value's destructor sees an empty context, not the one it was bound in. (Python's sees the
    /// current one.) So what a destructor needs belongs into the value.
    ///
    /// ```
    /// # heirloom_context::context_var! { static TENANT: u32; }
    /// fn callee() {
    ///     TENANT.set(7);
    /// }
    /// callee();
    /// assert_eq!(TENANT.get(), Some(7));
    /// ```
    pub fn set(&self, value: T) -> Token<T> {
        let value = self.value(value);
        self.put(Entry::Bound(value))
    }

    /// Removes the binding, so that the default shows again. Inside a layer
    /// ([`isolated`](crate::ContextFutureExt::isolated)) this also hides a value bound outside.
    ///
    /// ```
    /// # heirloom_context::context_var! { static PRECISION: u32 = 28; }
    /// PRECISION.set(10);
    /// let token = PRECISION.unset();
    /// assert_eq!(PRECISION.get(), Some(28));
    /// PRECISION.reset(token).unwrap();
    /// assert_eq!(PRECISION.get(), Some(10));
    /// ```
    pub fn unset(&self) -> Token<T> {
        self.put(Entry::Hidden)
    }

    fn put(&self, entry: Entry) -> Token<T> {
        let id = self.assigned_id();
        let written = self.observe(|| {
            current::write(|frame| {
                let (previous, guard) = frame.set(id, entry);
                Token::new(id, frame.identity, guard, previous)
            })
        });
        // In a thread that is being torn down nothing is bound, and there is nothing to reset.
        written.unwrap_or_else(|| Token::new(id, 0, None, Entry::Absent))
    }

    /// Puts back what was there before the [`set`](Self::set) or [`unset`](Self::unset) that made
    /// the token.
    ///
    /// Literally that, as in Python: also when an enclosing scope has ended since. The value that
    /// stood there until now ends here if nothing else keeps it; its destructor sees an empty
    /// context, as with [`set`](Self::set).
    ///
    /// # Errors
    /// If the token was made by another variable, in another context (task, thread,
    /// [`run`](crate::Context::run), or across an `isolated`/`in_context` boundary in either
    /// direction), or under a [`Binding`] that is gone (dropped, or dropped elsewhere and covered
    /// by another one that was). Nothing changes then, and the error gives the token back.
    ///
    /// ```
    /// use heirloom_context::{Context, ResetErrorKind};
    /// # heirloom_context::context_var! { static TENANT: u32; }
    ///
    /// let token = TENANT.set(1);
    /// let error = Context::current().run(|| TENANT.reset(token)).unwrap_err();
    /// assert_eq!(error.kind(), ResetErrorKind::WrongContext);
    ///
    /// TENANT.reset(error.into_token()).unwrap();
    /// assert_eq!(TENANT.get(), None);
    /// ```
    pub fn reset(&self, mut token: Token<T>) -> Result<(), ResetError<T>> {
        let Token { id, identity, guard, ref mut previous, .. } = token;
        let kind = if self.id() != Some(id) {
            ResetErrorKind::WrongVariable
        } else if current::identity() != Some(identity) {
            ResetErrorKind::WrongContext
        } else {
            match self.observe(|| current::write(|frame| frame.reset(id, previous, guard))) {
                // The token has the value that stood there until now, and ends here.
                Some(true) => return Ok(()),
                Some(false) => ResetErrorKind::Stale,
                // No identity, no token: the comparison above has failed for a closed slot.
                None => ResetErrorKind::WrongContext,
            }
        };
        Err(ResetError::new(kind, token))
    }

    /// Binds a value until the guard is dropped: at the end of the block, by `?`, by a panic, by
    /// the task's end.
    ///
    /// The guard is `Send` and may be held across an `.await` while the task moves between threads.
    /// Per variable there is a base entry and one of each living guard: the newest living guard
    /// decides; `set`, `unset` and `reset` act on the newest entry; a guard takes with it its own
    /// entry and what was written into it, in whatever order guards go. Dropped outside the context
    /// it was made in, a guard does nothing: the value stays bound where it was bound, as if
    /// the guard lived. A future that one task begins and another one ends, as the inner one of
    /// `futures::future::Shared`, does that to its guards; `.isolated()` is the cure. See
    /// [`Binding`], also for the report in debug builds.
    ///
    /// ```
    /// # heirloom_context::context_var! { static TENANT: u32; }
    /// TENANT.set(1);
    /// {
    ///     let _binding = TENANT.bind(2);
    ///     assert_eq!(TENANT.get(), Some(2));
    /// }
    /// assert_eq!(TENANT.get(), Some(1));
    /// ```
    #[doc(alias = "putCloseable")]
    #[doc(alias = "asContextElement")]
    #[cfg_attr(debug_assertions, track_caller)]
    pub fn bind(&self, value: T) -> Binding {
        let id = self.assigned_id();
        let entry = Entry::Bound(self.value(value));
        let serial = current::next_serial();
        let made = self.observe(|| current::write(|frame| (frame.identity, frame.bind(id, entry, serial))));
        Binding::new(id, made, self.is_watched(), Origin::here(self.name))
    }

    /// Binds a value while `f` runs. What `f` writes to this variable is gone after it; other
    /// variables are shared.
    ///
    /// For a future, see [`with_var`](crate::ContextFutureExt::with_var): the closure here is over
    /// before anything it returns is awaited.
    ///
    /// ```
    /// # heirloom_context::context_var! { static TENANT: u32; static COUNT: u32; }
    /// TENANT.scope(5, || {
    ///     assert_eq!(TENANT.get(), Some(5));
    ///     TENANT.set(6);
    ///     COUNT.set(1);
    /// });
    /// assert_eq!(TENANT.get(), None);
    /// assert_eq!(COUNT.get(), Some(1));
    /// ```
    #[doc(alias = "scoped")]
    #[doc(alias = "sync_scope")]
    #[doc(alias = "with_value")]
    pub fn scope<R>(&self, value: T, f: impl FnOnce() -> R) -> R {
        let mut scope = self.surroundings(value);
        let _entered = scope.enter();
        f()
    }

    /// A scope that binds `value`, to be entered as often as it takes.
    pub(crate) fn surroundings(&self, value: T) -> Surroundings {
        let scope = Scope::new(self.assigned_id(), Entry::Bound(self.value(value)));
        Surroundings::Scope { scope, watched: self.is_watched() }
    }

    /// A value as contexts hold it.
    pub(crate) fn value(&self, value: T) -> Value {
        Value::new(value, self.name, &self.options)
    }

    /// The identity, if a value was ever bound.
    #[inline]
    pub(crate) fn id(&self) -> Option<Id> {
        match self.id.load(Ordering::Relaxed) {
            0 => None,
            key => Some(Id::from_key(key)),
        }
    }

    /// The identity, made if need be.
    #[inline]
    pub(crate) fn assigned_id(&self) -> Id {
        self.id().unwrap_or_else(|| self.assign_id())
    }

    #[cold]
    fn assign_id(&self) -> Id {
        let fresh = Id::next();
        match self.id.compare_exchange(0, fresh.key(), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh,
            Err(first) => Id::from_key(first),
        }
    }

    #[inline]
    fn default(&self) -> Option<&T> {
        self.options.default.map(|default| self.initialized(default))
    }

    #[inline(never)]
    fn initialized(&self, default: fn() -> T) -> &T {
        self.default.get().unwrap_or_else(|| default::get_or_make(&self.default, self.name, default))
    }

    fn is_watched(&self) -> bool {
        self.options.on_change.is_some()
    }

    fn observe<R>(&self, change: impl FnOnce() -> R) -> R {
        current::observe(self.assigned_id(), self.is_watched(), change)
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for ContextVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ContextVar").field(&self.name).finish()
    }
}

/// Declares context variables.
///
/// ```
/// use heirloom_context::context_var;
///
/// #[derive(Clone, Debug)]
/// struct Span(u32);
///
/// impl Span {
///     fn child(&self) -> Option<Span> {
///         Some(Span(self.0 + 1))
///     }
/// }
///
/// fn mirror(_previous: Option<&Span>, _current: Option<&Span>) {}
///
/// context_var! {
///     /// No default: unset until set.
///     pub static REQUEST_ID: u64;
///     /// Any expression, evaluated once.
///     pub static PRECISION: u32 = 28;
///     /// A policy: `Always`, `Never` or `Derive(function)`.
///     static TRANSACTION: u64, inherit = Never;
///     /// All options, in any order. `debug = Debug` uses the type's own implementation; a
///     /// function works as well, also for a type that has none.
///     static SPAN: Span, inherit = Derive(Span::child), on_change = mirror, debug = Debug;
/// }
///
/// SPAN.set(Span(1));
/// assert_eq!(PRECISION.get(), Some(28));
/// assert_eq!(format!("{REQUEST_ID:?}"), r#"ContextVar("REQUEST_ID")"#);
/// ```
#[macro_export]
macro_rules! context_var {
    () => {};
    (
        $(#[$meta:meta])* $vis:vis static $name:ident : $type:ty = $default:expr
        $(, $option:ident = $value:expr)* $(,)? ; $($rest:tt)*
    ) => {
        $(#[$meta])*
        $vis static $name: $crate::ContextVar<$type> = $crate::ContextVar::with_options(
            ::core::stringify!($name),
            $crate::__var_options!($type; [default = $default] $([$option = $value])*),
        );
        $crate::context_var! { $($rest)* }
    };
    (
        $(#[$meta:meta])* $vis:vis static $name:ident : $type:ty
        $(, $option:ident = $value:expr)* $(,)? ; $($rest:tt)*
    ) => {
        $(#[$meta])*
        $vis static $name: $crate::ContextVar<$type> = $crate::ContextVar::with_options(
            ::core::stringify!($name),
            $crate::__var_options!($type; $([$option = $value])*),
        );
        $crate::context_var! { $($rest)* }
    };
    // The last variable may do without the semicolon.
    ($(#[$meta:meta])* $vis:vis static $name:ident : $type:ty $(= $default:expr)? $(, $option:ident = $value:expr)* $(,)?) => {
        $crate::context_var! { $(#[$meta])* $vis static $name: $type $(= $default)? $(, $option = $value)* ; }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __var_options {
    ($type:ty; $([$option:ident = $value:expr])*) => {{
        #[allow(unused_mut)]
        let mut options = $crate::VarOptions::<$type>::new();
        $($crate::__var_option!(options, $type, $option, $value);)*
        options
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __var_option {
    ($options:ident, $type:ty, default, $value:expr) => {
        $options.default = ::core::option::Option::Some(|| -> $type { $value })
    };
    ($options:ident, $type:ty, inherit, $value:expr) => {{
        #[allow(unused_imports)]
        use $crate::Inherit::{Always, Derive, Never};
        $options.inherit = $value
    }};
    ($options:ident, $type:ty, on_change, $value:expr) => {
        $options.on_change = ::core::option::Option::Some($value)
    };
    ($options:ident, $type:ty, debug, $value:expr) => {{
        // Asks for the type's implementation only where it is named.
        #[allow(non_snake_case, dead_code)]
        fn Debug<T: ::core::fmt::Debug>(
            value: &T,
            f: &mut ::core::fmt::Formatter<'_>,
        ) -> ::core::fmt::Result {
            ::core::fmt::Debug::fmt(value, f)
        }
        $options.debug = ::core::option::Option::Some($value)
    }};
}
