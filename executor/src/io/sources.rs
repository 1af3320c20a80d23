//! The table of a driver's sources.
//!
//! Sources lie in pages, each in a cache line of its own: a socket has no allocation of its own,
//! and the processors that use two sockets do not write to one line. A socket keeps its page alive
//! and knows its place there, so an operation does not ask the table.
#![forbid(unsafe_code)]

use std::array;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use mio::Token;
use mio::event::Source;
use slab::Slab;

use super::driver::Driver;
use super::readiness::{Readiness, Waiters};

/// As many as a word has bits.
const SOURCES_PER_PAGE: usize = u64::BITS as usize;

/// Half the bits of a token are a source's key, the other half its generation.
const KEY_BITS: u32 = usize::BITS / 2;
const KEY_MASK: usize = (1 << KEY_BITS) - 1;

/// A place for a source.
#[repr(align(64))]
struct Slot {
    readiness: Readiness,
    /// Of the source that was put here last. Written and read under the lock of the table, hence
    /// relaxed.
    generation: AtomicU32,
}

// What an idle connection takes here.
#[cfg(all(target_pointer_width = "64", target_os = "linux", not(loom)))]
const _: () = assert!(size_of::<Slot>() == 64);

/// Places for sources of one driver.
pub(crate) struct SourcePage {
    slots: [Slot; SOURCES_PER_PAGE],
    /// The number of the page in the table.
    number: usize,
    /// Weak, since the driver has the page.
    driver: Weak<Driver>,
}

impl SourcePage {
    pub(crate) fn readiness(&self, index: u8) -> &Readiness {
        &self.slots[usize::from(index)].readiness
    }

    /// Takes the source, which was registered at this place, out of the driver. If that is gone, so
    /// is its poll.
    pub(crate) fn deregister(&self, index: u8, source: &mut dyn Source) -> io::Result<()> {
        self.driver.upgrade().map_or(Ok(()), |driver| driver.deregister(self, index, source))
    }
}

/// Where a source is.
pub(crate) struct Place {
    pub(crate) page: Arc<SourcePage>,
    pub(crate) index: u8,
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Sources {
    pages: Slab<Listed>,
    /// The numbers of the pages that are not full.
    with_room: Vec<usize>,
    /// Of the latest source.
    generation: u32,
}

/// A page in the table.
struct Listed {
    page: Arc<SourcePage>,
    /// A bit for each slot.
    used: u64,
}

impl Sources {
    /// A place for a source, and the token that names it in events.
    pub(super) fn insert(&mut self, driver: impl FnOnce() -> Weak<Driver>) -> io::Result<(Place, Token)> {
        let number = match self.with_room.last() {
            Some(number) => *number,
            None => self.add_page(driver())?,
        };
        let Listed { page, used } = &mut self.pages[number];
        let index = used.trailing_ones() as usize;
        *used |= 1 << index;
        if *used == u64::MAX {
            self.with_room.pop();
        }
        // A generation comes round after so many sources that no event of its former source is
        // still on its way.
        self.generation = self.generation.wrapping_add(1);
        page.slots[index].generation.store(self.generation, Relaxed);
        let token = token(number * SOURCES_PER_PAGE + index, self.generation);
        Ok((Place { page: Arc::clone(page), index: index as u8 }, token))
    }

    fn add_page(&mut self, driver: Weak<Driver>) -> io::Result<usize> {
        let vacant = self.pages.vacant_entry();
        let number = vacant.key();
        if number >= KEY_MASK / SOURCES_PER_PAGE {
            return Err(io::Error::other("too many sources of events"));
        }
        let slot = |_| Slot { readiness: Readiness::new(), generation: AtomicU32::new(0) };
        vacant.insert(Listed {
            page: Arc::new(SourcePage { slots: array::from_fn(slot), number, driver }),
            used: 0,
        });
        self.with_room.push(number);
        Ok(number)
    }

    /// The source that an event names, unless it is gone.
    pub(super) fn get(&self, Token(number): Token) -> Option<&Readiness> {
        let (page, index) = ((number & KEY_MASK) / SOURCES_PER_PAGE, number % SOURCES_PER_PAGE);
        let Listed { page, used } = self.pages.get(page)?;
        let slot = &page.slots[index];
        let is_named = token(number & KEY_MASK, slot.generation.load(Relaxed)) == Token(number);
        (is_named && used & 1 << index != 0).then_some(&slot.readiness)
    }

    /// The place becomes free. Returns what is to be dropped under no lock.
    pub(super) fn remove(&mut self, page: &SourcePage, index: u8) -> (Waiters, Option<Arc<SourcePage>>) {
        // Before another source has the place.
        let waiters = page.readiness(index).reset();
        let used = &mut self.pages[page.number].used;
        if *used == u64::MAX {
            self.with_room.push(page.number);
        }
        *used &= !(1 << index);
        // One page stays, for the next source.
        if *used != 0 || self.with_room.len() == 1 {
            return (waiters, None);
        }
        self.with_room.retain(|number| *number != page.number);
        (waiters, Some(self.pages.remove(page.number).page))
    }

    /// All places that have a source.
    pub(super) fn all(&self) -> Vec<Place> {
        let in_page = |Listed { page, used }: &Listed| {
            let (page, used) = (Arc::clone(page), *used);
            let indices = (0..SOURCES_PER_PAGE as u8).filter(move |index| used & 1 << index != 0);
            indices.map(move |index| Place { page: Arc::clone(&page), index })
        };
        self.pages.iter().flat_map(|(_, listed)| in_page(listed)).collect()
    }
}

/// Names a source: its key in the table, and its generation among those that had this key.
fn token(key: usize, generation: u32) -> Token {
    Token((generation as usize & KEY_MASK) << KEY_BITS | key)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::io::readiness::{Change, Direction};

    #[test]
    fn an_event_of_a_former_source_does_not_reach_the_next_one_in_its_place() {
        let mut sources = Sources::default();
        let (first, former) = sources.insert(Weak::new).unwrap();
        first.page.readiness(first.index).record(Change::new(true, false, false, false), &mut Vec::new());
        drop(sources.remove(&first.page, first.index));
        assert!(sources.get(former).is_none(), "the source is gone");

        let (second, token) = sources.insert(Weak::new).unwrap();
        assert_eq!((second.page.number, second.index), (first.page.number, first.index));
        assert!(sources.get(former).is_none(), "the token is the former source's");
        let readiness = sources.get(token).unwrap();
        assert!(readiness.observe(Direction::Read).is_none(), "the readiness is the former source's");
    }

    #[test]
    fn each_token_names_its_source_and_pages_that_become_empty_are_freed() {
        let mut sources = Sources::default();
        let mut places: Vec<_> = (0..1_000).map(|_| sources.insert(Weak::new).unwrap()).collect();
        assert_eq!(
            (sources.pages.len(), sources.all().len()),
            (1_000_usize.div_ceil(SOURCES_PER_PAGE), 1_000)
        );
        for (Place { page, index }, token) in &places {
            assert!(std::ptr::eq(sources.get(*token).unwrap(), page.readiness(*index)));
        }
        // Every second one, and then the rest: a page with room is filled before there is another.
        for _ in 0..2 {
            let mut odd = false;
            places.retain(|(place, _)| {
                odd = !odd;
                if odd {
                    drop(sources.remove(&place.page, place.index));
                }
                !odd
            });
        }
        let pages = sources.pages.len();
        for _ in places.len()..1_000 {
            places.push(sources.insert(Weak::new).unwrap());
        }
        assert_eq!(sources.pages.len(), pages);
        for (place, _) in places {
            drop(sources.remove(&place.page, place.index));
        }
        assert_eq!((sources.pages.len(), sources.with_room.len(), sources.all().len()), (1, 1, 0));
    }
}
