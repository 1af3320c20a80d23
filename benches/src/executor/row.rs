//! Rows, what they ask and what we want to reach, and the contenders.

use super::carried::{self, Polls, Spawns};
use super::plan::Plan;
use super::{message, spawn, timers, work};
use crate::peers::{Executor, Inheriting, Timers};

/// What a figure is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Compared {
    /// The ratio of this figure to that of a contender in the same round.
    To(&'static str),
    /// How many times faster it is than that contender in the same round.
    Faster(&'static str),
    /// Nothing: the figure speaks for itself.
    Itself,
}

/// What we want to reach, with contexts on.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

/// One figure of a row.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// What is measured: empty if the row has one part.
    pub name: &'static str,
    /// The figure's unit.
    pub unit: &'static str,
    /// What it is compared with.
    pub compared: Compared,
    /// Our goal, if we have one.
    pub reach: Option<Reach>,
}

/// A question, asked to all contenders.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// By what name it is chosen on the command line.
    pub name: &'static str,
    /// What it asks.
    pub question: &'static str,
    /// The figures of a sample, in this order.
    pub parts: &'static [Part],
    /// A sample of this row takes so many times as long as the plan says.
    pub samples: u32,
}

/// Takes one sample: a figure per part of the row.
pub type Sampler = fn(&Plan) -> Vec<f64>;

/// One that takes part in some rows.
#[derive(Debug)]
pub struct Contender {
    /// Its name.
    pub name: &'static str,
    /// The names of its rows, with how it is measured there.
    pub rows: Vec<(&'static str, Sampler)>,
}

/// The contender all ratios refer to.
pub const REFERENCE: &str = "tokio";
/// One thread that does the work of a row, and nothing else.
pub const ONE_CORE: &str = "one core";

const fn time(reach: f64) -> Part {
    Part { name: "", unit: "ns", compared: Compared::To(REFERENCE), reach: Some(Reach::AtMost(reach)) }
}

const fn named(name: &'static str, reach: f64) -> Part {
    Part { name, ..time(reach) }
}

const fn speed_up(reach: f64) -> Part {
    Part { name: "", unit: "ns", compared: Compared::Faster(ONE_CORE), reach: Some(Reach::AtLeast(reach)) }
}

const fn variables(name: &'static str, unit: &'static str) -> Part {
    Part { name, unit, compared: Compared::Itself, reach: Some(Reach::AtMost(0.6)) }
}

const fn row(name: &'static str, question: &'static str, parts: &'static [Part]) -> Row {
    Row { name, question, parts, samples: 1 }
}

/// Every row about executors.
pub const ROWS: &[Row] = &[
    row(
        "spawn-inside",
        "a task spawns 10,000 that do nothing, until all have ended; per task",
        &[time(0.18)],
    ),
    row("spawn-outside", "the same by a thread that is no worker", &[time(0.24)]),
    row("spawn-outside-busy", "the same while 8 tasks yield all the time", &[time(0.25)]),
    row("spawn-outside-working", "the same while 4 tasks compute for 10 µs and yield", &[time(0.18)]),
    row("join-all", "a task spawns 10,000 and awaits all handles; per task", &[time(0.20)]),
    row("one-by-one-inside", "a task spawns one and awaits it, again and again; per task", &[time(0.25)]),
    row(
        "one-by-one-outside",
        "the same by a thread that is no worker; wall time, and processor time of the process",
        &[named("wall", 0.09), named("cpu", 1.00)],
    ),
    row("chain", "1,000 tasks of which each spawns the next; per task", &[time(0.12)]),
    row("yield-many", "200 tasks yield 1,000 times each; per yield", &[time(0.42)]),
    row("yield-alone", "one task yields with nothing else to run; per yield", &[time(0.08)]),
    row("ping-pong", "1,000 pairs of tasks exchange two oneshots; per pair", &[time(0.42)]),
    row("fork-join", "recursive, 99,999 tasks that each await two; per task", &[time(0.25)]),
    row("fork-join-boxes", "the same by an async block in a box, 92,735 tasks; per task", &[time(0.18)]),
    row("ring-one", "100 tasks in a ring of channels, one token; per hop", &[time(0.38)]),
    row("ring-all", "100 tasks in a ring of channels, 100 tokens; per hop", &[time(0.90)]),
    row("work-1us", "10,000 tasks of 1 µs of work; speed-up over one core", &[speed_up(1.80)]),
    row("work-10us", "10,000 tasks of 10 µs of work; speed-up over one core", &[speed_up(1.96)]),
    row("fork-join-work", "fork-join with 10,000 leaves of 1 µs; speed-up over one core", &[speed_up(1.75)]),
    row(
        "timers",
        "100,000 tasks sleep 1 to 100 ms; per timer, and how many woke too early",
        &[
            named("cpu", 0.45),
            named("lateness", 0.15),
            Part {
                name: "early",
                unit: "timers",
                compared: Compared::Itself,
                reach: Some(Reach::AtMost(0.0)),
            },
        ],
    ),
    row(
        "sleep-100us",
        "one task sleeps for 100 µs, again and again, on an idle runtime; median lateness, and processor time",
        &[
            Part {
                name: "lateness",
                unit: "ns",
                compared: Compared::Itself,
                reach: Some(Reach::AtMost(80_000.0)),
            },
            named("cpu", 1.00),
        ],
    ),
    row("limit-ready", "a limit of 1 s around a future that is ready", &[time(0.04)]),
    row("limit-yields", "a limit of 1 s around a future that yields once", &[time(0.20)]),
    row("timer-cancel", "a timer of 1 s registered and dropped", &[time(0.50)]),
    row("wake", "a thread wakes a task, all workers parked; until the poll, median", &[time(0.75)]),
    row(
        "context-spawn",
        "what a context adds to a spawn, in uncontended clones and drops of an Arc; per number of variables",
        &[
            variables("1 variable", "Arcs"),
            variables("8 variables", "Arcs"),
            variables("32 variables", "Arcs"),
        ],
    ),
    row(
        "context-poll",
        "what a context adds to a poll, in swaps of a thread-local pointer; per number of variables",
        &[
            variables("1 variable", "swaps"),
            variables("8 variables", "swaps"),
            variables("32 variables", "swaps"),
        ],
    ),
];

/// A contender with timers, in all rows.
pub fn with_timers<E: Timers>() -> Contender {
    let mut contender = without_timers::<E>();
    contender.rows.extend([
        ("timers", timers::sleeps::<E> as Sampler),
        ("sleep-100us", timers::short_sleeps::<E>),
        ("limit-ready", timers::limit_ready::<E>),
        ("limit-yields", timers::limit_yields::<E>),
        ("timer-cancel", timers::cancel::<E>),
    ]);
    contender
}

/// A contender in all rows but those about time.
pub fn without_timers<E: Executor>() -> Contender {
    let rows: Vec<(&'static str, Sampler)> = vec![
        ("spawn-inside", spawn::inside::<E>),
        ("spawn-outside", spawn::outside::<E>),
        ("spawn-outside-busy", spawn::outside_busy::<E>),
        ("spawn-outside-working", spawn::outside_working::<E>),
        ("join-all", spawn::join_all::<E>),
        ("one-by-one-inside", spawn::one_by_one_inside::<E>),
        ("one-by-one-outside", spawn::one_by_one_outside::<E>),
        ("chain", spawn::chain::<E>),
        ("yield-many", message::yield_many::<E>),
        ("yield-alone", message::yield_alone::<E>),
        ("ping-pong", message::ping_pong::<E>),
        ("ring-one", message::ring_one::<E>),
        ("ring-all", message::ring_all::<E>),
        ("wake", message::wake::<E>),
        ("fork-join", work::fork_join::<E>),
        ("fork-join-boxes", work::fork_join_boxes::<E>),
        ("fork-join-work", work::fork_join_work::<E>),
        ("work-1us", work::work_1us::<E>),
        ("work-10us", work::work_10us::<E>),
    ];
    Contender { name: E::NAME, rows }
}

/// The one that all speed-ups refer to.
pub fn one_core() -> Contender {
    let rows: Vec<(&'static str, Sampler)> = vec![
        ("work-1us", work::one_core_1us),
        ("work-10us", work::one_core_10us),
        ("fork-join-work", work::one_core_1us),
    ];
    Contender { name: ONE_CORE, rows }
}

/// What carries contexts on tokio, in the two rows about that.
pub fn carriers() -> Vec<Contender> {
    let carrier = |name, spawn: Sampler, poll: Sampler| Contender {
        name,
        rows: vec![("context-spawn", spawn), ("context-poll", poll)],
    };
    vec![
        carrier("arc-by-hand", carried::by_hand::<Spawns>, carried::by_hand::<Polls>),
        carrier("opentelemetry", carried::opentelemetry::<Spawns>, carried::opentelemetry::<Polls>),
        carrier("task-locals", carried::task_locals::<Spawns>, carried::task_locals::<Polls>),
    ]
}

/// A build of Heirloom in all rows: also in the two about contexts, which bind variables
/// themselves.
pub fn inheriting<E: Inheriting>() -> Contender {
    let mut contender = with_timers::<E>();
    contender.rows.extend([
        ("context-spawn", carried::inherited::<E, Spawns> as Sampler),
        ("context-poll", carried::inherited::<E, Polls>),
    ]);
    contender
}
