//! Sums of products of columns: how what a matrix is given goes together.

use crate::simd::{Kernel, LANES, Simd};

/// Columns whose products with others are summed side by side.
const SIDE: usize = 4;

/// Adds to `sums` the products of [`LANES`] columns from `first` on with those from `first` to `end`, row by row.
pub struct Products<'a> {
    /// Row-major.
    pub x: *const f32,
    pub stride: usize,
    pub rows: &'a [usize],
    pub first: usize,
    /// Whole lanes from `first`.
    pub end: usize,
    /// Of column `first` with itself; those of the next column `pitch` further.
    pub sums: *mut f32,
    pub pitch: usize,
}

impl Kernel for Products<'_> {
    type Output = ();

    /// Each sum takes its rows in order: the bits do not depend on how rows are spread over calls.
    ///
    /// # Safety
    /// As [`Simd`]; the rows are there up to column `end`, and the sums, which nothing else touches.
    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        for side in (0..LANES).step_by(SIDE) {
            let mut k = self.first;
            // SAFETY: the caller's promise.
            unsafe {
                while k + 4 * LANES <= self.end {
                    self.tile::<S, 4>(side, k);
                    k += 4 * LANES;
                }
                while k < self.end {
                    self.tile::<S, 1>(side, k);
                    k += LANES;
                }
            }
        }
    }
}

impl Products<'_> {
    /// Of columns `side..side + 4` from `first` on with V vectors from column `k` on.
    #[inline(always)]
    unsafe fn tile<S: Simd, const V: usize>(&self, side: usize, k: usize) {
        let at = |i: usize, v: usize| self.sums.wrapping_add((side + i) * self.pitch + k - self.first + v * LANES);
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; SIDE];
            for (i, sums) in sums.iter_mut().enumerate() {
                sums.iter_mut().enumerate().for_each(|(v, sum)| *sum = S::load(at(i, v)));
            }
            for row in self.rows {
                let x = self.x.add(row * self.stride);
                let mut others = [S::splat(0.0); V];
                others.iter_mut().enumerate().for_each(|(v, other)| *other = S::load(x.add(k + v * LANES)));
                for (i, sums) in sums.iter_mut().enumerate() {
                    let own = S::splat(*x.add(self.first + side + i));
                    for (sum, other) in sums.iter_mut().zip(others) {
                        *sum = S::fma(own, other, *sum);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                sums.iter().enumerate().for_each(|(v, sum)| S::store(at(i, v), *sum));
            }
        }
    }
}
