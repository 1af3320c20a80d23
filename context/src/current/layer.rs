//! What surrounds a wrapped future, stream or iterator while it runs, and is kept for it in
//! between.
#![forbid(unsafe_code)]

use super::frame::{Frame, Scope};
use super::word::Owned;
use super::{Entered, EnteredLayer, enter, enter_layer, observe, write, write_in_place};
use crate::bindings::{Bindings, Entry};

/// One of the three ways to have a context of one's own.
pub(crate) enum Surroundings {
    /// All of it: a copy, fixed when it was made.
    Copy(Owned),
    /// On top of what is current at each entry.
    Layer(Owned),
    /// One variable, in the midst of what is current at each entry.
    Scope { scope: Scope, watched: bool },
}

impl Surroundings {
    pub(crate) fn copy(bindings: Bindings) -> Surroundings {
        Surroundings::Copy(Owned::snapshot_of(bindings))
    }

    pub(crate) fn layer() -> Surroundings {
        Surroundings::Layer(Owned::layer())
    }

    /// Enters until the answer is dropped.
    #[inline]
    pub(crate) fn enter(&mut self) -> Inside<'_> {
        match self {
            Surroundings::Copy(copy) => Inside::Copy(enter(copy)),
            Surroundings::Layer(layer) => Inside::Layer(enter_layer(layer)),
            Surroundings::Scope { scope, watched } => Inside::Scope(InScope::new(scope, *watched)),
        }
    }

    /// The name of the method that asks for it.
    pub(crate) fn mode(&self) -> &'static str {
        match self {
            Surroundings::Copy(_) => "in_context",
            Surroundings::Layer(_) => "isolated",
            Surroundings::Scope { .. } => "with_var",
        }
    }

    /// What is kept here from one entry to the next.
    pub(crate) fn bindings(&self) -> Bindings {
        match self {
            Surroundings::Copy(copy) => copy.bindings(),
            Surroundings::Layer(layer) => layer.bindings().without_hidden(),
            Surroundings::Scope { scope, .. } => match scope.entry() {
                entry @ Entry::Bound(_) => Bindings::EMPTY.with(scope.id, entry),
                Entry::Absent | Entry::Hidden => Bindings::EMPTY,
            },
        }
    }
}

/// The surroundings are entered until this is dropped.
#[must_use]
#[expect(dead_code, reason = "held for what their drops do")]
pub(crate) enum Inside<'a> {
    Copy(Entered<'a>),
    Layer(EnteredLayer<'a>),
    Scope(InScope<'a>),
}

/// A scope is on top of its variable's entries until this is dropped.
pub(crate) struct InScope<'a> {
    scope: &'a mut Scope,
    watched: bool,
    /// False in a thread that is being torn down, where nothing is bound.
    entered: bool,
}

impl<'a> InScope<'a> {
    #[inline]
    fn new(scope: &'a mut Scope, watched: bool) -> InScope<'a> {
        let in_place = |frame: &mut Frame| frame.enter_in_place(scope).then_some(());
        let entered = !watched && write_in_place(in_place).is_some() || enter_scope(scope, watched);
        InScope { scope, watched, entered }
    }
}

impl Drop for InScope<'_> {
    #[inline]
    fn drop(&mut self) {
        let in_place = |frame: &mut Frame| frame.leave_in_place(self.scope).then_some(());
        if self.entered && (self.watched || write_in_place(in_place).is_none()) {
            leave_scope(self.scope, self.watched);
        }
    }
}

#[inline(never)]
fn enter_scope(scope: &mut Scope, watched: bool) -> bool {
    observe(scope.id, watched, || write(|frame| frame.enter_scope(scope))).is_some()
}

#[inline(never)]
fn leave_scope(scope: &mut Scope, watched: bool) {
    observe(scope.id, watched, || write(|frame| frame.leave_scope(scope)));
}
