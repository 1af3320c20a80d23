#![allow(unsafe_code)]

use super::Tagged;

type Flagged = Tagged<u64, 3>;

#[test]
fn flags_and_pointer_are_kept_apart() {
    let mut value = 1_u64;
    let word = Flagged::new(&mut value, 0b101);
    assert_eq!(word.flags(), 0b101);
    assert!(word.has(0b100) && !word.has(0b010));
    assert_eq!(word.with(0b010).flags(), 0b111);
    assert_eq!(word.without(0b001).flags(), 0b100);
    // SAFETY: the pointer was made from `value`, which is alive.
    unsafe { *word.ptr() += 1 };
    assert_eq!(value, 2);
}

#[test]
fn a_raw_word_comes_back_whole() {
    let mut value = 1_u64;
    let word = Flagged::new(&mut value, 0b011);
    assert_eq!(Flagged::from_raw(word.into_raw()), word);
    assert_eq!(word.cast::<i64>().cast::<u64>(), word);
}

#[test]
fn null_is_no_object_with_flags_or_without() {
    assert!(Flagged::NULL.non_null().is_none());
    assert_eq!(Flagged::NULL.with(0b1).non_null(), None);
    assert_ne!(Flagged::NULL.with(0b1), Flagged::NULL);
}
