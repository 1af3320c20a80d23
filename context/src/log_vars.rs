//! The variables that go into logs.
#![forbid(unsafe_code)]

use std::fmt;

use crate::ContextVar;

/// Context variables that are added to each line of a log: what other languages call a mapped
/// diagnostic context.
///
/// [`layer`](Self::layer) adds them to the events and spans of `tracing`, [`logger`](Self::logger)
/// to the records of `log`. Each is read in the context that is current where the line is written,
/// so no span, no argument and no hook carries it. A variable that has no value there is left out,
/// also if it has a default.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::LogVars;
/// use heirloom::context_var;
///
/// context_var! {
///     static REQUEST: u64, debug = Debug;
///     static TENANT: &'static str, debug = Debug;
/// }
///
/// let vars = LogVars::new().var(&REQUEST).var(&TENANT);
/// REQUEST.set(7);
/// assert_eq!(vars.texts().collect::<Vec<_>>(), [("REQUEST", "7".to_string())]);
/// ```
#[derive(Clone, Default)]
#[doc(alias = "MDC")]
#[doc(alias = "mapped diagnostic context")]
pub struct LogVars {
    list: Vec<&'static dyn HasText>,
}

/// A variable whose values have a text.
trait HasText: Send + Sync {
    fn name(&self) -> &'static str;
    /// The text of the bound value.
    fn text(&self) -> Option<String>;
}

impl<T: Send + Sync + 'static, D: Send + Sync> HasText for ContextVar<T, D> {
    fn name(&self) -> &'static str {
        self.name()
    }

    fn text(&self) -> Option<String> {
        self.bound_text()
    }
}

impl LogVars {
    /// No variables.
    #[must_use]
    pub fn new() -> LogVars {
        LogVars::default()
    }

    /// Adds a variable, under its name.
    ///
    /// # Panics
    /// If the values of the variable have no text: a value goes into no log unless its variable
    /// says so, by `debug = Debug` or a function.
    #[must_use]
    #[track_caller]
    pub fn var<T: Send + Sync + 'static, D: Send + Sync>(
        mut self,
        var: &'static ContextVar<T, D>,
    ) -> LogVars {
        assert!(
            var.options().debug.is_some(),
            "the values of the variable `{}` have no text for a log: declare it with `debug = Debug`",
            var.name()
        );
        self.list.push(var);
        self
    }

    /// The names of the variables, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.list.iter().map(|var| var.name())
    }

    /// The names and the texts of those that have a value in the current context.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.list.iter().filter_map(|var| Some((var.name(), var.text()?)))
    }
}

impl fmt::Debug for LogVars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
