//! Penalties on tokens that occurred lately.

use super::SamplingParams;

/// Changes the logits of the tokens in the last `penalty_window` of `history`.
///
/// Each occurring token's logit is divided by the repetition penalty if positive and multiplied if not, then loses
/// the presence penalty and, for each occurrence, the frequency penalty. Ruled-out tokens (-inf) stay ruled out, others
/// stay finite. Tokens outside the vocabulary have no logit and are passed over.
pub fn penalize(logits: &mut [f32], history: &[u32], params: &SamplingParams) {
    let start = history.len().saturating_sub(params.penalty_window);
    let mut recent = history[start..].to_vec();
    recent.sort_unstable();
    for same in recent.chunk_by(|a, b| a == b) {
        let Some(logit) = logits.get_mut(same[0] as usize).filter(|l| **l != f32::NEG_INFINITY) else { continue };
        let r = params.repetition_penalty;
        let repeated = if *logit > 0.0 { *logit / r } else { *logit * r };
        let penalty = params.presence_penalty + params.frequency_penalty * same.len() as f32;
        *logit = (repeated - penalty).clamp(f32::MIN, f32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(history: &[u32], change: fn(&mut SamplingParams)) -> Vec<f32> {
        let mut params = SamplingParams::default();
        change(&mut params);
        let mut logits = vec![2.0, -2.0, 0.0, f32::NEG_INFINITY];
        penalize(&mut logits, history, &params);
        logits
    }

    #[test]
    fn repetition_pushes_both_signs_down() {
        let inf = f32::NEG_INFINITY;
        assert_eq!(after(&[0, 1, 1, 3], |p| p.repetition_penalty = 2.0), [1.0, -4.0, 0.0, inf]);
    }

    #[test]
    fn presence_counts_once_and_frequency_every_time() {
        let inf = f32::NEG_INFINITY;
        assert_eq!(after(&[0, 1, 1], |p| p.presence_penalty = 0.5), [1.5, -2.5, 0.0, inf]);
        assert_eq!(after(&[0, 1, 1], |p| p.frequency_penalty = 0.5), [1.5, -3.0, 0.0, inf]);
    }

    #[test]
    fn only_the_window_counts() {
        let change: fn(&mut SamplingParams) = |p| {
            p.presence_penalty = 1.0;
            p.penalty_window = 2;
        };
        assert_eq!(after(&[0, 0, 1, 2], change), [2.0, -3.0, -1.0, f32::NEG_INFINITY]);
        assert_eq!(after(&[9, 3], change), [2.0, -2.0, 0.0, f32::NEG_INFINITY]);
    }

    #[test]
    fn extreme_penalties_stay_finite() {
        let logits = after(&[0, 1], |p| {
            p.repetition_penalty = 1e-38;
            p.presence_penalty = f32::MAX;
        });
        assert!(logits[..3].iter().all(|l| l.is_finite()), "{logits:?}");
    }
}
