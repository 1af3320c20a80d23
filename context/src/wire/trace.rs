//! The headers `traceparent` and `tracestate` of the W3C: which call this is a part of.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::baggage::trim;
use crate::{ContextVar, VarOptions};

/// The most members of a `tracestate`, by the standard.
const MAX_STATE_MEMBERS: usize = 32;

/// The flag of a trace that the caller may have recorded.
const SAMPLED: u8 = 1;
/// The flags that the standard defines: sampled, and that the trace's number is random. All others
/// are zero when they are sent.
const DEFINED_FLAGS: u8 = SAMPLED | 2;

/// The trace that the current context belongs to, for programs without OpenTelemetry: set by
/// [`Received::bind`](super::Received::bind), and sent with each call, so that the services before
/// and behind are in one trace.
///
/// With the feature `opentelemetry`, the current span of OpenTelemetry is sent in its place, where
/// there is one.
pub static TRACE: ContextVar<TraceContext> =
    ContextVar::with_options("TRACE", VarOptions { debug: Some(fmt::Display::fmt), ..VarOptions::new() });

/// A trace, the span in it that calls, and what the makers of tracing systems have noted beside.
///
/// Its text, by [`Display`](fmt::Display) and [`FromStr`], is that of the header `traceparent`. Of
/// the [flags](Self::flags), the text has those that the standard defines: `01`, sampled, and `02`,
/// a random number of the trace.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::wire::TraceContext;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let trace: TraceContext = text.parse().unwrap();
/// assert_eq!(trace.parent_id(), 0xb7ad6b7169203331);
/// assert!(trace.is_sampled());
/// assert_eq!(trace.to_string(), text);
/// ```
#[doc(alias = "SpanContext")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
    /// Checked; empty if there is none.
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// A trace without a state. `None` if one of the numbers is zero: such a trace is none.
    #[must_use]
    #[inline]
    pub const fn new(trace_id: u128, parent_id: u64, flags: u8) -> Option<Self> {
        if trace_id == 0 || parent_id == 0 {
            return None;
        }
        Some(TraceContext { trace_id, parent_id, flags, state: None })
    }

    /// The number of the trace, never zero.
    #[must_use]
    #[inline]
    pub const fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The number of the span that calls, never zero.
    #[must_use]
    #[inline]
    pub const fn parent_id(&self) -> u64 {
        self.parent_id
    }

    /// The flags as they were given or read, all eight bits. Of a header of a later version than
    /// `00`, the flag "sampled" alone: what its other bits mean is not known.
    #[must_use]
    #[inline]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether the caller may have recorded the trace.
    #[must_use]
    #[inline]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The text of the header `tracestate`; empty without one.
    #[must_use]
    #[inline]
    pub fn state(&self) -> &str {
        self.state.as_deref().unwrap_or("")
    }

    /// The trace with another state.
    ///
    /// # Errors
    /// If the text is no `tracestate`: more than 32 members, or one that is none by the standard.
    #[inline]
    pub fn with_state(self, state: &str) -> Result<Self, InvalidTrace> {
        self.with_state_of([state.as_bytes()]).map_err(|_| InvalidTrace(()))
    }

    /// The trace with the state of these lines; without, where they have none by the standard.
    pub(super) fn with_state_of<'a>(self, lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Self> {
        match read_state(lines) {
            Some(state) => {
                let state = (!state.is_empty()).then(|| Arc::from(state));
                Ok(TraceContext { state, ..self })
            }
            None => Err(TraceContext { state: None, ..self }),
        }
    }

    /// Reads the value of a header `traceparent`.
    #[inline]
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let text = trim(text);
        let (known, further) = text.split_at_checked(55)?;
        let version = hex(&known[..2])?;
        let is_end = if version == 0 { further.is_empty() } else { matches!(further, [] | [b'-', ..]) };
        let dashes = [2, 35, 52].into_iter().all(|place| known[place] == b'-');
        if version == 0xff || !is_end || !dashes {
            return None;
        }
        let (parent_id, flags) = (hex(&known[36..52])?, hex(&known[53..])? as u8);
        let flags = if version == 0 { flags } else { flags & SAMPLED };
        TraceContext::new(hex(&known[3..35])?, parent_id as u64, flags)
    }

    /// The current span of OpenTelemetry, if there is one.
    #[cfg(feature = "opentelemetry")]
    #[inline]
    pub(super) fn of_current_span() -> Option<Self> {
        use opentelemetry::trace::TraceContextExt;
        opentelemetry::Context::map_current(|context| {
            context.has_active_span().then(|| TraceContext::try_from(context.span().span_context()).ok())
        })
        .flatten()
    }
}

/// A number of lower-case hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// The list of a `tracestate` of these lines, if all of it is by the standard. Of several members
/// with one key, the first is the newest, and stays.
fn read_state<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let mut state = String::new();
    let mut keys: Vec<&[u8]> = Vec::new();
    let members = lines.into_iter().flat_map(|line| line.split(|byte| *byte == b',')).map(trim);
    for (place, member) in members.filter(|member| !member.is_empty()).enumerate() {
        let key = state_key(member).filter(|_| place < MAX_STATE_MEMBERS)?;
        if !keys.contains(&key) {
            keys.push(key);
            if !state.is_empty() {
                state.push(',');
            }
            state.push_str(std::str::from_utf8(member).ok()?);
        }
    }
    Some(state)
}

/// The key of a member, if it is one by the standard.
fn state_key(member: &[u8]) -> Option<&[u8]> {
    let place = member.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&member[..place], &member[place + 1..]);
    let is_value = (1..=256).contains(&value.len())
        && value.iter().all(|byte| matches!(byte, 0x20..=0x2B | 0x2D..=0x3C | 0x3E..=0x7E));
    (is_state_key(key) && is_value).then_some(key)
}

/// A name, or a tenant and a system with `@` between them.
fn is_state_key(key: &[u8]) -> bool {
    let is_name = |name: &[u8], most: usize, digit_first: bool| {
        let starts = name
            .first()
            .is_some_and(|first| first.is_ascii_lowercase() || (digit_first && first.is_ascii_digit()));
        let goes_on = |letter: &u8| {
            letter.is_ascii_lowercase()
                || letter.is_ascii_digit()
                || matches!(letter, b'_' | b'-' | b'*' | b'/')
        };
        starts && name.len() <= most && name.iter().all(goes_on)
    };
    match key.iter().position(|byte| *byte == b'@') {
        None => is_name(key, 256, false),
        Some(place) => is_name(&key[..place], 241, true) && is_name(&key[place + 1..], 14, false),
    }
}

impl TraceContext {
    /// The value of a header `traceparent`.
    #[inline]
    pub(super) fn header(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(55);
        text.push_str("00");
        let [id, parent] = [&self.trace_id.to_be_bytes()[..], &self.parent_id.to_be_bytes()];
        for number in [id, parent, &[self.flags & DEFINED_FLAGS]] {
            text.push('-');
            for byte in number {
                text.push(char::from(DIGITS[usize::from(byte >> 4)]));
                text.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
        text
    }
}

impl fmt::Display for TraceContext {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.header())
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTrace;

    /// Reads the value of a header `traceparent`. Of a later version than `00`, all flags but
    /// "sampled", and what follows the flags, are left out.
    #[inline]
    fn from_str(text: &str) -> Result<Self, InvalidTrace> {
        TraceContext::read(text.as_bytes()).ok_or(InvalidTrace(()))
    }
}

/// A text that is no `traceparent`, or no `tracestate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTrace(());

impl fmt::Display for InvalidTrace {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is no trace context by the W3C's standard")
    }
}

impl Error for InvalidTrace {}

#[cfg(feature = "opentelemetry")]
mod opentelemetry_types {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

    use super::{InvalidTrace, TraceContext};

    /// The span that calls, as a remote parent. A state that OpenTelemetry does not take is left
    /// out.
    impl From<&TraceContext> for SpanContext {
        #[inline]
        fn from(trace: &TraceContext) -> SpanContext {
            SpanContext::new(
                TraceId::from(trace.trace_id),
                SpanId::from(trace.parent_id),
                TraceFlags::new(trace.flags),
                true,
                trace.state().parse::<TraceState>().unwrap_or_default(),
            )
        }
    }

    /// Fails for a span context that is not valid. A state that is none by the standard is left
    /// out.
    impl TryFrom<&SpanContext> for TraceContext {
        type Error = InvalidTrace;

        #[inline]
        fn try_from(span: &SpanContext) -> Result<TraceContext, InvalidTrace> {
            let trace_id = u128::from_be_bytes(span.trace_id().to_bytes());
            let parent_id = u64::from_be_bytes(span.span_id().to_bytes());
            let trace =
                TraceContext::new(trace_id, parent_id, span.trace_flags().to_u8()).ok_or(InvalidTrace(()))?;
            let state = span.trace_state().header();
            Ok(if state.is_empty() { trace } else { trace.clone().with_state(&state).unwrap_or(trace) })
        }
    }
}
