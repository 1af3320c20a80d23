//! async-nats.

use async_nats::{HeaderMap, HeaderName};
use heirloom::wire::{Extractor, Injector};

/// The headers of a message of async-nats, as a carrier: of `&mut HeaderMap` to write a context, of
/// `&HeaderMap` to read one.
///
/// NATS tells names in capitals from those in lower case. What is written has lower case; what is
/// read may have both.
///
/// ```
/// use async_nats::HeaderMap;
/// use heirloom::wire::{self, Inbound};
/// use heirloom::{Context, context_var};
/// use heirloom_adaptors::NatsHeaders;
///
/// context_var! { static TENANT: String, wire = "tenant"; }
///
/// let mut headers = HeaderMap::new();
/// Context::current()
///     .with_var(&TENANT, "acme".to_owned())
///     .run(|| wire::inject(&mut NatsHeaders(&mut headers)));
/// assert_eq!(headers.get("baggage").unwrap().as_str(), "tenant=acme");
///
/// let received = Inbound::new().var(&TENANT).extract(&NatsHeaders(&headers));
/// received.bind(&Context::empty()).run(|| assert_eq!(TENANT.get().as_deref(), Some("acme")));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NatsHeaders<H>(pub H);

impl Injector for NatsHeaders<&mut HeaderMap> {
    fn set(&mut self, name: &str, value: String) {
        self.remove(name);
        self.0.insert(name, value);
    }

    /// The map has no operation for it, so it is made anew where the name is there.
    fn remove(&mut self, name: &str) {
        if !self.0.iter().any(|(other, _)| is(other, name)) {
            return;
        }
        let before = std::mem::take(self.0);
        for (other, values) in before.iter().filter(|(other, _)| !is(other, name)) {
            for value in values {
                self.0.append(other.clone(), value.clone());
            }
        }
    }
}

impl Extractor for NatsHeaders<&HeaderMap> {
    fn for_each<'a>(&'a self, name: &str, each: &mut dyn FnMut(&'a [u8])) {
        let lines = self.0.iter().filter(|(other, _)| is(other, name));
        lines.flat_map(|(_, values)| values).for_each(|value| each(value.as_str().as_bytes()));
    }
}

fn is(other: &HeaderName, name: &str) -> bool {
    let other: &[u8] = other.as_ref();
    other.eq_ignore_ascii_case(name.as_bytes())
}
