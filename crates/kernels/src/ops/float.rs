//! The matmul with float weights: fused multiply-adds over columns in ascending order.

// Tiles are walked by panel and token number: iterators would hide the order of the sums.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::matmul::{Fetch, FloatMatMul};
use super::weights::NEAR;
use crate::quant::F32;
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

/// Tokens up to which four panels are taken at once.
const FEW_TOKENS: usize = 4;
/// Tokens from which on narrow values are unpacked once for all of them.
const UNPACKED_TOKENS: usize = 16;
/// Columns that are unpacked at once: two panels of them take half of a first-level cache of 32 KiB.
const UNPACKED_COLS: usize = 128;

/// Some columns of R panels: where each begins.
#[derive(Clone)]
struct Columns<const R: usize> {
    w: [*const u8; R],
    range: Range<usize>,
}

impl<E: Element> Float<E> {
    #[inline(always)]
    unsafe fn tiles<S: Simd, const R: usize, const T: usize>(&self) {
        let tokens = self.0.tokens.clone();
        let mut panel = self.0.range.start;
        // SAFETY: each tile lies within the range and the tokens.
        unsafe {
            // Few tokens leave registers for more panels, whose independent sums hide the latency of an addition.
            while tokens.len() <= FEW_TOKENS && T > 4 && panel + 4 <= self.0.range.end {
                let columns = self.columns(panel);
                match tokens.len() {
                    4 => self.tile::<S, E, 4, 4>(panel, tokens.start, columns),
                    3 => self.tile::<S, E, 4, 3>(panel, tokens.start, columns),
                    2 => self.tile::<S, E, 4, 2>(panel, tokens.start, columns),
                    1 => self.tile::<S, E, 4, 1>(panel, tokens.start, columns),
                    _ => {}
                }
                panel += 4;
            }
            if R > 1 && E::BYTES < size_of::<f32>() && tokens.len() >= UNPACKED_TOKENS {
                let mut unpacked = MaybeUninit::<[[[f32; LANES]; UNPACKED_COLS]; R]>::uninit();
                while panel + R <= self.0.range.end {
                    let packed = self.columns::<R>(panel).w;
                    for first in (0..self.0.cols).step_by(UNPACKED_COLS) {
                        let range = first..self.0.cols.min(first + UNPACKED_COLS);
                        let mut w = [std::ptr::null(); R];
                        for r in 0..R {
                            let room = (&raw mut (*unpacked.as_mut_ptr())[r]).cast::<f32>();
                            for (i, col) in range.clone().enumerate() {
                                let values = E::load::<S>(packed[r].add(col * LANES * E::BYTES));
                                S::store(room.add(i * LANES), values);
                            }
                            w[r] = room.cast_const().cast();
                        }
                        self.tokens::<S, F32, R, T>(panel, Columns { w, range });
                    }
                    panel += R;
                }
            }
            while panel + R <= self.0.range.end {
                self.tokens::<S, E, R, T>(panel, self.columns(panel));
                panel += R;
            }
            while panel < self.0.range.end {
                self.tokens::<S, E, 1, T>(panel, self.columns(panel));
                panel += 1;
            }
        }
    }

    /// All columns of the panels from `panel` on.
    #[inline(always)]
    fn columns<const R: usize>(&self, panel: usize) -> Columns<R> {
        let m = &self.0;
        let w = std::array::from_fn(|r| m.panels.wrapping_add((panel + r) * m.panel_bytes));
        Columns { w, range: 0..m.cols }
    }

    /// Some columns of R panels with all tokens.
    #[inline(always)]
    unsafe fn tokens<S: Simd, W: Element, const R: usize, const T: usize>(&self, panel: usize, columns: Columns<R>) {
        let tokens = self.0.tokens.clone();
        let mut token = tokens.start;
        // SAFETY: each tile lies within the tokens.
        unsafe {
            while token + T <= tokens.end {
                self.tile::<S, W, R, T>(panel, token, columns.clone());
                token += T;
            }
            if T > 4 && token + 4 <= tokens.end {
                self.tile::<S, W, R, 4>(panel, token, columns.clone());
                token += 4;
            }
            if T > 2 && token + 2 <= tokens.end {
                self.tile::<S, W, R, 2>(panel, token, columns.clone());
                token += 2;
            }
            while token < tokens.end {
                self.tile::<S, W, R, 1>(panel, token, columns.clone());
                token += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, W: Element, const R: usize, const T: usize>(
        &self,
        panel: usize,
        token: usize,
        Columns { w, range }: Columns<R>,
    ) {
        let m = &self.0;
        // SAFETY: panels `panel..panel + R` and tokens `token..token + T` exist; a panel has `cols` columns of 16 values.
        unsafe {
            let x: [*const f32; T] = std::array::from_fn(|t| m.x.add((token + t) * m.x_stride + range.start));
            let out = |r: usize, t: usize| m.out.add((token + t) * m.out_stride + (panel + r) * LANES);
            let fetch = if token == m.tokens.start { m.fetch } else { Fetch::Nothing };
            let mut acc = [[S::splat(0.0); T]; R];
            if m.accumulate || range.start > 0 {
                for r in 0..R {
                    for t in 0..T {
                        acc[r][t] = S::load(out(r, t));
                    }
                }
            }
            for col in 0..range.len() {
                let mut values = [S::splat(0.0); R];
                for r in 0..R {
                    let at = w[r].add(col * LANES * W::BYTES);
                    if fetch != Fetch::Nothing && col % (64 / LANES / W::BYTES).max(1) == 0 {
                        let ahead = |bytes: usize| {
                            let others = if col * LANES * W::BYTES + bytes < m.panel_bytes { 0 } else { R - 1 };
                            (bytes + others * m.panel_bytes).cast_signed()
                        };
                        let distance = match fetch {
                            Fetch::Ahead(bytes) => ahead(bytes),
                            Fetch::Other(distance) => distance,
                            Fetch::Nothing => 0,
                        };
                        S::prefetch_near(at.wrapping_add(NEAR / R));
                        S::prefetch(at.wrapping_offset(distance));
                    }
                    values[r] = W::load::<S>(at);
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
