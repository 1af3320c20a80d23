//! Measurements of Heirloom, beside what a user would otherwise take.
//!
//! [`harness`] runs the contenders of a case in turn, round by round, in one process, so that each
//! round yields a ratio between neighbours in time; [`stats`] condenses the rounds, [`goal`] judges
//! ratios, [`report`] prints and saves them, [`cli`] holds the options all programs share. None of
//! these knows what is measured. [`context`] holds the questions about contexts; the peers
//! (opentelemetry, tokio's task locals, persistent maps) appear there only. [`net`] asks about
//! sockets, with the client in a process of its own. [`load`] is another program altogether: whole
//! scenarios on whole executors, with latencies. [`scaling`] counts what workers share. [`results`]
//! keeps full runs, from which [`chart`] draws.
#![forbid(unsafe_code)]

// Sources that `benches/variants` includes, too, name this crate as it does.
extern crate self as heirloom_benches;

pub mod chart;
pub mod cli;
pub mod context;
pub mod executor;
pub mod goal;
pub mod harness;
pub mod load;
pub mod net;
pub mod peers;
pub mod report;
pub mod results;
pub mod scaling;
pub mod stats;
