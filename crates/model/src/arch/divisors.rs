//! From a tensor of RoPE divisors back to the settings that it was computed from.

use super::rope::{RopeScaling, RopeSettings};

/// Divisors that differ by no more are the same: files compute them in f32 or in f64.
const TOLERANCE: f32 = 1e-5;
/// Pairs divided by so much do not rotate in any context.
const STANDS_STILL: f32 = 1e20;
/// Contexts that models are first trained on, in thousands, tried where the divisors do not tell.
const CONTEXTS: [usize; 8] = [8, 4, 2, 16, 32, 1, 64, 128];

/// The scaling of type `llama3` or `proportional` that has these divisors, or none where all are 1. `None` where there is
/// no such scaling.
///
/// Between the two wavelengths `original / low` and `original / high`, the reciprocal of a divisor is a line over the
/// frequency. Only these two wavelengths matter, so `low` may be 1, which is what models have.
pub(super) fn explain(rope: &RopeSettings, divisors: &[f32]) -> Option<RopeScaling> {
    if divisors.iter().all(|d| *d == 1.0) {
        return Some(RopeScaling::None);
    }
    let pairs = divisors.iter().take_while(|d| **d == 1.0).count();
    if divisors[pairs..].iter().all(|d| *d >= STANDS_STILL) {
        return Some(RopeScaling::Proportional { pairs });
    }
    let factor = f64::from(divisors.iter().copied().fold(1.0, f32::max));
    let plain = RopeSettings { scaling: RopeScaling::None, ..rope.clone() };
    let turns = plain.inv_freq().into_iter().map(|f| f64::from(f) / std::f64::consts::TAU);
    // (1 / wavelength, share of the frequency that is kept), where it is neither none nor all.
    let between: Vec<(f64, f64)> = turns
        .zip(divisors)
        .map(|(turns, divisor)| (turns, (1.0 / f64::from(*divisor) - 1.0 / factor) / (1.0 - 1.0 / factor)))
        .filter(|(_, kept)| *kept > 1e-6 && *kept < 1.0 - 1e-6)
        .collect();
    let candidate = |high: f64, original: usize| RopeScaling::Llama3 {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: high,
        original_context: original,
    };
    let mut candidates = Vec::new();
    if let (Some(first), Some(last)) = (between.first(), between.last())
        && between.len() >= 2
    {
        let slope = (first.1 - last.1) / (first.0 - last.0);
        let at_zero = first.1 - slope * first.0;
        // slope = original / (high - 1), at_zero = -1 / (high - 1)
        let high = 1.0 - 1.0 / at_zero;
        let original = slope * (high - 1.0);
        if high.is_finite() && original.is_finite() && original > 0.0 {
            candidates.push(candidate(high.round(), original.round() as usize));
            candidates.push(candidate(high, original.round() as usize));
        }
    }
    candidates.extend(CONTEXTS.map(|thousands| candidate(4.0, thousands * 1024)));
    candidates.into_iter().find(|scaling| {
        let settings = RopeSettings { scaling: scaling.clone(), ..rope.clone() };
        let same = |(a, b): (f32, &f32)| (a / b - 1.0).abs() <= TOLERANCE;
        settings.divisors().is_some_and(|own| own.len() == divisors.len() && own.into_iter().zip(divisors).all(same))
    })
}

#[cfg(test)]
mod tests {
    use kernels::plan::RopeStyle;

    use super::*;
    use crate::arch::Presence;

    fn rope(dim: usize, theta: f64, scaling: RopeScaling) -> RopeSettings {
        let style = RopeStyle::Half;
        RopeSettings { style, dim, theta, scaling, divisors: Presence::Absent, attention_factor: 1.0 }
    }

    #[test]
    fn settings_are_found_again() {
        for (dim, theta, factor, original_context) in
            [(128, 500_000.0, 8.0, 8192), (64, 500_000.0, 32.0, 8192), (32, 10_000.0, 8.0, 64), (128, 1e6, 4.0, 4096)]
        {
            let scaling = RopeScaling::Llama3 { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context };
            let settings = rope(dim, theta, scaling.clone());
            assert_eq!(explain(&settings, &settings.divisors().unwrap()), Some(scaling));
        }
    }

    #[test]
    fn other_divisors_have_no_explanation() {
        let settings = rope(8, 10_000.0, RopeScaling::None);
        assert_eq!(explain(&settings, &[1.0; 4]), Some(RopeScaling::None));
        assert_eq!(explain(&settings, &[1.0, 2.0, 1.0, 3.0]), None);
        assert_eq!(explain(&settings, &[1.0, 1e30, 1.0, 1e30]), None);
        assert_eq!(explain(&settings, &[1.0, 1e30, 1e30, 1e30]), Some(RopeScaling::Proportional { pairs: 1 }));
    }
}
