//! Headers of a peer, any bytes, several lines of each: they are read within the caps and without a
//! panic, nothing that the receiver has bound changes, and what was taken is sent on and taken
//! again as it was.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use heirloom_context::wire::baggage::{MAX_BYTES, MAX_MEMBER_BYTES, MAX_MEMBERS, members};
use heirloom_context::wire::{
    BAGGAGE, Extractor, Inbound, REQUEST_TIMEOUT, TRACE, TRACEPARENT, TRACESTATE, inject_with, timeout,
};
use heirloom_context::{Context, context_var};
use libfuzzer_sys::fuzz_target;

context_var! {
    static TEXT: String, wire = "t";
    static NUMBER: i16, wire = "n";
    static BYTES: Vec<u8>, wire = Wire::bytes("b");
    static BOUND: String, wire = "own";
    static SECRET: String, secret = true, wire = "s";
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Header {
    Baggage,
    Traceparent,
    Tracestate,
    Deadline,
}

#[derive(Debug)]
struct Lines<'a>(Vec<(Header, &'a [u8])>);

impl<'a> Arbitrary<'a> for Lines<'a> {
    /// Lines of the input are lines of headers; the first byte of each says of which.
    fn arbitrary(bytes: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        let bytes = bytes.bytes(bytes.len())?;
        let line = |line: &'a [u8]| {
            let (first, value) = line.split_first()?;
            let header = match first % 8 {
                0..=3 => Header::Baggage,
                4 => Header::Traceparent,
                5 | 6 => Header::Tracestate,
                _ => Header::Deadline,
            };
            Some((header, value))
        };
        Ok(Lines(bytes.split(|byte| *byte == b'\n').filter_map(line).collect()))
    }
}

impl Extractor for Lines<'_> {
    fn for_each<'a>(&'a self, name: &str, each: &mut dyn FnMut(&'a [u8])) {
        for (header, value) in &self.0 {
            let is_it = match header {
                Header::Baggage => name == BAGGAGE,
                Header::Traceparent => name == TRACEPARENT,
                Header::Tracestate => name == TRACESTATE,
                Header::Deadline => name == REQUEST_TIMEOUT,
            };
            if is_it {
                each(value);
            }
        }
    }
}

fn read(inbound: &Inbound, max_members: usize, lines: &Lines<'_>) {
    let received = inbound.extract(lines);
    // A line for each member within the cap, and one for each of: the rest, the bytes, the trace,
    // its state, the deadline.
    assert!(received.dropped().len() <= max_members + 5);

    let base = Context::empty().with_var(&BOUND, "here".to_owned());
    let context = received.bind(&base);
    assert_eq!(context.get(&BOUND).as_deref(), Some("here"));
    assert_eq!(base.len(), 1);

    let mut headers = BTreeMap::new();
    let remaining = received.remaining().unwrap_or(None);
    let injected = context.run(|| inject_with(&mut headers, REQUEST_TIMEOUT, remaining));
    assert!(headers.values().all(|value| value.bytes().all(|byte| matches!(byte, b' '..=b'~'))));
    if let Some(baggage) = headers.get(BAGGAGE) {
        assert!(baggage.len() <= MAX_BYTES);
        let sent: Vec<_> = members(baggage.as_bytes()).map(Result::unwrap).collect();
        assert!(sent.iter().all(|member| member.name != "s"), "a secret was sent");
        assert!(baggage.split(',').all(|member| member.len() <= MAX_MEMBER_BYTES));
    }
    if let Some(time) = remaining {
        let sent = timeout::parse(&headers[REQUEST_TIMEOUT]).unwrap();
        assert!(sent <= time);
    }

    // Encoding may have made a value too long: then it is not sent, and that is said.
    let again = Inbound::new().var(&TEXT).var(&NUMBER).var(&BYTES).var(&BOUND).extract(&headers);
    let again = again.bind(&Context::empty());
    assert_eq!(again.get(&TRACE), context.get(&TRACE));
    if injected.dropped().is_empty() {
        assert_eq!(again.get(&TEXT), context.get(&TEXT));
        assert_eq!(again.get(&NUMBER), context.get(&NUMBER));
        assert_eq!(again.get(&BYTES), context.get(&BYTES));
        assert_eq!(again.get(&BOUND), context.get(&BOUND));
    }
}

fuzz_target!(|lines: Lines<'_>| {
    let inbound = Inbound::new().var(&TEXT).var(&NUMBER).var(&BYTES).var(&BOUND).var(&SECRET);
    read(&inbound, MAX_MEMBERS, &lines);
    // Caps that an input can reach.
    read(&inbound.max_members(4).max_bytes(60).max_member_bytes(20), 4, &lines);
});
