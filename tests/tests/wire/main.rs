//! Contexts and deadlines from process to process: a server that takes them from the headers, a
//! client that writes them, services that call each other, and peers that mean harm.
//!
//! A binary of its own: `it` is as large as one should be.
#![allow(missing_docs)]
// Sockets and processes: nothing for an interpreter.
#![cfg(all(unix, not(miri)))]

mod client;
mod hostile;
mod server;
mod services;

use heirloom::context_var;
use heirloom::wire::Inbound;

context_var! {
    /// What the services of the tests take from each other.
    static TENANT: String, wire = "tenant";
    static REQUEST: u64, wire = "request-id";
    /// Of another service's, which is carried through.
    static NOTE: String, wire = "note";
    /// Sent by no service.
    static TOKEN: String, wire = "token", secret = true;
    static LOCAL: String;
}

/// Takes all that it may, the secret included: a client must not send it.
fn inbound() -> Inbound {
    Inbound::new().var(&TENANT).var(&REQUEST).var(&NOTE).var(&TOKEN)
}

/// Binds all of them.
fn set(request: u64) {
    TENANT.set("acme & söhne".to_owned());
    REQUEST.set(request);
    NOTE.set("100% = a+b; \"c\"".to_owned());
    TOKEN.set("xyzzy".to_owned());
    LOCAL.set("here".to_owned());
}

/// What is bound at one place.
fn seen() -> String {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let number = REQUEST.get().map(|number| number.to_string());
    let (tenant, note) = (text(TENANT.get()), text(NOTE.get()));
    format!("{tenant}|{}|{note}|{}|{}", text(number), text(TOKEN.get()), text(LOCAL.get()))
}

/// What a called service sees of what [`set`] has bound.
fn seen_afar(request: u64) -> String {
    format!("acme & söhne|{request}|100% = a+b; \"c\"|-|-")
}
