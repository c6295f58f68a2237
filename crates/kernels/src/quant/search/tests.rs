//! What must hold for every type that is searched.

use super::super::encode::samples;
use super::super::nonlinear;
use super::*;

/// Weights of columns as activations have them: a few count a hundred times as much as others, some nothing.
fn weights() -> Vec<f32> {
    (0..BLOCK).map(|i| if i % 50 == 7 { 100.0 } else { (i * 37 % 11) as f32 / 4.0 }).collect()
}

fn encoded(dtype: DType, x: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0; dtype.row_bytes(x.len())];
    dtype.encode.expect("an encoder")(Tier::Scalar, x, &mut blocks);
    blocks
}

fn total(lattice: &Lattice, x: &[f32], w: &[f32], blocks: &[u8]) -> f64 {
    let parts = x.chunks(lattice.of.block).zip(w.chunks(lattice.of.block)).zip(blocks.chunks(lattice.of.bytes));
    parts.map(|((x, w), block)| error(lattice, x, w, block)).sum()
}

/// Each block alone, whatever it holds: values of all sizes, constants, outliers, zeros.
#[test]
fn no_block_gets_worse_and_tiers_agree() {
    let weights = weights();
    for lattice in &LATTICES {
        let dtype = DType(lattice.of);
        for (round, (x, _)) in samples::<16, BLOCK>().enumerate().step_by(8) {
            let old = encoded(dtype, &x);
            let mut expected = None;
            for tier in Tier::all_available() {
                let mut new = old.clone();
                improve(dtype, tier, &x, &weights, &mut new);
                assert_eq!(expected.get_or_insert_with(|| new.clone()), &new, "{dtype} round {round} {}", tier.name());
            }
            let new = expected.expect("the scalar tier");
            for (i, ((x, w), (old, new))) in x
                .chunks(dtype.block)
                .zip(weights.chunks(dtype.block))
                .zip(old.chunks(dtype.bytes).zip(new.chunks(dtype.bytes)))
                .enumerate()
            {
                let (before, after) = (error(lattice, x, w, old), error(lattice, x, w, new));
                assert!(old == new || after < before, "{dtype} round {round} block {i}: {before} to {after}");
                assert!((dtype.finite)(new) || !(dtype.finite)(old), "{dtype} round {round} block {i}");
            }
        }
    }
}

/// The share of the reference's error that is left of normal values: what the search is for. Types of many levels have
/// little to gain.
#[test]
fn normal_values_come_nearer() {
    let x: Vec<f32> =
        samples::<BLOCK, BLOCK>().flat_map(|(x, _)| x).filter(|v| v.abs() > 1e-3 && v.abs() < 10.0).collect();
    let x = &x[..64 * BLOCK];
    for lattice in &LATTICES {
        let dtype = DType(lattice.of);
        let bound = match lattice.of.name {
            "Q8_0" => 1.0,
            "Q5_K" | "Q6_K" | "Q5_1" => 0.97,
            _ => 0.93,
        };
        let mut blocks = encoded(dtype, x);
        let weights = vec![1.0; x.len()];
        let before = total(lattice, x, &weights, &blocks);
        improve(dtype, Tier::detect().unwrap(), x, &weights, &mut blocks);
        let left = total(lattice, x, &weights, &blocks) / before;
        assert!(left <= bound, "{dtype}: {left} of the error is left, expected at most {bound}");
    }
}

/// The weights decide which values come near.
#[test]
fn heavy_values_come_nearest() {
    let x: Vec<f32> =
        samples::<BLOCK, BLOCK>().flat_map(|(x, _)| x).filter(|v| v.abs() > 1e-3 && v.abs() < 10.0).collect();
    let x = &x[..8 * BLOCK];
    let heavy: Vec<f32> = (0..BLOCK).map(|i| if i % 8 == 0 { 1000.0 } else { 1.0 }).collect();
    let only: Vec<f32> = heavy.iter().map(|w| f32::from(*w > 1.0)).collect();
    let (only, equal) = (only.repeat(8), vec![1.0; BLOCK]);
    for lattice in &LATTICES {
        let dtype = DType(lattice.of);
        let of = |weights: &[f32]| {
            let mut blocks = encoded(dtype, x);
            improve(dtype, Tier::Scalar, x, weights, &mut blocks);
            total(lattice, x, &only, &blocks)
        };
        assert!(of(&heavy) < of(&equal), "{dtype}");
    }
}

/// What is packed decodes to what the lattice says.
#[test]
fn parts_are_written_as_they_decode() {
    for lattice in &LATTICES {
        let level = |q: u8| match lattice.levels {
            Levels::Whole(low, _) => f32::from(low) + f32::from(q),
            Levels::Nonlinear => f32::from(nonlinear::VALUES[usize::from(q)]),
        };
        let count = match lattice.levels {
            Levels::Whole(low, high) => (high - low + 1) as usize,
            Levels::Nonlinear => 16,
        };
        let within = |range: Multiples, i: usize| {
            (i32::from(range.0) + (i * 29) as i32 % (i32::from(range.1) - i32::from(range.0) + 1)) as i8
        };
        let parts = Parts {
            d: 0.5,
            dmin: 0.25,
            scales: std::array::from_fn(|i| within(lattice.scales, i + 1)),
            mins: std::array::from_fn(|i| within(lattice.mins, i + 2)),
            q: std::array::from_fn(|i| ((i * 83 + i / 16) % count) as u8),
        };
        let QuantType { block, bytes, decode, .. } = *lattice.of;
        let (mut packed, mut decoded) = (vec![0; bytes], vec![0.0; block]);
        (lattice.pack)(&parts, &mut packed);
        decode(&packed, &mut decoded);
        for (i, v) in decoded.into_iter().enumerate() {
            let sub = i / lattice.sub;
            let (scale, offset) = (0.5 * f32::from(parts.scales[sub]), 0.25 * f32::from(parts.mins[sub]));
            assert_eq!(v, scale * level(parts.q[i]) - offset, "{} value {i}", lattice.of.name);
        }
    }
}

/// Sums of products of inputs that go together: neighbours share half of what they are.
fn moments(cols: usize) -> Moments {
    let span = Moments::span(cols);
    let mut sums = vec![0.0; cols * span];
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    for _ in 0..2 * cols {
        let mut before = 0.0;
        let x: Vec<f32> = (0..cols)
            .map(|column| {
                before = 0.7 * before + next();
                before * (1 + column % 7) as f32
            })
            .collect();
        for (j, sums) in sums.chunks_exact_mut(span).enumerate() {
            let group = &x[j / span * span..cols.min((j / span + 1) * span)];
            sums.iter_mut().zip(group).for_each(|(sum, other)| *sum += x[j] * other);
        }
    }
    Moments::new(cols, &sums).expect("sums of products")
}

/// Two groups, of which the second is shorter.
#[test]
fn values_make_up_for_each_other_and_tiers_agree() {
    const COLS: usize = 5 * BLOCK;
    let moments = moments(COLS);
    assert_eq!(Moments::span(COLS), 3 * BLOCK);
    let normal: Vec<f32> =
        samples::<BLOCK, BLOCK>().flat_map(|(x, _)| x).filter(|v| v.abs() > 1e-3 && v.abs() < 10.0).collect();
    // As large as scales of halves go.
    let wild: Vec<f32> =
        samples::<16, BLOCK>().flat_map(|(x, _)| x.map(|v| v.clamp(-1e4, 1e4))).take(4 * COLS).collect();
    for lattice in &LATTICES {
        let dtype = DType(lattice.of);
        for (x, bound) in [(&normal[..4 * COLS], 0.9), (&wild[..], 1.0)] {
            let old: Vec<u8> = x.chunks(COLS).flat_map(|x| encoded(dtype, x)).collect();
            let mut expected = None;
            for tier in Tier::all_available() {
                let mut new = old.clone();
                settle(dtype, tier, x, &moments, &mut new);
                assert_eq!(expected.get_or_insert_with(|| new.clone()), &new, "{dtype} {}", tier.name());
            }
            let new = expected.expect("the scalar tier");
            let mut all = [0.0; 2];
            let rows = old.chunks(dtype.row_bytes(COLS)).zip(new.chunks(dtype.row_bytes(COLS)));
            for (x, (old, new)) in x.chunks(COLS).zip(rows) {
                let [before, after] = [old, new].map(|blocks| moments.error(dtype, x, blocks));
                assert!(old == new || after < before * (1.0 + 1e-5), "{dtype}: {before} to {after}");
                all = [all[0] + before, all[1] + after];
                assert!((dtype.finite)(new) || !(dtype.finite)(old), "{dtype}");
            }
            assert!(all[1] <= bound * all[0], "{dtype}: {all:?}");
        }
    }
}

impl Moments {
    /// eᵀ M e, plainly.
    fn error(&self, dtype: DType, x: &[f32], blocks: &[u8]) -> f64 {
        let mut decoded = vec![0.0; x.len()];
        (dtype.decode)(blocks, &mut decoded);
        let e: Vec<f64> = x.iter().zip(decoded).map(|(x, v)| f64::from(*x) - f64::from(v)).collect();
        let with = |j: usize, k: usize| f64::from(self.product(j, k)) * e[j] * e[k];
        (0..x.len()).map(|j| (0..x.len()).map(|k| with(j, k)).sum::<f64>()).sum()
    }
}
