//! Shows a precision that two tasks and two zipped generators each set for themselves, without
//! disturbing one another.
//!
//! The arithmetic reads the precision from the context, as that of Python's `decimal` does: it is
//! no argument.

use futures::{Stream, StreamExt, stream};
use heirloom::context::ContextIteratorExt;
use heirloom::context::{ContextFutureExt, ContextStreamExt};
use heirloom::{context_var, spawn, yield_now};

context_var! {
    /// How many significant digits a division yields.
    static PRECISION: usize = 28;
}

/// `dividend / divisor` to as many significant digits as the context says; the rest is cut off.
fn divide(dividend: u64, divisor: u64) -> String {
    let precision = PRECISION.get();
    let mut quotient = (dividend / divisor).to_string();
    let mut rest = dividend % divisor;
    let mut significant = if quotient == "0" { 0 } else { quotient.len() };
    if significant < precision && rest != 0 {
        quotient.push('.');
    }
    while significant < precision && rest != 0 {
        let digit = rest * 10 / divisor;
        rest = rest * 10 % divisor;
        quotient.push_str(&digit.to_string());
        significant += usize::from(significant > 0 || digit != 0);
    }
    quotient
}

/// One third, again and again, with other tasks running in between.
async fn thirds(precision: usize) -> Vec<String> {
    PRECISION.set(precision);
    let mut results = Vec::new();
    for _ in 0..1000 {
        results.push(divide(1, 3));
        yield_now().await;
    }
    results
}

/// Sets the precision when it begins, and yields two quotients.
fn sevenths(precision: usize) -> impl Stream<Item = String> {
    let first = stream::once(async move {
        PRECISION.set(precision);
        divide(1, 7)
    });
    first.chain(stream::once(async { divide(2, 7) }))
}

/// The same as an iterator.
fn sevenths_at_once(precision: usize) -> impl Iterator<Item = String> {
    (1..=2).map(move |dividend| {
        if dividend == 1 {
            PRECISION.set(precision);
        }
        divide(dividend, 7)
    })
}

async fn two_tasks() {
    let (coarse, fine) = (spawn(thirds(4)), spawn(thirds(12)));
    let (coarse, fine) = (coarse.await.expect("no panic"), fine.await.expect("no panic"));
    println!("two tasks:                {} and {}, {} times each", coarse[0], fine[0], fine.len());
    assert!(coarse.iter().all(|third| third == "0.3333"));
    assert!(fine.iter().all(|third| third == "0.333333333333"));
}

async fn two_generators() {
    let expected =
        [("0.142", "0.142857"), ("0.285", "0.285714")].map(|(a, b)| (a.to_string(), b.to_string()));

    let zipped: Vec<_> = sevenths(3).isolated().zip(sevenths(6).isolated()).collect().await;
    println!("two streams, zipped:      {zipped:?}");
    assert_eq!(zipped, expected);

    let zipped: Vec<_> = sevenths_at_once(3).isolated().zip(sevenths_at_once(6).isolated()).collect();
    println!("two iterators, zipped:    {zipped:?}");
    assert_eq!(zipped, expected);

    // Plain ones are like functions that are called in turn: they share their caller's context, and
    // the last word counts.
    let mixed: Vec<_> = async { sevenths(3).zip(sevenths(6)).collect().await }.isolated().await;
    println!("the same, not isolated:   {mixed:?}");
    assert_eq!(mixed[1].0, "0.285714", "the precision of the other");
}

/// What a generator has not set itself, its consumer decides, at each step anew.
async fn a_consumer_decides() {
    let mut thirds = stream::repeat(()).map(|()| divide(10, 3)).isolated();
    let two = thirds.next().with_var(&PRECISION, 2).await.expect("it repeats");
    let five = thirds.next().with_var(&PRECISION, 5).await.expect("it repeats");
    println!("as the consumer wants it: {two}, then {five}");
    assert_eq!((two.as_str(), five.as_str()), ("3.3", "3.3333"));
}

#[heirloom::main]
pub(crate) async fn main() {
    two_tasks().await;
    two_generators().await;
    a_consumer_decides().await;

    println!("out here, all the while:  {}", divide(1, 3));
    assert_eq!(PRECISION.get(), 28);
    assert!(!PRECISION.is_set());
}
