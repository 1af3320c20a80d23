//! `traceparent` and `tracestate`: the table, and the standard.

use heirloom_context::Context;
use heirloom_context::wire::{Inbound, Reason, TRACE, TraceContext};
use proptest::prelude::*;

use super::{Lines, headers_of};

const ID: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn parent(text: &str) -> Option<TraceContext> {
    text.parse().ok()
}

fn valid() -> TraceContext {
    parent(&format!("00-{ID}-{PARENT}-01")).unwrap()
}

/// The state of a trace whose header `tracestate` has these lines; `None` if it was dropped.
fn state(lines: &[&str]) -> Option<String> {
    let mut headers = Lines::of(&[("traceparent", valid().to_string().as_bytes())]);
    headers.0.extend(lines.iter().map(|line| ("tracestate".to_owned(), line.as_bytes().to_vec())));
    let received = Inbound::new().extract(&headers);
    let trace = received.trace().expect("a bad state drops the state alone");
    assert_eq!(trace.to_string(), valid().to_string());
    let is_dropped = received.dropped().iter().any(|dropped| dropped.reason == Reason::TraceState);
    assert!(!is_dropped || trace.state().is_empty());
    (!is_dropped).then(|| trace.state().to_owned())
}

#[test]
fn widths_are_exact_and_signs_are_none() {
    for text in [
        "00-1-1-1".to_owned(),
        format!("00-+{}-{PARENT}-01", &ID[1..]),
        format!("00-{ID}-+{}-01", &PARENT[1..]),
        format!("00-{ID}-{PARENT}-+1"),
        format!("+0-{ID}-{PARENT}-01"),
        format!("00-{ID}0-{PARENT}-01"),
        format!("00-{ID}-{PARENT}-1"),
        format!("00-{ID}-{PARENT}-001"),
        format!("0-{ID}-{PARENT}-001"),
        format!("00{ID}-{PARENT}-01"),
        format!("00-{ID}_{PARENT}-01"),
        format!("00-{ID}-{PARENT}"),
        String::new(),
        "00".to_owned(),
        "é".repeat(40),
    ] {
        assert_eq!(parent(&text), None, "{text:?}");
    }
}

#[test]
fn capital_digits_are_refused() {
    assert_eq!(parent(&format!("00-{}-{PARENT}-01", ID.to_uppercase())), None);
    assert_eq!(parent(&format!("00-{ID}-{}-01", PARENT.to_uppercase())), None);
    assert_eq!(parent(&format!("0A-{ID}-{PARENT}-01")), None);
    assert_eq!(parent(&format!("00-{ID}-{PARENT}-0A")), None);
}

#[test]
fn zeros_are_no_trace_and_no_span() {
    assert_eq!(parent(&format!("00-{}-{PARENT}-01", "0".repeat(32))), None);
    assert_eq!(parent(&format!("00-{ID}-{}-01", "0".repeat(16))), None);
    assert_eq!((TraceContext::new(0, 1, 1), TraceContext::new(1, 0, 1)), (None, None));
}

#[test]
fn all_flags_are_read_and_those_of_the_standard_are_sent() {
    for (version, flags, read, sent) in [
        ("00", "00", 0, "00"),
        ("00", "01", 1, "01"),
        ("00", "02", 2, "02"),
        ("00", "03", 3, "03"),
        ("00", "f1", 0xf1, "01"),
        ("00", "ff", 0xff, "03"),
        // Of a later version, nothing but "sampled" is known.
        ("01", "03", 1, "01"),
        ("01", "fe", 0, "00"),
        ("fe", "ff", 1, "01"),
    ] {
        let trace = parent(&format!("{version}-{ID}-{PARENT}-{flags}")).unwrap();
        assert_eq!(trace.flags(), read, "{version} {flags}");
        assert_eq!(trace.to_string(), format!("00-{ID}-{PARENT}-{sent}"));
        let headers = headers_of(&Context::empty().with_var(&TRACE, trace));
        assert_eq!(headers["traceparent"], format!("00-{ID}-{PARENT}-{sent}"));
    }
    let made = TraceContext::new(1, 2, 0xfd).unwrap();
    assert_eq!((made.flags(), &made.to_string()[52..]), (0xfd, "-01"));
    assert!(!parent(&format!("00-{ID}-{PARENT}-02")).unwrap().is_sampled());
    assert!(parent(&format!("00-{ID}-{PARENT}-03")).unwrap().is_sampled());
}

#[test]
fn a_later_version_may_have_more_fields_and_this_one_may_not() {
    let more = |version: &str, more: &str| parent(&format!("{version}-{ID}-{PARENT}-01{more}"));
    assert_eq!(more("01", ""), Some(valid()));
    assert_eq!(more("01", "-what-ever"), Some(valid()));
    assert_eq!(more("fe", "-"), Some(valid()));
    assert_eq!(
        (more("00", "-what"), more("00", "-"), more("01", "x"), more("ff", "")),
        (None, None, None, None)
    );
    // What is sent on is of the version that is known.
    assert_eq!(more("01", "-more").unwrap().to_string(), valid().to_string());
}

#[test]
fn blanks_around_are_no_part_of_a_header() {
    assert_eq!(parent(&format!(" \t00-{ID}-{PARENT}-01 ")), Some(valid()));
    assert_eq!(parent(&format!("00- {}-{PARENT}-01", &ID[1..])), None);
}

#[test]
fn of_several_traceparents_none_is_taken() {
    let line = valid().to_string();
    let headers = Lines::of(&[("traceparent", line.as_bytes()), ("traceparent", line.as_bytes())]);
    let received = Inbound::new().extract(&headers);
    assert_eq!(received.trace(), None);
    assert_eq!(received.dropped()[0].reason, Reason::TraceParent);
}

#[test]
fn a_malformed_traceparent_is_dropped_with_its_state() {
    let headers = Lines::of(&[("traceparent", b"00-\xff"), ("tracestate", b"a=1")]);
    let received = Inbound::new().extract(&headers);
    assert_eq!((received.trace(), received.dropped().len()), (None, 1));
    // A state alone says nothing.
    let received = Inbound::new().extract(&Lines::of(&[("tracestate", b"a=1")]));
    assert_eq!((received.trace(), received.dropped().len()), (None, 0));
}

#[test]
fn one_bad_member_drops_the_state_alone() {
    assert_eq!(state(&["a=1,b=2"]), Some("a=1,b=2".to_owned()));
    for bad in [
        "b", "=1", "B=1", "1b=1", "b=", "b=1=2", "b=\u{1}", "b=é", "b b=1", "b@@c=1", "@c=1", "b@=1",
        "b@1c=1",
    ] {
        assert_eq!(state(&[&format!("a=1,{bad},c=3")]), None, "{bad}");
    }
}

#[test]
fn keys_and_values_have_the_lengths_of_the_standard() {
    let key = |name: usize| "k".repeat(name);
    assert!(state(&[&format!("{}=1", key(256))]).is_some());
    assert!(state(&[&format!("{}=1", key(257))]).is_none());
    assert!(state(&[&format!("1{}@{}=1", key(240), key(14))]).is_some());
    assert!(state(&[&format!("{}@{}=1", key(242), key(14))]).is_none());
    assert!(state(&[&format!("{}@{}=1", key(1), key(15))]).is_none());
    assert!(state(&[&format!("a={}", "v".repeat(256))]).is_some());
    assert!(state(&[&format!("a={}", "v".repeat(257))]).is_none());
    assert_eq!(state(&["a_-*/0=!~ x"]), Some("a_-*/0=!~ x".to_owned()));
}

#[test]
fn of_members_with_one_key_the_first_is_kept() {
    assert_eq!(state(&["a=1,b=2,a=3"]), Some("a=1,b=2".to_owned()));
    assert_eq!(state(&["a=1", "a=2,b=2"]), Some("a=1,b=2".to_owned()));
}

#[test]
fn thirty_two_members_are_kept_and_of_more_none_is() {
    let members = |count| (0..count).map(|number| format!("k{number}=1")).collect::<Vec<_>>().join(",");
    assert_eq!(state(&[&members(32)]), Some(members(32)));
    assert_eq!((state(&[&members(33)]), state(&[&members(40)])), (None, None));
    assert_eq!(state(&[&members(32), "more=1"]), None);
}

#[test]
fn all_lines_of_a_state_are_read_in_their_order() {
    assert_eq!(state(&["b=2 , a=1", "", " , ", "c=3"]), Some("b=2,a=1,c=3".to_owned()));
    assert_eq!(state(&[""]), Some(String::new()));
}

#[test]
fn a_service_without_opentelemetry_sends_the_trace_on() {
    let trace = valid().with_state("vendor=x, other=y").unwrap();
    let headers = headers_of(&Context::empty().with_var(&TRACE, trace.clone()));
    assert_eq!(headers["traceparent"], valid().to_string());
    assert_eq!(headers["tracestate"], "vendor=x,other=y");
    let received = Inbound::new().extract(&headers);
    assert_eq!(received.trace(), Some(trace.clone()));
    assert_eq!(received.bind(&Context::empty()).get(&TRACE), Some(trace));
    let without = Inbound::new().trace(false).extract(&headers);
    assert_eq!((without.trace(), without.dropped().len()), (None, 0));
}

#[test]
fn a_state_that_is_none_is_refused() {
    assert!(valid().with_state("no state").is_err());
    assert_eq!(valid().with_state("").unwrap().state(), "");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: crate::support::cases(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_trace_that_is_written_is_read(id in 1..=u128::MAX, parent in 1..=u64::MAX, flags: u8) {
        let trace = TraceContext::new(id, parent, flags).unwrap();
        let text = trace.to_string();
        prop_assert_eq!(text.len(), 55);
        prop_assert_eq!(text.to_lowercase(), text.clone());
        let expected = TraceContext::new(id, parent, flags & 3).unwrap();
        prop_assert_eq!(text.parse::<TraceContext>(), Ok(expected));
    }

    #[test]
    fn any_bytes_are_read_as_a_trace_or_not(text: Vec<u8>, state: Vec<u8>) {
        let headers = Lines::of(&[("traceparent", &text), ("tracestate", &state)]);
        drop(Inbound::new().extract(&headers));
        let headers = Lines::of(&[("traceparent", valid().to_string().as_bytes()), ("tracestate", &state)]);
        let trace = Inbound::new().extract(&headers).trace().unwrap();
        // What is taken is sent on, and taken again as it is.
        let sent = headers_of(&Context::empty().with_var(&TRACE, trace.clone()));
        prop_assert_eq!(Inbound::new().extract(&sent).trace(), Some(trace));
    }
}
