//! What stays of finished sequences, for later requests that begin alike.
//!
//! Keys and values can be shared up to any position. A state is good for one position only: where the program has states, a
//! prefix reaches up to a position of which a copy was kept.

use crate::pages::PagePool;
use crate::states::StatePool;

/// A copy of a sequence's state behind so many positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    pub position: usize,
    pub state: u32,
}

/// Tokens whose keys and values are stored, and the pages that hold them.
#[derive(Debug)]
struct Kept {
    /// What the program made of the keys: other sequences with the same answer may share them.
    variant: usize,
    tokens: Vec<u32>,
    pages: Vec<u32>,
    /// Copies of its state with the time of their last use; at least one, if there are states.
    copies: Vec<(Copy, u64)>,
}

impl Kept {
    fn release(self, pages: &mut PagePool, states: &mut Option<StatePool>) {
        pages.release(&self.pages);
        for (copy, _) in self.copies {
            release(states, copy.state);
        }
    }
}

fn release(states: &mut Option<StatePool>, state: u32) {
    if let Some(states) = states {
        states.release_kept(state);
    }
}

/// What a new sequence can start from.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Positions that need not be computed.
    pub stored: usize,
    /// The pages that hold them, with a hold on each; the last may be shared in part.
    pub pages: Vec<u32>,
    /// The kept state behind those positions, to be copied; `None` where nothing is shared, or there are no states.
    pub state: Option<u32>,
    /// Positions in common with anything kept, though there may be no state for them.
    pub common: usize,
}

/// Finished sequences, the one used longest ago first.
#[derive(Debug, Default)]
pub struct PrefixCache {
    kept: Vec<Kept>,
    /// Counts uses.
    clock: u64,
}

impl PrefixCache {
    /// Keeps a sequence: takes over one hold on each of its pages, and the copies of its state, which count as kept. What is a
    /// prefix of something else kept is let go, but for its copies.
    pub fn keep(
        &mut self,
        variant: usize,
        tokens: &[u32],
        pages: Vec<u32>,
        copies: Vec<Copy>,
        pool: &mut PagePool,
        states: &mut Option<StatePool>,
    ) {
        self.clock += 1;
        let mut copies: Vec<_> = copies.into_iter().map(|copy| (copy, self.clock)).collect();
        if let Some(at) = self.kept.iter().position(|k| k.variant == variant && k.tokens.starts_with(tokens)) {
            pool.release(&pages);
            let mut used = self.kept.remove(at);
            merge(&mut used.copies, copies, states);
            self.kept.push(used);
            return;
        }
        for shorter in self.kept.extract_if(.., |k| k.variant == variant && tokens.starts_with(&k.tokens)) {
            pool.release(&shorter.pages);
            merge(&mut copies, shorter.copies, states);
        }
        let kept = Kept { variant, tokens: tokens.to_vec(), pages, copies };
        if states.is_some() && kept.copies.is_empty() {
            kept.release(pool, states);
        } else {
            self.kept.push(kept);
        }
    }

    /// What `tokens` can start from: the most positions that it has in common with one kept sequence, at most `most`, and with
    /// states at most up to a copy.
    pub fn find(
        &mut self,
        variant: usize,
        tokens: &[u32],
        most: usize,
        page_positions: usize,
        pool: &mut PagePool,
        with_states: bool,
    ) -> Found {
        let common = |k: &Kept| match k.variant == variant {
            true => k.tokens.iter().zip(tokens).take(most).take_while(|(a, b)| a == b).count(),
            false => 0,
        };
        let usable = |k: &Kept| {
            let common = common(k);
            let copies = k.copies.iter().filter(|(copy, _)| copy.position <= common);
            let last = copies.map(|(copy, _)| copy.position).max().unwrap_or(0);
            (if with_states { last } else { common }, common)
        };
        let all: Vec<_> = self.kept.iter().map(usable).collect();
        let common = all.iter().map(|(_, common)| *common).max().unwrap_or(0);
        let best = all.iter().map(|(stored, _)| *stored).enumerate().max_by_key(|(_, stored)| *stored);
        let Some((at, stored)) = best.filter(|(_, stored)| *stored > 0) else {
            return Found { common, ..Found::default() };
        };
        self.clock += 1;
        let mut used = self.kept.remove(at);
        let pages = used.pages[..stored.div_ceil(page_positions)].to_vec();
        pool.share(&pages);
        let copy = used.copies.iter_mut().find(|(copy, _)| copy.position == stored);
        let state = copy.map(|(copy, time)| {
            *time = self.clock;
            copy.state
        });
        self.kept.push(used);
        Found { stored, pages, state, common }
    }

    /// Lets go of the sequence used longest ago; false where none is left.
    pub fn evict(&mut self, pool: &mut PagePool, states: &mut Option<StatePool>) -> bool {
        if self.kept.is_empty() {
            return false;
        }
        self.kept.remove(0).release(pool, states);
        true
    }

    /// Lets go of the copy used longest ago, and of its sequence with the last of its copies; false where none is left.
    pub fn evict_copy(&mut self, pool: &mut PagePool, states: &mut Option<StatePool>) -> bool {
        let copies = self.kept.iter().enumerate().flat_map(|(at, k)| {
            let of_sequence = k.copies.iter().enumerate();
            of_sequence.map(move |(i, (_, time))| (*time, at, i))
        });
        let Some((_, at, i)) = copies.min() else { return false };
        let (copy, _) = self.kept[at].copies.remove(i);
        release(states, copy.state);
        if self.kept[at].copies.is_empty() {
            self.kept.remove(at).release(pool, states);
        }
        true
    }
}

/// Adds copies of the same sequence's state, where there is none of their position.
fn merge(copies: &mut Vec<(Copy, u64)>, more: Vec<(Copy, u64)>, states: &mut Option<StatePool>) {
    for (copy, time) in more {
        if copies.iter().any(|(known, _)| known.position == copy.position) {
            release(states, copy.state);
        } else {
            copies.push((copy, time));
        }
    }
}
