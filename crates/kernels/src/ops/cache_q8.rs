//! int8 keys and values. Queries are rounded to int8 as inputs of any quantized matmul; a value's scale goes to its
//! probability. Many rows of queries share the values decoded from a page, few decode as they go, to the same bits.

// Tiles are walked by group and row number: iterators would hide the order of the sums.
#![allow(clippy::needless_range_loop)]

use super::cache::{PAGE, PageProduct, Stored};
use super::matmul::{Fetch, FloatMatMul, IntMatMul};
use super::quantize::QuantizedRows;
use crate::quant::panel::{BLOCK, Element, block_bytes};
use crate::quant::{F32, Q80};
use crate::simd::{Kernel, LANES, Simd};

/// Numbers of scratch for heads of `head_dim` values.
pub const fn weighted_len(head_dim: usize) -> usize {
    head_dim.div_ceil(BLOCK) * WEIGHTED_ROWS * WEIGHTED
}

/// int8 with scales.
pub struct Q8;

/// Rows that decode as they go, at most.
const FEW_ROWS: usize = 8;
/// Of many rows, how many are weighted at a time.
const WEIGHTED_ROWS: usize = 8;
/// Numbers from one weighted row to the next.
const WEIGHTED: usize = PAGE + LANES;
/// Groups of sixteen of a head's values that share scales.
const SHARING: usize = BLOCK / LANES;

#[allow(clippy::undocumented_unsafe_blocks)] // As the trait says.
impl Stored for Q8 {
    #[inline(always)]
    unsafe fn query<S: Simd>(quantized: &QuantizedRows, row: usize, x: *const f32) {
        unsafe { quantized.quantize_row(row, x).body::<S>() }
    }

    #[inline(always)]
    unsafe fn scores<S: Simd>(product: PageProduct) {
        let blocks = product.layout.blocks();
        let keys = IntMatMul {
            panels: product.parts()[0],
            panel_bytes: blocks * block_bytes::<Q80>(),
            range: 0..product.keys.div_ceil(LANES),
            cols: blocks * BLOCK,
            x: product.quantized,
            tokens: product.rows,
            out: product.out,
            out_stride: product.out_stride,
            fetch: product.fetch,
        };
        unsafe { keys.of_type::<Q80>().body::<S>() }
    }

    #[inline(always)]
    unsafe fn values<S: Simd>(product: PageProduct) {
        let values = Values { product: &product, q: product.parts()[1] };
        unsafe {
            if product.rows.len() > FEW_ROWS {
                values.many::<S>();
            } else {
                values.few::<S>();
            }
        }
    }
}

/// The values of a page: a group is sixteen of the head's values, a column one position.
///
/// The safety of all functions: that of [`Stored`]; groups, rows and positions are the product's.
struct Values<'a> {
    product: &'a PageProduct<'a>,
    q: *const u8,
}

#[allow(clippy::undocumented_unsafe_blocks)] // As the struct says.
impl Values<'_> {
    /// Sixteen values of a position.
    fn at(&self, group: usize, key: usize) -> *const u8 {
        self.q.wrapping_add((group * PAGE + key) * LANES)
    }

    /// The scales of block `block` from position `key` on.
    fn scales(&self, block: usize, key: usize) -> *const u8 {
        self.q.wrapping_add((self.product.layout.head_dim + block * 2) * PAGE + key * 2)
    }

    /// The probabilities of a row from position `key` on.
    #[inline(always)]
    unsafe fn probabilities<S: Simd>(&self, row: usize, key: usize) -> S::F {
        unsafe { S::load(self.product.x.add(row * self.product.x_stride + key)) }
    }

    /// Many rows: the values without their scales become panels of f32.
    #[inline(always)]
    unsafe fn many<S: Simd>(&self) {
        let p = self.product;
        let groups = p.layout.head_dim / LANES;
        unsafe {
            for group in 0..groups {
                for key in 0..p.keys {
                    S::store(p.room.add((group * PAGE + key) * LANES), S::load_i8(self.at(group, key)));
                }
            }
            let panels = p.with_values(p.room.cast(), F32::BYTES);
            for first in p.rows.clone().step_by(WEIGHTED_ROWS) {
                let rows = first..p.rows.end.min(first + WEIGHTED_ROWS);
                // Rows of a block stand one behind the other.
                let to = |block: usize| p.weighted.wrapping_add(block * WEIGHTED_ROWS * WEIGHTED);
                for key in (0..p.keys).step_by(LANES) {
                    for block in 0..p.layout.blocks() {
                        let scales = S::load_f16(self.scales(block, key));
                        for row in rows.clone() {
                            let weighted = S::mul(self.probabilities::<S>(row, key), scales);
                            S::store(to(block).add((row - first) * WEIGHTED + key), weighted);
                        }
                    }
                }
                for block in 0..p.layout.blocks() {
                    let range = block * SHARING..groups.min((block + 1) * SHARING);
                    let (x, x_stride, tokens) = (to(block).cast_const(), WEIGHTED, 0..rows.len());
                    let out = p.out.add(first * p.out_stride);
                    FloatMatMul { range, x, x_stride, tokens, out, ..panels.clone() }.of_type::<F32>().body::<S>();
                }
            }
        }
    }

    /// Few rows: groups as many that their independent sums hide the latency of an addition.
    #[inline(always)]
    unsafe fn few<S: Simd>(&self) {
        let p = self.product;
        let groups = p.layout.head_dim / LANES;
        let mut row = p.rows.start;
        unsafe {
            if let Fetch::Other(distance) = p.fetch {
                for line in (0..p.layout.blocks() * PAGE * 2).step_by(64) {
                    S::prefetch(self.scales(0, 0).wrapping_add(line).wrapping_offset(distance));
                }
            }
            while row < p.rows.end {
                let rows = (p.rows.end - row).min(4);
                let mut group = 0;
                while group < groups {
                    let left = groups - group;
                    let count = match (left, rows) {
                        (4.., 1 | 2) => 4,
                        (2.., _) => 2,
                        _ => 1,
                    };
                    match (count, rows) {
                        (4, 1) => self.tile::<S, 4, 1>(group, row),
                        (4, _) => self.tile::<S, 4, 2>(group, row),
                        (2, 4) => self.tile::<S, 2, 4>(group, row),
                        (2, 3) => self.tile::<S, 2, 3>(group, row),
                        (2, 2) => self.tile::<S, 2, 2>(group, row),
                        (2, _) => self.tile::<S, 2, 1>(group, row),
                        (_, 4) => self.tile::<S, 1, 4>(group, row),
                        (_, 3) => self.tile::<S, 1, 3>(group, row),
                        (_, 2) => self.tile::<S, 1, 2>(group, row),
                        _ => self.tile::<S, 1, 1>(group, row),
                    }
                    group += count;
                }
                row += rows;
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const G: usize, const R: usize>(&self, group: usize, row: usize) {
        let p = self.product;
        let out = |g: usize, r: usize| p.out.wrapping_add((row + r) * p.out_stride + (group + g) * LANES);
        let next = match p.fetch {
            Fetch::Other(distance) if row == p.rows.start => Some(distance),
            _ => None,
        };
        unsafe {
            let mut acc = [[S::splat(0.0); R]; G];
            if p.accumulate {
                for g in 0..G {
                    for r in 0..R {
                        acc[g][r] = S::load(out(g, r));
                    }
                }
            }
            for first in (0..p.keys).step_by(LANES) {
                // Of each block that the groups lie in.
                let mut weighted = [[[0.0; LANES]; R]; 2];
                for (b, weighted) in weighted.iter_mut().enumerate().take(G.div_ceil(SHARING)) {
                    let scales = S::load_f16(self.scales(group / SHARING + b, first));
                    for r in 0..R {
                        S::store(weighted[r].as_mut_ptr(), S::mul(self.probabilities::<S>(row + r, first), scales));
                    }
                }
                for key in first..p.keys.min(first + LANES) {
                    if let Some(distance) = next
                        && key % (64 / LANES) == 0
                    {
                        for g in 0..G {
                            S::prefetch(self.at(group + g, key).wrapping_offset(distance));
                        }
                    }
                    for g in 0..G {
                        let value = S::load_i8(self.at(group + g, key));
                        for r in 0..R {
                            acc[g][r] = S::fma(value, S::splat(weighted[g / SHARING][r][key % LANES]), acc[g][r]);
                        }
                    }
                }
            }
            for g in 0..G {
                for r in 0..R {
                    S::store(out(g, r), acc[g][r]);
                }
            }
        }
    }
}
