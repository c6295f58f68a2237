//! The router of a mixture: from scores to chosen experts and their weights, and the sum of what they give.

use crate::plan::RouterScore;
use crate::simd::{Kernel, LANES, Simd, Tier};

/// Chooses the `chosen.len()` experts with the highest scores, of equal ones the first, and lists them ascending.
/// `order` is room for work.
pub fn choose(scores: &[f32], chosen: &mut [u32], order: &mut Vec<u32>) {
    // A score that is no number is the lowest; both zeros are the same.
    let key = |i: u32| if scores[i as usize].is_nan() { f32::NEG_INFINITY } else { scores[i as usize] + 0.0 };
    order.clear();
    order.extend(0..scores.len() as u32);
    let by_score = |a: &u32, b: &u32| key(*b).total_cmp(&key(*a)).then(a.cmp(b));
    if let Some(last) = chosen.len().checked_sub(1) {
        order.select_nth_unstable_by(last, by_score);
    }
    chosen.copy_from_slice(&order[..chosen.len()]);
    chosen.sort_unstable();
}

/// How scores become weights.
#[derive(Clone, Copy, Debug)]
pub struct Weighting {
    pub score: RouterScore,
    pub normalized: bool,
    pub scale: f32,
}

impl Weighting {
    /// Chooses the experts of one row and weighs them. `scores` has `experts` values, then room up to whole lanes; they are
    /// spent. A `bias` of each expert is added to what scores become, for the choice alone.
    pub fn take(
        &self,
        tier: Tier,
        scores: &mut [f32],
        experts: usize,
        bias: Option<&[f32]>,
        (chosen, weights): (&mut [u32], &mut [f32]),
    ) {
        let mut order = Vec::new();
        match bias {
            None => {
                choose(&scores[..experts], chosen, &mut order);
                self.activate(tier, scores, experts);
            }
            Some(bias) => {
                self.activate(tier, scores, experts);
                let sums: Vec<f32> = scores.iter().zip(bias).map(|(score, bias)| score + bias).collect();
                choose(&sums, chosen, &mut order);
            }
        }
        self.weigh(scores, experts, chosen, weights);
    }

    /// Sigmoids of scores, or their exponentials, which weights are shares of.
    fn activate(&self, tier: Tier, scores: &mut [f32], experts: usize) {
        debug_assert!(scores.len().is_multiple_of(LANES));
        let largest = scores[..experts].iter().fold(f32::NEG_INFINITY, |m, s| if *s > m { *s } else { m });
        let (x, cols) = (scores.as_mut_ptr(), scores.len());
        // SAFETY: the tier is one that this CPU has, and the scores fill whole lanes.
        unsafe {
            match self.score {
                RouterScore::Softmax => tier.run(Exp { x, minus: largest, cols }),
                RouterScore::Sigmoid => tier.run(Sigmoid { x, cols }),
            }
        }
    }

    fn weigh(&self, scores: &[f32], experts: usize, chosen: &[u32], weights: &mut [f32]) {
        let of_chosen = || chosen.iter().map(|e| scores[*e as usize]);
        let total: f32 = match (self.normalized, self.score) {
            (true, _) => of_chosen().sum(),
            (false, RouterScore::Softmax) => scores[..experts].iter().sum(),
            (false, RouterScore::Sigmoid) => 1.0,
        };
        weights.iter_mut().zip(of_chosen()).for_each(|(w, score)| *w = score / total * self.scale);
    }
}

/// `x = e^(x - minus)`, over `cols` values, a multiple of 16, which nothing else touches.
struct Exp {
    x: *mut f32,
    minus: f32,
    cols: usize,
}

impl Kernel for Exp {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: all offsets are below `cols`.
        unsafe {
            for i in (0..self.cols).step_by(LANES) {
                S::store(self.x.add(i), S::exp(S::sub(S::load(self.x.add(i)), S::splat(self.minus))));
            }
        }
    }
}

/// `x = 1 / (1 + e^-x)`, over `cols` values, a multiple of 16.
///
/// Safety: x has as many values, which nothing else touches.
pub struct Sigmoid {
    pub x: *mut f32,
    pub cols: usize,
}

impl Kernel for Sigmoid {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: all offsets are below `cols`.
        unsafe {
            for i in (0..self.cols).step_by(LANES) {
                let e = S::exp(S::sub(S::splat(0.0), S::load(self.x.add(i))));
                S::store(self.x.add(i), S::div(S::splat(1.0), S::add(S::splat(1.0), e)));
            }
        }
    }
}

/// `y = Σ weight * part + shared * y`, over `cols` values, a multiple of 16: in the order of the parts, each step rounded
/// once. Without `shared`, y is only written.
///
/// Safety: all parts and y have as many values; nothing else touches y.
pub struct Combine<'a> {
    pub y: *mut f32,
    pub parts: &'a [(f32, *const f32)],
    pub shared: Option<f32>,
    pub cols: usize,
}

impl Kernel for Combine<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: all offsets are below `cols`.
        unsafe {
            for i in (0..self.cols).step_by(LANES) {
                let mut sum = S::splat(0.0);
                for (weight, part) in self.parts {
                    sum = S::fma(S::splat(*weight), S::load(part.add(i)), sum);
                }
                if let Some(shared) = self.shared {
                    sum = S::fma(S::splat(shared), S::load(self.y.add(i)), sum);
                }
                S::store(self.y.add(i), sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen<const K: usize>(scores: &[f32]) -> [u32; K] {
        let mut chosen = [0; K];
        choose(scores, &mut chosen, &mut Vec::new());
        chosen
    }

    #[test]
    fn the_highest_scores_win_and_of_equal_ones_the_first() {
        assert_eq!(chosen(&[0.5, 3.0, -1.0, 2.0, 2.5]), [1, 4]);
        assert_eq!(chosen(&[1.0, 2.0, 2.0, 2.0, 1.0]), [1, 2]);
        assert_eq!(chosen(&[0.0, -0.0, 0.0]), [0, 1]);
        assert_eq!(chosen(&[-0.0, 0.0]), [0]);
        assert_eq!(chosen(&[7.0, 7.0]), [0, 1]);
        assert_eq!(chosen(&[f32::NAN, -1e30, f32::NAN]), [1]);
        assert_eq!(chosen(&[f32::NAN; 3]), [0, 1]);
        assert_eq!(chosen::<0>(&[1.0]), [0u32; 0]);
    }

    fn weights(score: RouterScore, normalized: bool, scale: f32, tier: Tier) -> [f32; 2] {
        let mut scores = [1e30; LANES];
        scores[..3].copy_from_slice(&[1.0, -2.0, 0.25]);
        let mut weights = [0.0; 2];
        let mut chosen = [0; 2];
        let out = (&mut chosen[..], &mut weights[..]);
        Weighting { score, normalized, scale }.take(tier, &mut scores, 3, None, out);
        assert_eq!(chosen, [0, 2]);
        weights
    }

    #[test]
    fn a_bias_moves_the_choice_and_no_weight() {
        let weighting = Weighting { score: RouterScore::Sigmoid, normalized: false, scale: 1.0 };
        for tier in Tier::all_available() {
            let (mut scores, mut chosen, mut weights) = ([0.0; LANES], [0; 2], [0.0; 2]);
            scores[..3].copy_from_slice(&[40.0, -40.0, 0.0]);
            // 1, 0 and 1/2 before the biases.
            weighting.take(tier, &mut scores, 3, Some(&[0.0, 0.75, -0.25]), (&mut chosen, &mut weights));
            assert_eq!((chosen, weights[0], weights[1] < 1e-15), ([0, 1], 1.0, true), "{}", tier.name());
        }
    }

    #[test]
    fn weights_are_what_they_say() {
        let (a, b, c) = (1f64.exp(), (-2f64).exp(), 0.25f64.exp());
        let (sa, sc) = (a / (1.0 + a), c / (1.0 + c));
        let cases = [
            (RouterScore::Softmax, false, 1.0, [a / (a + b + c), c / (a + b + c)]),
            (RouterScore::Softmax, true, 1.0, [a / (a + c), c / (a + c)]),
            (RouterScore::Sigmoid, false, 2.5, [2.5 * sa, 2.5 * sc]),
            (RouterScore::Sigmoid, true, 1.0, [sa / (sa + sc), sc / (sa + sc)]),
        ];
        for (score, normalized, scale, expected) in cases {
            let first = weights(score, normalized, scale, Tier::Scalar);
            for (found, expected) in first.into_iter().zip(expected) {
                assert!((f64::from(found) - expected).abs() < 1e-6, "{score:?} {normalized}: {found} for {expected}");
            }
            for tier in Tier::all_available() {
                assert_eq!(weights(score, normalized, scale, tier).map(f32::to_bits), first.map(f32::to_bits));
            }
        }
    }
}
