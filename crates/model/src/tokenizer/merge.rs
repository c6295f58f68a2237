//! Byte-pair merging: of all adjacent pairs that may merge, the one of the lowest rank merges first, the leftmost of
//! equals; until none may merge.
//!
//! Short pieces rescan the pairs after each merge. Long ones keep the pairs in a priority queue, so that a word of a
//! million letters takes n log n steps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::table::{NO_ID, PairValue};

/// Symbols up to which rescanning is faster than the queue.
const SCAN_LIMIT: usize = 96;

/// The rank of a pair that does not merge.
const NEVER: u32 = u32::MAX;

/// Gives the merge of two adjacent symbols: `(left id, right id, bytes of the piece that both cover)`.
pub(super) trait Merges {
    fn merge(&self, left: u32, right: u32, covered: Range<usize>) -> Option<PairValue>;
}

/// A part of the piece that is one token so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    /// The token; `NO_ID` for text that is none.
    pub id: u32,
    /// First byte in the piece.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// Rank and outcome of merging with the next symbol.
    pair: PairValue,
}

impl Symbol {
    pub fn new(id: u32, range: Range<usize>) -> Self {
        Self { id, start: range.start, end: range.end, pair: PairValue { rank: NEVER, id: NO_ID } }
    }
}

/// Working memory of [`merge_all`], kept between pieces.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// The symbols of the piece: single bytes or characters before, tokens after merging.
    pub symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<(u32, usize)>>,
    /// (previous, next) symbol by position, for the queue.
    links: Vec<(usize, usize)>,
}

/// Merges `workspace.symbols` in place.
pub(super) fn merge_all(merges: &impl Merges, workspace: &mut Workspace) {
    if workspace.symbols.len() <= SCAN_LIMIT {
        merge_by_scan(merges, &mut workspace.symbols);
    } else {
        merge_by_queue(merges, workspace);
    }
}

fn pair_of(merges: &impl Merges, left: &Symbol, right: &Symbol) -> PairValue {
    merges.merge(left.id, right.id, left.start..right.end).unwrap_or(PairValue { rank: NEVER, id: NO_ID })
}

fn merge_by_scan(merges: &impl Merges, symbols: &mut Vec<Symbol>) {
    for at in 1..symbols.len() {
        symbols[at - 1].pair = pair_of(merges, &symbols[at - 1], &symbols[at]);
    }
    // The last symbol has no next one, so its rank stays `NEVER`.
    while let Some(at) = (0..symbols.len()).min_by_key(|&at| symbols[at].pair.rank) {
        let Symbol { pair, .. } = symbols[at];
        if pair.rank == NEVER {
            return;
        }
        let absorbed = symbols.remove(at + 1);
        symbols[at].id = pair.id;
        symbols[at].end = absorbed.end;
        symbols[at].pair.rank = NEVER;
        if at + 1 < symbols.len() {
            symbols[at].pair = pair_of(merges, &symbols[at], &symbols[at + 1]);
        }
        if at > 0 {
            symbols[at - 1].pair = pair_of(merges, &symbols[at - 1], &symbols[at]);
        }
    }
}

/// The same outcome as [`merge_by_scan`]: an entry of the queue counts only while its pair still has its rank, and the
/// queue orders by rank, then position.
fn merge_by_queue(merges: &impl Merges, workspace: &mut Workspace) {
    const NONE: usize = usize::MAX;
    let Workspace { symbols, queue, links } = workspace;
    let count = symbols.len();
    queue.clear();
    links.clear();
    links.extend((0..count).map(|at| (at.wrapping_sub(1), if at + 1 < count { at + 1 } else { NONE })));
    for at in 1..count {
        let pair = pair_of(merges, &symbols[at - 1], &symbols[at]);
        symbols[at - 1].pair = pair;
        if pair.rank != NEVER {
            queue.push(Reverse((pair.rank, at - 1)));
        }
    }
    while let Some(Reverse((rank, at))) = queue.pop() {
        let Symbol { pair, .. } = symbols[at];
        if pair.rank != rank {
            continue;
        }
        // A symbol with a rank has a next one; absorbed symbols get rank `NEVER` below.
        let absorbed = links[at].1;
        let next = links[absorbed].1;
        links[at].1 = next;
        symbols[at].id = pair.id;
        symbols[at].end = symbols[absorbed].end;
        symbols[at].pair.rank = NEVER;
        symbols[absorbed].pair.rank = NEVER;
        symbols[absorbed].end = symbols[absorbed].start;
        if next != NONE {
            links[next].0 = at;
            let pair = pair_of(merges, &symbols[at], &symbols[next]);
            symbols[at].pair = pair;
            if pair.rank != NEVER {
                queue.push(Reverse((pair.rank, at)));
            }
        }
        let previous = links[at].0;
        if previous != NONE {
            let pair = pair_of(merges, &symbols[previous], &symbols[at]);
            symbols[previous].pair = pair;
            if pair.rank != NEVER {
                queue.push(Reverse((pair.rank, previous)));
            }
        }
    }
    symbols.retain(|symbol| symbol.end > symbol.start);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of ids below 40 merge, in a scrambled order with many equal ranks, into another id below 60.
    struct Scrambled;

    impl Merges for Scrambled {
        fn merge(&self, left: u32, right: u32, _: Range<usize>) -> Option<PairValue> {
            let mixed = (left * 61 + right).wrapping_mul(0x9E37_79B9) >> 7;
            (left < 40 && right < 40).then_some(PairValue { rank: mixed % 97, id: mixed % 60 })
        }
    }

    /// The definition, word for word.
    fn plainly(ids: &mut Vec<u32>) {
        loop {
            let mut best: Option<(u32, usize, u32)> = None;
            for at in 1..ids.len() {
                if let Some(pair) = Scrambled.merge(ids[at - 1], ids[at], 0..0)
                    && best.is_none_or(|(rank, _, _)| pair.rank < rank)
                {
                    best = Some((pair.rank, at - 1, pair.id));
                }
            }
            let Some((_, at, id)) = best else { return };
            ids[at] = id;
            ids.remove(at + 1);
        }
    }

    #[test]
    fn scan_and_queue_follow_the_definition() {
        let mut state = 12345u32;
        for length in (0..60).chain([96, 97, 300, 1000]) {
            let ids: Vec<u32> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    state >> 26
                })
                .collect();
            let symbols: Vec<Symbol> = ids.iter().enumerate().map(|(at, &id)| Symbol::new(id, at..at + 1)).collect();
            let mut expected = ids.clone();
            plainly(&mut expected);

            let mut scanned = symbols.clone();
            merge_by_scan(&Scrambled, &mut scanned);
            assert_eq!(scanned.iter().map(|symbol| symbol.id).collect::<Vec<_>>(), expected, "scan of {length}");

            let mut workspace = Workspace { symbols, ..Workspace::default() };
            merge_by_queue(&Scrambled, &mut workspace);
            let queued = &workspace.symbols;
            assert_eq!(queued.iter().map(|symbol| symbol.id).collect::<Vec<_>>(), expected, "queue of {length}");
            assert_eq!(queued.iter().map(|symbol| symbol.end - symbol.start).sum::<usize>(), length);
        }
    }
}
