//! What the program knows of an order without any context: by its number, which is an argument
//! everywhere. Contexts are compared with it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use heirloom::remaining;
use tracing::info;

use crate::wire::REQUEST;

/// What happens to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// The price is refused at the first attempt.
    Flaky,
    /// The price takes some time.
    Slow,
    /// There is nothing left.
    SoldOut,
    /// The price takes longer than the client has.
    Hurried,
    /// The price takes long, and the client goes away meanwhile.
    GivenUp,
}

impl Kind {
    pub(crate) fn of(order: u64) -> Kind {
        match order % 10 {
            3 => Kind::Flaky,
            4 => Kind::Slow,
            5 => Kind::SoldOut,
            6 => Kind::Hurried,
            7 => Kind::GivenUp,
            _ => Kind::Plain,
        }
    }
}

/// The id of the request for an order.
pub(crate) fn request_of(order: u64) -> String {
    format!("r{order}")
}

pub(crate) fn item_of(order: u64) -> u64 {
    order % 7
}

pub(crate) fn price_of(item: u64) -> u64 {
    100 + item
}

/// What the context has at one place, for an order.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) place: &'static str,
    pub(crate) order: u64,
    pub(crate) request: Option<String>,
    pub(crate) left: Option<Duration>,
}

static LOOKS: Mutex<Vec<Look>> = Mutex::new(Vec::new());

/// Notes what the context has here, and writes a line of the log.
pub(crate) fn look(place: &'static str, order: u64) {
    let look = Look { place, order, request: REQUEST.get(), left: remaining() };
    LOOKS.lock().unwrap_or_else(PoisonError::into_inner).push(look);
    info!(order, place);
}

/// All looks, the earliest first.
pub(crate) fn looks() -> Vec<Look> {
    LOOKS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
