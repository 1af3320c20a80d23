//! A panic of a task: what its joiner gets of it, and the report if there is no joiner.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt::Write;

use heirloom_context::Context;

use super::info::TaskInfo;
use crate::util::panic::{self, Payload};
use crate::util::report::complain;

/// A panic that was caught in a task.
pub(crate) struct TaskPanic {
    payload: Payload,
    /// The variables of the task that have a text, for the report: when the report is due the
    /// context may be gone.
    variables: String,
}

impl TaskPanic {
    /// Called with the task's context current.
    #[cold]
    pub(crate) fn new(payload: Payload, about: &TaskInfo) -> Box<TaskPanic> {
        if message_of(&*payload).is_some_and(|message| message.contains(NO_REACTOR)) {
            complain(format_args!(
                "{}, has called what needs tokio's reactor, such as a timer or socket of tokio: call it on a runtime of \
                 tokio beside this one, see `heirloom::guide::from_tokio`",
                about.describe()
            ));
        }
        Box::new(TaskPanic { payload, variables: variables() })
    }

    /// The message, if the payload is text.
    pub(crate) fn message(&self) -> Option<&str> {
        message_of(&*self.payload)
    }

    pub(crate) fn into_payload(self) -> Payload {
        self.payload
    }

    /// Names the task and its variables. The panic hook has printed thread, place and message.
    #[cold]
    pub(crate) fn report(&self, about: &TaskInfo) {
        let message = self.message().unwrap_or("(the payload is no text)");
        complain(format_args!(
            "{}, has panicked without a joiner: {message}{}",
            about.describe(),
            self.variables
        ));
    }
}

/// What tokio's panic says where no runtime of tokio is entered.
const NO_REACTOR: &str = "there is no reactor running";

/// The message, if the payload is text.
pub(crate) fn message_of(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<&'static str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

/// The current variables that opted in to a text, in square brackets; nothing if there are none.
fn variables() -> String {
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
