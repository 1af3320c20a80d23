use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;

use super::class::{ALONE, HUGE, KEPT, PAGE};
use super::page::HEAD;
use super::*;

/// A heap, and its owner, who takes slots of one class.
struct Rig {
    shared: Arc<Heap>,
    owner: Option<Owner>,
    class: Class,
}

impl Rig {
    fn new(size: usize) -> Rig {
        let shared = Arc::new(Heap::new());
        let class = Class::of(Layout::from_size_align(size, 8).unwrap());
        Rig { owner: Some(shared.acquire()), shared, class }
    }

    fn take(&self) -> NonNull<SlotHead> {
        // SAFETY: the owner is this heap's.
        unsafe { self.shared.take(self.owner.as_ref().unwrap(), &self.class, &self.shared) }
    }

    fn free(&self, slot: NonNull<SlotHead>) {
        // SAFETY: no task was ever in the slot; the pages hold a `Heap`.
        unsafe { free::<Heap>(slot, self.owner.as_ref().map(|owner| (&*self.shared, owner))) }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Each page keeps the heap, and the heap each page, until the owner ends the heap.
        if let Some(owner) = self.owner.take() {
            // SAFETY: the owner is this heap's, which the rig keeps.
            unsafe { self.shared.end(Some(owner)) }
            assert!(std::thread::panicking() || self.shared.page_count() == 0);
        }
    }
}

/// A slot on its way to another thread.
struct Sent(NonNull<SlotHead>);

// SAFETY: an empty slot is memory.
unsafe impl Send for Sent {}

impl Sent {
    fn free(self) {
        // SAFETY: as in `Rig::free`, by a thread that owns no heap.
        unsafe { free::<Heap>(self.0, None) }
    }
}

#[test]
fn a_class_has_room_for_its_cells() {
    for size in (64..40_000).step_by(if cfg!(miri) { 1_976 } else { 8 }) {
        for align in [8, 16, 32, 128, 4096] {
            let cell = Layout::from_size_align(size, align).unwrap().pad_to_align();
            let class = Class::of(cell);
            assert!(class.index == HUGE || class.size >= cell.size());
            assert_eq!(class.first % align, 0, "{cell:?}");
            assert!(class.capacity() == 1 || class.size.is_multiple_of(align), "{cell:?}");
            assert!(class.first >= HEAD && class.first < PAGE);
            let end = class.first + (class.capacity() - 1) * class.size + cell.size();
            assert!(end <= class.page.size(), "{cell:?}");
        }
    }
}

#[test]
fn a_slot_that_was_freed_is_taken_again() {
    let rig = Rig::new(96);
    let (one, two) = (rig.take(), rig.take());
    assert_ne!(one, two);
    rig.free(one);
    if !ALONE {
        assert_eq!(rig.take(), one);
        rig.free(one);
    }
    rig.free(two);
}

#[test]
fn all_but_a_few_pages_of_a_burst_are_freed() {
    // Large slots: a few hundred fill more pages than are kept.
    let rig = Rig::new(16_000);
    let slots: Vec<_> = (0..3 * KEPT).map(|_| rig.take()).collect();
    assert!(rig.shared.page_count() > KEPT);
    slots.into_iter().for_each(|slot| rig.free(slot));
    assert!(rig.shared.page_count() <= KEPT);
}

#[test]
fn remote_frees_are_reclaimed_before_a_page_is_allocated() {
    for size in [96, 5_000, 100_000] {
        let rig = Rig::new(size);
        let capacity = rig.class.capacity();
        let slots: Vec<_> = (0..capacity).map(|_| Sent(rig.take())).collect();
        assert_eq!(rig.shared.page_count(), 1);
        let other = std::thread::spawn(move || slots.into_iter().for_each(Sent::free));
        other.join().unwrap();
        let again: Vec<_> = (0..capacity).map(|_| rig.take()).collect();
        assert_eq!(rig.shared.page_count(), 1, "{size}");
        again.into_iter().for_each(|slot| rig.free(slot));
    }
}

#[test]
fn the_pages_of_a_burst_that_was_freed_remotely_are_freed() {
    let rig = Rig::new(1_000);
    // The pages are full, so that no take finds a slot in them.
    let count = if cfg!(miri) { 10 } else { KEPT + 100 } * rig.class.capacity();
    let slots: Vec<_> = (0..count).map(|_| Sent(rig.take())).collect();
    let pages = rig.shared.page_count();
    std::thread::spawn(move || slots.into_iter().for_each(Sent::free)).join().unwrap();
    assert_eq!(rig.shared.page_count(), pages, "the owner has not looked yet");
    // A take reclaims all, when the page at the head has no more room.
    for _ in 0..SPARE * PAGE / rig.class.size + 2 {
        rig.free(rig.take());
    }
    let after = rig.shared.page_count();
    assert!(after <= KEPT.min(pages), "{after} of {pages}");
}

#[test]
fn an_owner_that_tidies_and_rests_leaves_a_stock_and_no_more() {
    let rig = Rig::new(1_000);
    let owner = rig.owner.as_ref().unwrap();
    let count = if cfg!(miri) { 10 } else { 300 } * rig.class.capacity();
    let mut slots: Vec<_> = (0..count).map(|_| Sent(rig.take())).collect();
    let late: Vec<_> = slots.drain(count / 2..).collect();
    let pages = rig.shared.page_count();
    std::thread::spawn(move || slots.into_iter().for_each(Sent::free)).join().unwrap();
    assert!(rig.shared.is_untidy());
    // SAFETY: the owner is this heap's, which the rig keeps.
    let tidy = || unsafe { rig.shared.tidy(owner) };
    // Pages that were in use a short time ago are kept once.
    let mut seen = Vec::new();
    while seen.last() != Some(&Tidied::Done) {
        seen.push(tidy());
        assert!(seen.len() < 1_000, "{seen:?}");
    }
    seen.dedup();
    if !ALONE {
        assert!(seen.contains(&Tidied::NotYet), "{seen:?}");
    }
    let half = rig.shared.page_count();
    assert!(half <= pages / 2 + STOCK, "{half} of {pages}");
    // SAFETY: the owner is this heap's, which the rig keeps.
    unsafe { rig.shared.rest(owner, STOCK) }
    assert!(!rig.shared.is_untidy());
    std::thread::spawn(move || late.into_iter().for_each(Sent::free)).join().unwrap();
    let after = rig.shared.page_count();
    assert!(after <= STOCK, "{after} of {pages}");
    rig.shared.resume(owner);
    rig.free(rig.take());
    assert!(!rig.shared.is_untidy());
}

#[test]
fn a_heap_without_an_owner_rests_until_a_slot_is_taken() {
    let shared = Arc::new(Heap::new());
    let class = Class::of(Layout::from_size_align(5_000, 8).unwrap());
    // SAFETY: the heap has no owner.
    let take = || unsafe { shared.take_locked(&class, &shared) };
    let mut slots = Vec::new();
    // The untidy heap is reported once.
    while !shared.is_untidy() {
        let (slot, reported) = take();
        slots.push(Sent(slot));
        assert_eq!(reported, shared.is_untidy());
    }
    slots.extend((0..40).map(|_| {
        let (slot, reported) = take();
        assert!(!reported);
        Sent(slot)
    }));
    // SAFETY: here is what keeps the heap.
    assert_eq!(unsafe { shared.tidy_unowned() }, Tidied::Done);
    assert!(!shared.is_untidy());
    let (slot, reported) = take();
    assert!(reported && shared.is_untidy(), "the heap is in use again");
    slots.push(Sent(slot));
    // SAFETY: as above.
    unsafe { shared.rest_unowned(1) }
    slots.into_iter().for_each(Sent::free);
    assert!(shared.page_count() <= 1);
    // SAFETY: as above.
    unsafe { shared.end(None) }
    assert_eq!(shared.page_count(), 0);
    let (slot, reported) = take();
    assert!(!reported, "an ended heap is not reported");
    Sent(slot).free();
    assert_eq!(shared.page_count(), 0);
}

#[test]
fn remote_frees_while_the_owner_rests_and_resumes() {
    const ROUNDS: usize = if cfg!(miri) { 3 } else { 100 };
    const SLOTS: usize = if cfg!(miri) { 30 } else { 500 };
    let rig = Rig::new(128);
    let owner = rig.owner.as_ref().unwrap();
    let (send, receive) = std::sync::mpsc::channel::<Vec<Sent>>();
    let other = std::thread::spawn(move || receive.into_iter().flatten().for_each(Sent::free));
    for _ in 0..ROUNDS {
        send.send((0..SLOTS).map(|_| Sent(rig.take())).collect()).unwrap();
        // SAFETY: the owner is this heap's, which the rig keeps.
        unsafe { rig.shared.rest(owner, 1) }
        std::thread::yield_now();
        rig.shared.resume(owner);
    }
    drop(send);
    // SAFETY: the owner is this heap's, which the rig keeps.
    unsafe { rig.shared.rest(owner, 0) }
    other.join().unwrap();
    assert_eq!(rig.shared.page_count(), 0);
    rig.shared.resume(owner);
}

#[test]
fn pages_of_an_ended_heap_are_freed_with_their_last_slot() {
    for size in [96, 5_000, 100_000] {
        let mut rig = Rig::new(size);
        let slots: Vec<_> = (0..10).map(|_| Sent(rig.take())).collect();
        // SAFETY: the owner is this heap's, which the rig keeps.
        unsafe { rig.shared.end(rig.owner.take()) }
        assert!(rig.shared.page_count() >= 1);
        slots.into_iter().for_each(Sent::free);
        assert_eq!(rig.shared.page_count(), 0);
        assert_eq!(Arc::strong_count(&rig.shared), 1);
    }
}

#[test]
fn local_and_remote_frees_at_the_same_time() {
    const ROUNDS: usize = if cfg!(miri) { 3 } else { 200 };
    const SLOTS: usize = if cfg!(miri) { 60 } else { 1_000 };
    let mut rig = Rig::new(128);
    let (send, receive) = std::sync::mpsc::channel::<Vec<Sent>>();
    let other = std::thread::spawn(move || receive.into_iter().flatten().for_each(Sent::free));
    for _ in 0..ROUNDS {
        let (mine, theirs): (Vec<_>, Vec<_>) =
            (0..SLOTS).map(|number| (number, rig.take())).partition(|slot| slot.0 % 3 == 0);
        send.send(theirs.into_iter().map(|slot| Sent(slot.1)).collect()).unwrap();
        mine.into_iter().for_each(|slot| rig.free(slot.1));
    }
    drop(send);
    // SAFETY: the owner is this heap's, which the rig keeps.
    unsafe { rig.shared.end(rig.owner.take()) }
    other.join().unwrap();
    assert_eq!(rig.shared.page_count(), 0);
}
