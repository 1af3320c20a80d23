//! Contexts in headers: each row of what other libraries do, by the standard; the caps; round
//! trips.

mod baggage;
mod inbound;
mod outbound;
mod round_trip;
mod timeout;
mod trace;

use std::collections::BTreeMap;

use heirloom_context::wire::{Extractor, Injector, REQUEST_TIMEOUT, inject_with};
use heirloom_context::{Context, context_var};

context_var! {
    static TENANT: String, wire = "tenant";
    static USER: u64, wire = "user";
    static TEXT: String, wire = "text";
    static TOKEN: String, wire = "token", secret = true;
    static LOCAL: String;
}

/// Headers of which there may be several lines with one name.
#[derive(Clone, Debug, Default, PartialEq)]
struct Lines(Vec<(String, Vec<u8>)>);

impl Lines {
    fn of(lines: &[(&str, &[u8])]) -> Lines {
        Lines(lines.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect())
    }

    fn baggage(line: &[u8]) -> Lines {
        Lines::of(&[("baggage", line)])
    }
}

impl Extractor for Lines {
    fn for_each<'a>(&'a self, name: &str, each: &mut dyn FnMut(&'a [u8])) {
        self.0.iter().filter(|(other, _)| other == name).for_each(|(_, value)| each(value));
    }
}

impl Injector for Lines {
    fn set(&mut self, name: &str, value: String) {
        self.remove(name);
        self.0.push((name.to_owned(), value.into_bytes()));
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(other, _)| other != name);
    }
}

/// The headers of a call in this context.
fn headers_of(context: &Context) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    let injected = context.run(|| inject_with(&mut headers, REQUEST_TIMEOUT, None));
    assert_eq!(injected.dropped(), []);
    headers
}
