//! Better blocks of the same types: a search for the scales, offsets and integers with the smallest weighted squared error.
//!
//! All types with scales are lattices of one kind: `x ≈ (d s) level(q) - dmin m`, where a block has f16 `d` and `dmin`, each
//! of its sub-blocks integers `s` and `m`, and each value an integer q. What differs is a row of [`LATTICES`]. The search
//! knows no type: `sub_block` fits real scales and offsets to single sub-blocks, `block` finds `d` and `dmin` whose
//! multiples are near all of them. Where it is known how a matrix's inputs go together, `joint` then lets the values of a
//! row make up for each other.
//!
//! No block gets worse: what is found replaces a block only if its decoded values are nearer.

mod block;
mod joint;
mod levels;
mod sub_block;
mod write;

use super::{DType, QuantType, iq4_nl, iq4_xs, q2_k, q3_k, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0};
use crate::simd::{Kernel, Simd, Tier};

pub use joint::{Moments, settle};

/// The most values of a block.
const BLOCK: usize = 256;
/// The most sub-blocks.
const SUBS: usize = 16;

/// A block before it is packed.
#[derive(Clone, Debug)]
struct Parts {
    /// f16 numbers.
    d: f32,
    dmin: f32,
    scales: [i8; SUBS],
    mins: [i8; SUBS],
    /// Which level each value has, from 0.
    q: [u8; BLOCK],
}

/// What integers stand for, in units of a scale.
#[derive(Clone, Copy, Debug)]
enum Levels {
    /// From the first to the last, one apart.
    Whole(i16, i16),
    /// Those of IQ4_NL.
    Nonlinear,
}

/// The numbers that multiples of `d` or `dmin` may have in a block: from the first to the last.
type Multiples = (i8, i8);
/// `d` itself is the scale.
const ONE: Multiples = (1, 1);
/// There is no offset.
const NONE: Multiples = (0, 0);

/// How a type stores values.
#[derive(Debug)]
struct Lattice {
    of: &'static QuantType,
    /// Values that share a scale: 16 or 32.
    sub: usize,
    levels: Levels,
    scales: Multiples,
    mins: Multiples,
    /// Where `d` stands in a block, and `dmin`.
    steps: &'static [usize],
    pack: fn(&Parts, &mut [u8]),
}

/// Every type whose blocks can be searched.
static LATTICES: [Lattice; 12] = {
    const fn row(
        of: &'static QuantType,
        sub: usize,
        levels: Levels,
        scales: Multiples,
        mins: Multiples,
        steps: &'static [usize],
        pack: fn(&Parts, &mut [u8]),
    ) -> Lattice {
        Lattice { of, sub, levels, scales, mins, steps, pack }
    }
    use Levels::{Nonlinear, Whole};
    [
        row(&q4_0::TYPE, 32, Whole(-8, 7), ONE, NONE, &[0], write::q4_0),
        row(&q4_1::TYPE, 32, Whole(0, 15), ONE, ONE, &[0, 2], write::q4_1),
        row(&q5_0::TYPE, 32, Whole(-16, 15), ONE, NONE, &[0], write::q5_0),
        row(&q5_1::TYPE, 32, Whole(0, 31), ONE, ONE, &[0, 2], write::q5_1),
        row(&q8_0::TYPE, 32, Whole(-127, 127), ONE, NONE, &[0], write::q8_0),
        row(&iq4_nl::TYPE, 32, Nonlinear, ONE, NONE, &[0], write::q4_0),
        row(&q2_k::TYPE, 16, Whole(0, 3), (0, 15), (0, 15), &[80, 82], write::q2_k),
        row(&q3_k::TYPE, 16, Whole(-4, 3), (-32, 31), NONE, &[108], write::q3_k),
        row(&q4_k::TYPE, 32, Whole(0, 15), (0, 63), (0, 63), &[0, 2], write::q4_k),
        row(&q5_k::TYPE, 32, Whole(0, 31), (0, 63), (0, 63), &[0, 2], write::q5_k),
        row(&q6_k::TYPE, 16, Whole(-32, 31), (-128, 127), NONE, &[208], write::q6_k),
        row(&iq4_xs::TYPE, 32, Nonlinear, (-32, 31), NONE, &[0], write::iq4_xs),
    ]
};

fn lattice(dtype: DType) -> Option<&'static Lattice> {
    LATTICES.iter().find(|lattice| lattice.of.ggml_id == dtype.ggml_id)
}

/// Whether [`improve`] knows the type.
pub fn searchable(dtype: DType) -> bool {
    lattice(dtype).is_some()
}

/// Makes the weighted squared error Σ w (x - value)² of encoded rows smaller, with the same bytes on every tier.
///
/// `values` is n × `weights.len()`, whose length is a multiple of the type's block; `blocks` are these values as an encoder
/// left them. Weights are not negative. Blocks of other types than the [`searchable`] ones stay as they are.
pub fn improve(dtype: DType, tier: Tier, values: &[f32], weights: &[f32], blocks: &mut [u8]) {
    struct Run<'a>(&'static Lattice, &'a [f32], &'a [f32], &'a mut [u8]);
    impl Kernel for Run<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn body<S: Simd>(self) {
            // SAFETY: the caller's promise.
            unsafe { rows::<S>(self.0, self.1, self.2, self.3) }
        }
    }
    let Some(lattice) = lattice(dtype) else { return };
    let tier = if tier.available() { tier } else { Tier::Scalar };
    // SAFETY: the tier is available.
    unsafe { tier.run(Run(lattice, values, weights, blocks)) }
}

/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn rows<S: Simd>(lattice: &Lattice, values: &[f32], weights: &[f32], blocks: &mut [u8]) {
    let QuantType { block, bytes, .. } = *lattice.of;
    let mut found = [0; 256];
    let found = &mut found[..bytes];
    let row_bytes = weights.len() / block * bytes;
    for (values, blocks) in values.chunks_exact(weights.len()).zip(blocks.chunks_exact_mut(row_bytes)) {
        let weights = weights.chunks_exact(block);
        for ((x, w), old) in values.chunks_exact(block).zip(weights).zip(blocks.chunks_exact_mut(bytes)) {
            // SAFETY: the caller's promise.
            let parts = unsafe {
                match (lattice.sub, lattice.levels) {
                    (16, Levels::Whole(low, high)) => {
                        block::search::<S, 16>(lattice, levels::Whole { low, high }, x, w)
                    }
                    (_, Levels::Whole(low, high)) => block::search::<S, 32>(lattice, levels::Whole { low, high }, x, w),
                    (_, Levels::Nonlinear) => block::search::<S, 32>(lattice, levels::Nonlinear, x, w),
                }
            };
            found.fill(0);
            (lattice.pack)(&parts, found);
            if error(lattice, x, w, found) < error(lattice, x, w, old) {
                old.copy_from_slice(found);
            }
        }
    }
}

/// The weighted squared error of a block.
fn error(lattice: &Lattice, x: &[f32], w: &[f32], block: &[u8]) -> f64 {
    let mut decoded = [0.0; BLOCK];
    let decoded = &mut decoded[..x.len()];
    (lattice.of.decode)(block, decoded);
    let terms = x.iter().zip(w).zip(decoded).map(|((x, w), v)| f64::from(*w) * (f64::from(*x) - f64::from(*v)).powi(2));
    terms.sum()
}

#[cfg(test)]
mod tests;
