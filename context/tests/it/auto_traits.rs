//! What may cross threads and unwinds: checked when the suite is compiled, for values that may and
//! that may not.

use std::cell::Cell;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use heirloom_context::{
    AlreadyEntered, AmbientGuard, AmbientSnapshot, Ambients, Binding, Change, Context, ContextCell,
    ContextEntry, ContextVar, Crossing, CrossingKind, Difference, Entries, InCell, Inherit, ResetError,
    ResetErrorKind, Token, VarOptions, WithContext, future, raw,
};

/// Answers whether a type has a trait, at compile time: an inherent constant wins over the one of
/// the trait.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        #[allow(dead_code, reason = "only used where the bound does not hold")]
        trait Otherwise {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> Otherwise for T {}
        struct Question<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "only used where the bound holds")]
        impl<T: ?Sized + $($bound)+> Question<T> {
            const ANSWER: bool = true;
        }
        <Question<$type>>::ANSWER
    }};
}

/// A value that may be sent and shared, and nothing else.
struct Bare;

/// Neither sent nor shared.
type Local = Rc<Cell<u32>>;

#[test]
fn the_question_can_be_answered_with_no() {
    const { assert!(!has!(Local: Send) && has!(u32: Send) && !has!(Cell<u32>: Sync)) };
}

#[test]
fn variables_and_contexts_are_shared_freely() {
    const {
        assert!(has!(ContextVar<Bare>: Send + Sync + 'static));
        assert!(has!(Context: Send + Sync + UnwindSafe + RefUnwindSafe + Unpin + 'static));
        assert!(has!(Context: Clone + Default + PartialEq + Eq + fmt::Debug));
        assert!(has!(ContextCell: Send + Sync + Clone + fmt::Debug + 'static));
        assert!(has!(Entries<'static>: Send + Sync + Iterator));
        assert!(has!(ContextEntry<'static>: Send + Sync + fmt::Debug));
        assert!(has!(Difference: Send + Sync + fmt::Debug));
        assert!(has!(Change: Send + Sync + Copy + PartialEq + fmt::Debug));
    };
}

#[test]
fn tokens_and_guards_follow_a_task_between_threads() {
    const {
        assert!(has!(Token<Bare>: Send + Sync + fmt::Debug + 'static));
        assert!(has!(Binding: Send + fmt::Debug + 'static));
        assert!(has!(ResetError<Bare>: Send + Sync + std::error::Error + 'static));
        assert!(has!(ResetErrorKind: Send + Sync + Copy + PartialEq + fmt::Debug));
        assert!(has!(AlreadyEntered: Send + Sync + std::error::Error + 'static));
        assert!(!has!(Token<Bare>: Clone), "a token is used once");
        assert!(!has!(Binding: Clone), "a guard ends once");
    };
}

#[test]
fn options_are_plain_whatever_the_value() {
    const {
        assert!(has!(VarOptions<Local>: Send + Sync + fmt::Debug));
        assert!(has!(Inherit<Local>: Send + Sync + fmt::Debug));
    };
}

#[test]
fn wrappers_are_what_their_insides_are() {
    const {
        assert!(has!(WithContext<Bare>: Send + Sync + Unpin));
        assert!(!has!(WithContext<Local>: Send));
        assert!(!has!(WithContext<std::marker::PhantomPinned>: Unpin));
        assert!(has!(InCell<Bare>: Send));
        assert!(!has!(InCell<Local>: Send));
        assert!(!has!(WithContext<Bare>: Future));
        assert!(has!(WithContext<std::future::Ready<Bare>>: Future));
        assert!(has!(WithContext<std::vec::IntoIter<Bare>>: Iterator));
        assert!(has!(WithContext<futures::stream::Empty<Bare>>: futures::Stream));
    };
}

#[test]
fn what_executors_keep_may_be_sent() {
    const {
        assert!(has!(raw::Live: Send + fmt::Debug + 'static));
        assert!(has!(raw::Execution: Send + Sync + Copy + PartialEq + fmt::Debug));
        assert!(has!(Ambients: Send + Sync + fmt::Debug));
        assert!(has!(AmbientSnapshot: Send + Sync + fmt::Debug));
        assert!(has!(Crossing<'static>: Send + Sync + Copy + fmt::Debug));
        assert!(has!(CrossingKind: Send + Sync + Copy + fmt::Debug));
        assert!(has!(AmbientGuard<'static>: fmt::Debug));
        assert!(!has!(AmbientGuard<'static>: Send));
    };
}

#[test]
fn joined_futures_are_sent_when_their_branches_are() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    drop(sent(future::join(std::future::ready(1), std::future::ready("two"))));
    drop(sent(future::join_all(vec![std::future::ready(1)])));
    drop(sent(future::select(std::future::ready(1), std::future::ready("two"))));
    const { assert!(has!(future::Either<u32, Bare>: Send + Sync)) };
}

#[test]
fn a_future_that_holds_tokens_and_guards_is_sent() {
    static NUMBER: ContextVar<u32> = ContextVar::new("number");
    fn sent(future: impl Future<Output = ()> + Send) {
        drop(future);
    }
    sent(async {
        let token = NUMBER.set(1);
        let _guard = NUMBER.bind(2);
        crate::support::yield_once().await;
        drop(token);
    });
}

#[test]
fn wrapped_closures_are_sent_when_their_insides_are() {
    fn shared(closure: impl Fn() -> u32 + Send + Sync + 'static) -> u32 {
        closure()
    }
    fn sent(closure: impl FnOnce() -> u32 + Send + 'static) -> u32 {
        closure()
    }
    assert_eq!(shared(Context::empty().wrap(|| 1)), 1);
    assert_eq!(sent(Context::empty().wrap_once(|| 2)), 2);
    let mut calls = 0;
    assert_eq!(
        sent(Context::empty().wrap_mut(move || {
            calls += 1;
            calls
        })),
        1
    );
}
