//! What is taken of what was received.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use heirloom_context::wire::{
    Dropped, GRPC_TIMEOUT, Inbound, Reason, Received, TRACE, TraceContext, dropped,
};
use heirloom_context::{Context, context_var};

use super::{LOCAL, Lines, TENANT, TEXT, TOKEN, USER};
use crate::support::caught;

fn inbound() -> Inbound {
    Inbound::new().var(&TENANT).var(&USER).var(&TEXT)
}

fn bound(received: &Received) -> Context {
    received.bind(&Context::empty())
}

fn reasons(received: &Received) -> Vec<Reason> {
    received.dropped().iter().map(|dropped| dropped.reason).collect()
}

#[test]
fn only_what_is_on_the_list_is_taken() {
    let headers = Lines::baggage(b"tenant=acme,user=7,token=xyzzy,other=1");
    let received = Inbound::new().var(&TENANT).extract(&headers);
    assert_eq!(received.dropped(), []);
    let context = bound(&received);
    assert_eq!((context.len(), context.get(&TENANT).as_deref()), (1, Some("acme")));
    assert!(bound(&Inbound::new().extract(&headers)).is_empty());
    // Also a secret, where the list says so: it is taken, and never sent on.
    let secret = bound(&Inbound::new().var(&TOKEN).extract(&headers));
    assert_eq!(secret.get(&TOKEN).as_deref(), Some("xyzzy"));
}

#[test]
fn what_is_bound_is_never_overridden() {
    let headers = Lines::of(&[
        ("baggage", b"tenant=evil,user=7"),
        ("traceparent", b"00-00000000000000000000000000000001-0000000000000002-01"),
    ]);
    let received = inbound().extract(&headers);
    let trace = TraceContext::new(5, 6, 0).unwrap();
    let base = Context::empty()
        .with_var(&TENANT, "acme".into())
        .with_var(&LOCAL, "here".into())
        .with_var(&TRACE, trace.clone());
    let context = received.bind(&base);
    assert_eq!(context.get(&TENANT).as_deref(), Some("acme"));
    assert_eq!(context.get(&LOCAL).as_deref(), Some("here"));
    assert_eq!((context.get(&USER), context.get(&TRACE)), (Some(7), Some(trace)));
    assert_eq!(context.len(), 4);
    assert_eq!(base.len(), 3);
}

#[test]
fn all_lines_of_a_baggage_are_read() {
    let headers = Lines::of(&[
        ("baggage", b"tenant=acme"),
        ("x", b"y"),
        ("baggage", b""),
        ("baggage", b"user=7,text=a"),
    ]);
    let context = bound(&inbound().extract(&headers));
    assert_eq!(context.get(&TENANT).as_deref(), Some("acme"));
    assert_eq!((context.get(&USER), context.get(&TEXT).as_deref()), (Some(7), Some("a")));
}

#[test]
fn of_members_with_one_name_the_last_that_is_a_value_counts() {
    let context = bound(&inbound().extract(&Lines::baggage(b"user=1,tenant=a,user=2,tenant=b,user=three")));
    assert_eq!((context.get(&USER), context.get(&TENANT).as_deref()), (Some(2), Some("b")));
}

#[test]
fn a_malformed_member_is_dropped_and_the_others_are_kept() {
    let received = inbound()
        .extract(&Lines::baggage(b"tenant=acme,\xff\xfe=1,nothing,user=seven,text=x\x01,user=7;p=\xff"));
    let expected = [
        Dropped { variable: None, reason: Reason::Member },
        Dropped { variable: None, reason: Reason::Member },
        Dropped { variable: Some("user"), reason: Reason::Value },
        Dropped { variable: None, reason: Reason::Member },
    ];
    assert_eq!(received.dropped(), expected);
    let context = bound(&received);
    assert_eq!((context.get(&USER), context.get(&TENANT).as_deref()), (Some(7), Some("acme")));
    assert!(!context.contains(&TEXT));
}

#[test]
fn a_malformed_header_counts_as_absent() {
    let base = Context::empty().with_var(&TENANT, "acme".into());
    for header in [&b""[..], b" ", b",,,", b"nothing", b"=", b"\xff", b"tenant"] {
        let received = inbound().extract(&Lines::baggage(header));
        assert_eq!(received.bind(&base), base, "{header:?}");
    }
}

#[test]
fn what_is_dropped_is_counted() {
    for (reason, header, value) in [
        (Reason::Member, "baggage", &b"nothing"[..]),
        (Reason::Value, "baggage", b"user=seven"),
        (Reason::TraceParent, "traceparent", b"x"),
        (Reason::Deadline, "x-request-timeout", b"x"),
    ] {
        let before = dropped(reason);
        let received = inbound().extract(&Lines::of(&[(header, value)]));
        assert_eq!(reasons(&received), [reason]);
        assert!(dropped(reason) > before, "{reason:?}");
    }
}

/// A baggage of so many members `mN=1`, then `user=7`.
fn members(count: usize) -> Vec<u8> {
    (0..count)
        .map(|number| format!("m{number}=1,"))
        .collect::<String>()
        .into_bytes()
        .into_iter()
        .chain(*b"user=7")
        .collect()
}

#[test]
fn after_64_members_no_more_is_taken() {
    let received = inbound().extract(&Lines::baggage(&members(63)));
    assert_eq!((bound(&received).get(&USER), reasons(&received)), (Some(7), vec![]));
    let received = inbound().extract(&Lines::baggage(&members(64)));
    assert_eq!((bound(&received).get(&USER), reasons(&received)), (None, vec![Reason::Members]));
    // All lines together, and the malformed ones too.
    let lines = Lines::of(&[
        ("baggage", &members(60)),
        ("baggage", b"x,y,z"),
        ("baggage", b"tenant=acme"),
        ("baggage", b"text=a"),
    ]);
    let received = inbound().extract(&lines);
    assert_eq!(reasons(&received), [Reason::Member, Reason::Member, Reason::Member, Reason::Members]);
    assert_eq!((bound(&received).get(&USER), bound(&received).len()), (Some(7), 1));
}

#[test]
fn the_caps_are_as_they_are_set() {
    let inbound = inbound().max_members(2).max_bytes(20).max_member_bytes(9);
    let read = |line: &str| {
        let received = inbound.extract(&Lines::baggage(line.as_bytes()));
        (bound(&received).len(), reasons(&received))
    };
    assert_eq!(read("user=1,text=a"), (2, vec![]));
    assert_eq!(read("user=1,text=a,tenant=b"), (2, vec![Reason::Bytes]));
    assert_eq!(read("user=1,text=a,t=b"), (2, vec![Reason::Members]));
    assert_eq!(read("user=1,text=aaaaa"), (1, vec![Reason::MemberBytes]));
    assert_eq!(read("text=aaaa"), (1, vec![]));
    // The cap does not cut a member: what does not end within it is not there.
    assert_eq!(read("user=1,      text=abc"), (1, vec![Reason::Bytes]));
    assert_eq!(read("user=1,     text=abc"), (2, vec![]));
    assert_eq!(read("user=1,     text=abc,"), (2, vec![Reason::Bytes]));
    assert_eq!(read("user=1234567890123456"), (0, vec![Reason::Bytes]));
}

#[test]
fn after_8192_bytes_no_more_is_taken_and_what_fits_is() {
    let filler = |bytes: usize| [b"x=", "y".repeat(bytes - 2).as_bytes()].concat();
    let line = |first: usize| [&filler(4_000)[..], b",", &filler(first), b",user=7"].concat();
    let fits = 8_192 - 4_000 - 1 - ",user=7".len();
    let received = inbound().max_member_bytes(5_000).extract(&Lines::baggage(&line(fits)));
    assert_eq!((bound(&received).get(&USER), reasons(&received)), (Some(7), vec![]));
    let received = inbound().max_member_bytes(5_000).extract(&Lines::baggage(&line(fits + 1)));
    assert_eq!((bound(&received).get(&USER), reasons(&received)), (None, vec![Reason::Bytes]));
    // Lines count together, with the comma between them.
    let lines = |last: usize| {
        Lines::of(&[("baggage", &filler(4_000)), ("baggage", &filler(last)), ("baggage", b"user=7")])
    };
    let received = inbound().max_member_bytes(5_000).extract(&lines(fits));
    assert_eq!(bound(&received).get(&USER), Some(7));
    let received = inbound().max_member_bytes(5_000).extract(&lines(fits + 1));
    assert_eq!((bound(&received).get(&USER), reasons(&received)), (None, vec![Reason::Bytes]));
}

#[test]
fn a_member_over_4096_bytes_is_dropped_alone() {
    let line = [b"text=", "x".repeat(4_092).as_bytes(), b",user=7"].concat();
    let received = inbound().extract(&Lines::baggage(&line));
    assert_eq!(reasons(&received), [Reason::MemberBytes]);
    assert_eq!((bound(&received).get(&USER), bound(&received).len()), (Some(7), 1));
}

#[test]
fn a_hostile_peer_gets_a_bounded_answer() {
    let megabyte = vec![b','; 1 << 20];
    assert_eq!(reasons(&inbound().extract(&Lines::baggage(&megabyte))), [Reason::Bytes]);
    let received = inbound().extract(&Lines::baggage(&members(10_000)));
    assert!(received.dropped().len() <= 2, "{:?}", received.dropped());
    let nonsense = "\u{1},".repeat(10_000);
    assert!(inbound().extract(&Lines::baggage(nonsense.as_bytes())).dropped().len() <= 66);
    let lines = Lines(vec![("baggage".to_owned(), b"x".to_vec()); 10_000]);
    assert!(inbound().extract(&lines).dropped().len() <= 66);
    let states = Lines(vec![("tracestate".to_owned(), b"a=1".to_vec()); 10_000]);
    assert_eq!(inbound().extract(&states).dropped(), []);
}

#[test]
fn lines_that_are_no_lists_are_read_up_to_512_bytes() {
    let parent = b"00-00000000000000000000000000000001-0000000000000002-01".as_slice();
    let padded = |text: &[u8], bytes: usize| [text, &vec![b' '; bytes - text.len()]].concat();
    let read = |bytes: usize| {
        let headers = Lines::of(&[
            ("traceparent", &padded(parent, bytes)),
            ("x-request-timeout", &padded(b"5S", bytes)),
        ]);
        let received = Inbound::new().extract(&headers);
        (received.trace().is_some(), received.remaining().ok(), reasons(&received))
    };
    assert_eq!(read(512), (true, Some(Some(Duration::from_secs(5))), vec![]));
    for bytes in [513, 1 << 20] {
        assert_eq!(read(bytes), (false, None, vec![Reason::TraceParent, Reason::Deadline]));
    }
}

#[test]
fn a_tracestate_is_read_up_to_8192_bytes_of_all_lines() {
    let parent = b"00-00000000000000000000000000000001-0000000000000002-01".as_slice();
    let read = |lines: Vec<Vec<u8>>| {
        let mut headers = Lines::of(&[("traceparent", parent)]);
        headers.0.extend(lines.into_iter().map(|line| ("tracestate".to_owned(), line)));
        let received = Inbound::new().extract(&headers);
        (received.trace().unwrap().state().len(), reasons(&received))
    };
    let line = |key: &str, bytes: usize| format!("{key}=1{}", ",".repeat(bytes - 3)).into_bytes();
    assert_eq!(read(vec![line("a", 8_192)]), (3, vec![]));
    assert_eq!(read(vec![line("a", 8_193)]), (0, vec![Reason::TraceState]));
    // With the comma between them.
    assert_eq!(read(vec![line("a", 4_000), line("b", 4_191)]), (7, vec![]));
    assert_eq!(read(vec![line("a", 4_000), line("b", 4_192)]), (0, vec![Reason::TraceState]));
    assert_eq!(read(vec![b"a=1".to_vec(); 10_000]), (0, vec![Reason::TraceState]));
}

#[test]
fn names_of_maps_are_read_whatever_their_case() {
    let headers = [("Baggage", "tenant=acme"), ("BAGGAGE", "user=7"), ("X-Request-Timeout", "5S")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let read = |received: Received| {
        let context = bound(&received);
        (context.get(&TENANT), context.get(&USER), received.remaining().unwrap())
    };
    let expected = (Some("acme".to_owned()), Some(7), Some(Duration::from_secs(5)));
    assert_eq!(read(inbound().extract(&HashMap::from(headers.clone()))), expected);
    assert_eq!(read(inbound().extract(&BTreeMap::from(headers))), expected);
    // Several lines of what has one.
    let several = [("traceparent", ""), ("Traceparent", "")].map(|(name, value)| (name.into(), value.into()));
    assert_eq!(reasons(&inbound().extract(&HashMap::from(several))), [Reason::TraceParent]);
}

#[test]
fn the_deadline_is_taken_and_a_malformed_one_is_an_error_not_none() {
    let read = |lines: &[(&str, &[u8])]| inbound().extract(&Lines::of(lines)).remaining().ok();
    const NAME: &str = "x-request-timeout";
    assert_eq!(read(&[]), Some(None));
    assert_eq!(read(&[(NAME, b"250m")]), Some(Some(Duration::from_millis(250))));
    assert_eq!(read(&[(NAME, b" 250m\t")]), Some(Some(Duration::from_millis(250))));
    assert_eq!(read(&[(NAME, b"0S")]), Some(Some(Duration::ZERO)));
    for malformed in [&b""[..], b"5", b"-1S", b"\xff", b"99999999999999999999H"] {
        let received = inbound().extract(&Lines::of(&[(NAME, malformed)]));
        assert!(received.remaining().is_err());
        assert_eq!(reasons(&received), [Reason::Deadline]);
    }
    assert_eq!(read(&[(NAME, b"5S"), (NAME, b"7S")]), None);
}

#[test]
fn the_header_of_the_deadline_has_the_name_that_is_set() {
    let headers = Lines::of(&[("grpc-timeout", b"1S"), ("x-budget", b"2S"), ("x-request-timeout", b"3S")]);
    let read = |inbound: Inbound| inbound.extract(&headers).remaining().unwrap().map(|time| time.as_secs());
    assert_eq!(read(Inbound::new()), Some(3));
    assert_eq!(read(Inbound::new().deadline_header("x-budget")), Some(2));
    assert_eq!(read(Inbound::new().deadline_header("x-budget").deadline(false)), None);
    assert_eq!(read(Inbound::new().deadline_header("x-budget").deadline(true)), Some(2));
    assert_eq!(read(Inbound::new().deadline(false).deadline(true)), Some(3));
    let grpc = |inbound: Inbound| inbound.extract_as(&headers, GRPC_TIMEOUT).remaining().unwrap();
    assert_eq!(grpc(Inbound::new()), Some(Duration::from_secs(1)));
    assert_eq!(grpc(Inbound::new().deadline(false)), None);
}

#[test]
fn values_say_where_they_were_listed() {
    let inbound = Inbound::new().var(&USER);
    let line = line!() - 1;
    let context = bound(&inbound.extract(&Lines::baggage(b"user=7")));
    let place = context.iter().next().unwrap().bound_at();
    assert_eq!((place.file(), place.line()), (file!(), line));
}

#[test]
fn a_variable_that_is_not_sent_or_a_second_of_one_name_is_refused() {
    context_var! { static OTHER: u64, wire = Wire::text("user"); }
    caught(|| Inbound::new().var(&LOCAL));
    caught(|| Inbound::new().var(&USER).var(&OTHER));
}

#[test]
fn policies_and_hooks_are_those_of_the_declaration() {
    context_var! { static ONCE: u32, inherit = Never, wire = "once"; }
    let context = bound(&Inbound::new().var(&ONCE).extract(&Lines::baggage(b"once=1")));
    assert_eq!(context.run(|| (ONCE.get(), Context::inherited().get(&ONCE))), (Some(1), None));
}
