//! The protocol of cancel tokens: how a mark goes down a tree of them.
//!
//! # Terms
//!
//! * A *node* is what the clones of one token share. Nodes form a tree: a child node owns a count
//!   of its parent.
//! * The *mark* of a node is its reason. A node is marked once.
//! * A *waiter* is a [`Cancelled`](super::Cancelled) future that has registered its waker with a
//!   node.
//! * The *canceller* is the thread that calls [`CancelToken::cancel`](super::CancelToken::cancel).
//!
//! # States
//!
//! A node is **open**: it has children and waiters, and no mark. Or it is **cancelled**: it has a
//! mark, its list of children is empty for good, and its waiters keep no wakers.
//!
//! # Transitions
//!
//! | step | event | function | effect |
//! | --- | --- | --- | --- |
//! | CA1 | a child is made | `CancelToken::child` | an open parent lists the child, weakly; the child of a cancelled one is made cancelled |
//! | CA2 | a waiter is polled | `Cancelled::poll_reason` | registers its waker with an open node; a cancelled node makes it ready |
//! | CA3 | the canceller reaches a node | `CancelToken::cancel` | open -> cancelled; takes the wakers, and goes on with the children |
//! | CA4 | all nodes below are cancelled | `CancelToken::cancel` | wakes the waiters of all of them |
//! | CA5 | the last clone of a token is dropped | `Node::drop` | takes the node off its parent's list; then drops the parent's count |
//!
//! CA3 and CA4 are two rounds, so that the first waiter that runs sees the whole subtree cancelled.
//! CA3 keeps the nodes that are left to visit in a list, and CA5 walks up in a loop, so neither
//! needs stack for a long chain.
//!
//! # Why nothing is lost
//!
//! A node's lock covers its mark, its children and its waiters. A child (CA1) or waiter (CA2) that
//! comes before the mark is found by CA3; one that comes later finds the mark. A node owns its
//! parent, so it is reached from above although the tokens in between were dropped. A child whose
//! count is gone when CA3 finds it is in CA5. At most one node is locked at a time, and no waker is
//! called, cloned or dropped under a lock.
#![forbid(unsafe_code)]
