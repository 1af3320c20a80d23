//! Which variables a panic had: those of the innermost future with a context of its own.
//!
//! A panic that leaves such a future leaves the context as well. What catches the panic further out
//! sees another context, perhaps that of another request. So the future takes down the variables
//! that have a text, for the report of the panic.
#![forbid(unsafe_code)]

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::fmt::Write;
use std::panic::resume_unwind;

use crate::context::Context;
use crate::util::panic::{self, Payload};

/// A panic, as far as it can be told from others: where its payload lies, of which type it is, and
/// its message.
#[derive(PartialEq)]
struct Identity {
    address: usize,
    payload: TypeId,
    message: Option<String>,
}

impl Identity {
    fn of(payload: &(dyn Any + Send)) -> Identity {
        Identity {
            address: std::ptr::from_ref(payload).addr(),
            payload: (*payload).type_id(),
            message: message_of(payload).map(str::to_owned),
        }
    }
}

thread_local! {
    /// The last panic that has left a future with a context of its own, and its variables.
    static LAST: RefCell<Option<(Identity, String)>> = const { RefCell::new(None) };
}

/// Runs a step of a future, in the future's context.
#[inline]
pub(crate) fn noted<R>(step: impl FnOnce() -> R) -> R {
    panic::catch(step).unwrap_or_else(|payload| {
        note(&payload);
        resume_unwind(payload)
    })
}

#[cold]
fn note(payload: &Payload) {
    let identity = Identity::of(&**payload);
    let is_noted = |last: &RefCell<Option<(Identity, String)>>| {
        last.borrow().as_ref().is_some_and(|(known, _)| *known == identity)
    };
    // In a thread that is being torn down nothing is noted.
    if LAST.try_with(is_noted) == Ok(false) {
        // Runs user code, so nothing is borrowed meanwhile.
        let variables = current_variables();
        let _ = LAST.try_with(|last| last.replace(Some((identity, variables))));
    }
}

/// The variables of a panic that was caught: those that opted in to a text, in square brackets and
/// after a space; nothing if there are none. Called in the context in which the panic was caught.
pub fn variables_of(payload: &(dyn Any + Send)) -> String {
    let last = LAST.try_with(RefCell::take).ok().flatten();
    match last {
        Some((identity, variables)) if identity == Identity::of(payload) => variables,
        _ => current_variables(),
    }
}

/// The message of a panic, if its payload is text.
pub fn message_of(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

fn current_variables() -> String {
    let mut text = String::new();
    for entry in &Context::current() {
        let value = match panic::catch(|| entry.debug_text()) {
            Ok(None) => continue,
            Ok(Some(value)) => value,
            Err(payload) => {
                panic::discard(payload);
                "(its text panics)".to_owned()
            }
        };
        let separator = if text.is_empty() { " [" } else { ", " };
        let _ = write!(text, "{separator}{} = {value}", entry.name());
    }
    if !text.is_empty() {
        text.push(']');
    }
    text
}
