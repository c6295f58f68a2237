//! Merges by ids, from merges by text.

use super::table::{PairMap, PairValue};
use super::vocabulary::Vocabulary;

/// Collects the merges of a vocabulary in order of rank.
pub(super) struct PairsBuilder<'a> {
    vocabulary: &'a Vocabulary,
    pairs: PairMap,
    /// The whole of the merge before.
    last: u32,
}

impl<'a> PairsBuilder<'a> {
    pub fn new(vocabulary: &'a Vocabulary, merges: usize) -> Self {
        Self { vocabulary, pairs: PairMap::with_capacity(merges), last: 0 }
    }

    /// Adds the merge of `whole[..middle]` with `whole[middle..]`. Returns `false`, and adds nothing, where the halves
    /// or the whole are no tokens.
    pub fn push(&mut self, rank: u32, whole: &[u8], middle: usize) -> bool {
        let (left, right) = whole.split_at(middle);
        let (Some(left), Some(right)) = (self.vocabulary.get(left), self.vocabulary.get(right)) else { return false };
        let Some(id) = self.id_of_whole(whole) else { return false };
        self.last = id;
        self.pairs.insert(left, right, PairValue { rank, id });
        true
    }

    pub fn finish(self) -> PairMap {
        self.pairs
    }

    /// Most vocabularies number their tokens in the order of the merges, so the next id is tried before the lookup.
    fn id_of_whole(&self, whole: &[u8]) -> Option<u32> {
        let next = self.last + 1;
        if self.vocabulary.bytes(next) == whole && self.vocabulary.finds(next) {
            return Some(next);
        }
        self.vocabulary.get(whole)
    }
}
