//! The table of `grpc-timeout`, both ways.

use std::time::Duration;

use heirloom_context::wire::timeout::{format, parse};
use proptest::prelude::*;

fn read(text: &str) -> Option<Duration> {
    parse(text).ok()
}

#[test]
fn each_unit_is_read() {
    assert_eq!(read("2H"), Some(Duration::from_secs(7_200)));
    assert_eq!(read("2M"), Some(Duration::from_secs(120)));
    assert_eq!(read("2S"), Some(Duration::from_secs(2)));
    assert_eq!(read("100m"), Some(Duration::from_millis(100)));
    assert_eq!(read("2u"), Some(Duration::from_micros(2)));
    assert_eq!(read("00000002n"), Some(Duration::from_nanos(2)));
}

#[test]
fn zero_is_a_limit() {
    for text in ["0S", "0n", "00000000H"] {
        assert_eq!(read(text), Some(Duration::ZERO), "{text}");
    }
}

#[test]
fn without_digits_or_unit_or_with_a_point_it_is_an_error() {
    for text in ["5", "S", "5s", "", "1.5S", "5 S", " 5S", "5SS", "0x5S", "5é", "٣S", "é"] {
        assert_eq!(read(text), None, "{text:?}");
    }
}

#[test]
fn a_sign_is_an_error() {
    assert_eq!((read("-1S"), read("+5m")), (None, None));
}

#[test]
fn nine_digits_are_an_error() {
    assert_eq!((read("123456789S"), read("000000001S")), (None, None));
    assert_eq!(read("12345678S"), Some(Duration::from_secs(12_345_678)));
}

#[test]
fn the_longest_is_read_to_the_second() {
    assert_eq!(read("99999999H"), Some(Duration::from_secs(359_999_996_400)));
}

#[test]
fn the_finest_unit_that_eight_digits_hold_is_written() {
    assert_eq!(format(Duration::ZERO), "0n");
    assert_eq!(format(Duration::from_nanos(99_999_999)), "99999999n");
    assert_eq!(format(Duration::from_nanos(100_000_000)), "100000u");
    assert_eq!(format(Duration::from_millis(1)), "1000000n");
    assert_eq!(format(Duration::from_millis(1_500)), "1500000u");
    assert_eq!(format(Duration::from_secs(100)), "100000m");
    assert_eq!(format(Duration::from_secs(3 * 3_600)), "10800000m");
    assert_eq!(format(Duration::from_secs(99_999_999)), "99999999S");
    assert_eq!(format(Duration::from_secs(100_000_000)), "1666666M");
}

#[test]
fn it_is_rounded_down() {
    assert_eq!(format(Duration::new(100, 999_999)), "100000m");
    assert_eq!(format(Duration::new(99, 999_999_999)), "99999999u");
}

#[test]
fn the_longest_times_saturate() {
    assert_eq!(format(Duration::from_secs(99_999_999 * 3_600)), "99999999H");
    assert_eq!(format(Duration::from_secs(100_000_000 * 3_600)), "99999999H");
    assert_eq!(format(Duration::MAX), "99999999H");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: crate::support::cases(2_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_written_is_read_and_never_longer(
        seconds in prop_oneof![0..200_u64, 0..400_000_000_000_u64, any::<u64>()],
        nanoseconds in 0..1_000_000_000_u32,
    ) {
        let time = Duration::new(seconds, nanoseconds);
        let text = format(time);
        prop_assert!(text.len() <= 9);
        let back = parse(&text).unwrap();
        prop_assert!(back <= time);
        // To five digits, below the longest.
        if seconds < 99_999_999 * 3_600 {
            prop_assert!(time - back <= time / 99_999, "{time:?} became {text}");
        }
        prop_assert_eq!(format(back), text);
    }
}
