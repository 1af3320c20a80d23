//! What surrounds a wrapped future, stream or iterator while it runs, and is kept for it in between.
#![forbid(unsafe_code)]

use crate::current::{self, Entered, EnteredLayer, Owned};
use crate::frame::Shelved;
use crate::storage::{Bindings, Entry};

/// One of the three ways to have a context of one's own.
pub(crate) enum Surroundings {
    /// All of it: a copy, fixed when it was made.
    Copy(Owned),
    /// On top of what is current at each entry.
    Layer(Owned),
    /// One variable, in the midst of what is current at each entry.
    Scope { shelved: Shelved, watched: bool },
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
            Surroundings::Copy(copy) => Inside::Copy(current::enter(copy)),
            Surroundings::Layer(layer) => Inside::Layer(current::enter_layer(layer)),
            Surroundings::Scope { shelved, watched } => Inside::Scope(InScope::new(shelved, *watched)),
        }
    }

    /// What is kept here while nobody is inside.
    pub(crate) fn bindings(&self) -> Bindings {
        match self {
            Surroundings::Copy(copy) => copy.bindings(),
            Surroundings::Layer(layer) => layer.bindings().without_hidden(),
            Surroundings::Scope { shelved, .. } => match &shelved.entry {
                entry @ Entry::Bound(_) => Bindings::EMPTY.with(shelved.id, entry.clone()),
                Entry::Absent | Entry::Hidden => Bindings::EMPTY,
            },
        }
    }
}

/// Alive while one is inside.
#[must_use]
#[expect(dead_code, reason = "held for what their drops do")]
pub(crate) enum Inside<'a> {
    Copy(Entered<'a>),
    Layer(EnteredLayer<'a>),
    Scope(InScope<'a>),
}

/// One variable's entries are exchanged until this is dropped.
pub(crate) struct InScope<'a> {
    shelved: &'a mut Shelved,
    watched: bool,
    exchanged: bool,
}

impl<'a> InScope<'a> {
    fn new(shelved: &'a mut Shelved, watched: bool) -> InScope<'a> {
        let mut scope = InScope { shelved, watched, exchanged: false };
        scope.exchanged = scope.exchange();
        scope
    }

    /// False in a thread that is being torn down, where nothing is bound.
    fn exchange(&mut self) -> bool {
        let shelved = &mut *self.shelved;
        current::observe(shelved.id, self.watched, || {
            current::write(|frame| frame.exchange(shelved)).is_some()
        })
    }
}

impl Drop for InScope<'_> {
    fn drop(&mut self) {
        if self.exchanged {
            self.exchange();
        }
    }
}
