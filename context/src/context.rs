//! Snapshots.

use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};

use crate::bindings::{Bindings, Entry, Id, Lookup};
use crate::current::{self, Owned};
use crate::value::{self, Value};
use crate::var::ContextVar;

/// An immutable snapshot of bound values.
///
/// Cloning is O(1): one reference count, none for the empty context. Nothing that happens anywhere
/// changes a snapshot: [`with_var`](Self::with_var) and [`without_var`](Self::without_var) make new
/// ones that share what they have in common.
///
/// It holds variables, and nothing else: neither a deadline nor [ambient states](crate::Ambient)
/// are in it. A task that is given a context has its spawner's.
///
/// Two contexts are equal if they bind the same variables to the same values, meaning the very
/// same: a value set twice is two.
///
/// A panic in the destructor of a value does not stop the others, and goes on to the code that
/// dropped the last context that held it. Destructors run with an empty throw-away context current,
/// and never nest: a value that holds a context is dropped completely before that context's values
/// are.
///
/// # Examples
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::{Context, context_var};
///
/// context_var! {
///     static USER: String;
///     static DEPTH: u32;
/// }
///
/// let one = Context::empty().with_var(&USER, "ada".to_string());
/// let two = one.with_var(&DEPTH, 1);
/// assert_eq!((one.len(), two.len()), (1, 2));
///
/// two.run(|| {
///     assert_eq!(USER.get().as_deref(), Some("ada"));
///     DEPTH.set(9); // in a copy, gone afterwards
/// });
/// assert_eq!(two.get(&DEPTH), Some(1));
/// ```
#[doc(alias = "CoroutineContext")]
#[doc(alias = "ExecutionContext")]
#[doc(alias = "baggage")]
#[derive(Clone)]
pub struct Context {
    bindings: Bindings,
}

// A snapshot is immutable, so no panic can leave it half changed.
impl UnwindSafe for Context {}
impl RefUnwindSafe for Context {}

impl Context {
    /// Nothing. Costs no allocation and no reference count.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// assert!(heirloom::Context::empty().is_empty());
    /// ```
    pub const fn empty() -> Self {
        Context { bindings: Bindings::EMPTY }
    }

    /// A copy of the current context: everything, as it is.
    ///
    /// O(1), except inside layers ([`isolated`](crate::ContextFutureExt::isolated)), whose bindings
    /// are merged.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    /// context_var! { static TENANT: u32; }
    /// TENANT.set(1);
    /// let before = Context::current();
    /// TENANT.set(2);
    /// assert_eq!(before.get(&TENANT), Some(1));
    /// ```
    #[doc(alias = "copy_context")]
    #[doc(alias = "Capture")]
    #[inline]
    pub fn current() -> Self {
        Context { bindings: current::snapshot() }
    }

    /// What a child spawned here and now would get: a copy of the current context with each
    /// variable's [policy](crate::Inherit) applied.
    ///
    /// O(1) while only `Always` variables are bound. A panic in a `Derive` function reaches the
    /// caller.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    ///
    /// context_var! {
    ///     static REQUEST_ID: u64;
    ///     static TRANSACTION: u64, inherit = Never;
    /// }
    /// REQUEST_ID.set(1);
    /// TRANSACTION.set(2);
    ///
    /// let child = Context::inherited();
    /// assert!(child.contains(&REQUEST_ID) && !child.contains(&TRANSACTION));
    /// ```
    #[inline]
    pub fn inherited() -> Self {
        Context { bindings: current::snapshot().inherited() }
    }

    pub(crate) fn from_bindings(bindings: Bindings) -> Self {
        Context { bindings }
    }

    pub(crate) fn address(&self) -> usize {
        self.bindings.as_raw().addr()
    }

    pub(crate) fn into_bindings(mut self) -> Bindings {
        std::mem::replace(&mut self.bindings, Bindings::EMPTY)
    }

    /// A new context with one variable bound; this one stays as it is.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    /// context_var! { static TENANT: u32; }
    /// let acme = Context::empty().with_var(&TENANT, 7);
    /// assert_eq!(acme.get(&TENANT), Some(7));
    /// ```
    #[doc(alias = "with_value")]
    #[doc(alias = "plus")]
    #[track_caller]
    pub fn with_var<T: Send + Sync + 'static, D>(&self, var: &ContextVar<T, D>, value: T) -> Context {
        Context { bindings: self.bindings.with(var.assigned_id(), Entry::Bound(var.value(value))) }
    }

    /// A new context with one variable unset; this one stays as it is.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    /// context_var! { static TENANT: u32; }
    /// let acme = Context::empty().with_var(&TENANT, 7);
    /// assert!(acme.without_var(&TENANT).is_empty());
    /// ```
    #[doc(alias = "minusKey")]
    pub fn without_var<T: Send + Sync + 'static, D>(&self, var: &ContextVar<T, D>) -> Context {
        Context { bindings: self.bindings.with(var.assigned_id(), Entry::Absent) }
    }

    /// A new context with everything that is bound in `over`, and for the rest what is bound here.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    /// context_var! { static TENANT: u32; static DEPTH: u32; }
    /// let here = Context::empty().with_var(&TENANT, 1).with_var(&DEPTH, 1);
    /// let both = here.overlaid(&Context::empty().with_var(&TENANT, 2));
    /// assert_eq!((both.get(&TENANT), both.get(&DEPTH)), (Some(2), Some(1)));
    /// ```
    #[must_use]
    pub fn overlaid(&self, over: &Context) -> Context {
        let mut bindings = self.bindings.clone();
        for (id, value) in over.bindings.entries() {
            bindings.change(id, Entry::Bound(value));
        }
        Context { bindings }
    }

    /// This context, and of what is bound in `under` that which is not bound here.
    pub(crate) fn underlaid(&self, under: &Context) -> Context {
        if self.is_empty() {
            return under.clone();
        }
        let mut bindings = self.bindings.clone();
        under.bindings.for_each(|id, found| {
            if !matches!(self.bindings.lookup(id), Lookup::Bound(_)) {
                bindings.change(id, found.entry());
            }
        });
        Context { bindings }
    }

    /// A copy of the value bound here. Defaults are the variable's, not the context's: they do not
    /// show.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    /// context_var! { static PRECISION: u32 = 28; }
    /// assert_eq!(Context::empty().get(&PRECISION), None);
    /// ```
    pub fn get<T: Clone + Send + Sync + 'static, D>(&self, var: &ContextVar<T, D>) -> Option<T> {
        match self.bindings.lookup(var.id()) {
            // SAFETY: only this variable has the id, so the value is a `T`; `self` keeps it alive.
            Lookup::Bound(found) => Some(unsafe { value::get::<T>(found.as_ptr()) }.clone()),
            Lookup::Hidden | Lookup::Absent => None,
        }
    }

    /// Whether the variable is bound here.
    pub fn contains<T: Send + Sync + 'static, D>(&self, var: &ContextVar<T, D>) -> bool {
        matches!(self.bindings.lookup(var.id()), Lookup::Bound(_))
    }

    /// How many variables are bound.
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// Whether nothing is bound.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is bound, in the order in which the variables were first used in this process: names
    /// and types, and texts where the variable opted in.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    ///
    /// context_var! {
    ///     static USER: &'static str, debug = Debug;
    ///     static SECRET: &'static str;
    /// }
    /// let context = Context::empty().with_var(&USER, "ada").with_var(&SECRET, "xyzzy");
    /// let texts = context.iter().map(|entry| (entry.name(), entry.debug_text()));
    /// let mut listed: Vec<_> = texts.collect();
    /// listed.sort();
    /// assert_eq!(listed, [("SECRET", None), ("USER", Some(r#""ada""#.to_string()))]);
    /// ```
    pub fn iter(&self) -> Entries<'_> {
        Entries { entries: self.bindings.entries().into_iter(), of: std::marker::PhantomData }
    }

    /// What changes from this context to `other`.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::context::Change;
    /// use heirloom::{Context, context_var};
    ///
    /// context_var! {
    ///     static USER: &'static str;
    ///     static DEPTH: u32;
    /// }
    /// let before = Context::empty().with_var(&USER, "ada");
    /// let after = before.without_var(&USER).with_var(&DEPTH, 1);
    /// let differences = before.diff(&after);
    /// let mut changes: Vec<_> = differences.iter().map(|d| (d.name(), d.change())).collect();
    /// changes.sort();
    /// assert_eq!(changes, [("DEPTH", Change::Added), ("USER", Change::Removed)]);
    /// ```
    pub fn diff(&self, other: &Context) -> Vec<Difference> {
        let pairs = self.bindings.differences(&other.bindings);
        let differs = |(old, new): &(Option<Value>, Option<Value>)| {
            let change = match (old, new) {
                (None, _) => Change::Added,
                (_, None) => Change::Removed,
                _ => Change::Replaced,
            };
            let value = new.as_ref().or(old.as_ref())?;
            Some(Difference { name: value.name(), type_name: value.type_name(), change })
        };
        pairs.iter().filter_map(differs).collect()
    }

    /// Runs `f` in a copy of this context. What it writes is gone afterwards; the former context is
    /// back also after a panic.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    /// context_var! { static TENANT: u32; }
    /// let acme = Context::empty().with_var(&TENANT, 7);
    /// assert_eq!(acme.run(|| TENANT.get()), Some(7));
    /// assert_eq!(TENANT.get(), None);
    /// ```
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        let mut copy = Owned::snapshot_of(self.bindings.clone());
        let _entered = current::enter(&mut copy);
        f()
    }

    /// A closure that runs `f` in a copy of this context, whenever and wherever it is called: for
    /// callbacks, rayon, raw threads. `f` is dropped in the context too, as futures are.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    /// context_var! { static TENANT: u32; }
    /// TENANT.set(7);
    /// let read = Context::current().wrap(|| TENANT.get());
    /// assert_eq!(std::thread::spawn(read).join().unwrap(), Some(7));
    /// ```
    pub fn wrap<F, R>(&self, f: F) -> impl Fn() -> R + use<F, R>
    where
        F: Fn() -> R,
    {
        let carried = Carried { f: Some(f), context: self.clone() };
        move || {
            let f = carried.f.as_ref().expect("taken by the drop only");
            carried.context.run(f)
        }
    }

    /// [`wrap`](Self::wrap) for a closure with state.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    /// context_var! { static TENANT: u32; }
    /// let mut calls = 0;
    /// let mut count = Context::empty().with_var(&TENANT, 7).wrap_mut(|| {
    ///     calls += 1;
    ///     (TENANT.get(), calls)
    /// });
    /// count();
    /// assert_eq!(count(), (Some(7), 2));
    /// ```
    pub fn wrap_mut<F, R>(&self, f: F) -> impl FnMut() -> R + use<F, R>
    where
        F: FnMut() -> R,
    {
        let mut carried = Carried { f: Some(f), context: self.clone() };
        move || {
            let carried = &mut carried;
            let f = carried.f.as_mut().expect("taken by the drop only");
            carried.context.run(f)
        }
    }

    /// [`wrap`](Self::wrap) for a closure that is called once.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    /// context_var! { static TENANT: u32; }
    /// let message = String::from("for");
    /// let acme = Context::empty().with_var(&TENANT, 7);
    /// let say = acme.wrap_once(move || format!("{message} {}", TENANT.require()));
    /// assert_eq!(say(), "for 7");
    /// ```
    pub fn wrap_once<F, R>(&self, f: F) -> impl FnOnce() -> R + use<F, R>
    where
        F: FnOnce() -> R,
    {
        let mut carried = Carried { f: Some(f), context: self.clone() };
        move || {
            let f = carried.f.take().expect("called once");
            carried.context.run(f)
        }
    }
}

/// A closure to be run, and dropped, in a context.
struct Carried<F> {
    f: Option<F>,
    context: Context,
}

impl<F> Drop for Carried<F> {
    fn drop(&mut self) {
        if let Some(f) = self.f.take() {
            self.context.run(|| drop(f));
        }
    }
}

impl Default for Context {
    fn default() -> Self {
        Context::empty()
    }
}

impl PartialEq for Context {
    fn eq(&self, other: &Self) -> bool {
        if self.bindings.as_raw() == other.bindings.as_raw() {
            return true;
        }
        let mut equal = self.len() == other.len();
        self.bindings.for_each(|id, found| {
            if let Lookup::Bound(found) = found {
                let theirs = other.bindings.lookup(id);
                equal &= matches!(theirs, Lookup::Bound(theirs) if theirs.as_ptr() == found.as_ptr());
            }
        });
        equal
    }
}

impl Eq for Context {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for entry in self.iter() {
            let text = entry.debug_text();
            map.entry(
                &format_args!("{}", entry.name()),
                &format_args!("{}", text.as_deref().unwrap_or("<opaque>")),
            );
        }
        map.finish()
    }
}

impl<'a> IntoIterator for &'a Context {
    type Item = ContextEntry<'a>;
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

/// The bound values of a [`Context`]; made by [`Context::iter`].
pub struct Entries<'a> {
    entries: std::vec::IntoIter<(Id, Value)>,
    of: std::marker::PhantomData<&'a Context>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = ContextEntry<'a>;

    fn next(&mut self) -> Option<ContextEntry<'a>> {
        self.entries.next().map(|(_, value)| ContextEntry { value, of: std::marker::PhantomData })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl ExactSizeIterator for Entries<'_> {}

impl fmt::Debug for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("left", &self.len()).finish()
    }
}

/// One bound value, seen from outside its type.
pub struct ContextEntry<'a> {
    value: Value,
    of: std::marker::PhantomData<&'a Context>,
}

impl ContextEntry<'_> {
    /// The variable's name.
    pub fn name(&self) -> &'static str {
        self.value.name()
    }

    /// The value's type.
    pub fn type_name(&self) -> &'static str {
        self.value.type_name()
    }

    /// Where it was bound: the call of [`set`](ContextVar::set), [`bind`](ContextVar::bind),
    /// [`scope`](ContextVar::scope) or `with_var`. A value that a policy made of the spawner's has
    /// the place of the spawner's.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    /// context_var! { static TENANT: u32; }
    ///
    /// TENANT.set(7);
    /// let line = line!() - 1;
    /// let context = Context::current();
    /// assert_eq!(context.iter().next().unwrap().bound_at().line(), line);
    /// ```
    #[doc(alias = "provenance")]
    pub fn bound_at(&self) -> &'static Location<'static> {
        self.value.place()
    }

    /// The value's text, if its variable opted in (`debug = Debug`).
    ///
    /// # Panics
    /// If the value's own formatting does.
    pub fn debug_text(&self) -> Option<String> {
        self.value.debug_text()
    }
}

impl fmt::Debug for ContextEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextEntry")
            .field("name", &self.name())
            .field("type_name", &self.type_name())
            .finish()
    }
}

/// One variable that two contexts do not agree on; made by [`Context::diff`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    name: &'static str,
    type_name: &'static str,
    change: Change,
}

/// How a variable differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Bound only in the second context.
    Added,
    /// Bound only in the first.
    Removed,
    /// Bound in both, to different values.
    Replaced,
}

impl Difference {
    /// The variable's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The type of its values.
    pub fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// How it differs.
    pub fn change(&self) -> Change {
        self.change
    }
}
