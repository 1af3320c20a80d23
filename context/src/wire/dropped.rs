//! What was not sent, or not taken: said to the caller, counted, and reported once.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why something was not sent or not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A baggage has more members than the cap.
    Members,
    /// A baggage has more bytes than the cap.
    Bytes,
    /// A member of a baggage has more bytes than the cap.
    MemberBytes,
    /// A member of a baggage is none by the standard.
    Member,
    /// The text is no value of the variable, or the value could not be written.
    Value,
    /// Two variables that are bound have one name on the wire.
    Name,
    /// A header `traceparent` is none by the standard, or there are several.
    TraceParent,
    /// A header `tracestate` is none by the standard.
    TraceState,
    /// The header of the deadline is no time limit, or there are several.
    Deadline,
}

/// Something that was not sent or not taken, and why. It has no text of another process in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The name of the variable on the wire, where it is that of one.
    pub variable: Option<&'static str>,
    /// Why.
    pub reason: Reason,
}

const REASONS: usize = 9;
static COUNTS: [AtomicU64; REASONS] = [const { AtomicU64::new(0) }; REASONS];

/// How often something was dropped for this reason, in this process, sent and received together.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::wire::{Reason, dropped};
///
/// let _so_far = dropped(Reason::TraceParent);
/// ```
#[must_use]
pub fn dropped(reason: Reason) -> u64 {
    COUNTS[reason as usize].load(Ordering::Relaxed)
}

impl Reason {
    #[inline]
    fn text(self) -> &'static str {
        match self {
            Reason::Members => "a baggage has more members than the cap, and the last ones are",
            Reason::Bytes => "a baggage has more bytes than the cap, and the last members are",
            Reason::MemberBytes => "a member of a baggage has more bytes than the cap, and is",
            Reason::Member => "a member of a baggage is malformed, and is",
            Reason::Value => "a text is no value of its variable, or a value could not be written, and is",
            Reason::Name => "two variables have one name on the wire, and the second is",
            Reason::TraceParent => "a `traceparent` is malformed, and is",
            Reason::TraceState => "a `tracestate` is malformed, and is",
            Reason::Deadline => "a deadline is malformed, and is",
        }
    }
}

/// Notes it in the list of the caller, counts it, and says it on standard error if it is the first
/// for this reason. A peer chooses how often that is needed, so that there is no second line.
#[cold]
pub(super) fn note(list: &mut Vec<Dropped>, variable: Option<&'static str>, reason: Reason) {
    list.push(Dropped { variable, reason });
    if COUNTS[reason as usize].fetch_add(1, Ordering::Relaxed) != 0 {
        return;
    }
    let of = variable.map_or(String::new(), |name| format!(" (variable {name:?})"));
    let line = format!(
        "heirloom: context on the wire: {} dropped{of}; further ones are counted by `wire::dropped`, and not said\n",
        reason.text()
    );
    // In one piece, and without a panic if standard error is closed.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
