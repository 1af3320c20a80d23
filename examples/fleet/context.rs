//! What a job carries from the process that submits it to the one that runs it: variables, trace
//! and deadline, in the headers of its message.

use std::sync::LazyLock;
use std::time::Duration;

use async_nats::HeaderMap;
use heirloom::wire::{self, Inbound, InvalidTimeout, Received, TRACE, TraceContext};
use heirloom::{Context, context_var};
use heirloom_adaptors::NatsHeaders;

use crate::job::Job;
use crate::queue::Delivery;

context_var! {
    /// The tenant whose request it is.
    pub(crate) static TENANT: String, wire = "tenant";
    pub(crate) static REQUEST: String, wire = "request";
    pub(crate) static USER: u64, wire = "user";
    /// Opens doors in the submitter's process, and stays there.
    pub(crate) static TOKEN: String, wire = "token", secret = true;
}

/// Runs a closure as the request that submits this job, as a server would have bound it.
pub(crate) fn as_request(job: &Job, submit: impl FnOnce()) {
    let trace = TraceContext::new(job.trace.into(), 1, 1).expect("numbers that are not zero");
    Context::current()
        .with_var(&TENANT, job.tenant.clone())
        .with_var(&REQUEST, job.request.clone())
        .with_var(&USER, job.user)
        .with_var(&TOKEN, "open sesame".to_owned())
        .with_var(&TRACE, trace)
        .run(submit);
}

/// The headers for a job of the current request.
pub(crate) fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    wire::inject(&mut NatsHeaders(&mut headers));
    headers
}

/// Reads the headers of a job. Of the variables, these four are taken and no others; the token is
/// one of them, so that it would be seen if it came.
pub(crate) fn read(headers: &HeaderMap) -> Received {
    static INBOUND: LazyLock<Inbound> =
        LazyLock::new(|| Inbound::new().var(&TENANT).var(&REQUEST).var(&USER).var(&TOKEN));
    INBOUND.extract(&NatsHeaders(headers))
}

/// The time that is left until the deadline of a job that has one. Its header says how much was
/// left when the job was sent.
pub(crate) fn remaining(
    sent_with: Result<Option<Duration>, InvalidTimeout>,
    delivery: &Delivery,
) -> Result<Option<Duration>, InvalidTimeout> {
    Ok(sent_with?.map(|left| left.saturating_sub(delivery.age())))
}
