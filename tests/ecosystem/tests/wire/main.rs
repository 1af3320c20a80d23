//! Contexts and deadlines from service to service by the clients of other libraries: what the
//! layers `PropagateLayer` and `RequestContextLayer` promise, seen at the far end.

mod reqwest;
mod tonic;

use heirloom::wire::{Inbound, TRACE};
use heirloom::{context_var, remaining};

context_var! {
    static TENANT: String, wire = "tenant";
    static REQUEST: u32, wire = "request-id";
    static TOKEN: String, wire = "token", secret = true;
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn inbound() -> Inbound {
    Inbound::new().var(&TENANT).var(&REQUEST).var(&TOKEN)
}

fn set(request: u32) {
    TENANT.set("acme & söhne".to_owned());
    REQUEST.set(request);
    TOKEN.set("xyzzy".to_owned());
    TRACE.set(PARENT.parse().unwrap());
}

/// What is known at one place, and whether there is a deadline.
fn look() -> String {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let number = text(REQUEST.get().map(|number| number.to_string()));
    let trace = text(TRACE.get().map(|trace| trace.to_string()));
    let limited = if remaining().is_some() { "limited" } else { "endless" };
    [text(TENANT.get()), number, text(TOKEN.get()), trace, limited.to_owned()].join("|")
}

/// What a called service sees of what [`set`] has bound within a limit.
fn look_afar(request: u32) -> String {
    format!("acme & söhne|{request}|-|{PARENT}|limited")
}

const NOTHING: &str = "-|-|-|-|endless";
