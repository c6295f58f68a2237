//! How the IQ1 types choose entries of a codebook: `x ≈ scale * (place - 1 ± 1/8)`, with places 0, 1 and 2.
//!
//! Without the codebook the best places are found exactly: in ascending order, values below one boundary have place 0, those
//! from another one on place 2. For each two boundaries and each sign of the eighth, sums over the three parts give the
//! least-squares scale and how much it explains; the first of the best wins. Then groups of eight values go to the entry
//! with these places, or to the best of its neighbours.
//!
//! Sixteen sub-blocks are searched side by side, one in each lane. Arrays of vectors are written out: what `map` of an array
//! calls is compiled without the instructions of the tier, and is not inlined.

use std::sync::LazyLock;

use super::grid::{IQ1_GRID, entry};
use super::neighbours::{Group, Neighbours, places};
use crate::simd::{LANES, Simd};

/// What places stand for, in the order of places: an eighth more, or an eighth less.
pub(super) const MORE: [f32; 3] = [-0.875, 0.125, 1.125];
pub(super) const LESS: [f32; 3] = [-1.125, -0.125, 0.875];

pub(super) static NEIGHBOURS: LazyLock<Neighbours<8>> = LazyLock::new(|| Neighbours::new(IQ1_GRID, 3));

/// The values of a sub-block in ascending order, equal ones in theirs: where they stand.
#[inline(always)]
pub(super) fn ascending<const SUB: usize>(x: &[f32; SUB]) -> [u8; SUB] {
    let mut keys: [u64; SUB] = std::array::from_fn(|i| {
        // Zeros of both signs are equal.
        let bits = (x[i] + 0.0).to_bits();
        let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        u64::from(ordered) << 32 | i as u64
    });
    keys.sort_unstable();
    keys.map(|key| key as u8)
}

/// The best outcome of a lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    pub scale: f32,
    /// The boundaries: how many values have place 0, and how many place 0 or 1.
    pub bounds: [usize; 2],
    /// Which of the signs.
    pub sign: usize,
}

impl Split {
    /// The places of a sub-block's values, which are in `order`.
    #[inline(always)]
    pub fn places<const SUB: usize>(&self, order: &[u8; SUB]) -> [u8; SUB] {
        let mut places = [0; SUB];
        for (rank, at) in order.iter().enumerate() {
            places[usize::from(*at)] = self.bounds.iter().map(|bound| u8::from(rank >= *bound)).sum();
        }
        places
    }
}

/// The best outcomes so far, in all lanes: one number tells boundaries and sign.
struct Best<S: Simd> {
    explained: S::F,
    scale: S::F,
    number: S::F,
}

impl<S: Simd> Best<S> {
    #[inline(always)]
    unsafe fn new() -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self { explained: S::splat(-f32::MAX), scale: S::splat(0.0), number: S::splat(-1.0) } }
    }

    /// Takes Σ w x q and Σ w q² of an outcome, in lanes where it explains more.
    #[inline(always)]
    unsafe fn offer(&mut self, sum_xq: S::F, sum_qq: S::F, number: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let bound = S::mul(self.explained, sum_qq);
            // NaN, which is not above anything, where there is nothing to divide by.
            let squared = S::select_lt(S::splat(0.0), sum_qq, S::mul(sum_xq, sum_xq), S::splat(f32::NAN));
            let scale = S::div(sum_xq, sum_qq);
            self.explained = S::select_lt(bound, squared, S::mul(scale, sum_xq), self.explained);
            self.number = S::select_lt(bound, squared, S::splat(number as f32), self.number);
            self.scale = S::select_lt(bound, squared, scale, self.scale);
        }
    }

    #[inline(always)]
    unsafe fn splits(self, signs: usize) -> [Option<Split>; LANES] {
        let (mut scales, mut numbers) = ([0.0; LANES], [0.0; LANES]);
        // SAFETY: the caller's promise; both have 16 lanes.
        unsafe {
            S::store(scales.as_mut_ptr(), self.scale);
            S::store(numbers.as_mut_ptr(), self.number);
        }
        std::array::from_fn(|lane| {
            let number = (numbers[lane] >= 0.0).then_some(numbers[lane] as usize)?;
            let bounds = number / signs;
            Some(Split { scale: scales[lane], bounds: [bounds / BASE, bounds % BASE], sign: number % signs })
        })
    }
}

/// Boundaries are below this.
const BASE: usize = 64;

/// The number of an outcome.
#[inline(always)]
fn number(bounds: [usize; 2], signs: usize, sign: usize) -> usize {
    (BASE * bounds[0] + bounds[1]) * signs + sign
}

/// Σ w x and Σ w over the first values of each lane's sub-block, in ascending order: of none, of one, up to all.
pub(super) type Sums<const N: usize> = [[[f32; LANES]; N]; 2];

/// The best split of sixteen sub-blocks of 32 values with one sign each: 0 for [`MORE`], 1 for [`LESS`].
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn one_sign<S: Simd>([xs, ws]: &Sums<33>) -> [Option<Split>; LANES] {
    const SIGNS: [[f32; 3]; 2] = [MORE, LESS];
    // SAFETY: the caller's promise; every row has 16 lanes.
    unsafe {
        let load = |row: &[f32; LANES]| S::load(row.as_ptr());
        let square = |w: S::F, q: f32| S::mul(S::mul(w, S::splat(q)), S::splat(q));
        let (all_x, all_w) = (load(&xs[32]), load(&ws[32]));
        // What the values from a boundary on add, with each sign.
        let mut upper = [[(all_x, all_w); 2]; 33];
        for (upper, (x, w)) in upper.iter_mut().zip(xs.iter().zip(ws)) {
            let (x, w) = (S::sub(all_x, load(x)), S::sub(all_w, load(w)));
            let of = |q: [f32; 3]| (S::mul(x, S::splat(q[2])), square(w, q[2]));
            *upper = [of(MORE), of(LESS)];
        }
        let mut best = Best::<S>::new();
        for low in 0..33 {
            let (low_x, low_w) = (load(&xs[low]), load(&ws[low]));
            let of = |q: [f32; 3]| (S::mul(low_x, S::splat(q[0])), square(low_w, q[0]));
            let lower = [of(MORE), of(LESS)];
            for high in low..33 {
                let (x, w) = (S::sub(load(&xs[high]), low_x), S::sub(load(&ws[high]), low_w));
                for (sign, q) in SIGNS.iter().enumerate() {
                    let sum_xq = S::add(S::add(lower[sign].0, S::mul(x, S::splat(q[1]))), upper[high][sign].0);
                    let sum_qq = S::add(S::add(lower[sign].1, square(w, q[1])), upper[high][sign].1);
                    best.offer(sum_xq, sum_qq, number([low, high], 2, sign));
                }
            }
        }
        best.splits(2)
    }
}

/// The best split of sixteen sub-blocks of 16 values, with a sign for each half: that of the first half counts two, and 0
/// stands for [`MORE`]. `halves` are the sums over the values of each half.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn two_signs<S: Simd>(halves: &[Sums<17>; 2]) -> [Option<Split>; LANES] {
    // With numbers one apart, a sum over three parts is that over all with the highest number, less those below each
    // boundary; of squares, with what the numbers' squares differ by.
    const TOP: [f32; 2] = [MORE[2], LESS[2]];
    const STEPS: [[f32; 2]; 2] = [steps(MORE), steps(LESS)];
    // SAFETY: the caller's promise; every row has 16 lanes.
    unsafe {
        let load = |row: &[f32; LANES]| S::load(row.as_ptr());
        let of = |half: usize, sign: usize| {
            let [x, w] = &halves[half];
            let (q, x, w) = (S::splat(TOP[sign]), load(&x[16]), load(&w[16]));
            (S::mul(x, q), S::mul(S::mul(w, q), q))
        };
        let all = [[of(0, 0), of(0, 1)], [of(1, 0), of(1, 1)]];
        let mut best = Best::<S>::new();
        for low in 0..17 {
            let of = |half: usize, sign: usize| {
                let w = load(&halves[half][1][low]);
                S::add(all[half][sign].1, S::mul(w, S::splat(STEPS[sign][0])))
            };
            let lower = [[of(0, 0), of(0, 1)], [of(1, 0), of(1, 1)]];
            for high in low..17 {
                let of = |half: usize, sign: usize| {
                    let [x, w] = &halves[half];
                    let below = S::add(load(&x[low]), load(&x[high]));
                    let step = S::mul(load(&w[high]), S::splat(STEPS[sign][1]));
                    (S::sub(all[half][sign].0, below), S::add(lower[half][sign], step))
                };
                let sums = [[of(0, 0), of(0, 1)], [of(1, 0), of(1, 1)]];
                for sign in 0..4 {
                    let (first, second) = (sums[0][sign / 2], sums[1][sign % 2]);
                    let (sum_xq, sum_qq) = (S::add(first.0, second.0), S::add(first.1, second.1));
                    best.offer(sum_xq, sum_qq, number([low, high], 4, sign));
                }
            }
        }
        best.splits(4)
    }
}

/// How the squares of three numbers differ, from each to the next.
const fn steps(q: [f32; 3]) -> [f32; 2] {
    [q[0] * q[0] - q[1] * q[1], q[1] * q[1] - q[2] * q[2]]
}

/// The entry for eight values of these places at a scale, and whether it has the same places.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn entry_of<S: Simd>(
    place: &[u8; 8],
    x: &[f32; 8],
    w: &[f32; 8],
    scale: f32,
    q: &[f32; 3],
) -> (u16, bool) {
    let point = Neighbours::<8>::point(place.map(usize::from));
    // SAFETY: the caller's promise.
    unsafe { NEIGHBOURS.entry::<S, true>(point, &Group::<S, 8>::new(x, w), scale, q[0]) }
}

/// Adds Σ w q x and Σ w q² of eight values that have an entry, times `factor`.
#[inline(always)]
pub(super) fn add_sums(at: u16, factor: f32, x: &[f32; 8], w: &[f32; 8], q: &[f32; 3], sums: &mut [f32; 2]) {
    let places: [i16; 8] = places(entry(IQ1_GRID, at.into()));
    for ((x, w), place) in x.iter().zip(w).zip(places) {
        let q = q[place as usize] * factor;
        sums[0] += w * q * x;
        sums[1] += w * q * q;
    }
}
