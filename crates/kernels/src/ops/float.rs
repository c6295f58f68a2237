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
                (2, 8) => self.pass::<S, 3, 2, 8>(),
                (1, 4) => self.pass::<S, 1, 1, 4>(),
                _ => self.pass::<S, 1, 1, 1>(),
            }
        }
    }
}

/// Tokens up to which four panels are taken at once.
const FEW_TOKENS: usize = 4;
/// Tokens from which on some columns of a panel are unpacked once for all of them.
const UNPACKED_TOKENS: usize = 16;
/// Columns that are unpacked at once: of three panels they take 24 KiB of the first-level cache.
pub const UNPACKED_COLS: usize = 128;

/// Some columns of R panels: where each begins.
#[derive(Clone)]
struct Columns<const R: usize> {
    w: [*const u8; R],
    range: Range<usize>,
    /// Where the columns that are unpacked next begin in the first of their panels.
    next: *const u8,
}

impl<E: Element> Float<E> {
    /// Covers the range with tiles of panels and T tokens, smaller ones at the edges. Many tokens share the unpacking of some
    /// columns of M panels, fewer take R panels as they are.
    #[inline(always)]
    unsafe fn pass<S: Simd, const M: usize, const R: usize, const T: usize>(&self) {
        let tokens = self.0.tokens.clone();
        let Range { start: mut panel, end } = self.0.range;
        // SAFETY: each tile lies within the range and the tokens.
        unsafe {
            if tokens.len() >= UNPACKED_TOKENS {
                let mut unpacked = MaybeUninit::<[[[f32; LANES]; UNPACKED_COLS]; M]>::uninit();
                let room = unpacked.as_mut_ptr().cast();
                // The same columns of all panels follow one another, so that the input's stay in the second-level cache.
                for first in (0..self.0.cols).step_by(UNPACKED_COLS) {
                    let range = first..self.0.cols.min(first + UNPACKED_COLS);
                    let mut panel = panel;
                    while panel < end {
                        // A lone panel hides the latency of an addition least.
                        panel += match end - panel {
                            4 if M == 3 && R == 2 => self.unpacked::<S, 2, T>(panel, range.clone(), room),
                            left if left >= M => self.unpacked::<S, M, T>(panel, range.clone(), room),
                            left if left >= R => self.unpacked::<S, R, T>(panel, range.clone(), room),
                            _ => self.unpacked::<S, 1, T>(panel, range.clone(), room),
                        };
                    }
                }
                return;
            }
            // Few tokens leave registers for more panels, whose independent sums hide the latency of an addition.
            while tokens.len() <= FEW_TOKENS && T > 4 && panel + 4 <= end {
                let columns = self.columns(panel);
                match tokens.len() {
                    4 => self.tile::<S, E, 4, 4, false>(panel, tokens.start, columns),
                    3 => self.tile::<S, E, 4, 3, false>(panel, tokens.start, columns),
                    2 => self.tile::<S, E, 4, 2, false>(panel, tokens.start, columns),
                    1 => self.tile::<S, E, 4, 1, false>(panel, tokens.start, columns),
                    _ => {}
                }
                panel += 4;
            }
            while panel + R <= end {
                self.tokens::<S, E, R, T, false>(panel, self.columns(panel));
                panel += R;
            }
            while panel < end {
                self.tokens::<S, E, 1, T, false>(panel, self.columns(panel));
                panel += 1;
            }
        }
    }

    /// Unpacks some columns of R panels into `room` and multiplies all tokens with them; how many panels.
    #[inline(always)]
    unsafe fn unpacked<S: Simd, const R: usize, const T: usize>(
        &self,
        panel: usize,
        range: Range<usize>,
        room: *mut f32,
    ) -> usize {
        let (packed, mut w) = (self.columns::<R>(panel).w, [std::ptr::null(); R]);
        let (panel_after, col) =
            if panel + R < self.0.range.end { (panel + R, range.start) } else { (self.0.range.start, range.end) };
        let next = self.0.panels.wrapping_add(panel_after * self.0.panel_bytes + col * LANES * E::BYTES);
        // SAFETY: the panels and columns exist, and the room holds them.
        unsafe {
            for r in 0..R {
                let room = room.add(r * UNPACKED_COLS * LANES);
                for (i, col) in range.clone().enumerate() {
                    S::store(room.add(i * LANES), E::load::<S>(packed[r].add(col * LANES * E::BYTES)));
                }
                w[r] = room.cast_const().cast();
            }
            self.tokens::<S, F32, R, T, true>(panel, Columns { w, range, next });
        }
        R
    }

    /// All columns of the panels from `panel` on.
    #[inline(always)]
    fn columns<const R: usize>(&self, panel: usize) -> Columns<R> {
        let m = &self.0;
        let w = std::array::from_fn(|r| m.panels.wrapping_add((panel + r) * m.panel_bytes));
        Columns { w, range: 0..m.cols, next: std::ptr::null() }
    }

    /// Some columns of R panels with all tokens.
    #[inline(always)]
    unsafe fn tokens<S: Simd, W: Element, const R: usize, const T: usize, const MANY: bool>(
        &self,
        panel: usize,
        columns: Columns<R>,
    ) {
        let tokens = self.0.tokens.clone();
        let mut token = tokens.start;
        // Each tile fetches its share of what is unpacked next.
        let lines = if MANY { (columns.range.len() * LANES * E::BYTES).div_ceil(64) } else { 0 };
        let share = (R * lines).div_ceil((tokens.len() / T).max(1));
        let mut fetched = 0;
        // SAFETY: each tile lies within the tokens.
        unsafe {
            while token + T <= tokens.end {
                for line in fetched..(R * lines).min(fetched + share) {
                    let at = line / lines * self.0.panel_bytes + line % lines * 64;
                    S::prefetch(columns.next.wrapping_add(at));
                }
                fetched += share;
                self.tile::<S, W, R, T, MANY>(panel, token, columns.clone());
                token += T;
            }
            if T > 4 && token + 4 <= tokens.end {
                self.tile::<S, W, R, 4, MANY>(panel, token, columns.clone());
                token += 4;
            }
            if T > 2 && token + 2 <= tokens.end {
                self.tile::<S, W, R, 2, MANY>(panel, token, columns.clone());
                token += 2;
            }
            while token < tokens.end {
                self.tile::<S, W, R, 1, MANY>(panel, token, columns.clone());
                token += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, W: Element, const R: usize, const T: usize, const MANY: bool>(
        &self,
        panel: usize,
        token: usize,
        Columns { w, range, .. }: Columns<R>,
    ) {
        let m = &self.0;
        // SAFETY: panels `panel..panel + R` and tokens `token..token + T` exist; a panel has `cols` columns of 16 values.
        unsafe {
            let x: [*const f32; T] = std::array::from_fn(|t| m.x.add((token + t) * m.x_stride + range.start));
            let out = |r: usize, t: usize| m.out.add((token + t) * m.out_stride + (panel + r) * LANES);
            // Many tokens' inputs pass through the first-level cache once for each group of panels: those of the next tile are
            // asked for part by part.
            let part = if MANY { 2 * LANES } else { range.len().max(1) };
            let next = x[0].wrapping_add(T * m.x_stride);
            let fetch = if token == m.tokens.start { m.fetch } else { Fetch::Nothing };
            let mut acc = [[S::splat(0.0); T]; R];
            if m.accumulate || range.start > 0 {
                for r in 0..R {
                    for t in 0..T {
                        acc[r][t] = S::load(out(r, t));
                    }
                }
            }
            for first in (0..range.len()).step_by(part) {
                for t in 0..if MANY { T } else { 0 } {
                    let at = next.wrapping_add(t * m.x_stride + first);
                    S::prefetch_near(at.cast());
                    S::prefetch_near(at.wrapping_add(LANES).cast());
                }
                for col in first..range.len().min(first + part) {
                    let mut values = [S::splat(0.0); R];
                    for r in 0..R {
                        let at = w[r].add(col * LANES * W::BYTES);
                        if !MANY && fetch != Fetch::Nothing && col % (64 / LANES / W::BYTES).max(1) == 0 {
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
            }
            for r in 0..R {
                for t in 0..T {
                    S::store(out(r, t), acc[r][t]);
                }
            }
        }
    }
}
