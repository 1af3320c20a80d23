//! What a variable declares about its values: policy, hook, text, need.
#![forbid(unsafe_code)]

use std::fmt;

use super::wire::Wire;
use super::{SECRET, SPECIAL, WATCHED, WIRED};

/// What an inheriting spawn does with a variable's value.
///
/// "Inherit" is meant strictly: `spawn`, groups and blocking closures inherit, through
/// [`Context::inherited`]. A copy ([`Context::current`], [`Context::run`], `in_context`, …) has
/// every value as it is.
///
/// Each variable has a policy of its own, because services need different ones side by side: a
/// request id crosses into background work, a live transaction must not.
///
/// [`Context::inherited`]: crate::Context::inherited
/// [`Context::current`]: crate::Context::current
/// [`Context::run`]: crate::Context::run
///
/// # Examples
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::{Context, context_var};
///
/// context_var! {
///     static TRANSACTION: u64, inherit = Never;
///     static DEPTH: u32, inherit = Derive(|depth| Some(depth + 1));
/// }
///
/// TRANSACTION.set(7);
/// DEPTH.set(1);
/// let child = Context::inherited();
/// assert_eq!(child.get(&TRANSACTION), None);
/// assert_eq!(child.get(&DEPTH), Some(2));
/// ```
#[doc(alias = "CopyableThreadContextElement")]
#[doc(alias = "InheritableThreadLocal")]
#[doc(alias = "childValue")]
pub enum Inherit<T> {
    /// The child gets the value. Costs nothing: a context of such variables only is inherited in
    /// O(1).
    Always,
    /// The variable is unset in the child.
    Never,
    /// The child gets what the function makes of the spawner's value, at the spawn call; `None`
    /// leaves the variable unset. A panic in the function reaches the spawner.
    Derive(fn(&T) -> Option<T>),
}

impl<T> Clone for Inherit<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Inherit<T> {}

impl<T> fmt::Debug for Inherit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Inherit::Always => "Always",
            Inherit::Never => "Never",
            Inherit::Derive(_) => "Derive",
        })
    }
}

/// A hook: called with the previous and the current bound value.
pub type OnChange<T> = fn(Option<&T>, Option<&T>);

/// Writes a value's text, as [`fmt::Debug::fmt`] does.
pub type DebugText<T> = fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result;

/// The options of a [`ContextVar`](crate::ContextVar): plain function pointers, so that a variable
/// can be a `static`.
///
/// [`context_var!`](crate::context_var) writes them from its short form. A default is no option: it
/// is part of the variable's type; see
/// [`ContextVar::with_default`](crate::ContextVar::with_default).
///
/// # Examples
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::{Inherit, VarOptions};
/// use heirloom::ContextVar;
///
/// const NEVER: VarOptions<String> = VarOptions { inherit: Inherit::Never, ..VarOptions::new() };
/// static SESSION: ContextVar<String> = ContextVar::with_options("SESSION", NEVER);
/// assert_eq!(SESSION.name(), "SESSION");
/// ```
pub struct VarOptions<T: 'static> {
    /// What a spawned child gets.
    pub inherit: Inherit<T>,
    /// Called with the (previous, current) bound value whenever what the calling thread sees of the
    /// variable has changed: by a set, a reset, a guard, or a context being entered or left. Meant
    /// for mirroring a variable into a foreign thread-local.
    ///
    /// The hook runs after the change, with the new context current. A panic in it is caught, and
    /// the panic hook has reported it. Changes that a hook makes call no hooks. Destructors of
    /// values run in an empty context, of which hooks are not told.
    #[doc(alias = "MDC")]
    pub on_change: Option<OnChange<T>>,
    /// How the value is written where contexts are listed. Without it the value stays opaque.
    pub debug: Option<DebugText<T>>,
    /// Whether a read where no value is bound is a mistake; see
    /// [`detect_losses`](crate::detect_losses).
    pub required: bool,
    /// Whether the value's text is `[secret]` wherever contexts are listed: in dumps, in reports of
    /// panics, in the text of a context. What [`debug`](Self::debug) says is not asked then. For
    /// passwords and tokens: a dump shows that there is one.
    ///
    /// ```
    /// # use heirloom_context::internal::heirloom;
    /// use heirloom::{Context, context_var};
    /// context_var! { static TOKEN: &'static str, debug = Debug, secret = true; }
    ///
    /// let context = Context::empty().with_var(&TOKEN, "xyzzy");
    /// let texts: Vec<_> = context.iter().filter_map(|entry| entry.debug_text()).collect();
    /// assert_eq!(texts, ["[secret]"]);
    /// ```
    #[doc(alias = "redact")]
    #[doc(alias = "sensitive")]
    pub secret: bool,
    /// The name and the codec with which values travel to other processes; see
    /// [`wire`](crate::wire). Without it they do not, and values of a [`secret`](Self::secret) do
    /// not, whatever this says.
    #[doc(alias = "baggage")]
    pub wire: Option<&'static Wire<T>>,
}

impl<T> VarOptions<T> {
    /// Always inherited, no hook, opaque, neither required nor secret, not sent.
    pub const fn new() -> Self {
        VarOptions {
            inherit: Inherit::Always,
            on_change: None,
            debug: None,
            required: false,
            secret: false,
            wire: None,
        }
    }

    /// The flags of the variable's values.
    pub(crate) const fn flags(&self) -> u8 {
        let watched = if self.on_change.is_some() { WATCHED } else { 0 };
        let special = if matches!(self.inherit, Inherit::Always) { 0 } else { SPECIAL };
        // What is secret is never sent.
        let wired = if self.wire.is_some() && !self.secret { WIRED } else { 0 };
        let secret = if self.secret { SECRET } else { 0 };
        watched | special | secret | wired
    }
}

impl<T> Clone for VarOptions<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for VarOptions<T> {}

impl<T> Default for VarOptions<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for VarOptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VarOptions")
            .field("inherit", &self.inherit)
            .field("on_change", &self.on_change.is_some())
            .field("debug", &self.debug.is_some())
            .field("required", &self.required)
            .field("secret", &self.secret)
            .field("wire", &self.wire.map(Wire::name))
            .finish()
    }
}
