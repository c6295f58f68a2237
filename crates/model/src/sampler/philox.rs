//! Philox4x32-10, a counter-based random generator: the same key and counter give the same bits on every machine, in
//! any order of asking.
//!
//! Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

/// Multipliers of the two halves, from the paper.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// What each round adds to the key: the golden ratio and √3 − 1, as fractions of 2³².
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
/// Rounds with a margin over the seven that pass every known test.
const ROUNDS: usize = 10;

/// The 128 random bits that belong to `counter` under `key`.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32, // The low halves, by truncation.
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A number in `[0, 1)`, a multiple of 2⁻⁵³, that depends on nothing but its arguments: `choice` numbers the answers to
/// one request, `position` is the absolute position of the token that is drawn.
pub fn uniform(seed: u64, choice: u32, position: u64) -> f64 {
    let [a, b, _, _] =
        philox4x32([position as u32, (position >> 32) as u32, choice, 0], [seed as u32, (seed >> 32) as u32]);
    let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors publish with their library.
    #[test]
    fn known_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    /// χ² over 64 bins: below 63 ± 5σ for positions, for seeds and for choices alike.
    #[test]
    fn draws_are_uniform_along_every_coordinate() {
        let axes: [fn(u64) -> f64; 3] = [|i| uniform(7, 0, i), |i| uniform(i, 0, 7), |i| uniform(7, i as u32, 7)];
        for (axis, draw) in axes.iter().enumerate() {
            let mut bins = [0u32; 64];
            let n = 64_000u64;
            (0..n).for_each(|i| bins[(draw(i) * 64.0) as usize] += 1);
            let expected = n as f64 / 64.0;
            let chi2: f64 = bins.iter().map(|&b| (f64::from(b) - expected).powi(2) / expected).sum();
            assert!((7.0..119.0).contains(&chi2), "axis {axis}: {chi2}");
        }
    }

    #[test]
    fn neighbouring_draws_are_uncorrelated() {
        let n = 50_000u64;
        let product: f64 = (0..n).map(|i| (uniform(1, 0, i) - 0.5) * (uniform(1, 0, i + 1) - 0.5)).sum();
        // The product of two centred uniforms has variance 1/144.
        assert!((product / (n as f64 / 144.0).sqrt()).abs() < 5.0, "{product}");
    }
}
