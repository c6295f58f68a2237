//! `out[token, row] = Σ x[token, col] * w[row, col]` for weights in panels of sixteen rows.
//!
//! Columns are walked in ascending order, in blocks of 32 for quantized types: the integer sum of a block times the
//! activation's scale, then one fused multiply-add with the weight's scale, then one with the min. Where each half of a
//! block has a scale of its own, the halves follow one another. The integers are summed in the bits of an f32
//! ([`SUM_START`]), so that a multiply-add takes what they started from away as it scales them: a conversion, which on many
//! processors waits for the same ports as the dot products, is not needed. A result depends on nothing but its own row and
//! token, so any split over threads and tokens gives the same bits.

// Tiles are walked by panel and token number: iterators would hide the order of the sums.
#![allow(clippy::needless_range_loop)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::float::Float;
use super::quantize::{GROUP, QuantizedRows, SUM_START};
use super::weights::{PackedPanel, UNPACKED_BLOCKS, UNPACKED_BLOCKS_OF_FEW, Unpacked, UnpackedPanel, Weights};
use crate::quant::panel::{BLOCK, Element, Packed};
use crate::quant::planes::Planes;
use crate::simd::{Kernel, LANES, Simd};

/// Tokens beyond which it pays to unpack a panel once for all of them.
const UNPACKED_TOKENS: usize = 8;
/// Tokens that leave the unpacking of a panel so large a share that the way from the second-level cache is to be hidden.
const FEW_TOKENS: usize = 24;

/// One of the tiles that take the same weights in turn.
#[derive(Clone, Copy)]
struct Tile {
    /// Its first token.
    token: usize,
    /// Its number, and how many there are: each fetches its share of what is needed next.
    turn: usize,
    turns: usize,
}

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
    pub fetch: Fetch,
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
    pub fetch: Fetch,
}

/// What the first tokens fetch when they read a weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fetch {
    Nothing,
    /// What is read soon: so many bytes ahead in the panels that are read together, then in those after them.
    Ahead(usize),
    /// The same place of another matrix, so many bytes from this one.
    Other(isize),
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
                // Twelve sums hide the latency of a dot product; with two for each half of a block, registers hold eight.
                (2, 4) if P::HALVES => self.pass::<S, 2, 2, 4, 8>(),
                (2, 4) => self.pass::<S, 3, 2, 4, 8>(),
                (1, 2) => self.pass::<S, 1, 1, 2, 2>(),
                _ => self.pass::<S, 1, 1, 1, 1>(),
            }
        }
    }
}

impl<P: Packed> Int<'_, P> {
    /// Covers the range with tiles of panels and T tokens, smaller ones at the edges. Many tokens share the unpacking of
    /// a chunk of M panels; few take R panels as they are, or one by one in tiles of D tokens.
    #[inline(always)]
    unsafe fn pass<S: Simd, const M: usize, const R: usize, const T: usize, const D: usize>(&self) {
        let (m, mut panel) = (&self.0, self.0.range.start);
        let blocks = m.cols / BLOCK;
        // SAFETY: each tile lies within the range, the tokens and the columns.
        unsafe {
            if m.tokens.len() > if P::FEW { UNPACKED_TOKENS } else { 1 } {
                let step = if m.tokens.len() <= FEW_TOKENS { UNPACKED_BLOCKS_OF_FEW } else { UNPACKED_BLOCKS };
                let mut unpacked = MaybeUninit::<Unpacked<M>>::uninit();
                while panel + M <= m.range.end {
                    for first in (0..blocks).step_by(step) {
                        let chunk = first..blocks.min(first + step);
                        let room = unpacked.as_mut_ptr();
                        let mut weights = [MaybeUninit::<UnpackedPanel<P>>::uninit(); M];
                        for r in 0..M {
                            let this = self.panel(panel + r, 0);
                            let next =
                                if chunk.end < blocks { (this, chunk.end) } else { (self.panel(panel + M + r, 0), 0) };
                            weights[r].write(UnpackedPanel::fill::<S, M>(room, r, &this, chunk.clone(), next));
                        }
                        let weights = weights.map(|w| w.assume_init());
                        self.tokens::<S, _, M, T>(weights, panel, chunk);
                    }
                    panel += M;
                }
            }
            // A lone token reads one panel after the other, as memory likes it best.
            let few = P::FEW && m.tokens.len() > 1 && m.tokens.len() <= T;
            while few && panel + R <= m.range.end {
                self.tokens::<S, _, R, T>(std::array::from_fn(|r| self.panel(panel + r, R - 1)), panel, 0..blocks);
                panel += R;
            }
            while panel < m.range.end {
                if P::FEW {
                    self.tokens::<S, _, 1, D>([self.panel(panel, 0)], panel, 0..blocks);
                } else {
                    self.tokens::<S, _, 1, 1>([self.panel(panel, 0)], panel, 0..blocks);
                }
                panel += 1;
            }
        }
    }

    /// Panel `panel`; the one that is read after it stands behind `others` others.
    #[inline(always)]
    fn panel(&self, panel: usize, others: usize) -> PackedPanel<P> {
        let bytes = self.0.panel_bytes;
        let first = self.0.panels.wrapping_add(panel * bytes);
        let (ahead, bytes) = match self.0.fetch {
            Fetch::Nothing => (0, usize::MAX),
            Fetch::Ahead(ahead) => (ahead, bytes),
            Fetch::Other(distance) => (distance.cast_unsigned(), usize::MAX),
        };
        PackedPanel { panel: first, bytes, skip: others * self.0.panel_bytes, ahead, of: PhantomData }
    }

    /// Adds the products of some blocks of R panels with all tokens to the output, or begins it with block 0.
    #[inline(always)]
    unsafe fn tokens<S: Simd, W: Weights, const R: usize, const T: usize>(
        &self,
        w: [W; R],
        panel: usize,
        blocks: Range<usize>,
    ) {
        let mut tile = Tile { token: self.0.tokens.start, turn: 0, turns: self.0.tokens.len().div_ceil(T) };
        // SAFETY: tiles end at the last token and lie in two groups of rows.
        unsafe {
            while tile.token < self.0.tokens.end {
                let ragged = tile.token % GROUP;
                let most = (self.0.tokens.end - tile.token).min(T).min(if ragged > 0 { GROUP - ragged } else { T });
                match most {
                    8 if T >= 8 => self.tile::<S, W, R, 8>(w, panel, tile, blocks.clone()),
                    7 if T >= 8 => self.tile::<S, W, R, 7>(w, panel, tile, blocks.clone()),
                    6 if T >= 8 => self.tile::<S, W, R, 6>(w, panel, tile, blocks.clone()),
                    5 if T >= 8 => self.tile::<S, W, R, 5>(w, panel, tile, blocks.clone()),
                    4 if T >= 4 => self.tile::<S, W, R, 4>(w, panel, tile, blocks.clone()),
                    3 if T >= 4 => self.tile::<S, W, R, 3>(w, panel, tile, blocks.clone()),
                    2 if T >= 2 => self.tile::<S, W, R, 2>(w, panel, tile, blocks.clone()),
                    _ => self.tile::<S, W, R, 1>(w, panel, tile, blocks.clone()),
                }
                tile.token += most;
                tile.turn += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, W: Weights, const R: usize, const T: usize>(
        &self,
        w: [W; R],
        panel: usize,
        tile: Tile,
        blocks: Range<usize>,
    ) {
        let (m, token) = (&self.0, tile.token);
        let halves = if P::HALVES { 2 } else { 1 };
        let start = SUM_START.to_bits().cast_signed();
        let bias = if P::Planes::WIDE { S::WIDE_BIAS } else { P::BIAS };
        // SAFETY: panels `panel..panel + R` and tokens `token..token + T` exist, the tokens beyond a group in the next one;
        // the blocks are below `cols / BLOCK`.
        unsafe {
            let groups = [m.x.row(token), m.x.row(if T > GROUP { token + GROUP } else { token })];
            let out = |r: usize, t: usize| m.out.add((token + t) * m.out_stride + (panel + r) * LANES);
            let mut acc = [[S::splat(0.0); T]; R];
            if blocks.start > 0 {
                for r in 0..R {
                    for t in 0..T {
                        acc[r][t] = S::load(out(r, t));
                    }
                }
            }
            let mut fetch = blocks.start + tile.turn;
            let mut starts = MaybeUninit::<[[[i32; GROUP * UNPACKED_BLOCKS]; 2]; 2]>::uninit();
            let mut scaled = MaybeUninit::<[[[f32; GROUP * UNPACKED_BLOCKS]; 2]; 2]>::uninit();
            for first in blocks.clone().step_by(UNPACKED_BLOCKS) {
                let chunk = first..blocks.end.min(first + UNPACKED_BLOCKS);
                // What the sums start from is read back as numbers, which costs no shuffle.
                let starts = starts.as_mut_ptr().cast::<[[i32; GROUP * UNPACKED_BLOCKS]; 2]>();
                for (g, group) in groups.iter().enumerate().take(T.div_ceil(GROUP)) {
                    for half in 0..if bias == 0 { 0 } else { halves } {
                        let (from, to) = (group.negative_sums::<P>(first, half), (*starts.add(g))[half].as_mut_ptr());
                        for i in (0..chunk.len() * GROUP).step_by(LANES) {
                            let biases = S::mul_i(S::load_i(from.add(i)), S::splat_i(bias));
                            S::store_i(to.add(i), S::add_i(biases, S::splat_i(start)));
                        }
                    }
                }
                // Mins of halves multiply sums of halves.
                let scaled = scaled.as_mut_ptr().cast::<[[f32; GROUP * UNPACKED_BLOCKS]; 2]>();
                for (g, group) in groups.iter().enumerate().take(T.div_ceil(GROUP)) {
                    for half in 0..if P::MIN && P::HALVES { 2 } else { 0 } {
                        let (from, to) = (group.negative_sums::<P>(first, half), (*scaled.add(g))[half].as_mut_ptr());
                        for i in (0..chunk.len() * GROUP).step_by(LANES) {
                            let sums = S::to_float(S::mul_i(S::load_i(from.add(i)), S::splat_i(-1)));
                            S::store(to.add(i), S::mul(sums, S::load(group.scale(first, 0).add(i))));
                        }
                    }
                }
                for block in chunk {
                    if block == fetch {
                        fetch += tile.turns;
                        for r in 0..R {
                            w[r].prefetch::<S>(block);
                        }
                    }
                    let mut sums = [[[S::splat_i(start); T]; R]; 2];
                    for half in 0..if bias == 0 { 0 } else { halves } {
                        for t in 0..T {
                            let unbiased = (*starts.add(t / GROUP))[half][(block - first) * GROUP + t % GROUP];
                            for r in 0..R {
                                sums[half][r][t] = S::splat_i(unbiased);
                            }
                        }
                    }
                    for j in 0..4 {
                        let mut values = [(S::splat_b(0), S::splat_b(0)); R];
                        for r in 0..R {
                            values[r] = w[r].values::<S>(block, j);
                        }
                        for t in 0..T {
                            let four = S::broadcast4(groups[t / GROUP].q(block, t % GROUP).add(4 * j));
                            for r in 0..R {
                                sums[0][r][t] = dot::<S, P>(sums[0][r][t], values[r].0, four);
                            }
                        }
                        for t in 0..T {
                            let four = S::broadcast4(groups[t / GROUP].q(block, t % GROUP).add(16 + 4 * j));
                            for r in 0..R {
                                let sum = &mut sums[halves - 1][r][t];
                                *sum = dot::<S, P>(*sum, values[r].1, four);
                            }
                        }
                    }
                    let mut scales = [[S::splat(0.0); R]; 2];
                    for half in 0..halves {
                        for r in 0..R {
                            scales[half][r] = w[r].scale::<S>(block, half);
                        }
                    }
                    for t in 0..T {
                        let group = &groups[t / GROUP];
                        let scale = S::splat(*group.scale(block, t % GROUP));
                        let scaled_start = S::splat(*group.scaled_start(block, t % GROUP));
                        for half in 0..halves {
                            for r in 0..R {
                                let sum = S::fma(S::as_float(sums[half][r][t]), scale, scaled_start);
                                acc[r][t] = S::fma(sum, scales[half][r], acc[r][t]);
                            }
                        }
                    }
                    for half in 0..if P::MIN { halves } else { 0 } {
                        for r in 0..R {
                            let min = w[r].min::<S>(block, half);
                            for t in 0..T {
                                let sum = if P::HALVES {
                                    (*scaled.add(t / GROUP))[half][(block - first) * GROUP + t % GROUP]
                                } else {
                                    *groups[t / GROUP].scaled_sum(block, t % GROUP)
                                };
                                acc[r][t] = S::fma(min, S::splat(sum), acc[r][t]);
                            }
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

#[inline(always)]
unsafe fn dot<S: Simd, P: Packed>(acc: S::I, w: S::B, x: S::I) -> S::I {
    // SAFETY: as `Simd`.
    unsafe { if P::Planes::WIDE { S::dot_wide(acc, w, x) } else { S::dot(acc, w, x) } }
}
