//! A persistent map from the numbers of pages to pages.
//!
//! Numbers are dense, since ids are: the map is a vector of chunks of pages. A copy of the map
//! counts one chunk per 1,024 variables that the program has used; a change in a copy counts the
//! pages of one chunk besides.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::flat::FlatTable;

/// How many pages a chunk has. With 64 variables a page, what a copy and a change count is least
/// for some thousand variables, more than any program known to us has.
const CHUNK: usize = 16;

type Chunk = [Option<FlatTable>; CHUNK];

#[derive(Clone, Default)]
pub(super) struct Pages {
    chunks: Vec<Option<Arc<Chunk>>>,
}

impl Pages {
    pub(super) fn get(&self, number: usize) -> Option<&FlatTable> {
        self.chunks.get(number / CHUNK)?.as_ref()?[number % CHUNK].as_ref()
    }

    /// The place of a page, in chunks that no other map shares.
    pub(super) fn place(&mut self, number: usize) -> &mut Option<FlatTable> {
        let index = number / CHUNK;
        if index >= self.chunks.len() {
            self.chunks.resize(index + 1, None);
        }
        let chunk = self.chunks[index].get_or_insert_default();
        &mut Arc::make_mut(chunk)[number % CHUNK]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &FlatTable> {
        self.chunks.iter().flatten().flat_map(|chunk| chunk.iter().flatten())
    }
}
