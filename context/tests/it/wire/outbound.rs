//! What is sent, and to whom.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use heirloom_context::wire::{
    Dropped, GRPC_TIMEOUT, Inbound, Outbound, REQUEST_TIMEOUT, Reason, TRACE, TraceContext, Wire, clear,
    dropped, inject_with,
};
use heirloom_context::{Context, ContextFutureExt, ContextVar, VarOptions, context_var};

use super::{LOCAL, Lines, TENANT, TEXT, TOKEN, USER, headers_of};
use crate::support::{caught, quiet_panic};

/// Headers of an earlier call.
fn stale() -> Lines {
    Lines::of(&[
        ("baggage", b"tenant=stale"),
        ("traceparent", b"stale"),
        ("x-other", b"kept"),
        ("tracestate", b"stale=1"),
        ("baggage", b"user=1"),
        ("x-request-timeout", b"5S"),
    ])
}

fn kept() -> Lines {
    Lines::of(&[("x-other", b"kept")])
}

#[test]
fn only_what_is_bound_and_has_the_option_is_sent() {
    let context = Context::empty()
        .with_var(&TENANT, "acme".into())
        .with_var(&LOCAL, "local".into())
        .with_var(&TOKEN, "xyzzy".into());
    assert_eq!(headers_of(&context), BTreeMap::from([("baggage".into(), "tenant=acme".into())]));
}

#[test]
fn a_secret_is_never_sent() {
    let context = Context::empty().with_var(&TOKEN, "xyzzy".into());
    assert_eq!(headers_of(&context), BTreeMap::new());
    // Nor what a policy makes of one for a child.
    context_var! {
        static DERIVED: String, inherit = Derive(|text| Some(format!("{text}!"))), secret = true, wire = "derived";
        static SENT: String, inherit = Derive(|text| Some(format!("{text}!"))), wire = "sent";
    }
    let context = Context::empty().with_var(&DERIVED, "xyzzy".into()).with_var(&SENT, "hello".into());
    let child = context.run(Context::inherited);
    assert_eq!(child.get(&DERIVED).as_deref(), Some("xyzzy!"));
    assert_eq!(headers_of(&child)["baggage"], "sent=hello!");
}

#[test]
fn a_default_is_not_sent() {
    context_var! { static LEVEL: u32 = 3, wire = "level"; }
    assert_eq!(headers_of(&Context::empty()), BTreeMap::new());
    assert_eq!(headers_of(&Context::empty().with_var(&LEVEL, 3))["baggage"], "level=3");
}

#[test]
fn stale_headers_are_replaced_and_those_without_a_value_removed() {
    let mut headers = stale();
    let context = Context::empty().with_var(&TENANT, "acme".into());
    context.run(|| inject_with(&mut headers, REQUEST_TIMEOUT, None));
    assert_eq!(headers, Lines::of(&[("x-other", b"kept"), ("baggage", b"tenant=acme")]));

    let mut headers = stale();
    Context::empty().run(|| inject_with(&mut headers, REQUEST_TIMEOUT, None));
    assert_eq!(headers, kept());

    let mut headers = stale();
    clear(&mut headers, REQUEST_TIMEOUT);
    assert_eq!(headers, kept());
}

#[test]
fn the_time_that_is_left_goes_into_the_header_that_is_named() {
    let mut headers = HashMap::new();
    let left = Duration::from_millis(250);
    Context::empty().run(|| inject_with(&mut headers, GRPC_TIMEOUT, Some(left)));
    assert_eq!(headers, HashMap::from([("grpc-timeout".into(), "250000u".into())]));
    Context::empty().run(|| inject_with(&mut headers, GRPC_TIMEOUT, Some(Duration::ZERO)));
    assert_eq!(headers["grpc-timeout"], "0n");
    Context::empty().run(|| inject_with(&mut headers, GRPC_TIMEOUT, None));
    assert_eq!(headers, HashMap::new());
}

#[test]
fn what_a_layer_shows_is_sent() {
    let outer = Context::empty().with_var(&TENANT, "outer".into()).with_var(&USER, 1);
    let inside = async {
        TENANT.set("inner".into());
        USER.unset();
        headers_of(&Context::current())
    };
    let sent = outer.run(|| futures::executor::block_on(inside.isolated()));
    assert_eq!(sent["baggage"], "tenant=inner");
    let unchanged =
        outer.run(|| futures::executor::block_on(async { headers_of(&Context::current()) }.isolated()));
    assert_eq!(unchanged, headers_of(&outer));
}

#[test]
fn a_large_context_is_sent() {
    let variables: Vec<ContextVar<usize>> = (0..count()).map(|_| ContextVar::new("one of many")).collect();
    let context = variables
        .iter()
        .enumerate()
        .fold(Context::empty().with_var(&USER, 7), |context, (number, variable)| {
            context.with_var(variable, number)
        });
    assert_eq!(headers_of(&context.with_var(&TENANT, "acme".into())).len(), 1);
}

fn count() -> usize {
    crate::support::count(200)
}

/// The codecs of [`many`] variables, with the names `many-0`, `many-1` and so on.
static CODECS: LazyLock<Vec<Wire<String>>> =
    LazyLock::new(|| NAMES.iter().map(|name| Wire::text(name)).collect());
static NAMES: LazyLock<Vec<String>> =
    LazyLock::new(|| (0..70).map(|number| format!("many-{number}")).collect());

/// Variables that are sent under a name each, made at run time.
fn many(count: usize) -> Vec<ContextVar<String>> {
    let options = |wire| VarOptions { wire: Some(wire), ..VarOptions::new() };
    CODECS[..count].iter().map(|wire| ContextVar::with_options("one of many", options(wire))).collect()
}

/// That these of [`many`] were left out.
fn left_out(numbers: Range<usize>, reason: Reason) -> Vec<Dropped> {
    numbers.map(|number| Dropped { variable: Some(&NAMES[number]), reason }).collect()
}

fn bound(variables: &[ContextVar<String>], value: impl Fn(usize) -> String) -> Context {
    variables
        .iter()
        .enumerate()
        .fold(Context::empty(), |context, (number, variable)| context.with_var(variable, value(number)))
}

/// The baggage of a call in this context, and what was left out.
fn sent(context: &Context) -> (String, Vec<Dropped>) {
    let mut headers = BTreeMap::new();
    let injected = context.run(|| inject_with(&mut headers, REQUEST_TIMEOUT, None));
    (headers.remove("baggage").unwrap_or_default(), injected.dropped().to_vec())
}

#[test]
fn of_too_many_members_the_last_are_left_out_and_named() {
    let before = dropped(Reason::Members);
    let (baggage, dropped_now) = sent(&bound(&many(70), |number| number.to_string()));
    assert_eq!(baggage.split(',').count(), 64);
    assert!(baggage.starts_with("many-0=0,many-1=1,") && baggage.ends_with(",many-63=63"), "{baggage}");
    assert_eq!(dropped_now, left_out(64..70, Reason::Members));
    assert!(dropped(Reason::Members) >= before + 6);
}

#[test]
fn of_too_many_bytes_the_last_pairs_are_left_out_as_a_whole() {
    // 2,007 bytes each; a comma between them.
    let (baggage, dropped) = sent(&bound(&many(6), |number| number.to_string().repeat(2_000)));
    assert_eq!(baggage.len(), 4 * 2_007 + 3);
    assert!(baggage.ends_with(&"3".repeat(2_000)));
    assert_eq!(dropped, left_out(4..6, Reason::Bytes));
}

#[test]
fn after_the_first_that_has_no_room_no_other_is_sent() {
    let lengths = [4_000, 4_000, 4_000, 1];
    let (baggage, dropped) = sent(&bound(&many(4), |number| "x".repeat(lengths[number])));
    assert_eq!(baggage.split(',').count(), 2);
    assert_eq!(dropped, left_out(2..4, Reason::Bytes));
    // One that is too long by itself takes no room.
    let lengths = [4_000, 5_000, 4_000, 1];
    let (baggage, dropped) = sent(&bound(&many(4), |number| "x".repeat(lengths[number])));
    assert!(baggage.ends_with(",many-3=x"));
    assert_eq!(dropped, left_out(1..2, Reason::MemberBytes));
}

#[test]
fn of_two_variables_with_one_name_the_second_is_left_out_and_named() {
    context_var! {
        static FIRST: u64, wire = "number";
        static SECOND: String, wire = "number";
    }
    let before = dropped(Reason::Name);
    let first = Context::empty().with_var(&FIRST, 7).with_var(&TENANT, "acme".into());
    // The order of the first uses counts, and not that in which they are bound here.
    let second = Context::empty().with_var(&SECOND, "seven".into());
    let both = second.with_var(&FIRST, 7);
    assert_eq!(
        sent(&both),
        ("number=7".into(), vec![Dropped { variable: Some("number"), reason: Reason::Name }])
    );
    assert!(dropped(Reason::Name) > before);
    assert!(sent(&first).1.is_empty());
    assert_eq!(sent(&second), ("number=seven".into(), vec![]));
}

#[test]
fn names_of_maps_are_compared_without_their_case() {
    let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let stale = [named("Baggage", "stale=1"), named("BAGGAGE", "stale=2"), named("X-Other", "kept")];
    let left = Some(Duration::from_millis(250));
    let empty: BTreeMap<_, _> = [named("X-Other", "kept")].into();
    let expected: BTreeMap<_, _> =
        [named("X-Other", "kept"), named("baggage", "tenant=acme"), named("x-request-timeout", "250000u")]
            .into();
    let (mut tree, mut hashed) = (BTreeMap::from(stale.clone()), HashMap::from(stale));
    for (context, left, expected) in [
        (Context::empty().with_var(&TENANT, "acme".into()), left, &expected),
        (Context::empty(), None, &empty),
    ] {
        context.run(|| inject_with(&mut tree, REQUEST_TIMEOUT, left));
        context.run(|| inject_with(&mut hashed, REQUEST_TIMEOUT, left));
        assert_eq!(&tree, expected);
        assert_eq!(&hashed.clone().into_iter().collect::<BTreeMap<_, _>>(), expected);
    }
}

#[test]
fn encoded_bytes_count_and_a_pair_over_the_cap_goes_alone() {
    // 1,366 blanks are 4,098 bytes.
    let context = Context::empty().with_var(&TENANT, "acme".into()).with_var(&TEXT, " ".repeat(1_366));
    let (baggage, dropped) = sent(&context);
    assert_eq!(baggage, "tenant=acme");
    assert_eq!(dropped, [Dropped { variable: Some("text"), reason: Reason::MemberBytes }]);
}

#[test]
fn what_is_removed_gives_its_room_back() {
    let variables = many(65);
    let context = bound(&variables, |number| number.to_string());
    assert_eq!(sent(&context).1.len(), 1);
    let (baggage, dropped) = sent(&context.without_var(&variables[0]));
    assert!(baggage.ends_with(",many-64=64") && dropped.is_empty());
}

struct Unwritable;

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half of it")?;
        Err(fmt::Error)
    }
}

#[test]
fn a_value_that_cannot_be_written_is_left_out_as_a_whole() {
    context_var! {
        static BAD: Unwritable, wire = Wire::with("bad", |value, out| write!(out, "{value}"), |_| None);
    }
    let context = Context::empty().with_var(&BAD, Unwritable).with_var(&TENANT, "acme".into());
    let (baggage, dropped) = sent(&context);
    assert_eq!(baggage, "tenant=acme");
    assert_eq!(dropped, [Dropped { variable: Some("bad"), reason: Reason::Value }]);
}

#[test]
fn a_codec_that_panics_writes_nothing() {
    context_var! {
        static BAD: u8, wire = Wire::with("bad", |_, _| quiet_panic("no text"), |_| None);
    }
    let mut headers = stale();
    let inject = || {
        inject_with(&mut headers, REQUEST_TIMEOUT, None);
    };
    assert_eq!(caught(|| Context::empty().with_var(&BAD, 1).run(inject)), "no text");
    assert_eq!(headers, stale());
}

#[test]
fn a_codec_may_change_the_context_and_inject_by_itself() {
    context_var! {
        static NOSY: u8, wire = Wire::with("nosy", |_, out| {
            TENANT.set("changed".into());
            USER.unset();
            write!(out, "{}", sent(&Context::empty()).0.len())
        }, |_| None);
    }
    let context = Context::empty().with_var(&NOSY, 1).with_var(&TENANT, "acme".into()).with_var(&USER, 7);
    let mut members: Vec<_> = sent(&context).0.split(',').map(str::to_owned).collect();
    members.sort();
    assert_eq!(members, ["nosy=0", "tenant=acme", "user=7"]);
}

#[test]
fn bytes_are_sent_in_base64() {
    context_var! {
        static KEY: [u8; 5], wire = Wire::bytes("key");
        static BLOB: Vec<u8>, wire = Wire::bytes("blob");
    }
    let context = Context::empty().with_var(&KEY, [0xFF, 0xEF, 0, 0x10, 0x83]).with_var(&BLOB, vec![]);
    let headers = headers_of(&context);
    assert_eq!(headers["baggage"], "key=_-8AEIM,blob=");
    let back = Inbound::new().var(&KEY).var(&BLOB).extract(&headers).bind(&Context::empty());
    assert_eq!((back.get(&KEY), back.get(&BLOB)), (context.get(&KEY), context.get(&BLOB)));
    for malformed in
        ["key=_-8AEIN", "key=_-8AE", "key=_-8AEI=", "key=+/8AEIM", "key=_-8AEIM=", "key=A", "key=_-8AEIMA"]
    {
        let received = Inbound::new().var(&KEY).extract(&Lines::baggage(malformed.as_bytes()));
        assert_eq!(
            received.dropped(),
            [Dropped { variable: Some("key"), reason: Reason::Value }],
            "{malformed}"
        );
    }
}

#[test]
fn hosts_are_compared_as_names_of_hosts() {
    let outbound =
        Outbound::new().host("Inventory.internal").host("*.svc.cluster.local").host("10.0.0.7").host("[::1]");
    for allowed in [
        "inventory.internal",
        "INVENTORY.INTERNAL.",
        "a.svc.cluster.local",
        "b.a.SVC.cluster.local",
        "10.0.0.7",
        "[::1]",
    ] {
        assert!(outbound.allows(allowed), "{allowed}");
    }
    for foreign in [
        "",
        ".",
        "internal",
        "x.inventory.internal",
        "inventory.internal.evil.example",
        "svc.cluster.local",
        ".svc.cluster.local",
        "evilsvc.cluster.local",
        "a.svc.cluster.local.evil.example",
        "10.0.0.70",
        "*.svc.cluster.local.",
        "é",
    ] {
        let is_literal = foreign.starts_with("*.");
        assert_eq!(outbound.allows(foreign), is_literal, "{foreign}");
    }
    assert!(!Outbound::new().allows("inventory.internal"));
    assert!(Outbound::new().any().allows("whatever.example"));
}

#[test]
fn what_is_no_host_is_refused() {
    for wrong in ["", "*", "*.", "a.*.b", "http://a", "a:80", "[::1]:80", "a b", "user@a", "a/b"] {
        caught(|| Outbound::new().host(wrong));
    }
}

#[test]
fn the_trace_is_sent_where_one_is_bound() {
    let trace = TraceContext::new(1, 2, 1).unwrap();
    let headers = headers_of(&Context::empty().with_var(&TRACE, trace));
    let text = "00-00000000000000000000000000000001-0000000000000002-01";
    assert_eq!(headers, BTreeMap::from([("traceparent".into(), text.into())]));
}
