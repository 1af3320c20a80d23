//! Why a variable has no value, where there are no tasks, and the detector of lost values. With
//! tasks: `tests/tests/it/unset.rs`.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};

use heirloom_context::{Context, Unset, UnsetCause, context_var, detect_losses};

use crate::support::on_a_fresh_thread;

context_var! {
    static NEVER_BOUND: u32;
    static ELSEWHERE: u32;
    static AT_THE_END: u32;
    static HELD: Reader;
    static REQUIRED: u32, required = true;
    static WITH_A_DEFAULT: u32 = 7, required = true;
    static OPTIONAL: u32, required = false;
}

/// Where something is bound, for the texts: the file, and any line.
fn placeless(unset: &Unset) -> String {
    let text = unset.to_string();
    let place = unset.first_bound_at().map(|place| place.to_string());
    place.map_or(text.clone(), |place| text.replace(&place, "PLACE"))
}

#[test]
fn a_variable_that_no_code_has_bound_says_so() {
    let thread = std::thread::Builder::new().name("reader".to_owned());
    let unset = thread.spawn(|| NEVER_BOUND.try_get().unwrap_err()).unwrap().join().unwrap();
    assert_eq!(unset.cause(), UnsetCause::NeverBound);
    assert_eq!(unset.first_bound_at(), None);
    assert_eq!(unset.read_at().file(), file!());
    assert_eq!(
        unset.to_string(),
        "the context variable `NEVER_BOUND` is unset outside any task, on the thread `reader`: no code of this program \
         has bound it so far\n  way out: does the code that binds it (`set`, `bind`, `scope`, `with_var`) run, and \
         before this? If the variable may be unset, `get` returns an `Option`, or declare a default"
    );
}

#[test]
fn a_thread_without_the_value_says_which_thread_it_is_and_where_the_value_was_bound() {
    on_a_fresh_thread(|| {
        // Each way to bind notes its caller; unsetting is none.
        drop(ELSEWHERE.unset());
        assert_eq!(ELSEWHERE.try_get().unwrap_err().cause(), UnsetCause::NeverBound);
        ELSEWHERE.set(1);
    });
    let line = line!() - 2;
    let thread = std::thread::Builder::new().name("callback".to_owned());
    let unset = thread.spawn(|| ELSEWHERE.try_get().unwrap_err()).unwrap().join().unwrap();
    assert_eq!(unset.cause(), UnsetCause::NoTask);
    assert_eq!(unset.first_bound_at().unwrap().line(), line);
    assert_eq!(
        placeless(&unset),
        "the context variable `ELSEWHERE` is unset outside any task, on the thread `callback`: the context of this \
         thread has none\n  first bound at: PLACE\n  way out: threads, callbacks and tasks of other executors begin \
         without the context of the code that started them: give them `Context::current().wrap(closure)` or \
         `future.in_context(Context::inherited())`"
    );
}

/// Reads a variable in its destructor.
struct Reader(Arc<Mutex<Vec<UnsetCause>>>, &'static heirloom_context::ContextVar<u32>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.lock().unwrap().extend(self.1.try_get().map_err(|unset| unset.cause()).err());
    }
}

#[test]
fn destructors_and_ending_threads_say_that_there_is_no_context() {
    thread_local! {
        static LATE: RefCell<Option<Reader>> = const { RefCell::new(None) };
    }
    let causes = Arc::new(Mutex::new(Vec::new()));
    let seen = causes.clone();
    on_a_fresh_thread(move || {
        // Two thread-locals, one on either side of the root context, as `teardown` says.
        LATE.with(|late| *late.borrow_mut() = Some(Reader(seen.clone(), &AT_THE_END)));
        AT_THE_END.set(1);
        HELD.set(Reader(seen.clone(), &AT_THE_END));
        drop(HELD.unset());
        assert_eq!(*seen.lock().unwrap(), [UnsetCause::Destructor]);
    });
    let causes = causes.lock().unwrap();
    // The order of thread-locals' destructors is the platform's.
    assert!(causes[1..].iter().all(|cause| *cause == UnsetCause::ThreadEnds), "{causes:?}");
}

#[test]
fn values_know_where_they_were_bound() {
    fn place_of(context: &Context) -> (u32, &'static str) {
        let place = context.iter().next().unwrap().bound_at();
        (place.line(), place.file())
    }
    on_a_fresh_thread(|| {
        ELSEWHERE.set(1);
        assert_eq!(place_of(&Context::current()), (line!() - 1, file!()));
        let guard = ELSEWHERE.bind(2);
        assert_eq!(place_of(&Context::current()), (line!() - 1, file!()));
        drop(guard);
        ELSEWHERE.scope(3, || assert_eq!(place_of(&Context::current()), (line!(), file!())));
        let made = Context::empty().with_var(&ELSEWHERE, 4);
        assert_eq!(place_of(&made), (line!() - 1, file!()));
    });
}

#[test]
fn a_loss_is_reported_once_for_each_place() {
    type Lost = (&'static str, u32);
    let lost = Arc::new(Mutex::new(Vec::<Lost>::new()));
    let detect = |panics: bool| {
        let lost = lost.clone();
        detect_losses(move |unset| {
            lost.lock().unwrap().push((unset.name(), unset.read_at().line()));
            if panics {
                resume_unwind(Box::new("of no importance"));
            }
        });
    };
    let taken = || std::mem::take(&mut *lost.lock().unwrap());
    let read = || (0..3).for_each(|_| assert_eq!(REQUIRED.get(), None));
    let read_at = line!() - 1;
    on_a_fresh_thread(read);
    assert_eq!(taken(), [], "nothing is reported unless it is asked for");

    detect(false);
    on_a_fresh_thread(read);
    assert_eq!(taken(), [("REQUIRED", read_at)]);
    on_a_fresh_thread(read);
    assert_eq!(taken(), []);
    detect(true);
    on_a_fresh_thread(read);
    assert_eq!(taken(), [("REQUIRED", read_at)], "another detector begins anew; the reader sees no panic");

    on_a_fresh_thread(|| {
        assert_eq!(WITH_A_DEFAULT.get(), 7);
        // No losses.
        assert!(OPTIONAL.get().is_none() && !REQUIRED.is_set());
        REQUIRED.set(1);
        assert_eq!(REQUIRED.require(), 1);
    });
    let lost = taken();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].0, "WITH_A_DEFAULT");
}
