//! What is sent, and which hosts get it.

use std::time::Duration;

use super::baggage::{LeftOut, Writer};
use super::dropped::{Dropped, Reason, note};
use super::trace::{TRACE, TraceContext};
use super::{BAGGAGE, Injector, TRACEPARENT, TRACESTATE, timeout};
use crate::bindings::Lookup;
use crate::current;
use crate::value::WIRED;

/// What [`inject_with`] has left out.
#[derive(Debug, Default)]
pub struct Injected {
    dropped: Vec<Dropped>,
}

impl Injected {
    /// The values that were not sent, and why. Each is counted, too: [`dropped`](super::dropped()).
    #[must_use]
    #[inline]
    pub fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }
}

/// Writes the current context into the headers of a call or a message, with the time that is left,
/// in a header of the given name; the executor's `heirloom::wire::inject` knows that time.
///
/// | header | has |
/// | --- | --- |
/// | `baggage` | the bound values whose variables have the option `wire`, without those of secrets |
/// | `traceparent`, `tracestate` | the current span of OpenTelemetry, with the feature `opentelemetry`; else [`TRACE`] |
/// | `deadline_header` | `remaining`, as [`timeout::format`] writes it |
///
/// The headers are replaced: what there is nothing to say about is removed, so that a request that
/// is forwarded has nothing stale. Values stand in the order in which the variables were first used
/// in this process. The first value that has no room within the caps of
/// [`baggage`](super::baggage), and all that follow, are left out; a value that is too long by
/// itself is left out alone. Of two variables with one name on the wire, the second is left out.
/// The answer says which.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use std::collections::HashMap;
/// use std::time::Duration;
/// use heirloom::context::wire;
/// use heirloom::context_var;
///
/// context_var! {
///     static TENANT: String, wire = "tenant";
///     static TOKEN: String, wire = "token", secret = true;
/// }
///
/// TENANT.set("acme".to_owned());
/// TOKEN.set("xyzzy".to_owned());
/// let mut headers = HashMap::from([("tracestate".to_owned(), "stale=1".to_owned())]);
/// wire::inject_with(&mut headers, wire::REQUEST_TIMEOUT, Some(Duration::from_secs(2)));
/// assert_eq!(headers.len(), 2);
/// assert_eq!(headers["baggage"], "tenant=acme");
/// assert_eq!(headers["x-request-timeout"], "2000000u");
/// ```
///
/// # Panics
/// If the codec of a variable does: nothing is written then.
#[doc(alias = "inject_context")]
#[doc(alias = "propagator")]
pub fn inject_with<C>(carrier: &mut C, deadline_header: &str, remaining: Option<Duration>) -> Injected
where
    C: Injector + ?Sized,
{
    let mut dropped = Vec::new();
    let baggage = baggage(&mut dropped);
    let trace = trace();
    let state = trace.as_ref().map_or("", TraceContext::state);
    let mut put = |name, value: Option<String>| match value {
        Some(value) => carrier.set(name, value),
        None => carrier.remove(name),
    };
    put(BAGGAGE, Some(baggage).filter(|baggage| !baggage.is_empty()));
    put(TRACEPARENT, trace.as_ref().map(TraceContext::header));
    put(TRACESTATE, (!state.is_empty()).then(|| state.to_owned()));
    put(deadline_header, remaining.map(timeout::format));
    Injected { dropped }
}

/// Removes what [`inject_with`] would write: for a call to a host that gets nothing.
pub fn clear<C: Injector + ?Sized>(carrier: &mut C, deadline_header: &str) {
    [BAGGAGE, TRACEPARENT, TRACESTATE, deadline_header].into_iter().for_each(|name| carrier.remove(name));
}

fn trace() -> Option<TraceContext> {
    #[cfg(feature = "opentelemetry")]
    if let Some(span) = TraceContext::of_current_span() {
        return Some(span);
    }
    TRACE.get()
}

/// The values of the current context that are sent.
fn baggage(dropped: &mut Vec<Dropped>) -> String {
    let mut writer = Writer::new();
    let bindings = current::snapshot();
    if bindings.flags() & WIRED == 0 {
        return writer.finish();
    }
    let mut sent = Vec::new();
    bindings.for_each(|id, found| match found {
        Lookup::Bound(found) if found.value().flags() & WIRED != 0 => sent.push((id, found)),
        _ => {}
    });
    sent.sort_unstable_by_key(|(id, _)| *id);
    // Why no further value is sent.
    let mut full = None;
    for (place, (_, found)) in sent.iter().enumerate() {
        let Some(name) = found.value().wire_name() else { continue };
        let written = match full {
            Some(reason) => Err(reason),
            // A receiver would take one of the two, whichever variable the value belongs to.
            None if sent[..place].iter().any(|(_, other)| other.value().wire_name() == Some(name)) => {
                Err(Reason::Name)
            }
            None => writer.member(name, |out| found.value().write_wire(out), &[]).map_err(reason),
        };
        if let Err(reason) = written {
            full = full.or(matches!(reason, Reason::Members | Reason::Bytes).then_some(reason));
            note(dropped, Some(name), reason);
        }
    }
    writer.finish()
}

fn reason(left_out: LeftOut) -> Reason {
    match left_out {
        LeftOut::Members => Reason::Members,
        LeftOut::Bytes => Reason::Bytes,
        LeftOut::MemberBytes => Reason::MemberBytes,
        LeftOut::Unwritable => Reason::Value,
    }
}

/// The hosts that contexts are sent to. All other hosts get nothing: no baggage, no trace, no
/// deadline.
///
/// ```
/// # use heirloom_context::internal::heirloom;
/// use heirloom::context::wire::Outbound;
///
/// let outbound = Outbound::new().host("inventory.internal").host("*.svc.cluster.local");
/// assert!(outbound.allows("Inventory.internal") && outbound.allows("shop.svc.cluster.local"));
/// assert!(!outbound.allows("svc.cluster.local") && !outbound.allows("api.example.com"));
/// ```
#[doc(alias = "allow-list")]
#[derive(Clone, Debug, Default)]
pub struct Outbound {
    /// Without the dot at the end; `*.` at the start stands for any labels.
    hosts: Vec<String>,
    any: bool,
}

impl Outbound {
    /// No host gets anything.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Outbound { hosts: Vec::new(), any: false }
    }

    /// This host gets contexts, whatever its port. `*.` at the start stands for one label or
    /// several: `*.example.com` is each host below `example.com`, without `example.com` itself.
    ///
    /// # Panics
    /// If this is no name or address of a host: if it is empty, or has a `/`, another `*`, or a
    /// port.
    #[must_use]
    #[track_caller]
    #[inline]
    pub fn host(mut self, host: &str) -> Self {
        let name = without_dot(host);
        let labels = name.strip_prefix("*.").unwrap_or(name);
        // An IPv6 address has colons, in brackets.
        let has_port = labels.contains(':') && !(labels.starts_with('[') && labels.ends_with(']'));
        assert!(
            !labels.is_empty() && !labels.contains(['*', '/', '@', ' ']) && !has_port,
            "{host:?} is no host: give a name or an address without scheme and port, or `*.` and a name"
        );
        self.hosts.push(name.to_owned());
        self
    }

    /// All hosts get contexts: for clients that call no foreign ones.
    #[must_use]
    #[inline]
    pub fn any(mut self) -> Self {
        self.any = true;
        self
    }

    /// Whether this host gets contexts. The name is that of a URI's host, without the port.
    #[must_use]
    #[inline]
    pub fn allows(&self, host: &str) -> bool {
        let host = without_dot(host).as_bytes();
        let is_allowed = |allowed: &String| match allowed.strip_prefix('*') {
            // With the dot, and something before it.
            Some(end) => host
                .len()
                .checked_sub(end.len())
                .is_some_and(|before| before > 0 && host[before..].eq_ignore_ascii_case(end.as_bytes())),
            None => host.eq_ignore_ascii_case(allowed.as_bytes()),
        };
        self.any || self.hosts.iter().any(is_allowed)
    }
}

/// A name without the dot of the root.
fn without_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}
