//! How Q4_K and Q5_K choose a scale and an offset for each 32 values: `x ≈ scale * q - offset`, q in 0..=top.
//!
//! A search over inverse scales: each candidate quantizes the values, a weighted least-squares fit gives the best scale
//! and offset for these integers, and the fit with the smallest weighted squared error wins. A value's weight is the root
//! mean square of the 32 plus its magnitude. The offset is never negative, as it is stored without a sign.
//!
//! [`fit`] is the plain version. [`fit_16`] runs sixteen fits side by side, one in each lane, with the same operations in
//! the same order in each lane.

use super::encode::{SHIFT, half, nearest};
use crate::simd::{LANES, Simd};

/// Values that share a scale.
const SUB: usize = 32;
/// The values of [`LANES`] fits: two blocks.
pub(super) const BATCH: usize = LANES * SUB;

/// What a type searches: candidate number i has the inverse scale `(top + first + i / 10) / range`.
#[derive(Clone, Copy)]
pub(super) struct Search {
    /// The largest q.
    pub top: u8,
    pub first: f32,
    pub candidates: u8,
}

impl Search {
    /// The product of the range of values and the inverse scale, of candidate number `i`.
    #[inline(always)]
    fn levels(&self, i: u8) -> f32 {
        self.first + 0.1 * f32::from(i) + f32::from(self.top)
    }

    #[inline(always)]
    fn clamp(&self, q: i32) -> u8 {
        q.clamp(0, self.top.into()) as u8
    }
}

/// The outcome for 32 values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Fit {
    pub scale: f32,
    pub offset: f32,
    /// The integers that were fitted are the nearest to `(x - base) * inverse_scale`.
    inverse_scale: f32,
    base: f32,
}

pub(super) fn fit(x: &[f32; SUB], search: Search) -> Fit {
    let mut squares = 0.0;
    for v in x {
        squares += v * v;
    }
    let root_mean_square = (squares / 32.0).sqrt();
    let w = x.map(|v| root_mean_square + v.abs());

    let (mut low, mut high) = (x[0], x[0]);
    let mut sum_w = w[0];
    let mut sum_x = sum_w * x[0];
    for i in 1..SUB {
        low = if x[i] < low { x[i] } else { low };
        high = if x[i] > high { x[i] } else { high };
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    // `min` moves with each better fit, and later candidates start from it.
    let mut min = if low > 0.0 { 0.0 } else { low };
    if high == min {
        return Fit { scale: 0.0, offset: -min, inverse_scale: 0.0, base: 0.0 };
    }
    let quant = |v: f32, min: f32, inverse_scale: f32| f32::from(search.clamp(nearest(inverse_scale * (v - min))));
    let error = |scale: f32, min: f32, q: &[f32; SUB]| {
        let mut sum = 0.0;
        for i in 0..SUB {
            let difference = scale * q[i] + min - x[i];
            sum += w[i] * (difference * difference);
        }
        sum
    };

    let inverse_scale = f32::from(search.top) / (high - min);
    let mut best = Fit { scale: 1.0 / inverse_scale, offset: 0.0, inverse_scale, base: min };
    let mut least = error(best.scale, min, &x.map(|v| quant(v, min, inverse_scale)));
    for i in 0..search.candidates {
        let inverse_scale = search.levels(i) / (high - min);
        let q = x.map(|v| quant(v, min, inverse_scale));
        let (mut sum_q, mut sum_qq, mut sum_xq) = (0.0, 0.0, 0.0);
        for i in 0..SUB {
            let wq = w[i] * q[i];
            sum_q += wq;
            sum_qq += wq * q[i];
            sum_xq += wq * x[i];
        }
        let determinant = sum_w * sum_qq - sum_q * sum_q;
        if determinant > 0.0 {
            let mut new_scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
            let mut new_min = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
            if new_min > 0.0 {
                new_min = 0.0;
                new_scale = sum_xq / sum_qq;
            }
            let new_error = error(new_scale, new_min, &q);
            if new_error < least {
                best = Fit { scale: new_scale, offset: 0.0, inverse_scale, base: min };
                least = new_error;
                min = new_min;
            }
        }
    }
    Fit { offset: -min, ..best }
}

/// The fits of sixteen times 32 values, all at once.
///
/// Rounding adds and subtracts 1.5 · 2^23, which is [`nearest`] only within its range. Products of a candidate grow with
/// x, so that the smallest and the largest x tell whether all of them are in range; where one is not, or is NaN, the plain
/// version does the batch. Lanes without a range of values run along with a range of one, and are overwritten at the end.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn fit_16<S: Simd>(values: &[f32; BATCH], search: Search) -> [Fit; LANES] {
    let mut x = [[0.0f32; LANES]; SUB];
    let mut w = [[0.0f32; LANES]; SUB];
    let mut q = [[0.0f32; LANES]; SUB];
    let (subs, _) = values.as_chunks::<SUB>();
    for (lane, sub) in subs.iter().enumerate() {
        for (i, v) in sub.iter().enumerate() {
            x[i][lane] = *v;
        }
    }
    // SAFETY: the caller's promise; every row of `x`, `w`, `q` and the results has 16 values.
    unsafe {
        let zero = S::splat(0.0);
        let top = S::splat(f32::from(search.top));
        let shift = S::splat(SHIFT);
        let limit = S::splat(4_194_303.0);
        let column = |a: &[[f32; LANES]; SUB], i: usize| S::load(a[i].as_ptr());
        let set = |a: &mut [[f32; LANES]; SUB], i: usize, v: S::F| S::store(a[i].as_mut_ptr(), v);

        let mut squares = zero;
        for i in 0..SUB {
            let v = column(&x, i);
            squares = S::add(squares, S::mul(v, v));
        }
        let mut root_mean_square = [0.0f32; LANES];
        S::store(root_mean_square.as_mut_ptr(), S::mul(squares, S::splat(1.0 / 32.0)));
        root_mean_square = root_mean_square.map(f32::sqrt);
        let root_mean_square = S::load(root_mean_square.as_ptr());

        let first = column(&x, 0);
        let (mut low, mut high) = (first, first);
        let mut sum_w = S::add(root_mean_square, S::abs(first));
        set(&mut w, 0, sum_w);
        let mut sum_x = S::mul(sum_w, first);
        for i in 1..SUB {
            let v = column(&x, i);
            let weight = S::add(root_mean_square, S::abs(v));
            set(&mut w, i, weight);
            low = S::min(v, low);
            high = S::max(v, high);
            sum_w = S::add(sum_w, weight);
            sum_x = S::add(sum_x, S::mul(weight, v));
        }
        let start = S::select_lt(zero, low, zero, low);
        let mut min = start;
        let mut out_of_range = zero;

        // The inverse scale of `levels` over the lanes' ranges from `min` up.
        macro_rules! inverse_scale {
            ($levels:expr) => {{
                let range = S::select_lt(start, high, S::sub(high, min), S::splat(1.0));
                let inverse_scale = S::div(S::splat($levels), range);
                for bound in [low, high] {
                    let product = S::abs(S::mul(inverse_scale, S::sub(bound, min)));
                    out_of_range = S::select_lt(product, limit, out_of_range, S::splat(1.0));
                }
                inverse_scale
            }};
        }
        // Value `i` as an integer.
        macro_rules! quant {
            ($i:expr, $inverse_scale:expr) => {{
                let scaled = S::mul($inverse_scale, S::sub(column(&x, $i), min));
                let rounded = S::sub(S::add(scaled, shift), shift);
                S::min(S::max(rounded, zero), top)
            }};
        }
        // The weighted squared error of the integers in `q`.
        macro_rules! error {
            ($scale:expr, $min:expr) => {{
                let mut sum = zero;
                for i in 0..SUB {
                    let fitted = S::add(S::mul($scale, column(&q, i)), $min);
                    let difference = S::sub(fitted, column(&x, i));
                    sum = S::add(sum, S::mul(column(&w, i), S::mul(difference, difference)));
                }
                sum
            }};
        }

        let mut best_inverse = inverse_scale!(f32::from(search.top));
        let mut best_base = min;
        let mut best_scale = S::div(S::splat(1.0), best_inverse);
        for i in 0..SUB {
            set(&mut q, i, quant!(i, best_inverse));
        }
        let mut least = error!(best_scale, min);
        for candidate in 0..search.candidates {
            let inverse_scale = inverse_scale!(search.levels(candidate));
            let (mut sum_q, mut sum_qq, mut sum_xq) = (zero, zero, zero);
            for i in 0..SUB {
                let quant = quant!(i, inverse_scale);
                set(&mut q, i, quant);
                let wq = S::mul(column(&w, i), quant);
                sum_q = S::add(sum_q, wq);
                sum_qq = S::add(sum_qq, S::mul(wq, quant));
                sum_xq = S::add(sum_xq, S::mul(wq, column(&x, i)));
            }
            let determinant = S::sub(S::mul(sum_w, sum_qq), S::mul(sum_q, sum_q));
            let free_scale = S::div(S::sub(S::mul(sum_w, sum_xq), S::mul(sum_x, sum_q)), determinant);
            let free_min = S::div(S::sub(S::mul(sum_qq, sum_x), S::mul(sum_q, sum_xq)), determinant);
            let new_scale = S::select_lt(zero, free_min, S::div(sum_xq, sum_qq), free_scale);
            let new_min = S::select_lt(zero, free_min, zero, free_min);
            let new_error = error!(new_scale, new_min);

            let infinite = S::splat(f32::INFINITY);
            let new_error = S::select_lt(zero, determinant, new_error, infinite);
            best_scale = S::select_lt(new_error, least, new_scale, best_scale);
            best_inverse = S::select_lt(new_error, least, inverse_scale, best_inverse);
            best_base = S::select_lt(new_error, least, min, best_base);
            min = S::select_lt(new_error, least, new_min, min);
            least = S::select_lt(new_error, least, new_error, least);
        }

        if S::largest(out_of_range) > 0.0 {
            return std::array::from_fn(|lane| fit(&subs[lane], search));
        }
        best_scale = S::select_lt(start, high, best_scale, zero);
        best_inverse = S::select_lt(start, high, best_inverse, zero);
        best_base = S::select_lt(start, high, best_base, zero);
        let mut columns = [[0.0f32; LANES]; 4];
        for (column, v) in columns.iter_mut().zip([best_scale, min, best_inverse, best_base]) {
            S::store(column.as_mut_ptr(), v);
        }
        let [scale, min, inverse_scale, base] = columns;
        std::array::from_fn(|i| Fit {
            scale: scale[i],
            offset: -min[i],
            inverse_scale: inverse_scale[i],
            base: base[i],
        })
    }
}

/// Encodes blocks of 256 values, two at a time. `write` gets a block's first 16 bytes and its integers.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn encode_blocks<S: Simd, const BYTES: usize>(
    values: &[f32],
    blocks: &mut [u8],
    search: Search,
    write: impl Fn(&[u8; 16], &[u8; 256], &mut [u8; BYTES]),
) {
    let (values, _) = values.as_chunks::<256>();
    let (blocks, _) = blocks.as_chunks_mut::<BYTES>();
    for (values, blocks) in values.chunks(2).zip(blocks.chunks_mut(2)) {
        let mut batch = [0.0; BATCH];
        batch[..256 * values.len()].copy_from_slice(values.as_flattened());
        // SAFETY: the caller's promise.
        let fits = unsafe { fit_16::<S>(&batch, search) };
        for ((x, fits), block) in values.iter().zip(fits.as_chunks().0).zip(blocks) {
            let mut header = [0; 16];
            let q = finish(x, fits, search, &mut header);
            write(&header, &q, block);
        }
    }
}

/// Writes f16 `d`, f16 `dmin` and the 6-bit scales and offsets of a block, and gives its integers.
///
/// Where a sub-block's stored scale is 0, its integers stay those of the search.
#[inline(always)]
pub(super) fn finish(x: &[f32; 256], fits: &[Fit; 8], search: Search, header: &mut [u8; 16]) -> [u8; 256] {
    let largest = |of: fn(&Fit) -> f32| fits.iter().map(of).fold(0.0, |m, v| if v > m { v } else { m });
    let (max_scale, max_offset) = (largest(|f| f.scale), largest(|f| f.offset));
    let inverse = |max: f32| if max > 0.0 { 63.0 / max } else { 0.0 };
    let (inverse_scale, inverse_offset) = (inverse(max_scale), inverse(max_offset));
    // A scale can be negative where rounding spoilt a fit; its low byte is what counts.
    let six_bits = |v: f32| (nearest(v) as u8).min(63);
    let scales = fits.map(|f| six_bits(inverse_scale * f.scale));
    let offsets = fits.map(|f| six_bits(inverse_offset * f.offset));
    header[..2].copy_from_slice(&half(max_scale / 63.0));
    header[2..4].copy_from_slice(&half(max_offset / 63.0));
    for i in 0..4 {
        header[4 + i] = scales[i] | scales[i + 4] >> 4 << 6;
        header[8 + i] = offsets[i] | offsets[i + 4] >> 4 << 6;
        header[12 + i] = scales[i + 4] & 15 | (offsets[i + 4] & 15) << 4;
    }

    let (d, dmin) = (super::f16_at(header, 0), super::f16_at(header, 2));
    let mut q = [0; 256];
    for (sub, (q, x)) in q.as_chunks_mut::<SUB>().0.iter_mut().zip(x.as_chunks::<SUB>().0).enumerate() {
        let scale = d * f32::from(scales[sub]);
        let offset = dmin * f32::from(offsets[sub]);
        let fit = &fits[sub];
        *q = if scale == 0.0 {
            x.map(|v| search.clamp(nearest(fit.inverse_scale * (v - fit.base))))
        } else {
            x.map(|v| search.clamp(nearest((v + offset) / scale)))
        };
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::encode::samples;
    use crate::simd::{Kernel, Tier};

    struct Fit16<'a>(&'a [f32; BATCH], Search);

    impl Kernel for Fit16<'_> {
        type Output = [Fit; LANES];
        #[inline(always)]
        unsafe fn body<S: Simd>(self) -> Self::Output {
            // SAFETY: the caller's promise.
            unsafe { fit_16::<S>(self.0, self.1) }
        }
    }

    #[test]
    fn lanes_give_the_bits_of_the_plain_version() {
        let bits = |f: Fit| [f.scale, f.offset, f.inverse_scale, f.base].map(f32::to_bits);
        for search in [Search { top: 15, first: -1.0, candidates: 21 }, Search { top: 31, first: -0.5, candidates: 16 }]
        {
            for (round, values) in samples::<SUB, BATCH>().enumerate() {
                let expected: Vec<_> = values.as_chunks().0.iter().map(|x| bits(fit(x, search))).collect();
                for tier in Tier::all_available() {
                    // SAFETY: the tier is available.
                    let found = unsafe { tier.run(Fit16(&values, search)) }.map(bits);
                    assert_eq!(found[..], expected[..], "{} in round {round}", tier.name());
                }
            }
        }
    }
}
