//! int8 keys and values: many rows of queries share the numbers decoded from a page, few decode as they go, to the same
//! bits.

// Tiles are walked by group and row number: iterators would hide the order of the sums.
#![allow(clippy::needless_range_loop)]

use super::cache::{PAGE, PageProduct, Stored};
use super::matmul::Fetch;
use crate::quant::F32;
use crate::quant::panel::{BLOCK, Element};
use crate::simd::{Kernel, LANES, Simd};

/// int8 with scales.
pub struct Q8;

/// Rows that decode as they go, at most.
const FEW_ROWS: usize = 8;
/// Rows of a tile.
const ROWS: usize = 4;
/// Groups of sixteen keys, or of sixteen of a head's values, of a tile: enough independent sums to hide an addition.
const GROUPS: usize = 2;

#[allow(clippy::undocumented_unsafe_blocks)] // As the trait says.
impl Stored for Q8 {
    #[inline(always)]
    unsafe fn scores<S: Simd>(product: PageProduct) {
        let [q, _] = product.parts();
        let groups = product.keys.div_ceil(LANES);
        unsafe {
            if product.rows.len() > FEW_ROWS {
                Keys { product: &product, q }.decode::<S>(groups);
                product.with_keys(product.room.cast(), F32::BYTES).of_type::<F32>().body::<S>();
            } else {
                tiles::<S, _>(&product, groups, &Keys { product: &product, q });
            }
        }
    }

    #[inline(always)]
    unsafe fn values<S: Simd>(product: PageProduct) {
        let [_, q] = product.parts();
        let groups = product.layout.head_dim / LANES;
        unsafe {
            if product.rows.len() > FEW_ROWS {
                Values { product: &product, q }.decode::<S>(groups);
                product.with_values(product.room.cast(), F32::BYTES).of_type::<F32>().body::<S>();
            } else {
                tiles::<S, _>(&product, groups, &Values { product: &product, q });
            }
        }
    }
}

/// Covers all groups and rows of a product.
#[inline(always)]
unsafe fn tiles<S: Simd, P: Page>(product: &PageProduct, groups: usize, page: &P) {
    // SAFETY: each tile lies within the groups and the rows.
    unsafe {
        let mut row = product.rows.start;
        while row < product.rows.end {
            let rows = (product.rows.end - row).min(ROWS);
            let mut group = 0;
            while group < groups {
                let count = (groups - group).min(GROUPS);
                match (count, rows) {
                    (2, 4) => tile::<S, P, 2, 4>(product, page, group, row),
                    (2, 3) => tile::<S, P, 2, 3>(product, page, group, row),
                    (2, 2) => tile::<S, P, 2, 2>(product, page, group, row),
                    (2, _) => tile::<S, P, 2, 1>(product, page, group, row),
                    (_, 4) => tile::<S, P, 1, 4>(product, page, group, row),
                    (_, 3) => tile::<S, P, 1, 3>(product, page, group, row),
                    (_, 2) => tile::<S, P, 1, 2>(product, page, group, row),
                    _ => tile::<S, P, 1, 1>(product, page, group, row),
                }
                group += count;
            }
            row += rows;
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, P: Page, const G: usize, const R: usize>(
    product: &PageProduct,
    page: &P,
    group: usize,
    row: usize,
) {
    // SAFETY: groups `group..group + G` and rows `row..row + R` exist.
    unsafe {
        let x: [*const f32; R] = std::array::from_fn(|r| product.x.add((row + r) * product.x_stride));
        let out = |g: usize, r: usize| product.out.add((row + r) * product.out_stride + (group + g) * LANES);
        let next = match product.fetch {
            Fetch::Other(distance) if row == product.rows.start => Some(distance),
            _ => None,
        };
        let mut acc = [[S::splat(0.0); R]; G];
        if product.accumulate {
            for g in 0..G {
                for r in 0..R {
                    acc[g][r] = S::load(out(g, r));
                }
            }
        }
        let cols = page.cols();
        for first in (0..cols).step_by(LANES) {
            let mut scales = [page.scales::<S>(group, first); G];
            for g in 1..G {
                scales[g] = page.scales::<S>(group + g, first);
            }
            for col in first..cols.min(first + LANES) {
                let mut values = [S::splat(0.0); G];
                if let Some(distance) = next
                    && col % (64 / LANES) == 0
                {
                    for g in 0..G {
                        S::prefetch(page.at(group + g, col).wrapping_offset(distance));
                    }
                }
                for g in 0..G {
                    values[g] = page.value::<S>(&scales[g], group + g, col);
                }
                for r in 0..R {
                    let xv = S::splat(*x[r].add(col));
                    for g in 0..G {
                        acc[g][r] = S::fma(values[g], xv, acc[g][r]);
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

/// The keys, or values, of a page as panels: a column of a group is sixteen numbers.
///
/// The safety of all functions: that of [`Simd`]; the group and the column exist.
#[allow(clippy::missing_safety_doc)]
trait Page {
    /// The scales of sixteen columns of a group.
    type Scales<S: Simd>: Copy;

    /// Columns of a group that are used.
    fn cols(&self) -> usize;
    /// The scales of columns `first..first + 16`, `first` a multiple of 16.
    unsafe fn scales<S: Simd>(&self, group: usize, first: usize) -> Self::Scales<S>;
    /// Column `col` of a group, one of those that the scales belong to.
    unsafe fn value<S: Simd>(&self, scales: &Self::Scales<S>, group: usize, col: usize) -> S::F;
    /// A column of a group.
    fn at(&self, group: usize, col: usize) -> *const u8;
    /// Columns from one group to the next.
    fn stride(&self) -> usize;
    fn room(&self) -> *mut f32;

    /// Writes the first `groups` groups as panels of f32.
    #[inline(always)]
    unsafe fn decode<S: Simd>(&self, groups: usize) {
        // SAFETY: the room has as many numbers as the page.
        unsafe {
            for group in 0..groups {
                for first in (0..self.cols()).step_by(LANES) {
                    let scales = self.scales::<S>(group, first);
                    for col in first..self.cols().min(first + LANES) {
                        let to = self.room().add((group * self.stride() + col) * LANES);
                        S::store(to, self.value::<S>(&scales, group, col));
                    }
                }
            }
        }
    }
}

/// A group is sixteen keys, a column one of the head's values.
struct Keys<'a> {
    product: &'a PageProduct<'a>,
    q: *const u8,
}

#[allow(clippy::undocumented_unsafe_blocks)] // As the trait says.
impl Page for Keys<'_> {
    type Scales<S: Simd> = S::F;

    #[inline(always)]
    fn cols(&self) -> usize {
        self.product.layout.head_dim
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(&self, group: usize, first: usize) -> S::F {
        let layout = self.product.layout;
        let at = PAGE * layout.head_dim + (group * layout.blocks() + first / BLOCK) * LANES * 2;
        unsafe { S::load_f16(self.q.add(at)) }
    }

    #[inline(always)]
    unsafe fn value<S: Simd>(&self, scales: &S::F, group: usize, col: usize) -> S::F {
        unsafe { S::mul(S::load_i8(self.at(group, col)), *scales) }
    }

    #[inline(always)]
    fn at(&self, group: usize, col: usize) -> *const u8 {
        self.q.wrapping_add((group * self.stride() + col) * LANES)
    }

    #[inline(always)]
    fn stride(&self) -> usize {
        self.product.layout.head_dim
    }

    #[inline(always)]
    fn room(&self) -> *mut f32 {
        self.product.room
    }
}

/// A group is sixteen of the head's values, a column one position.
struct Values<'a> {
    product: &'a PageProduct<'a>,
    q: *const u8,
}

#[allow(clippy::undocumented_unsafe_blocks)] // As the trait says.
impl Page for Values<'_> {
    type Scales<S: Simd> = [f32; LANES];

    #[inline(always)]
    fn cols(&self) -> usize {
        self.product.keys
    }

    #[inline(always)]
    unsafe fn scales<S: Simd>(&self, group: usize, first: usize) -> [f32; LANES] {
        let at = PAGE * self.product.layout.head_dim + (group * LANES / BLOCK * PAGE + first) * 2;
        let mut scales = [0.0; LANES];
        unsafe { S::store(scales.as_mut_ptr(), S::load_f16(self.q.add(at))) };
        scales
    }

    #[inline(always)]
    unsafe fn value<S: Simd>(&self, scales: &[f32; LANES], group: usize, col: usize) -> S::F {
        unsafe { S::mul(S::load_i8(self.at(group, col)), S::splat(scales[col % LANES])) }
    }

    #[inline(always)]
    fn at(&self, group: usize, col: usize) -> *const u8 {
        self.q.wrapping_add((group * self.stride() + col) * LANES)
    }

    #[inline(always)]
    fn stride(&self) -> usize {
        PAGE
    }

    #[inline(always)]
    fn room(&self) -> *mut f32 {
        self.product.room
    }
}
