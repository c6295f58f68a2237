//! Byte-pair encoding of one piece of text, in its three forms: over bytes (GPT-2 and its heirs), over characters with a
//! list of merges (Llama 2 and Gemma as tokenizer.json), and over characters with scores (the same as SentencePiece files).

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use super::fallback::Fallback;
use super::merge::{Merges, Symbol, Workspace, merge_all};
use super::table::{NO_ID, PairMap, PairValue};
use super::vocabulary::Vocabulary;

/// Which pairs merge, and in what order.
#[derive(Debug)]
pub(super) enum Rule {
    /// Listed pairs, by their place in the list.
    Pairs(PairMap),
    /// Any two symbols whose text together is a token, by that token's score; as ranks by id, lower first.
    Scores(Vec<u32>),
}

/// What a piece is cut into before merging.
#[derive(Debug)]
pub(super) enum Seeds {
    /// Bytes, with the token of each, `NO_ID` where there is none.
    Bytes(Box<[u32; 256]>),
    /// Characters.
    Characters,
}

/// Whether merging the text of a token gives that token; found out when the text first occurs.
const UNTRIED: u8 = 0;
const WHOLE: u8 = 1;
const SPLIT: u8 = 2;

#[derive(Debug)]
pub(super) struct Bpe {
    rule: Rule,
    seeds: Seeds,
    fallback: Fallback,
    /// Whether a piece that is a token stays one, whatever the merges say.
    ignore_merges: bool,
    /// `UNTRIED`, `WHOLE` or `SPLIT` by id.
    outcomes: Box<[AtomicU8]>,
}

impl Bpe {
    /// `tokens` is the number of ids.
    pub fn new(rule: Rule, seeds: Seeds, fallback: Fallback, ignore_merges: bool, tokens: usize) -> Self {
        let outcomes = (0..tokens).map(|_| AtomicU8::new(UNTRIED)).collect();
        Self { rule, seeds, fallback, ignore_merges, outcomes }
    }

    /// Appends the tokens of a piece.
    pub fn encode(&self, vocabulary: &Vocabulary, piece: &str, workspace: &mut Workspace, out: &mut Vec<u32>) {
        let whole = vocabulary.get(piece.as_bytes());
        if let Some(id) = whole
            && (self.ignore_merges || self.outcome(id) == WHOLE)
        {
            out.push(id);
            return;
        }
        self.seed(vocabulary, piece, &mut workspace.symbols);
        match &self.rule {
            Rule::Pairs(pairs) => merge_all(pairs, workspace),
            Rule::Scores(ranks) => merge_all(&Scored { vocabulary, piece: piece.as_bytes(), ranks }, workspace),
        }
        if let Some(id) = whole {
            let stays_whole = matches!(&workspace.symbols[..], [symbol] if symbol.id == id);
            self.set_outcome(id, if stays_whole { WHOLE } else { SPLIT });
        }
        let mut after_unknown = false;
        for symbol in &workspace.symbols {
            if symbol.id == NO_ID {
                after_unknown = self.fallback.push(&piece.as_bytes()[symbol.start..symbol.end], after_unknown, out);
            } else {
                out.push(symbol.id);
                after_unknown = false;
            }
        }
    }

    fn seed(&self, vocabulary: &Vocabulary, piece: &str, symbols: &mut Vec<Symbol>) {
        symbols.clear();
        match &self.seeds {
            Seeds::Bytes(ids) => {
                let seeds = piece.bytes().enumerate().map(|(at, byte)| Symbol::new(ids[usize::from(byte)], at..at + 1));
                let drops = self.fallback.drops();
                symbols.extend(seeds.filter(|seed| seed.id != NO_ID || !drops));
            }
            Seeds::Characters => {
                for (start, character) in piece.char_indices() {
                    let range = start..start + character.len_utf8();
                    match vocabulary.get(&piece.as_bytes()[range.clone()]) {
                        Some(id) => symbols.push(Symbol::new(id, range)),
                        None if self.fallback.drops() => {}
                        None => symbols.push(Symbol::new(NO_ID, range)),
                    }
                }
            }
        }
    }

    // The outcome is a pure function of the vocabulary, so threads that race write the same value.
    fn outcome(&self, id: u32) -> u8 {
        self.outcomes[id as usize].load(Ordering::Relaxed)
    }

    fn set_outcome(&self, id: u32, outcome: u8) {
        self.outcomes[id as usize].store(outcome, Ordering::Relaxed);
    }
}

impl Merges for PairMap {
    fn merge(&self, left: u32, right: u32, _covered: Range<usize>) -> Option<PairValue> {
        self.get(left, right)
    }
}

/// [`Rule::Scores`] on one piece.
struct Scored<'a> {
    vocabulary: &'a Vocabulary,
    piece: &'a [u8],
    ranks: &'a [u32],
}

impl Merges for Scored<'_> {
    fn merge(&self, _left: u32, _right: u32, covered: Range<usize>) -> Option<PairValue> {
        let id = self.vocabulary.get(&self.piece[covered])?;
        Some(PairValue { rank: self.ranks[id as usize], id })
    }
}

/// Ranks for [`Rule::Scores`]: the higher the score, the lower the rank; equal scores have equal ranks, and every rank
/// is below that of a pair that does not merge.
pub(super) fn ranks_of_scores(scores: &[f32]) -> Vec<u32> {
    let rank = |&score: &f32| {
        // -0 counts as 0; not-a-number as the lowest of all.
        let bits = if score.is_nan() { f32::NEG_INFINITY } else { score + 0.0 }.to_bits();
        let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        !ascending - 1
    };
    scores.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_order_scores_downward() {
        let scores = [f32::INFINITY, 3.5, 0.0, -0.0, -1.0, -2.0, -30000.0, f32::NEG_INFINITY, f32::NAN];
        let ranks = ranks_of_scores(&scores);
        assert!(ranks.is_sorted());
        assert_eq!(ranks[2], ranks[3]);
        assert!(ranks[0] < ranks[1] && ranks[1] < ranks[2] && ranks[5] < ranks[6]);
        assert!(ranks.iter().all(|&rank| rank < u32::MAX));
    }
}
