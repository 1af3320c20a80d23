//! What a word shows: one variable, or everything.

use super::word::Word;
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
            return if word.is_layer() { lookup_further(word, id) } else { None };
        };
        match bindings::lookup_at_home(header, id) {
            Some(found @ Some(_)) => found,
            Some(None) if !word.is_layer() => None,
            _ => lookup_further(word, id),
        }
    }
}

/// The same where the home bucket does not decide.
///
/// # Safety
/// As above.
#[inline(never)]
unsafe fn lookup_further<'a>(mut word: Word, id: Id) -> Option<Found<'a>> {
    loop {
        // SAFETY: alive by this function's contract; the outside of a layer is alive as long as the
        // layer.
        unsafe {
            match word.own_header().map_or(Lookup::Absent, |header| bindings::lookup_at(header, id)) {
                Lookup::Bound(found) => return Some(found),
                Lookup::Absent if word.is_layer() => word = word.outside(),
                Lookup::Absent | Lookup::Hidden => return None,
            }
        }
    }
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
        while word.is_layer() {
            layers.push(word);
            word = word.outside();
        }
        let _hold = reaper::hold();
        let mut merged = word.own_bindings();
        for layer in layers.into_iter().rev() {
            layer.own_bindings().for_each(|id, found| {
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
