//! A group as the body of a scope gets it.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;

use futures_core::Stream;

#[cfg(doc)]
use super::GroupHandle;
use super::TaskGroup;
use super::results::ScopeResults;
use crate::task::budget::Claim;

/// The group of a [`TaskGroup::scope`], as its body gets it. It has all methods of a group except
/// `join`: the scope joins.
///
/// When the group has failed, the scope drops the body where it awaits. So [`next`](Self::next) and
/// [`results`](Self::results) give the outputs themselves: the body never sees a failure.
///
/// It is an owned value, not a reference. If the body took a reference of any lifetime, the
/// compiler could not see that the body's future is `Send` when the group's types contain a
/// lifetime, such as that of a `Box<dyn Error>` ([rust-lang/rust#110338]).
///
/// A `GroupScope` that is kept longer than the scope is like a [`GroupHandle`]: what is spawned is
/// cancelled at once.
///
/// [rust-lang/rust#110338]: https://github.com/rust-lang/rust/issues/110338
///
/// ```
/// use std::error::Error;
/// use heirloom::group::GroupScope;
/// use heirloom::{TaskGroup, spawn};
///
/// type Anything = Box<dyn Error + Send + Sync>;
///
/// fn fan_out(group: &TaskGroup<Anything>) {
///     group.spawn(async { Ok("42".parse().map(|_: u32| ())?) });
/// }
///
/// # heirloom::block_on(async {
/// let task = spawn(TaskGroup::<Anything>::scope(async |group: GroupScope<_, _>| {
///     fan_out(&group);
///     Ok(())
/// }));
/// assert!(task.await.unwrap().is_ok());
/// # });
/// ```
pub struct GroupScope<E, T = ()> {
    pub(super) group: TaskGroup<E, T>,
}

impl<E, T> GroupScope<E, T> {
    /// The next output, in the order in which the children ended; `None` when there are neither
    /// outputs nor children. After a failure it is pending: the body is dropped there.
    ///
    /// # Cancel safety
    /// Dropping the future takes no output.
    ///
    /// ```
    /// use heirloom::TaskGroup;
    ///
    /// # heirloom::block_on(async {
    /// let failed = TaskGroup::<&str>::scope(async |group| {
    ///     group.spawn(async { Err("no such page") });
    ///     while let Some(()) = group.next().await {}
    ///     unreachable!("the body ends with the group")
    /// });
    /// assert_eq!(failed.await.map(|()| ()).unwrap_err().to_string(), "no such page");
    /// # });
    /// ```
    pub async fn next(&self) -> Option<T> {
        let mut results = self.results();
        poll_fn(|cx| Pin::new(&mut results).poll_next(cx)).await
    }

    /// The outputs as a stream, each as [`next`](Self::next) returns it.
    ///
    /// ```
    /// use futures::StreamExt;
    /// use heirloom::TaskGroup;
    ///
    /// # heirloom::block_on(async {
    /// let product = TaskGroup::<String, u64>::scope(async |group| {
    ///     for number in 1..=4 {
    ///         group.spawn(async move { Ok(number) });
    ///     }
    ///     Ok(group.results().fold(1, async |product, number| product * number).await)
    /// });
    /// assert_eq!(product.await.unwrap(), 24);
    /// # });
    /// ```
    pub fn results(&self) -> ScopeResults<'_, E, T> {
        let shared = &*self.group.handle.shared;
        ScopeResults { shared, waiter: shared.waiter(), claim: Claim::default() }
    }
}

impl<E, T> Deref for GroupScope<E, T> {
    type Target = TaskGroup<E, T>;

    fn deref(&self) -> &TaskGroup<E, T> {
        &self.group
    }
}

impl<E, T> fmt::Debug for GroupScope<E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.group.handle.shared.debug("GroupScope", f)
    }
}
