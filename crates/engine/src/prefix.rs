//! What stays of finished sequences, for later requests that begin alike.

use crate::pages::PagePool;

/// Tokens whose keys and values are stored, and the pages that hold them.
#[derive(Debug)]
struct Kept {
    /// What the program made of the keys: other sequences with the same answer may share them.
    variant: usize,
    tokens: Vec<u32>,
    pages: Vec<u32>,
}

/// Finished sequences, the one used longest ago first.
#[derive(Debug, Default)]
pub struct PrefixCache {
    kept: Vec<Kept>,
}

impl PrefixCache {
    /// Keeps a sequence: takes over one hold on each of its pages. What is a prefix of something else kept is let go.
    pub fn keep(&mut self, variant: usize, tokens: &[u32], pages: Vec<u32>, pool: &mut PagePool) {
        if let Some(at) = self.kept.iter().position(|k| k.variant == variant && k.tokens.starts_with(tokens)) {
            pool.release(&pages);
            let used = self.kept.remove(at);
            self.kept.push(used);
            return;
        }
        for shorter in self.kept.extract_if(.., |k| k.variant == variant && tokens.starts_with(&k.tokens)) {
            pool.release(&shorter.pages);
        }
        self.kept.push(Kept { variant, tokens: tokens.to_vec(), pages });
    }

    /// The most positions that `tokens` has in common with one kept sequence, at most `most`, and the pages that hold them
    /// with a hold on each; the last page may be shared in part.
    pub fn find(
        &mut self,
        variant: usize,
        tokens: &[u32],
        most: usize,
        page_positions: usize,
        pool: &mut PagePool,
    ) -> (usize, Vec<u32>) {
        let common = |k: &Kept| match k.variant == variant {
            true => k.tokens.iter().zip(tokens).take(most).take_while(|(a, b)| a == b).count(),
            false => 0,
        };
        let best = self.kept.iter().map(common).enumerate().max_by_key(|&(_, shared)| shared);
        let Some((at, shared)) = best.filter(|&(_, shared)| shared > 0) else { return (0, Vec::new()) };
        let used = self.kept.remove(at);
        let pages = used.pages[..shared.div_ceil(page_positions)].to_vec();
        pool.share(&pages);
        self.kept.push(used);
        (shared, pages)
    }

    /// Lets go of the sequence used longest ago; false where none is left.
    pub fn evict(&mut self, pool: &mut PagePool) -> bool {
        if self.kept.is_empty() {
            return false;
        }
        pool.release(&self.kept.remove(0).pages);
        true
    }
}
