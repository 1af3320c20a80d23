//! Executors compared: the rows, and the program `executors` that asks them to all contenders in
//! turn.
//!
//! ```text
//! Row "chain"              a question; its parts are the figures that a sample yields
//!   Contender "tokio"      for each of its rows a function that takes one sample: start, warm up,
//!                          repeat, stop
//! ```
//!
//! Unlike the contenders of [`harness`](crate::harness), these start threads. Only the peer whose
//! turn it is has any, but for the three that cannot be stopped, whose threads are parked. So no
//! idle workers disturb the others, nor fill the allocator's arenas.

pub mod carried;
pub mod cli;
pub mod measure;
pub mod message;
pub mod parked;
pub mod plan;
pub mod print;
pub mod row;
pub mod spawn;
pub mod timers;
pub mod tools;
pub mod work;

use crate::peers::{
    AsyncExecutor, Executor, Executors, FuturesPool, Heirloom, Smol, Smolscale, StaticAsyncExecutor, Tokio,
    TokioCurrent,
};
use row::Contender;

/// Ours with eight variables bound: the one that is judged.
pub const OURS: &str = Heirloom::<8>::NAME;
/// Ours with none.
pub const BARE: &str = Heirloom::<0>::NAME;

/// Ours with none, and with hooks that do nothing: only if it is asked for.
pub const HOOKED: &str = Heirloom::<0, true>::NAME;

/// All contenders that build with the workspace.
pub fn contenders() -> Vec<Contender> {
    let mut all = vec![
        row::inheriting::<Heirloom<8>>(),
        row::with_timers::<Heirloom<0>>(),
        row::with_timers::<Heirloom<0, true>>(),
        row::with_timers::<Tokio<true>>(),
        row::with_timers::<Tokio<false>>(),
        row::with_timers::<TokioCurrent>(),
        row::with_timers::<AsyncExecutor>(),
        row::with_timers::<StaticAsyncExecutor>(),
        row::with_timers::<Smol>(),
        row::with_timers::<FuturesPool>(),
        row::without_timers::<Executors>(),
        row::with_timers::<Smolscale>(),
        row::one_core(),
    ];
    all.extend(row::carriers());
    all
}
