//! Context variables: typed keys.

use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::binding::{Binding, Origin};
use crate::bindings::{Entry, Id};
use crate::current::{self, Scope, Surroundings};
use crate::default::{NoDefault, WithDefault};
use crate::error::{ResetError, ResetErrorKind};
use crate::token::Token;
use crate::unset::{self, Unset};
use crate::value::{self, Value, VarOptions, WATCHED};

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
/// Whether the variable has a default is part of its type, decided at the declaration:
///
/// | declared with [`context_var!`](crate::context_var) | type | [`get`](Self::get) returns | where nothing is bound |
/// | --- | --- | --- | --- |
/// | `static TENANT: u32;` | `ContextVar<u32>` | `Option<u32>` | `None`; [`require`](Self::require) panics, with a text that helps |
/// | `static PRECISION: u32 = 28;` | `ContextVar<u32, WithDefault<u32>>` | `u32` | the default, `28` |
///
/// A function for variables of both kinds takes a `&ContextVar<T, D>`: everything but reading is
/// the same for both, and [`Context::get`](crate::Context::get) reads what is bound.
///
/// The model is that of Python's [`contextvars`](https://peps.python.org/pep-0567/).
///
/// # Examples
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context_var;
///
/// context_var! {
///     static REQUEST_ID: u64;
///     static PRECISION: u32 = 28;
/// }
///
/// assert_eq!(REQUEST_ID.get(), None);
/// assert_eq!(PRECISION.get(), 28);
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
#[doc(alias = "LocalKey")]
pub struct ContextVar<T: Send + Sync + 'static, D = NoDefault> {
    /// Zero until a value is bound somewhere.
    id: AtomicU64,
    /// Where a value was bound first; null until then.
    first_bound_at: AtomicPtr<Location<'static>>,
    name: &'static str,
    options: VarOptions<T>,
    /// Of its values.
    flags: u8,
    default: D,
}

/// Making and reading a variable without a default.
impl<T: Send + Sync + 'static> ContextVar<T> {
    /// A variable without options.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::ContextVar;
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

    /// A variable with a policy, a hook or a text; see [`VarOptions`].
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::{Inherit, VarOptions};
    /// use heirloom::ContextVar;
    ///
    /// const NEVER: VarOptions<u32> = VarOptions { inherit: Inherit::Never, ..VarOptions::new() };
    /// static SESSION: ContextVar<u32> = ContextVar::with_options("SESSION", NEVER);
    /// assert_eq!(SESSION.get(), None);
    /// ```
    pub const fn with_options(name: &'static str, options: VarOptions<T>) -> Self {
        ContextVar {
            id: AtomicU64::new(0),
            first_bound_at: AtomicPtr::new(ptr::null_mut()),
            name,
            flags: options.flags(),
            options,
            default: NoDefault,
        }
    }

    /// The same variable with a default: what it reads as where no value is bound. The function is
    /// called once, at the first need.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::WithDefault;
    /// use heirloom::ContextVar;
    ///
    /// static LIMIT: ContextVar<u32, WithDefault<u32>> =
    ///     ContextVar::new("LIMIT").with_default(|| 10);
    /// assert_eq!(LIMIT.get(), 10);
    /// ```
    #[must_use]
    pub const fn with_default(self, make: fn() -> T) -> ContextVar<T, WithDefault<T>> {
        let ContextVar { id, first_bound_at, name, options, flags, default: NoDefault } = self;
        ContextVar { id, first_bound_at, name, options, flags, default: WithDefault::new(make) }
    }

    /// A copy of the bound value, else `None`.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// heirloom::context_var! { static TENANT: String; }
    /// TENANT.set("acme".to_string());
    /// assert_eq!(TENANT.get().as_deref(), Some("acme"));
    /// ```
    #[inline]
    #[track_caller]
    pub fn get(&self) -> Option<T>
    where
        T: Clone,
    {
        self.with(|value| value.cloned())
    }

    /// A copy of the bound value, or why there is none.
    ///
    /// # Errors
    /// If no value is bound: [`Unset`] says where the code runs, and what is known of the reason.
    /// To find it out takes about a microsecond; where the variable may be unset, use
    /// [`get`](Self::get).
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::UnsetCause;
    /// heirloom::context_var! { static TENANT: u32; }
    /// TENANT.set(7);
    /// assert_eq!(TENANT.try_get().unwrap(), 7);
    /// let elsewhere = std::thread::spawn(|| TENANT.try_get()).join().unwrap();
    /// assert_eq!(elsewhere.unwrap_err().cause(), UnsetCause::NoTask);
    /// ```
    #[inline]
    #[track_caller]
    pub fn try_get(&self) -> Result<T, Unset>
    where
        T: Clone,
    {
        match self.get() {
            Some(value) => Ok(value),
            None => Err(self.why_unset(Location::caller())),
        }
    }

    /// A copy of the bound value, for code that is wrong without one.
    ///
    /// # Panics
    /// If no value is bound, with the text of [`Unset`].
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// heirloom::context_var! { static TENANT: u32; }
    /// TENANT.set(7);
    /// assert_eq!(TENANT.require(), 7);
    /// ```
    #[doc(alias = "expect")]
    #[doc(alias = "unwrap")]
    #[inline]
    #[track_caller]
    pub fn require(&self) -> T
    where
        T: Clone,
    {
        match self.try_get() {
            Ok(value) => value,
            Err(unset) => panic!("{unset}"),
        }
    }

    /// Lends the bound value, else `None`, without copying it.
    ///
    /// The closure may do anything, also set, reset or leave the very binding it looks at: the
    /// value it borrows is kept until it returns.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// heirloom::context_var! { static TENANT: String; }
    /// TENANT.set("acme".to_string());
    /// TENANT.with(|tenant| {
    ///     TENANT.set("other".to_string());
    ///     assert_eq!(tenant.unwrap(), "acme");
    /// });
    /// ```
    #[inline]
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(Option<&T>) -> R) -> R {
        self.read(f)
    }
}

/// Reading a variable with a default.
impl<T: Send + Sync + 'static> ContextVar<T, WithDefault<T>> {
    /// A copy of the bound value, else of the default.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// heirloom::context_var! { static PRECISION: u32 = 28; }
    /// assert_eq!(PRECISION.get(), 28);
    /// PRECISION.set(100);
    /// assert_eq!(PRECISION.get(), 100);
    /// ```
    #[inline]
    #[track_caller]
    pub fn get(&self) -> T
    where
        T: Clone,
    {
        self.with(T::clone)
    }

    /// Lends the bound value, else the default, without copying it.
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
    /// # use heirloom_context::internal::heirloom;
    /// heirloom::context_var! { static GREETING: String = "hello".to_string(); }
    /// assert_eq!(GREETING.with(|greeting| greeting.len()), 5);
    /// ```
    #[inline]
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        self.read(|bound| f(bound.unwrap_or_else(|| self.default.value(self.name))))
    }
}

/// What is the same with a default and without.
impl<T: Send + Sync + 'static, D> ContextVar<T, D> {
    /// The name given when the variable was made. It identifies nothing.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// heirloom::context_var! { static TENANT: u32; }
    /// assert_eq!(TENANT.name(), "TENANT");
    /// ```
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn options(&self) -> &VarOptions<T> {
        &self.options
    }

    /// Whether a value is bound in the current context. A default does not count.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// heirloom::context_var! { static PRECISION: u32 = 28; }
    /// assert!(!PRECISION.is_set());
    /// PRECISION.set(28);
    /// assert!(PRECISION.is_set());
    /// ```
    pub fn is_set(&self) -> bool {
        current::is_bound(self.id())
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
    /// # use heirloom_context::internal::heirloom;
    /// heirloom::context_var! { static TENANT: u32; }
    /// fn callee() {
    ///     TENANT.set(7);
    /// }
    /// callee();
    /// assert_eq!(TENANT.get(), Some(7));
    /// ```
    #[track_caller]
    pub fn set(&self, value: T) -> Token<T> {
        let value = self.value(value);
        self.put(Entry::Bound(value))
    }

    /// Removes the binding, so that the default shows again. Inside a layer
    /// ([`isolated`](crate::ContextFutureExt::isolated)) this also hides a value bound outside.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// heirloom::context_var! { static PRECISION: u32 = 28; }
    /// PRECISION.set(10);
    /// let token = PRECISION.unset();
    /// assert_eq!(PRECISION.get(), 28);
    /// PRECISION.reset(token).unwrap();
    /// assert_eq!(PRECISION.get(), 10);
    /// ```
    pub fn unset(&self) -> Token<T> {
        self.put(Entry::Hidden)
    }

    fn put(&self, entry: Entry) -> Token<T> {
        let id = self.assigned_id();
        let (identity, guard, previous) = current::set(id, self.is_watched(), entry);
        Token::new(id, identity, guard, previous)
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
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::ResetErrorKind;
    /// use heirloom::{Context, context_var};
    /// context_var! { static TENANT: u32; }
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
        let kind = if self.id() != id {
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
    /// # use heirloom_context::internal::heirloom;
    /// heirloom::context_var! { static TENANT: u32; }
    /// TENANT.set(1);
    /// {
    ///     let _binding = TENANT.bind(2);
    ///     assert_eq!(TENANT.get(), Some(2));
    /// }
    /// assert_eq!(TENANT.get(), Some(1));
    /// ```
    #[doc(alias = "putCloseable")]
    #[doc(alias = "asContextElement")]
    #[doc(alias = "guard")]
    #[track_caller]
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
    /// # use heirloom_context::internal::heirloom;
    /// heirloom::context_var! { static TENANT: u32; static COUNT: u32; }
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
    #[track_caller]
    pub fn scope<R>(&self, value: T, f: impl FnOnce() -> R) -> R {
        let mut scope = self.surroundings(value);
        let _entered = scope.enter();
        f()
    }

    /// Lends what is bound to code that needs it: a required variable without a value is a loss.
    #[inline]
    #[track_caller]
    fn read<R>(&self, f: impl FnOnce(Option<&T>) -> R) -> R {
        let read_at = Location::caller();
        self.with_bound(|bound| {
            if bound.is_none() && self.options.required {
                unset::lost(read_at, || self.why_unset(read_at));
            }
            f(bound)
        })
    }

    /// Lends what is bound.
    #[inline]
    pub(crate) fn with_bound<R>(&self, f: impl FnOnce(Option<&T>) -> R) -> R {
        current::read(self.id(), |found| {
            // SAFETY: only this variable has the id, so the value is a `T`; it is alive until
            // `read` returns.
            f(found.map(|pointer| unsafe { value::get::<T>(pointer) }))
        })
    }

    /// The text of what is bound, as where contexts are listed.
    #[cfg(any(feature = "log", feature = "tracing-subscriber"))]
    pub(crate) fn bound_text(&self) -> Option<String> {
        current::read(self.id(), |found| {
            // SAFETY: the value is alive until `read` returns.
            found.and_then(|pointer| unsafe { Value::retain(pointer) }.debug_text())
        })
    }

    #[cold]
    fn why_unset(&self, read_at: &'static Location<'static>) -> Unset {
        // Relaxed: what it points to is as old as the program.
        let first_bound_at = self.first_bound_at.load(Ordering::Relaxed);
        // SAFETY: null, or made of a `&'static` in `value`.
        let first_bound_at = unsafe { first_bound_at.as_ref() };
        Unset::new(self.name, read_at, first_bound_at, &self.options.inherit)
    }

    /// A scope that binds `value`, to be entered as often as it takes.
    #[track_caller]
    pub(crate) fn surroundings(&self, value: T) -> Surroundings {
        let scope = Scope::new(self.assigned_id(), Entry::Bound(self.value(value)));
        Surroundings::Scope { scope, watched: self.is_watched() }
    }

    /// A value as contexts hold it, bound by the caller.
    #[track_caller]
    pub(crate) fn value(&self, value: T) -> Value {
        self.value_at(value, Location::caller())
    }

    /// The same, bound at another place.
    pub(crate) fn value_at(&self, value: T, place: &'static Location<'static>) -> Value {
        if self.first_bound_at.load(Ordering::Relaxed).is_null() {
            // Of threads that bind it first at the same time, the last one counts.
            self.first_bound_at.store(ptr::from_ref(place).cast_mut(), Ordering::Relaxed);
        }
        Value::new(value, self.name, place, &self.options, self.flags)
    }

    /// The identity; zero until a value is bound somewhere.
    #[inline]
    pub(crate) fn id(&self) -> Id {
        Id::from_key(self.id.load(Ordering::Relaxed))
    }

    /// The identity, made if need be.
    #[inline]
    pub(crate) fn assigned_id(&self) -> Id {
        match self.id() {
            id if id.key() == 0 => self.assign_id(),
            id => id,
        }
    }

    #[cold]
    fn assign_id(&self) -> Id {
        let fresh = Id::next();
        match self.id.compare_exchange(0, fresh.key(), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => fresh,
            Err(first) => Id::from_key(first),
        }
    }

    fn is_watched(&self) -> bool {
        self.flags & WATCHED != 0
    }

    fn observe<R>(&self, change: impl FnOnce() -> R) -> R {
        current::observe(self.assigned_id(), self.is_watched(), change)
    }
}

impl<T: Send + Sync + 'static, D> fmt::Debug for ContextVar<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ContextVar").field(&self.name).finish()
    }
}
