//! What logits say about the token that came, and how two models' logits differ at one position.

/// How one position was predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Negative logarithm of the token's probability.
    pub nll: f64,
    /// Against the base model, where there is one.
    pub divergence: Option<Divergence>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Divergence {
    /// Kullback-Leibler divergence from the base model's distribution, Σ p_base ln(p_base / p).
    pub kl: f64,
    /// Whether both find the same token most likely.
    pub same_top: bool,
}

/// Scores one row of logits `[vocab]`, and the base model's row beside it.
pub fn score(logits: &[f32], base: Option<&[f32]>, token: u32) -> Score {
    let row = Row::new(logits);
    let divergence = base.map(|base| {
        let base = Row::new(base);
        Divergence { kl: base.kl_to(&row), same_top: base.top == row.top }
    });
    Score { nll: row.normalizer - f64::from(logits[token as usize]), divergence }
}

/// Logits with what makes log-probabilities of them.
struct Row<'a> {
    logits: &'a [f32],
    /// The first of the largest logits.
    top: usize,
    /// ln Σ exp(logit): a log-probability is a logit less this.
    normalizer: f64,
}

impl<'a> Row<'a> {
    fn new(logits: &'a [f32]) -> Self {
        let larger = |best: (usize, f32), (i, &v): (usize, &f32)| if v > best.1 { (i, v) } else { best };
        let (top, max) = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), larger);
        // Terms in f32 lose nothing that matters, the sum of many in f32 would.
        let sum: f64 = logits.iter().map(|v| f64::from(libm::expf(v - max))).sum();
        Self { logits, top, normalizer: f64::from(max) + libm::log(sum) }
    }

    fn kl_to(&self, other: &Row) -> f64 {
        let shift = other.normalizer - self.normalizer;
        if shift.is_nan() {
            return shift;
        }
        let term = |(&p, &q): (&f32, &f32)| {
            // A token that this model rules out adds nothing, however the other sees it.
            let weight = f64::from(libm::expf((f64::from(p) - self.normalizer) as f32));
            if weight > 0.0 { weight * (f64::from(p) - f64::from(q) + shift) } else { 0.0 }
        };
        // Rounding may leave a trifle below zero.
        self.logits.iter().zip(other.logits).map(term).sum::<f64>().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn softmax(logits: &[f32]) -> Vec<f64> {
        let sum: f64 = logits.iter().map(|v| f64::from(*v).exp()).sum();
        logits.iter().map(|v| f64::from(*v).exp() / sum).collect()
    }

    #[test]
    fn equals_the_definitions() {
        let (a, b) = ([0.3f32, -1.2, 2.5, 0.0], [0.1f32, -0.2, 1.5, 1.9]);
        let (p, q) = (softmax(&b), softmax(&a));
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        let found = score(&a, Some(&b), 1);
        assert!((found.nll + q[1].ln()).abs() < 1e-6);
        assert!((found.divergence.unwrap().kl - kl).abs() < 1e-6);
        assert!(!found.divergence.unwrap().same_top);
    }

    #[test]
    fn equal_logits_have_no_divergence() {
        let a = [0.3f32, -1.2, 2.5, f32::NEG_INFINITY];
        assert_eq!(score(&a, Some(&a), 0).divergence, Some(Divergence { kl: 0.0, same_top: true }));
    }

    #[test]
    fn what_is_not_a_number_stays_visible() {
        let (good, bad) = ([0.0f32, 1.0], [0.0, f32::NAN]);
        assert!(score(&bad, None, 0).nll.is_nan());
        assert!(score(&good, Some(&bad), 0).divergence.unwrap().kl.is_nan());
        assert!(score(&[f32::NEG_INFINITY; 2], None, 0).nll.is_nan());
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        assert_eq!(score(&[1e30, 0.0], None, 0).nll, 0.0);
        assert_eq!(score(&[1e30, 0.0], None, 1).nll, f64::from(1e30f32));
    }
}
