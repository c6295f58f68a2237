//! Unigram segmentation (Kudo 2018): of all ways to cut a piece into tokens, the one with the highest sum of scores.

use super::fallback::Fallback;
use super::table::{NO_ID, PairMap, PairValue};
use super::vocabulary::Vocabulary;

/// An unknown character scores this much below the worst token, as in SentencePiece.
const UNKNOWN_PENALTY: f64 = 10.0;

#[derive(Debug)]
pub(super) struct Unigram {
    /// Trie over token bytes: (node, byte) to the child (`rank`) and the token that ends there (`id`, or `NO_ID`).
    /// Node 0 is the root.
    trie: PairMap,
    /// Log probability by id.
    scores: Vec<f64>,
    unknown_score: f64,
    fallback: Fallback,
}

/// The best way found so far to reach a byte of the piece.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    score: f64,
    /// Where the last token starts.
    from: usize,
    /// The last token; `NO_ID` for an unknown character.
    id: u32,
}

/// Working memory of [`Unigram::encode`], kept between pieces.
#[derive(Debug, Default)]
pub(super) struct Lattice {
    arrivals: Vec<Option<Arrival>>,
    /// (start, end, id) of the best path, last token first.
    path: Vec<(usize, usize, u32)>,
}

impl Unigram {
    /// `scores` by id, as long as the vocabulary.
    pub fn new(vocabulary: &Vocabulary, scores: Vec<f64>, fallback: Fallback) -> Self {
        let ids: Vec<u32> = (0..vocabulary.len() as u32).filter(|&id| vocabulary.finds(id)).collect();
        let letters = ids.iter().map(|&id| vocabulary.bytes(id).len()).sum();
        let mut trie = PairMap::with_capacity(letters);
        let mut nodes = 1;
        for id in ids {
            let bytes = vocabulary.bytes(id);
            let mut node = 0;
            for (at, &byte) in bytes.iter().enumerate() {
                let ends_here = at + 1 == bytes.len();
                let edge = trie.get(node, u32::from(byte));
                let (child, ending) = edge.map_or((nodes, NO_ID), |edge| (edge.rank, edge.id));
                nodes += u32::from(edge.is_none());
                let value = PairValue { rank: child, id: if ends_here { id } else { ending } };
                trie.insert(node, u32::from(byte), value);
                node = child;
            }
        }
        let worst = scores.iter().copied().filter(|score| score.is_finite()).fold(f64::INFINITY, f64::min);
        Self { trie, scores, unknown_score: worst - UNKNOWN_PENALTY, fallback }
    }

    /// Appends the tokens of a piece.
    pub fn encode(&self, piece: &str, lattice: &mut Lattice, out: &mut Vec<u32>) {
        self.fill(piece, &mut lattice.arrivals);
        lattice.path.clear();
        let mut end = piece.len();
        // Every character has an arrival, if only the unknown one, so the walk back ends at 0.
        while let Some(arrival) = lattice.arrivals[end].filter(|_| end > 0) {
            lattice.path.push((arrival.from, end, arrival.id));
            end = arrival.from;
        }
        let mut after_unknown = false;
        for &(start, end, id) in lattice.path.iter().rev() {
            if id == NO_ID {
                after_unknown = self.fallback.push(&piece.as_bytes()[start..end], after_unknown, out);
            } else {
                out.push(id);
                after_unknown = false;
            }
        }
    }

    /// Viterbi's forward pass: `arrivals[end]` for every byte that a token may end at.
    fn fill(&self, piece: &str, arrivals: &mut Vec<Option<Arrival>>) {
        arrivals.clear();
        arrivals.resize(piece.len() + 1, None);
        arrivals[0] = Some(Arrival { score: 0.0, from: 0, id: NO_ID });
        for (start, character) in piece.char_indices() {
            let base = arrivals[start].map_or(0.0, |arrival| arrival.score);
            let character_end = start + character.len_utf8();
            let mut is_known = false;
            let mut node = 0;
            for (at, &byte) in piece.as_bytes()[start..].iter().enumerate() {
                let Some(edge) = self.trie.get(node, u32::from(byte)) else { break };
                node = edge.rank;
                if edge.id != NO_ID {
                    let end = start + at + 1;
                    is_known |= end == character_end;
                    let score = base + self.scores[edge.id as usize];
                    offer(&mut arrivals[end], Arrival { score, from: start, id: edge.id });
                }
            }
            if !is_known {
                let score = base + self.unknown_score;
                offer(&mut arrivals[character_end], Arrival { score, from: start, id: NO_ID });
            }
        }
    }
}

/// Of equal scores the earlier offer stays.
fn offer(best: &mut Option<Arrival>, arrival: Arrival) {
    if best.is_none_or(|best| arrival.score > best.score) {
        *best = Some(arrival);
    }
}
