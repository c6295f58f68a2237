//! `out[token, row] = Σ x[token, col] * w[row, col]` for weights in panels of sixteen rows.
//!
//! Columns are walked in ascending order, in blocks of 32 for quantized types: the integer sum of a block, then one
//! fused multiply-add with the product of both scales, then one with the min. A result depends on nothing but its own
//! row and token, so any split over threads and tokens gives the same bits.

// Tiles are walked by panel and token number: iterators would hide the order of the sums.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;
use std::ops::Range;

use super::quantize::QuantizedRows;
use crate::quant::panel::{BLOCK, Element, Packed, plane_bytes};
use crate::quant::planes::Planes;
use crate::simd::{Kernel, LANES, Simd};

/// Bytes that a lone token's matmul fetches ahead in each panel.
const PREFETCH: usize = 4096;

/// A part of a product with quantized weights.
#[derive(Clone)]
pub struct IntMatMul<'a> {
    /// The weight's first panel.
    pub panels: *const u8,
    pub panel_bytes: usize,
    /// The panels to compute.
    pub range: Range<usize>,
    pub cols: usize,
    pub x: &'a QuantizedRows,
    /// The rows of x to compute.
    pub tokens: Range<usize>,
    /// Row-major `[token, row]`, rows padded to whole panels.
    pub out: *mut f32,
    pub out_stride: usize,
}

/// A part of a product with float weights.
#[derive(Clone)]
pub struct FloatMatMul {
    pub panels: *const u8,
    pub panel_bytes: usize,
    pub range: Range<usize>,
    pub cols: usize,
    /// Row-major `[token, col]`.
    pub x: *const f32,
    pub x_stride: usize,
    pub tokens: Range<usize>,
    pub out: *mut f32,
    pub out_stride: usize,
    /// Whether to go on from the sums that `out` holds.
    pub accumulate: bool,
}

impl<'a> IntMatMul<'a> {
    /// The kernel for weights of type `P`.
    ///
    /// Its safety: the panels of the range are packed as `P`, x has the tokens and columns, and `out` has the tokens'
    /// rows, which nothing else touches.
    pub fn of_type<P: Packed>(self) -> impl Kernel<Output = ()> + use<'a, P> {
        Int(self, PhantomData::<P>)
    }
}

impl FloatMatMul {
    /// The kernel for weights of type `E`; its safety is that of [`IntMatMul::of_type`].
    pub fn of_type<E: Element>(self) -> impl Kernel<Output = ()> {
        Float(self, PhantomData::<E>)
    }
}

struct Int<'a, P>(IntMatMul<'a>, PhantomData<P>);

impl<P: Packed> Kernel for Int<'_, P> {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: the tiles stay within the range and the tokens.
        unsafe {
            match S::INT_TILE {
                (2, 4) => self.tiles::<S, 2, 4>(),
                (1, 2) => self.tiles::<S, 1, 2>(),
                _ => self.tiles::<S, 1, 1>(),
            }
        }
    }
}

impl<P: Packed> Int<'_, P> {
    /// Covers the range with tiles of R panels and T tokens, smaller ones at the edges.
    #[inline(always)]
    unsafe fn tiles<S: Simd, const R: usize, const T: usize>(&self) {
        let mut panel = self.0.range.start;
        // SAFETY: each tile lies within the range and the tokens.
        unsafe {
            while panel + R <= self.0.range.end {
                let mut token = self.0.tokens.start;
                while token + T <= self.0.tokens.end {
                    self.tile::<S, R, T>(panel, token);
                    token += T;
                }
                match self.0.tokens.end - token {
                    3 if T > 3 => self.tile::<S, R, 3>(panel, token),
                    2 if T > 2 => self.tile::<S, R, 2>(panel, token),
                    1 if T > 1 => self.tile::<S, R, 1>(panel, token),
                    _ => {}
                }
                panel += R;
            }
            while panel < self.0.range.end {
                for token in self.0.tokens.clone() {
                    self.tile::<S, 1, 1>(panel, token);
                }
                panel += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize, const T: usize>(&self, panel: usize, token: usize) {
        let m = &self.0;
        let halves = if P::HALVES { 2 } else { 1 };
        // SAFETY: panels `panel..panel + R` and tokens `token..token + T` exist; offsets stay within a panel (planes, then
        // scales) and within a row of x, whose blocks are `cols / BLOCK`.
        unsafe {
            let planes: [*const u8; R] = std::array::from_fn(|r| m.panels.add((panel + r) * m.panel_bytes));
            let scales: [*const u8; R] = std::array::from_fn(|r| planes[r].add(plane_bytes::<P>(m.cols)));
            let x: [_; T] = std::array::from_fn(|t| m.x.row(token + t));
            let mut acc = [[S::splat(0.0); T]; R];
            for block in 0..m.cols / BLOCK {
                let (unit, sub) = (block / P::SUBS, block % P::SUBS);
                let mut sums = [[[S::splat_i(0); T]; R]; 2];
                for half in 0..halves {
                    for t in 0..T {
                        let start = P::bias::<S>(S::splat_i(x[t].negative_sum::<P>(block, half)));
                        for r in 0..R {
                            sums[half][r][t] = start;
                        }
                    }
                }
                for j in 0..4 {
                    let at = block * P::Planes::COUNT * 64;
                    let mut w = [(S::splat_b(0), S::splat_b(0)); R];
                    for r in 0..R {
                        if T == 1 {
                            S::prefetch(planes[r].wrapping_add(at + PREFETCH + j * P::Planes::COUNT * 16));
                        }
                        w[r] = P::Planes::get::<S>(planes[r].add(at), j);
                    }
                    for t in 0..T {
                        let four = S::broadcast4(x[t].q.add(block * BLOCK + 4 * j));
                        for r in 0..R {
                            sums[0][r][t] = dot::<S, P>(sums[0][r][t], w[r].0, four);
                        }
                    }
                    for t in 0..T {
                        let four = S::broadcast4(x[t].q.add(block * BLOCK + 16 + 4 * j));
                        for r in 0..R {
                            let sum = &mut sums[halves - 1][r][t];
                            *sum = dot::<S, P>(*sum, w[r].1, four);
                        }
                    }
                }
                for half in 0..halves {
                    let mut scale = [S::splat(0.0); R];
                    for r in 0..R {
                        scale[r] = P::scale::<S>(scales[r].add(unit * P::SCALE_BYTES), sub, half);
                    }
                    for t in 0..T {
                        let xd = S::splat(*x[t].scale.add(block));
                        for r in 0..R {
                            acc[r][t] = S::fma(S::to_float(sums[half][r][t]), S::mul(scale[r], xd), acc[r][t]);
                        }
                    }
                }
                if P::MIN {
                    for r in 0..R {
                        let min = P::min::<S>(scales[r].add(unit * P::SCALE_BYTES), sub);
                        for t in 0..T {
                            acc[r][t] = S::fma(min, S::splat(*x[t].scaled_sum.add(block)), acc[r][t]);
                        }
                    }
                }
            }
            for r in 0..R {
                for t in 0..T {
                    S::store(m.out.add((token + t) * m.out_stride + (panel + r) * LANES), acc[r][t]);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn dot<S: Simd, P: Packed>(acc: S::I, w: S::B, x: S::I) -> S::I {
    // SAFETY: as `Simd`.
    unsafe { if P::Planes::WIDE { S::dot_wide(acc, w, x) } else { S::dot(acc, w, x) } }
}

struct Float<E>(FloatMatMul, PhantomData<E>);

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
