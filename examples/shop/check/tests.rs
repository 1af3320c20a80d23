//! The checks see what they are for: a run in which all is right, and the same with one thing
//! wrong.

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

use super::*;

/// Order 3 asks all services, and for the price twice.
const ORDER: u64 = 3;
const PLACES: [(&str, u64); 10] = [
    ("buyer", 900),
    ("shop", 800),
    ("to prices", 700),
    ("to stock", 700),
    ("prices", 650),
    ("from prices", 600),
    ("stock", 690),
    ("from stock", 650),
    ("to prices", 650),
    ("database", 500),
];

fn span(number: u64, parent: u64, name: &'static str) -> SpanData {
    let trace = TraceId::from(u128::from(ORDER));
    let context =
        SpanContext::new(trace, SpanId::from(number), TraceFlags::SAMPLED, false, TraceState::default());
    SpanData {
        span_context: context,
        parent_span_id: SpanId::from(parent),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: std::time::SystemTime::UNIX_EPOCH,
        end_time: std::time::SystemTime::UNIX_EPOCH,
        attributes: vec![KeyValue::new("order", ORDER as i64), KeyValue::new("REQUEST", "r3")],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    }
}

fn right() -> Seen {
    let look = |&(place, left): &(&'static str, u64)| {
        let left = Some(Duration::from_millis(left));
        Look { place, order: ORDER, request: Some("r3".to_owned()), left }
    };
    Seen {
        answers: vec![(ORDER, Answer::Sold("order 3: price 103, left 3".to_owned()))],
        rows: vec![(ORDER, Some("r3".to_owned()))],
        looks: PLACES.iter().map(look).collect(),
        log: "buy{order=3 REQUEST=r3}: shop: order=3 REQUEST=r3\nstarted\n".to_owned(),
        spans: vec![span(1, 0, "buy"), span(2, 1, "shop"), span(3, 2, "to stock"), span(4, 3, "stock")],
        cut: 0,
    }
}

/// The number of violations after a change of what is right.
fn after(change: impl FnOnce(&mut Seen)) -> usize {
    let mut seen = right();
    change(&mut seen);
    seen.violations().len()
}

#[test]
fn nothing_is_wrong_with_what_is_right() {
    assert_eq!(right().violations(), [""; 0]);
}

#[test]
fn an_id_of_another_request_none_and_a_lost_or_later_deadline_are_seen() {
    for place in 0..PLACES.len() {
        assert_eq!(after(|seen| seen.looks[place].request = Some("r4".to_owned())), 1);
        assert_eq!(after(|seen| seen.looks[place].request = None), 1);
        assert!(after(|seen| seen.looks[place].left = None) >= 1);
    }
    for place in 1..PLACES.len() {
        assert_eq!(after(|seen| seen.looks[place].left = Some(Duration::from_millis(901))), 1);
    }
}

#[test]
fn a_place_that_was_left_out_is_seen() {
    // One of the two looks before a call of the prices may go.
    for place in (0..PLACES.len()).filter(|&place| PLACES[place].0 != "to prices") {
        assert!(after(|seen| drop(seen.looks.remove(place))) >= 1, "{:?}", PLACES[place]);
    }
}

#[test]
fn lines_of_another_request_or_of_none_are_seen() {
    for line in [
        "order=3 REQUEST=r4",
        "order=3",
        "REQUEST=r3",
        "buy{order=4 REQUEST=r4}: shop: order=3 REQUEST=r3",
        "buy{order=3 REQUEST=r3}: shop: order=3 REQUEST=r33",
    ] {
        assert_eq!(after(|seen| seen.log += line), 1, "{line}");
    }
    assert_eq!(after(|seen| seen.log.clear()), 1);
}

#[test]
fn a_trace_that_is_no_tree_of_one_request_is_seen() {
    let other = |name: &'static str| vec![KeyValue::new(name, 4), KeyValue::new("REQUEST", "r4")];
    assert!(after(|seen| seen.spans[3].parent_span_id = SpanId::from(9)) >= 1, "two roots");
    assert!(after(|seen| seen.spans[0].name = "shop".into()) >= 1, "not begun by the buyer");
    assert!(after(|seen| seen.spans[3].attributes = other("order")) >= 1, "of another request");
    assert!(after(|seen| seen.spans[3].attributes = Vec::new()) >= 1, "of no request");
    assert!(after(|seen| drop(seen.spans.pop())) >= 1, "without a service");
    assert!(after(|seen| seen.spans.clear()) >= 1, "no trace");
    let apart = |seen: &mut Seen| {
        let own = SpanContext::new(
            TraceId::from(9),
            SpanId::from(9),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        seen.spans[3].span_context = own;
    };
    assert!(after(apart) >= 1, "a trace of its own");
}

#[test]
fn wrong_answers_rows_and_cut_connections_are_seen() {
    assert!(after(|seen| seen.answers[0].1 = Answer::OutOfTime) >= 1);
    assert_eq!(after(|seen| seen.answers[0].1 = Answer::Sold("order 3: price 104, left 3".to_owned())), 1);
    assert_eq!(after(|seen| seen.rows[0].1 = Some("r4".to_owned())), 1);
    assert_eq!(after(|seen| seen.rows.clear()), 1);
    assert_eq!(after(|seen| seen.cut = 1), 1);
}
