//! The matmul with float weights: fused multiply-adds over columns in ascending order.

// Tiles are walked by panel and token number: iterators would hide the order of the sums.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;

use super::matmul::FloatMatMul;
use crate::quant::panel::Element;
use crate::simd::{Kernel, LANES, Simd};

pub(super) struct Float<E>(pub FloatMatMul, pub PhantomData<E>);

impl<E: Element> Kernel for Float<E> {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: the tiles stay within the range and the tokens.
        unsafe {
            match S::FLOAT_TILE {
                (2, 8) => self.tiles::<S, 2, 8>(),
                (1, 4) => self.tiles::<S, 1, 4>(),
                _ => self.tiles::<S, 1, 1>(),
            }
        }
    }
}

impl<E: Element> Float<E> {
    #[inline(always)]
    unsafe fn tiles<S: Simd, const R: usize, const T: usize>(&self) {
        let tokens = self.0.tokens.clone();
        let mut panel = self.0.range.start;
        // SAFETY: each tile lies within the range and the tokens.
        unsafe {
            // Few tokens leave registers for more panels, whose independent sums hide the latency of an addition.
            while tokens.len() <= 2 && T > 2 && panel + 4 <= self.0.range.end {
                for token in tokens.clone() {
                    self.tile::<S, 4, 1>(panel, token);
                }
                panel += 4;
            }
            while panel + R <= self.0.range.end {
                let mut token = tokens.start;
                while token + T <= tokens.end {
                    self.tile::<S, R, T>(panel, token);
                    token += T;
                }
                if T > 4 && token + 4 <= tokens.end {
                    self.tile::<S, R, 4>(panel, token);
                    token += 4;
                }
                if T > 2 && token + 2 <= tokens.end {
                    self.tile::<S, R, 2>(panel, token);
                    token += 2;
                }
                while token < tokens.end {
                    self.tile::<S, R, 1>(panel, token);
                    token += 1;
                }
                panel += R;
            }
            while panel < self.0.range.end {
                for token in tokens.clone() {
                    self.tile::<S, 1, 1>(panel, token);
                }
                panel += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const T: usize>(&self, panel: usize, token: usize) {
        let m = &self.0;
        // SAFETY: panels `panel..panel + R` and tokens `token..token + T` exist; a panel has `cols` columns of 16 values.
        unsafe {
            let w: [*const u8; R] = std::array::from_fn(|r| m.panels.add((panel + r) * m.panel_bytes));
            let x: [*const f32; T] = std::array::from_fn(|t| m.x.add((token + t) * m.x_stride));
            let out = |r: usize, t: usize| m.out.add((token + t) * m.out_stride + (panel + r) * LANES);
            let mut acc = [[S::splat(0.0); T]; R];
            if m.accumulate {
                for r in 0..R {
                    for t in 0..T {
                        acc[r][t] = S::load(out(r, t));
                    }
                }
            }
            for col in 0..m.cols {
                let mut values = [S::splat(0.0); R];
                for r in 0..R {
                    values[r] = E::load::<S>(w[r].add(col * LANES * E::BYTES));
                }
                for t in 0..T {
                    let xv = S::splat(*x[t].add(col));
                    for r in 0..R {
                        acc[r][t] = S::fma(values[r], xv, acc[r][t]);
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
