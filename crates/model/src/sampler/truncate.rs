//! Which tokens stay in the draw: top-k, top-p and min-p.

use std::cmp::Ordering;

use super::SamplingParams;

/// A token that may be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub logit: f32,
    pub token: u32,
}

/// How many candidates the search for the top-p set looks at first, and by how much it widens: most distributions have
/// their mass in a few tokens, and a pass over the logits costs far less than sorting them.
const FIRST_LOOK: usize = 64;
const WIDEN: usize = 8;
/// Logits that are skimmed together.
const SKIM: usize = 128;

/// Fills `out` with the tokens that stay, out of logits without NaN and with at least one finite value, the largest of which
/// is `max`.
///
/// Top-k takes the k most likely tokens, the lower id of equals. Top-p takes, of those, the most likely ones up to the
/// first where their probabilities sum to at least p. Min-p takes, of those, tokens at least `min_p` times as likely as
/// the most likely one. The result is sorted from the most likely, but in id order where neither top-k nor top-p can cut
/// (k is 0 or the vocabulary, p is 1).
pub fn truncate(logits: &[f32], max: f32, params: &SamplingParams, out: &mut Vec<Candidate>) {
    let all = logits.len();
    let k = if params.top_k == 0 { all } else { params.top_k.min(all) };
    if params.top_p < 1.0 {
        let mut look = if k < all { k } else { FIRST_LOOK.min(all) };
        most_likely(logits, look, out);
        let total = if k < all { mass(out.iter().map(|c| c.logit), max) } else { mass(logits.iter().copied(), max) };
        while !cut_at_mass(out, f64::from(params.top_p) * total, max) && look < k {
            look = (look * WIDEN).min(k);
            most_likely(logits, look, out);
        }
    } else if k < all {
        most_likely(logits, k, out);
    } else {
        out.clear();
        out.extend(candidates(logits));
    }
    let floor = libm::logf(params.min_p); // -inf for 0, which keeps all.
    out.retain(|c| c.logit - max >= floor);
}

fn candidates(logits: &[f32]) -> impl Iterator<Item = Candidate> {
    let all = logits.iter().zip(0..).map(|(&logit, token)| Candidate { logit, token });
    all.filter(|c| c.logit > f32::NEG_INFINITY)
}

/// Σ exp(logit - max).
fn mass(logits: impl Iterator<Item = f32>, max: f32) -> f64 {
    logits.map(|l| f64::from(libm::expf(l - max))).sum()
}

/// Drops the candidates after the first where the mass reaches `target`; false where it never does.
fn cut_at_mass(sorted: &mut Vec<Candidate>, target: f64, max: f32) -> bool {
    let mut sum = 0.0;
    for i in 0..sorted.len() {
        sum += f64::from(libm::expf(sorted[i].logit - max));
        if sum >= target {
            sorted.truncate(i + 1);
            return true;
        }
    }
    false
}

/// The `k` most likely tokens, sorted: one pass that keeps what beats the k-th best so far.
fn most_likely(logits: &[f32], k: usize, out: &mut Vec<Candidate>) {
    // Never NaN, and ±0 are equals, as for `argmax`.
    let by_logit = |a: &Candidate, b: &Candidate| b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal);
    let order = |a: &Candidate, b: &Candidate| by_logit(a, b).then(a.token.cmp(&b.token));
    let capacity = (2 * k).max(FIRST_LOOK);
    let mut floor = f32::NEG_INFINITY;
    out.clear();
    for (chunk, first) in logits.chunks(SKIM).zip((0..).step_by(SKIM)) {
        // Few chunks have a logit above the floor; whether one has is seen in all lanes of a vector at once.
        if !chunk.iter().fold(false, |any, logit| any | (*logit > floor)) {
            continue;
        }
        for (&logit, token) in chunk.iter().zip(first..) {
            // A later token that equals the k-th best loses to it by its id.
            if logit > floor {
                out.push(Candidate { logit, token });
                if out.len() == capacity {
                    out.select_nth_unstable_by(k - 1, order);
                    out.truncate(k);
                    floor = out[k - 1].logit;
                }
            }
        }
    }
    out.sort_unstable_by(order);
    out.truncate(k);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sorts everything, then cuts by the definitions.
    fn plain(logits: &[f32], p: &SamplingParams) -> Vec<u32> {
        let mut sorted: Vec<Candidate> = candidates(logits).collect();
        sorted.sort_by(|a, b| b.logit.total_cmp(&a.logit)); // Stable: equals stay in id order.
        if p.top_k > 0 {
            sorted.truncate(p.top_k);
        }
        let max = sorted[0].logit;
        let weights: Vec<f64> = sorted.iter().map(|c| f64::from(libm::expf(c.logit - max))).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let kept = sorted.iter().zip(&weights).take_while(|(_, w)| {
            let open = p.top_p >= 1.0 || sum < f64::from(p.top_p) * total;
            sum += *w;
            open
        });
        kept.filter(|(c, _)| c.logit - max >= libm::logf(p.min_p)).map(|(c, _)| c.token).collect()
    }

    proptest! {
        #[test]
        fn equals_the_plain_definition(
            // Few distinct values, so that ties are common.
            logits in prop::collection::vec((-20i32..20).prop_map(|v| v as f32 / 2.0), 1..700),
            ruled_out in 0usize..700,
            top_k in 0usize..300,
            top_p in 0.01f32..1.3,
            min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0],
        ) {
            let mut logits = logits;
            if logits.len() > 1 {
                let n = logits.len();
                logits[ruled_out % n] = f32::NEG_INFINITY;
            }
            let p = SamplingParams { top_k, top_p: top_p.min(1.0), min_p, ..SamplingParams::default() };
            let mut out = Vec::new();
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            truncate(&logits, max, &p, &mut out);
            let mut found: Vec<u32> = out.iter().map(|c| c.token).collect();
            let mut expected = plain(&logits, &p);
            // The mass of all tokens is summed in another order there; a cut may fall on either side of a tie with p.
            let slack = usize::from(p.top_p < 1.0);
            if p.top_p >= 1.0 && (p.top_k == 0 || p.top_k >= logits.len()) {
                expected.sort_unstable();
            }
            let n = found.len().min(expected.len());
            prop_assert!(found.len().abs_diff(expected.len()) <= slack);
            found.truncate(n);
            expected.truncate(n);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn one_token_always_stays() {
        let p = SamplingParams { top_k: 1, top_p: 1e-6, min_p: 1.0, ..SamplingParams::default() };
        let mut out = Vec::new();
        truncate(&[1.0, 3.0, 3.0], 3.0, &p, &mut out);
        assert_eq!(out, [Candidate { logit: 3.0, token: 1 }]);
    }
}
