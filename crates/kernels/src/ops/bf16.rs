//! The matmul in BF16 arithmetic: inputs are rounded to BF16, pairs of columns are multiplied and summed by one instruction.

// Tiles are walked by panel and token number: iterators would hide the order of the sums.
#![allow(clippy::needless_range_loop)]

use std::cell::RefCell;

use super::matmul::FloatMatMul;
use crate::simd::{Kernel, LANES, Simd};

thread_local! {
    /// The inputs of a product as BF16.
    static ROUNDED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

impl FloatMatMul {
    /// The kernel for weights of BF16 in BF16 arithmetic, over pairs of columns in ascending order; to be run by
    /// [`crate::simd::Tier::run_bf16`].
    ///
    /// Its safety is that of [`FloatMatMul::of_type`]; the columns are even.
    pub fn in_bf16(self) -> impl Kernel<Output = ()> {
        Bf16(self)
    }
}

struct Bf16(FloatMatMul);

impl Kernel for Bf16 {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        let pairs = self.0.cols / 2;
        // Taken out, so that no borrow lasts through the kernel.
        let mut rounded = ROUNDED.take();
        rounded.clear();
        for token in self.0.tokens.clone() {
            // SAFETY: x has the tokens and columns.
            let row = unsafe { std::slice::from_raw_parts(self.0.x.add(token * self.0.x_stride), 2 * pairs) };
            rounded.extend(row.as_chunks::<2>().0.iter().map(|[a, b]| nearest(*a) | nearest(*b) << 16));
        }
        // SAFETY: the tiles stay within the range and the tokens.
        unsafe {
            match S::FLOAT_TILE {
                (2, 8) => self.tiles::<S, 2, 8>(&rounded),
                (1, 4) => self.tiles::<S, 1, 4>(&rounded),
                _ => self.tiles::<S, 1, 1>(&rounded),
            }
        }
        ROUNDED.set(rounded);
    }
}

/// The BF16 nearest to a number, ties to even; NaN stays NaN.
#[inline(always)]
fn nearest(v: f32) -> u32 {
    let bits = v.to_bits();
    if v.is_nan() { bits >> 16 | 0x40 } else { bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16 }
}

impl Bf16 {
    #[inline(always)]
    unsafe fn tiles<S: Simd, const R: usize, const T: usize>(&self, x: &[u32]) {
        let tokens = self.0.tokens.len();
        let mut panel = self.0.range.start;
        // SAFETY: each tile lies within the range and the tokens.
        unsafe {
            while tokens <= 2 && T > 2 && panel + 4 <= self.0.range.end {
                (0..tokens).for_each(|token| self.tile::<S, 4, 1>(x, panel, token));
                panel += 4;
            }
            while panel + R <= self.0.range.end {
                let mut token = 0;
                while token + T <= tokens {
                    self.tile::<S, R, T>(x, panel, token);
                    token += T;
                }
                while T > 2 && token + 2 <= tokens {
                    self.tile::<S, R, 2>(x, panel, token);
                    token += 2;
                }
                while token < tokens {
                    self.tile::<S, R, 1>(x, panel, token);
                    token += 1;
                }
                panel += R;
            }
            while panel < self.0.range.end {
                (0..tokens).for_each(|token| self.tile::<S, 1, 1>(x, panel, token));
                panel += 1;
            }
        }
    }

    /// R panels with T tokens, counted from the product's first.
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const T: usize>(&self, x: &[u32], panel: usize, token: usize) {
        let m = &self.0;
        let pairs = m.cols / 2;
        // SAFETY: panels `panel..panel + R` and tokens `token..token + T` exist; a panel has `cols` columns of 16 values.
        unsafe {
            let w: [*const u8; R] = std::array::from_fn(|r| m.panels.add((panel + r) * m.panel_bytes));
            let x: [*const u32; T] = std::array::from_fn(|t| x.as_ptr().add((token + t) * pairs));
            let out = |r: usize, t: usize| m.out.add((m.tokens.start + token + t) * m.out_stride + (panel + r) * LANES);
            let mut acc = [[S::splat(0.0); T]; R];
            for pair in 0..pairs {
                let mut values = [S::splat_b(0); R];
                for r in 0..R {
                    values[r] = S::load_bf16_pairs(w[r].add(pair * LANES * 4));
                }
                for t in 0..T {
                    let both = S::broadcast4(x[t].add(pair).cast());
                    for r in 0..R {
                        acc[r][t] = S::dot_bf16(acc[r][t], values[r], both);
                    }
                }
            }
            for r in 0..R {
                for t in 0..T {
                    S::store(out(r, t), acc[r][t]);
                }
            }
        }
    }
}
