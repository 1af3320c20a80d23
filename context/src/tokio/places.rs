//! Which spawn calls stand in a crate whose tasks outlive the request that they are spawned in.
#![forbid(unsafe_code)]

use std::array;
use std::panic::Location;
use std::ptr;

use crate::util::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use crate::util::sync::{Mutex, lock};

/// How many places the verdict is kept of.
const KEPT: usize = 256;

/// A list of crates, and the verdicts on the places that have spawned lately.
pub(super) struct Places {
    crates: Mutex<Vec<String>>,
    /// Addresses of places, with the verdict in the lowest bit, which is free.
    verdicts: [AtomicUsize; KEPT],
}

const _: () = assert!(align_of::<Location<'_>>() > 1);

impl Places {
    pub(super) fn new(crates: Vec<String>) -> Self {
        Places { crates: Mutex::new(crates), verdicts: array::from_fn(|_| AtomicUsize::new(0)) }
    }

    pub(super) fn set(&self, crates: Vec<String>) {
        let mut current = lock(&self.crates);
        *current = crates;
        for verdict in &self.verdicts {
            verdict.store(0, Relaxed);
        }
    }

    /// Whether the place is in one of the crates.
    #[inline]
    pub(super) fn include(&self, place: &'static Location<'static>) -> bool {
        let address = ptr::from_ref(place).addr();
        let kept = &self.verdicts[(address / align_of::<Location<'_>>()) % KEPT];
        let verdict = kept.load(Relaxed);
        if verdict & !1 == address { verdict & 1 == 1 } else { self.look(place.file(), address, kept) }
    }

    #[cold]
    fn look(&self, file: &str, address: usize, kept: &AtomicUsize) -> bool {
        // Under the lock, so that no verdict outlives a change of the list.
        let crates = lock(&self.crates);
        let included = crates.iter().any(|name| is_in_crate(file, name));
        kept.store(address | usize::from(included), Relaxed);
        included
    }
}

/// Whether a source file is one of the crate, to judge by its path: below `src` in a folder with
/// the crate's name. The name may have a version behind it, as in cargo's registry, or a hash, as
/// in a checkout of a repository, in which one more folder stands before `src`.
fn is_in_crate(file: &str, name: &str) -> bool {
    let is_of_crate = |folder: &str| {
        folder == name
            || folder.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).is_some_and(|rest| {
                rest.starts_with(|first: char| first.is_ascii_digit())
                    || rest.len() == 16 && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
    };
    let mut folders = file.split(['/', '\\']);
    while let Some(folder) = folders.next() {
        if is_of_crate(folder) && folders.clone().take(2).any(|below| below == "src") {
            return true;
        }
    }
    false
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_known_by_the_folder_of_its_sources() {
        let inside = [
            "/home/ada/.cargo/registry/src/mirror-0123456789abcdef/hyper-util-0.1.21/src/rt/tokio.rs",
            r"C:\Users\ada\.cargo\registry\src\mirror-0123456789abcdef\hyper-util-0.1.21\src\rt\tokio.rs",
            "vendor/hyper-util/src/rt/tokio.rs",
            "/home/ada/.cargo/git/checkouts/hyper-util-0a1b2c3d4e5f6071/89abcde/src/rt/tokio.rs",
            "/home/ada/.cargo/git/checkouts/hyper-util-fa1b2c3d4e5f6071/89abcde/src/rt/tokio.rs",
        ];
        for file in inside {
            assert!(is_in_crate(file, "hyper-util"), "{file}");
            assert!(!is_in_crate(file, "hyper"), "{file}");
        }
        for file in ["src/tower/mod.rs", "vendor/tower-http-0.6.1/src/lib.rs", "src/main.rs", "tower", ""] {
            assert!(!is_in_crate(file, "tower"), "{file}");
        }
    }

    #[test]
    fn a_change_of_the_list_changes_the_verdict() {
        let place = Location::caller();
        let folder =
            std::path::Path::new(place.file()).ancestors().find(|path| path.ends_with("src")).unwrap();
        let own = folder.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let places = Places::new(vec!["tower".into()]);
        assert!(!places.include(place));
        assert!(!places.include(place));
        places.set(vec!["h2".into(), own.into()]);
        assert!(places.include(place));
        assert!(places.include(place));
        places.set(Vec::new());
        assert!(!places.include(place));
    }
}
