//! What a word shows: one variable, or everything.

use std::ptr::NonNull;

use super::word::{Target, Word};
use crate::bindings::flat::Header;
use crate::bindings::{self, Bindings, Entry, Found, Id, Lookup};
use crate::value::reaper;

/// Looks a variable up, through layers, from the inside out.
///
/// Its home bucket in the current table nearly always decides: the variable is bound there, or
/// nowhere.
///
/// # Safety
/// What the word points to is alive, and so is the answer only that long.
#[inline(always)]
pub(super) unsafe fn lookup<'a>(word: Word, id: Id) -> Option<Found<'a>> {
    // SAFETY: alive by this function's contract.
    unsafe {
        let Some(header) = word.own_header() else {
            return if word.is_layer() { lookup_outside(word, id) } else { None };
        };
        match bindings::lookup_at_home(header, id) {
            Some(Lookup::Bound(found)) => Some(found),
            Some(Lookup::Absent) if !word.is_layer() => None,
            _ => lookup_further(word, header, id),
        }
    }
}

/// The same where the home bucket does not decide; `header` begins the word's own table.
///
/// # Safety
/// As above.
#[inline(never)]
unsafe fn lookup_further<'a>(word: Word, header: NonNull<Header>, id: Id) -> Option<Found<'a>> {
    // SAFETY: alive by this function's contract.
    unsafe {
        match bindings::lookup_at(header, id) {
            Lookup::Bound(found) => Some(found),
            Lookup::Absent if word.is_layer() => lookup_outside(word, id),
            Lookup::Absent | Lookup::Hidden => None,
        }
    }
}

/// The same for a layer that says nothing of the variable.
///
/// # Safety
/// As above.
#[inline(never)]
unsafe fn lookup_outside<'a>(mut word: Word, id: Id) -> Option<Found<'a>> {
    while let Target::Frame(layer) = word.target()
        && word.is_layer()
    {
        // SAFETY: the outside of a layer is alive as long as the layer.
        unsafe {
            word = layer.as_ref().outside;
            match word.own_header().map_or(Lookup::Absent, |header| bindings::lookup_at(header, id)) {
                Lookup::Bound(found) => return Some(found),
                Lookup::Hidden => return None,
                Lookup::Absent => {}
            }
        }
    }
    None
}

/// Everything visible, as bindings of their own: layers are merged.
///
/// # Safety
/// What the word points to is alive.
pub(super) unsafe fn flatten(mut word: Word) -> Bindings {
    let mut layers = Vec::new();
    // SAFETY: alive by this function's contract; the outside of a layer is alive as long as the
    // layer.
    unsafe {
        while let Target::Frame(layer) = word.target()
            && word.is_layer()
        {
            layers.push(layer);
            word = layer.as_ref().outside;
        }
        let _hold = reaper::hold();
        let mut merged = word.own_header().map_or(Bindings::EMPTY, |header| {
            Bindings::retain(header, 1);
            Bindings::from_raw(header.as_ptr())
        });
        for layer in layers.into_iter().rev() {
            layer.as_ref().bindings.for_each(|id, found| {
                // In a copy, which has no outside, a hidden variable is an absent one.
                let entry = match found {
                    Lookup::Bound(found) => Entry::Bound(found.retain()),
                    Lookup::Hidden | Lookup::Absent => Entry::Absent,
                };
                merged.change(id, entry);
            });
        }
        merged
    }
}
