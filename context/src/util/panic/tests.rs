use std::panic::{catch_unwind, panic_any};

use super::{FirstPanic, catch, swallow};

/// Panics when it is dropped, with a payload that has no memory: the second one is forgotten.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic_any(());
    }
}

#[test]
fn a_panic_is_swallowed_with_a_payload_that_panics_too() {
    swallow(|| panic_any(PanicsInDrop));
}

#[test]
fn a_caught_panic_is_the_error() {
    assert_eq!(catch(|| 1).unwrap(), 1);
    assert_eq!(*catch(|| panic_any(2)).unwrap_err().downcast::<i32>().unwrap(), 2);
}

#[test]
fn the_first_panic_goes_on_after_all_have_run() {
    let mut runs = 0;
    let panic = catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut first = FirstPanic::new();
        for number in 1..=3 {
            first.run(|| {
                runs += 1;
                panic_any(number);
            });
        }
        first.resume();
    }));
    assert_eq!(*panic.unwrap_err().downcast::<i32>().unwrap(), 1);
    assert_eq!(runs, 3);
}
