//! A panic of a task: what its joiner gets of it, and the report if there is no joiner.
#![forbid(unsafe_code)]

pub(crate) use heirloom_context::internal::message_of;
use heirloom_context::internal::variables_of;

use super::info::TaskInfo;
use crate::util::panic::Payload;
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
        let says = |text| message_of(&*payload).is_some_and(|message| message.contains(text));
        if says(NO_REACTOR) {
            complain(format_args!(
                "{}, has called what needs tokio's runtime, such as a timer or socket of tokio: use this executor's \
                 (`sleep`, `wait_for`, `net`), or give it a tokio guest, by the feature `tokio` and \
                 `#[heirloom::main(tokio)]` or `Builder::tokio`; see `heirloom::guide::goes_with`",
                about.describe()
            ));
        } else if says(SHUT_DOWN) {
            complain(format_args!(
                "{}, has called what needs tokio's runtime, which has ended: keep the tokio runtime whose handle a \
                 guest is until this executor's runtime has ended, or use `TokioGuest::new()`",
                about.describe()
            ));
        }
        let variables = variables_of(&*payload);
        Box::new(TaskPanic { payload, variables })
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
/// What its timers say where the runtime that is entered has ended.
const SHUT_DOWN: &str = "A Tokio 1.x context was found, but it is being shutdown";
