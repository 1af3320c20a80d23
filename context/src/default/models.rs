//! Two values, each of which needs the other, made by two threads.

use loom::sync::{Arc, Mutex};
use loom::thread;

use super::Makers;
use crate::util::sync::model::{check, check_without};
use crate::util::sync::spin;

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    #[default]
    Unmade,
    Making,
    Made,
}

/// What two `OnceLock`s do: one thread makes a value, the other waits; if it fails, the other one
/// tries.
#[derive(Default)]
struct Values {
    states: [State; 2],
    /// Which thread waits, and nothing has changed since.
    waits: [bool; 2],
}

struct World {
    makers: Makers,
    values: Mutex<Values>,
}

impl World {
    fn new() -> Arc<World> {
        let makers = Makers(Mutex::new(Vec::new()));
        Arc::new(World { makers, values: Mutex::new(Values::default()) })
    }

    /// Whether the value is there in the end; `make` says whether it could be made.
    fn get_or_make(&self, thread: usize, value: usize, make: impl FnOnce() -> bool) -> bool {
        for round in 0.. {
            let mut values = self.values.lock().unwrap();
            match values.states[value] {
                State::Made => return true,
                State::Unmade => {
                    values.states[value] = State::Making;
                    break;
                }
                State::Making => values.waits[thread] = true,
            }
            let forever = values.waits == [true; 2];
            drop(values);
            assert!(!forever, "both threads wait for each other");
            spin(round);
        }
        let made = make();
        let mut values = self.values.lock().unwrap();
        values.states[value] = if made { State::Made } else { State::Unmade };
        values.waits = [false; 2];
        made
    }

    /// The thread needs the value, which needs the others in `needs`.
    fn need(&self, thread: usize, value: usize, needs: &[usize]) -> bool {
        let Ok(needed) = self.makers.wait(thread, value, "value") else { return false };
        self.get_or_make(thread, value, || {
            needed.begin();
            match needs {
                [] => true,
                [next, needs @ ..] => self.need(thread, *next, needs),
            }
        })
    }

    fn assert_that_nothing_stays(&self) {
        assert!(self.makers.0.lock().unwrap().is_empty());
    }
}

/// One value needs the other, and the other the one.
fn a_circle() {
    let world = World::new();
    let other = thread::spawn({
        let world = world.clone();
        move || world.need(1, 1, &[0, 1])
    });
    let made = world.need(0, 0, &[1, 0]);
    assert!(!made && !other.join().unwrap(), "there is no value without the other");
    world.assert_that_nothing_stays();
}

/// One value needs the other, which needs nothing.
fn no_circle() {
    let world = World::new();
    let other = thread::spawn({
        let world = world.clone();
        move || world.need(1, 1, &[])
    });
    assert!(world.need(0, 0, &[1]) && other.join().unwrap());
    world.assert_that_nothing_stays();
}

#[test]
fn two_threads_that_need_each_other_fail_and_do_not_wait() {
    check(a_circle);
}

#[test]
#[should_panic = "wait for each other"]
fn twin_that_does_not_look_for_a_circle_is_caught() {
    check_without("look for a circle", a_circle);
}

#[test]
fn two_threads_that_need_one_value_wait_for_it() {
    check(no_circle);
}
