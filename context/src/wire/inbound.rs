//! What is taken of what was received.

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::dropped::{Dropped, Reason, note};
use super::timeout::{self, InvalidTimeout};
use super::trace::{TRACE, TraceContext};
use super::{BAGGAGE, Extractor, REQUEST_TIMEOUT, TRACEPARENT, TRACESTATE, baggage};
use crate::bindings::{Bindings, Entry, Id};
use crate::value::Value;
use crate::{Context, ContextVar};

/// What is taken of the headers of a request or a message: the allow-list of variables, whether the
/// trace and the deadline are taken, and caps.
///
/// What is not on the list is as if it were not there. What is malformed or over a cap is dropped,
/// counted ([`dropped`](super::dropped())) and said once in the process, on standard error; it
/// fails no request.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use std::collections::HashMap;
/// use std::time::Duration;
/// use heirloom::context::wire::Inbound;
/// use heirloom::{Context, context_var};
///
/// context_var! {
///     static TENANT: String, wire = "tenant";
///     static USER: u64, wire = "user";
///     static ROLE: String, wire = "role";
/// }
///
/// let inbound = Inbound::new().var(&TENANT).var(&USER);
/// let headers = HashMap::from([
///     ("baggage".to_owned(), "tenant=acme,user=seven,role=admin".to_owned()),
///     ("x-request-timeout".to_owned(), "250m".to_owned()),
/// ]);
/// let received = inbound.extract(&headers);
/// assert_eq!(received.remaining(), Ok(Some(Duration::from_millis(250))));
/// assert_eq!(received.dropped().len(), 1); // `seven` is no number
///
/// let context = received.bind(&Context::empty());
/// assert_eq!(context.get(&TENANT).as_deref(), Some("acme"));
/// assert_eq!((context.get(&USER), context.get(&ROLE)), (None, None));
/// ```
#[doc(alias = "allow-list")]
#[derive(Clone)]
pub struct Inbound {
    vars: Vec<Listed>,
    max_members: usize,
    max_bytes: usize,
    max_member_bytes: usize,
    trace: bool,
    /// The name of the header, if the deadline is taken.
    deadline: Option<Cow<'static, str>>,
}

#[derive(Clone, Copy)]
struct Listed {
    name: &'static str,
    var: &'static dyn Readable,
    /// Where it was listed: where its values are bound.
    place: &'static Location<'static>,
}

/// A variable whose values can be read of a text.
trait Readable: Send + Sync {
    fn read(&self, text: &str, place: &'static Location<'static>) -> Option<(Id, Value)>;
}

impl<T: Send + Sync, D: Send + Sync> Readable for ContextVar<T, D> {
    #[inline]
    fn read(&self, text: &str, place: &'static Location<'static>) -> Option<(Id, Value)> {
        let value = self.options().wire?.read(text)?;
        Some((self.assigned_id(), self.value_at(value, place)))
    }
}

impl Default for Inbound {
    #[inline]
    fn default() -> Self {
        Inbound::new()
    }
}

impl Inbound {
    /// No variable; the trace and the deadline are taken; the caps of [`baggage`].
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Inbound {
            vars: Vec::new(),
            max_members: baggage::MAX_MEMBERS,
            max_bytes: baggage::MAX_BYTES,
            max_member_bytes: baggage::MAX_MEMBER_BYTES,
            trace: true,
            deadline: Some(Cow::Borrowed(REQUEST_TIMEOUT)),
        }
    }

    /// Takes values of this variable. A peer chooses them: a variable that says what a caller may
    /// do must be listed only where all peers are trusted.
    ///
    /// # Panics
    /// If the variable is declared without `wire`, or one of the list has the same name on the
    /// wire.
    #[must_use]
    #[track_caller]
    pub fn var<T: Send + Sync, D: Send + Sync>(mut self, var: &'static ContextVar<T, D>) -> Self {
        let Some(wire) = var.options().wire else {
            panic!("the variable `{}` is not sent: declare it with `wire = \"name\"`", var.name())
        };
        let name = wire.name();
        assert!(
            self.vars.iter().all(|listed| listed.name != name),
            "two variables have the name {name:?} on the wire"
        );
        self.vars.push(Listed { name, var, place: Location::caller() });
        self
    }

    /// Takes so many members of a baggage at most; without this call, 64.
    #[must_use]
    #[inline]
    pub fn max_members(mut self, members: usize) -> Self {
        self.max_members = members;
        self
    }

    /// Takes so many bytes of a baggage at most, encoded, of all its lines together; without this
    /// call, 8,192.
    #[must_use]
    #[inline]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Takes members of so many bytes at most, encoded, with their names; without this call, 4,096.
    #[must_use]
    #[inline]
    pub fn max_member_bytes(mut self, bytes: usize) -> Self {
        self.max_member_bytes = bytes;
        self
    }

    /// Whether the trace is taken; without this call, it is.
    #[must_use]
    #[inline]
    pub fn trace(mut self, trace: bool) -> Self {
        self.trace = trace;
        self
    }

    /// Whether the deadline is taken; without this call, it is, from
    /// [`REQUEST_TIMEOUT`].
    #[must_use]
    #[inline]
    pub fn deadline(mut self, deadline: bool) -> Self {
        self.deadline = deadline.then(|| self.deadline.take().unwrap_or(Cow::Borrowed(REQUEST_TIMEOUT)));
        self
    }

    /// Takes the deadline from the header of this name. It is given in lower case.
    #[must_use]
    #[inline]
    pub fn deadline_header(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.deadline = Some(name.into());
        self
    }

    /// Reads the headers. The time that this takes, and the memory, are bounded by the caps, but
    /// for a look at each line that the carrier has, which a server bounds by its cap of a
    /// request's head. Lines of `traceparent` and of the deadline are read up to 512 bytes, a
    /// `tracestate` up to 8,192.
    #[doc(alias = "extract_context")]
    pub fn extract<C: Extractor + ?Sized>(&self, carrier: &C) -> Received {
        self.read(carrier, self.deadline.as_deref())
    }

    /// Reads the headers of a protocol that has a header of its own for the deadline, such as
    /// [`GRPC_TIMEOUT`](super::GRPC_TIMEOUT). It is not read where the list takes no deadline.
    pub fn extract_as<C: Extractor + ?Sized>(&self, carrier: &C, deadline_header: &str) -> Received {
        self.read(carrier, self.deadline.as_ref().map(|_| deadline_header))
    }

    fn read<C: Extractor + ?Sized>(&self, carrier: &C, deadline: Option<&str>) -> Received {
        let mut bindings = Bindings::EMPTY;
        let mut dropped = Vec::new();
        if !self.vars.is_empty() {
            self.read_baggage(carrier, &mut bindings, &mut dropped);
        }
        if self.trace
            && let Some(trace) = read_trace(carrier, &mut dropped)
        {
            let value = TRACE.value(trace);
            bindings.change(TRACE.assigned_id(), Entry::Bound(value));
        }
        let remaining = deadline.map_or(Ok(None), |header| read_deadline(carrier, header, &mut dropped));
        Received { context: Context::from_bindings(bindings), remaining, dropped }
    }

    fn read_baggage<C: Extractor + ?Sized>(
        &self,
        carrier: &C,
        bindings: &mut Bindings,
        dropped: &mut Vec<Dropped>,
    ) {
        let (mut members, mut bytes) = (0, 0);
        let mut is_full = false;
        carrier.for_each(BAGGAGE, &mut |line| {
            if is_full {
                return;
            }
            // Lines are joined by a comma, which counts.
            let start = bytes + usize::from(bytes > 0);
            let room = self.max_bytes.saturating_sub(start);
            let whole = if line.len() <= room {
                line
            } else {
                is_full = true;
                note(dropped, None, Reason::Bytes);
                // Up to the last member that ends within the cap.
                let end = line[..=room].iter().rposition(|byte| *byte == b',').unwrap_or(0);
                &line[..end]
            };
            bytes = start + line.len();
            for member in baggage::raw_members(whole) {
                if members == self.max_members {
                    is_full = true;
                    return note(dropped, None, Reason::Members);
                }
                members += 1;
                self.read_member(member, bindings, dropped);
            }
        });
    }

    #[inline]
    fn read_member(&self, text: &[u8], bindings: &mut Bindings, dropped: &mut Vec<Dropped>) {
        if text.len() > self.max_member_bytes {
            return note(dropped, None, Reason::MemberBytes);
        }
        let Ok(member) = baggage::member(text) else { return note(dropped, None, Reason::Member) };
        let Some(listed) = self.vars.iter().find(|listed| listed.name == member.name) else { return };
        match listed.var.read(&member.value, listed.place) {
            // Of several, the last one counts, as in OpenTelemetry's libraries.
            Some((id, value)) => bindings.change(id, Entry::Bound(value)),
            None => note(dropped, Some(listed.name), Reason::Value),
        }
    }
}

/// The most bytes of a line that is no list: far more than a valid one has.
const MAX_LINE_BYTES: usize = 512;

/// The most bytes of a `tracestate`, of all its lines together.
const MAX_STATE_BYTES: usize = 8_192;

/// The only line of a header.
fn only_line<'a, C: Extractor + ?Sized>(carrier: &'a C, name: &str) -> Result<Option<&'a [u8]>, NotOne> {
    let (mut only, mut lines) = (None, 0_usize);
    carrier.for_each(name, &mut |line| {
        lines += 1;
        only = Some(line);
    });
    let is_long = only.is_some_and(|line| line.len() > MAX_LINE_BYTES);
    if lines > 1 || is_long { Err(NotOne) } else { Ok(only) }
}

/// A header has several lines, and may have one; or the one is too long.
struct NotOne;

fn read_trace<C: Extractor + ?Sized>(carrier: &C, dropped: &mut Vec<Dropped>) -> Option<TraceContext> {
    let trace = match only_line(carrier, TRACEPARENT) {
        Ok(line) => line.map(|line| TraceContext::read(line).ok_or(NotOne)).transpose(),
        Err(several) => Err(several),
    };
    let trace = match trace {
        Ok(trace) => trace?,
        Err(NotOne) => {
            note(dropped, None, Reason::TraceParent);
            return None;
        }
    };
    let (mut lines, mut bytes) = (Vec::new(), 0_usize);
    carrier.for_each(TRACESTATE, &mut |line| {
        // Lines are joined by a comma, which counts.
        bytes = bytes.saturating_add(line.len() + usize::from(bytes > 0));
        if bytes <= MAX_STATE_BYTES && !line.is_empty() {
            lines.push(line);
        }
    });
    let read = if bytes > MAX_STATE_BYTES { Err(trace) } else { trace.with_state_of(lines) };
    Some(read.unwrap_or_else(|trace| {
        note(dropped, None, Reason::TraceState);
        trace
    }))
}

fn read_deadline<C: Extractor + ?Sized>(
    carrier: &C,
    header: &str,
    dropped: &mut Vec<Dropped>,
) -> Result<Option<Duration>, InvalidTimeout> {
    let read = match only_line(carrier, header) {
        Ok(None) => return Ok(None),
        Ok(Some(line)) => timeout::read(baggage::trim(line)),
        Err(NotOne) => timeout::read(b""),
    };
    if read.is_err() {
        note(dropped, None, Reason::Deadline);
    }
    read.map(Some)
}

impl fmt::Debug for Inbound {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("variables", &self.vars.iter().map(|listed| listed.name).collect::<Vec<_>>())
            .field("max_members", &self.max_members)
            .field("max_bytes", &self.max_bytes)
            .field("max_member_bytes", &self.max_member_bytes)
            .field("trace", &self.trace)
            .field("deadline", &self.deadline)
            .finish()
    }
}

/// What was taken of a request or a message; made by [`Inbound::extract`].
#[derive(Clone, Debug)]
#[must_use = "what was received is in no context until it is bound"]
pub struct Received {
    context: Context,
    remaining: Result<Option<Duration>, InvalidTimeout>,
    dropped: Vec<Dropped>,
}

impl Received {
    /// The context `base`, and in it what was received of variables that are not bound in it: what
    /// the receiver has bound itself, a peer does not replace.
    #[inline]
    pub fn bind(&self, base: &Context) -> Context {
        base.underlaid(&self.context)
    }

    /// How much time the peer gives; `None` if it says nothing, or the list takes no deadline.
    ///
    /// # Errors
    /// If the text of the header is no time limit, or there are several lines. That must not be
    /// taken for "no limit": refuse the request, or give it a limit of the receiver's own.
    #[inline]
    pub fn remaining(&self) -> Result<Option<Duration>, InvalidTimeout> {
        self.remaining
    }

    /// The trace, if one was received.
    #[must_use]
    #[inline]
    pub fn trace(&self) -> Option<TraceContext> {
        self.context.get(&TRACE)
    }

    /// What was malformed or over a cap. After the first that is over a cap of the whole, no more
    /// is looked at.
    #[must_use]
    #[inline]
    pub fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }
}
