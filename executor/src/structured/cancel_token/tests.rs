#![forbid(unsafe_code)]

use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};

use super::{CancelToken, Cancelled};
use crate::task::CancelReason;
use crate::{Runtime, context_var, spawn};

/// Enough to overflow a small stack by recursion, and to be seen as a leak; fewer under Miri.
const MANY: usize = if cfg!(miri) { 300 } else { 100_000 };
/// How often two threads meet.
const ROUNDS: usize = if cfg!(miri) { 8 } else { 200 };

/// The crate's `block_on`. Under Miri, which reports the threads of the default runtime as a leak
/// at the end of the process, it runs the future on a runtime of its own.
fn block_on<F: Future>(future: F) -> F::Output {
    if cfg!(miri) { Runtime::builder().build().unwrap().block_on(future) } else { crate::block_on(future) }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Arc<Count>) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker))))
}

/// Runs on a stack on which recursion of any depth worth testing fails.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(64 * 1024).spawn(f).unwrap().join().unwrap();
}

fn children(token: &CancelToken) -> usize {
    token.node.lock().children.len()
}

fn waiters(token: &CancelToken) -> usize {
    token.node.lock().waiters.len()
}

#[test]
fn is_a_plain_value() {
    fn check<T: Send + Sync + UnwindSafe + RefUnwindSafe + Unpin + 'static>() {}
    check::<CancelToken>();
    check::<Cancelled>();
    check::<super::DropGuard>();
}

#[test]
fn the_first_reason_stays() {
    let token = CancelToken::new();
    assert_eq!((token.is_cancelled(), token.reason()), (false, None));
    token.cancel("first");
    token.clone().cancel(CancelReason::Shutdown);
    assert_eq!((token.is_cancelled(), token.reason()), (true, Some("first".into())));
}

#[test]
fn goes_down_and_not_up() {
    let root = CancelToken::new();
    let [left, right] = [root.child(), root.child()];
    let below = left.child();
    left.cancel("left");
    assert_eq!(below.reason(), Some("left".into()));
    assert!(!root.is_cancelled() && !right.is_cancelled());
    root.cancel("root");
    assert_eq!(right.reason(), Some("root".into()));
    assert_eq!(left.reason(), Some("left".into()));
    assert_eq!(right.child().reason(), Some("root".into()), "made cancelled");
}

#[test]
fn a_token_that_is_not_held_cancels_its_children() {
    let root = CancelToken::new();
    let below = root.child().child().child();
    root.cancel("root");
    assert_eq!(below.reason(), Some("root".into()));
}

#[test]
fn a_parent_that_goes_cancels_nothing() {
    let root = CancelToken::new();
    let child = root.child();
    drop(root);
    assert!(!child.is_cancelled());
    child.cancel("alone");
    assert_eq!(child.reason(), Some("alone".into()));
}

#[test]
fn another_waker_replaces_the_former() {
    let token = CancelToken::new();
    let (one, other) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let mut waiting = token.cancelled();
    assert!(poll(&mut waiting, &one).is_pending());
    assert!(poll(&mut waiting, &one).is_pending());
    assert!(poll(&mut waiting, &other).is_pending());
    assert_eq!((waiters(&token), Arc::strong_count(&one)), (1, 1));
    token.cancel("now");
    assert_eq!((one.get(), other.get()), (0, 1));
    assert_eq!(poll(&mut waiting, &one), Poll::Ready("now".into()));
    assert_eq!(poll(&mut waiting, &one), Poll::Ready("now".into()), "again");
    assert_eq!((Arc::strong_count(&one), Arc::strong_count(&other)), (1, 1));
    drop(waiting);
    assert_eq!(waiters(&token), 0);
}

#[test]
fn a_dropped_wait_leaves_nothing() {
    let token = CancelToken::new();
    let count = Arc::new(Count::default());
    let mut many: Vec<_> = (0..1_000).map(|_| token.cancelled()).collect();
    for waiting in &mut many {
        assert!(poll(waiting, &count).is_pending());
    }
    assert_eq!(waiters(&token), 1_000);
    drop(many);
    assert_eq!((waiters(&token), Arc::strong_count(&count)), (0, 1));
    token.cancel("now");
    assert_eq!(count.get(), 0);
}

#[test]
fn a_waker_may_use_the_token() {
    struct Nosy(CancelToken);
    impl Wake for Nosy {
        fn wake(self: Arc<Self>) {
            assert!(self.0.is_cancelled());
            self.0.cancel("again");
            assert!(self.0.child().is_cancelled());
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            drop(self.0.child());
        }
    }
    let token = CancelToken::new();
    let nosy = Waker::from(Arc::new(Nosy(token.clone())));
    let (mut one, mut other) = (token.cancelled(), token.cancelled());
    assert!(Pin::new(&mut one).poll(&mut Context::from_waker(&nosy)).is_pending());
    assert!(Pin::new(&mut other).poll(&mut Context::from_waker(&nosy)).is_pending());
    drop(nosy);
    drop(one);
    token.cancel("now");
    assert_eq!(token.reason(), Some("now".into()));
}

#[test]
fn a_waker_that_panics_keeps_no_other_from_being_woken() {
    struct Broken;
    impl Wake for Broken {
        fn wake(self: Arc<Self>) {
            panic!("broken waker");
        }
    }
    let token = CancelToken::new();
    let count = Arc::new(Count::default());
    let mut waits: Vec<_> = (0..3).map(|_| token.cancelled()).collect();
    assert!(poll(&mut waits[0], &count).is_pending());
    let broken = Waker::from(Arc::new(Broken));
    assert!(Pin::new(&mut waits[1]).poll(&mut Context::from_waker(&broken)).is_pending());
    assert!(poll(&mut waits[2], &count).is_pending());
    let panic = catch_unwind(|| token.cancel("now")).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"broken waker"));
    assert_eq!(count.get(), 2);
}

#[test]
fn a_chain_needs_no_stack() {
    on_a_small_stack(|| {
        let chain = |root: &CancelToken| {
            let mut last = root.child();
            for _ in 0..MANY {
                last = last.child();
            }
            last
        };
        let root = CancelToken::new();
        drop(chain(&root));
        assert_eq!(children(&root), 0);
        // The rest of the chain is dropped while its last token is held.
        let last = chain(&root);
        root.cancel("all");
        assert_eq!(last.reason(), Some("all".into()));
        drop(root);
        drop(last);
    });
}

#[test]
fn many_dropped_children_leave_nothing() {
    let root = CancelToken::new();
    let many: Vec<_> = (0..MANY).map(|_| root.child()).collect();
    assert_eq!(children(&root), MANY);
    drop(many);
    assert_eq!((children(&root), root.node.lock().children.capacity()), (0, 0));
    for _ in 0..MANY {
        drop(root.child());
    }
    assert_eq!(children(&root), 0);
    assert!(root.node.lock().children.capacity() <= super::KEPT_ROOM);
    assert_eq!((Arc::strong_count(&root.node), Arc::weak_count(&root.node)), (1, 0));
}

#[test]
fn children_that_come_and_go_while_the_parent_is_cancelled() {
    for _ in 0..ROUNDS {
        let root = CancelToken::new();
        let barrier = Barrier::new(3);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    barrier.wait();
                    let kept: Vec<_> = (0..ROUNDS / 4)
                        .map(|_| {
                            drop(root.child().child());
                            root.child().child()
                        })
                        .collect();
                    // A child from before is found by the canceller; a later one finds the mark.
                    for token in kept {
                        assert_eq!(block_on(token.cancelled()), "race".into());
                    }
                });
            }
            barrier.wait();
            root.cancel("race");
        });
        assert_eq!(Arc::strong_count(&root.node), 1);
    }
}

#[test]
fn one_of_two_that_cancel_at_once_wins_everywhere() {
    for _ in 0..ROUNDS {
        let root = CancelToken::new();
        let tokens: Vec<_> = (0..20).map(|_| root.child()).collect();
        let barrier = Barrier::new(2);
        std::thread::scope(|threads| {
            for reason in ["one", "other"] {
                let (root, barrier) = (&root, &barrier);
                threads.spawn(move || {
                    barrier.wait();
                    root.cancel(reason);
                });
            }
        });
        assert!(tokens.iter().all(|token| token.reason() == root.reason()));
    }
}

#[test]
fn run_until_cancelled() {
    block_on(async {
        let token = CancelToken::new();
        assert_eq!(token.run_until_cancelled(async { 1 }).await, Some(1));

        // Dropped before `None` is returned.
        let held = Arc::new(());
        let mut run = pin!(token.run_until_cancelled({
            let held = Arc::clone(&held);
            async move {
                let _held = held;
                pending::<()>().await;
            }
        }));
        assert!(futures::future::poll_immediate(run.as_mut()).await.is_none());
        token.cancel("now");
        assert_eq!(run.await, None);
        assert_eq!(Arc::strong_count(&held), 1);

        // Not polled when it is too late already.
        assert_eq!(token.run_until_cancelled(async { panic!("polled") }).await.map(|()| 0), None);
        assert_eq!(waiters(&token), 0);
    });
}

#[test]
fn what_is_done_when_the_cancelling_is_noticed_counts() {
    block_on(async {
        let token = CancelToken::new();
        let last_words = async {
            token.cancel("now");
            7
        };
        assert_eq!(token.run_until_cancelled(last_words).await, Some(7));
    });
}

#[test]
fn a_guard_cancels_also_when_unwinding() {
    let token = CancelToken::new();
    token.drop_guard().disarm();
    assert!(!token.is_cancelled());
    let run = catch_unwind(AssertUnwindSafe(|| {
        let _guard = token.drop_guard();
        assert!(token.is_cancelled(), "out");
    }));
    assert!(run.is_err());
    assert_eq!(token.reason(), Some(CancelReason::HandleDropped));
}

#[test]
fn as_a_context_variable() {
    context_var! {
        static STOP: CancelToken, inherit = Derive(|token| Some(token.child())), debug = Debug;
    }
    block_on(async {
        let token = CancelToken::new();
        STOP.set(token.clone());
        let child = spawn(async {
            let own = STOP.get().unwrap();
            own.cancel("mine alone");
            let grandchild = spawn(async { STOP.get().unwrap().reason() });
            grandchild.await.unwrap()
        });
        assert_eq!(child.await.unwrap(), Some("mine alone".into()));
        assert!(!token.is_cancelled());

        let waiting = spawn(async { STOP.get().unwrap().cancelled().await });
        token.cancel("all");
        assert_eq!(waiting.await.unwrap(), "all".into());
    });
}
