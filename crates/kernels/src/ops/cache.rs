//! How keys and values are stored in pages, and read from them.
//!
//! A page holds, for each layer and KV head, PAGE keys and then PAGE values. Keys stand in groups of 16, each
//! `[head_dim][16 keys]`; values stand in groups of 16 of a head's values, each `[PAGE keys][16 values]`: both are panels of
//! the float matmul. int8 keys are panels of Q8_0; int8 values are followed by their f16 scales, `[block of 32][PAGE keys]`.

use std::ops::Range;

use super::matmul::{Fetch, FloatMatMul};
use super::quantize::QuantizedRows;
use crate::backend::KvType;
use crate::quant::panel::{BLOCK, Element, block_bytes, plane_bytes};
use crate::quant::{F16, F32, Q80};
use crate::simd::{Kernel, LANES, Simd};

/// Positions in a page.
pub const PAGE: usize = 64;

/// Where the keys and values of one layer and KV head lie in a page.
#[derive(Clone, Copy, Debug)]
pub struct HeadLayout {
    /// Values of a head, rounded up to whole lanes.
    pub head_dim: usize,
    pub kv: KvType,
    /// Byte offset of the keys in a page.
    pub offset: usize,
}

impl HeadLayout {
    /// Bytes of the keys, and of the values, of one page.
    pub fn part_bytes(&self) -> usize {
        PAGE * self.kv.bytes(self.head_dim)
    }

    /// Blocks of a head with a scale each.
    pub(super) fn blocks(&self) -> usize {
        self.head_dim.div_ceil(BLOCK)
    }

    /// Fetches the first `keys` keys (part 0) or values (part 1) of a page.
    ///
    /// # Safety
    /// As [`Simd`]; the page need not exist.
    #[inline(always)]
    pub(super) unsafe fn fetch<S: Simd>(&self, page: *const u8, part: usize, keys: usize) {
        let run = |from: usize, bytes: usize| {
            for line in (0..bytes).step_by(64) {
                // SAFETY: prefetching an address that does not exist does nothing.
                unsafe { S::prefetch(page.wrapping_add(self.offset + part * self.part_bytes() + from + line)) }
            }
        };
        if part == 0 {
            run(0, keys.next_multiple_of(LANES) * self.kv.bytes(self.head_dim));
            return;
        }
        let (value, scaled) = match self.kv {
            KvType::F32 => (4, 0),
            KvType::F16 => (2, 0),
            KvType::Q8_0 => (1, self.blocks()),
        };
        (0..self.head_dim / LANES).for_each(|group| run(group * PAGE * LANES * value, keys * LANES * value));
        (0..scaled).for_each(|block| run((self.head_dim + block * 2) * PAGE, keys * 2));
    }
}

/// Rows of queries that are multiplied with the keys, or values, of a page.
#[derive(Clone)]
pub struct PageProduct<'a> {
    pub layout: &'a HeadLayout,
    pub page: *const u8,
    /// Keys, or values, of the page that are used: its first.
    pub keys: usize,
    /// Row-major `[row, head_dim]` queries for keys; `[row, keys]` probabilities for values.
    pub x: *const f32,
    /// The queries once more, where keys are int8.
    pub quantized: &'a QuantizedRows,
    pub x_stride: usize,
    pub rows: Range<usize>,
    /// Row-major `[row, keys]`, in whole groups of 16 keys, or `[row, head_dim]`.
    pub out: *mut f32,
    pub out_stride: usize,
    /// Whether to go on from the sums that `out` holds.
    pub accumulate: bool,
    /// What part of a page is read next, if it is to be fetched.
    pub fetch: Fetch,
    /// `[PAGE, head_dim]` of scratch.
    pub room: *mut f32,
    /// `weighted_len(head_dim)` of scratch.
    pub weighted: *mut f32,
}

/// A way to read keys and values.
///
/// The safety of all functions: that of [`Simd`]; the page holds the head's keys and values; x and `out` have the rows;
/// nothing else touches `out` and `room`.
#[allow(clippy::missing_safety_doc)]
pub trait Stored: 'static {
    /// Takes in row `row` of the queries, at `x`.
    #[inline(always)]
    unsafe fn query<S: Simd>(_quantized: &QuantizedRows, _row: usize, _x: *const f32) {}
    /// `out[row, key] = x[row] · k[key]`, summed over the head's values in order.
    unsafe fn scores<S: Simd>(product: PageProduct);
    /// `out[row] += Σ x[row, key] * v[key]`, summed over keys in order.
    unsafe fn values<S: Simd>(product: PageProduct);
}

impl PageProduct<'_> {
    /// The product with panels of the page's keys.
    pub(super) fn with_keys(&self, panels: *const u8, element_bytes: usize) -> FloatMatMul {
        let dim = self.layout.head_dim;
        self.product(panels, dim, element_bytes, 0..self.keys.div_ceil(LANES))
    }

    /// The product with panels of the page's values.
    pub(super) fn with_values(&self, panels: *const u8, element_bytes: usize) -> FloatMatMul {
        let product = self.product(panels, PAGE, element_bytes, 0..self.layout.head_dim / LANES);
        FloatMatMul { cols: self.keys, ..product }
    }

    fn product(&self, panels: *const u8, cols: usize, element_bytes: usize, range: Range<usize>) -> FloatMatMul {
        FloatMatMul {
            panels,
            panel_bytes: cols * LANES * element_bytes,
            range,
            cols,
            x: self.x,
            x_stride: self.x_stride,
            tokens: self.rows.clone(),
            out: self.out,
            out_stride: self.out_stride,
            accumulate: self.accumulate,
            fetch: self.fetch,
        }
    }

    /// Where the page's keys, and its values, begin.
    pub(super) fn parts(&self) -> [*const u8; 2] {
        let keys = self.page.wrapping_add(self.layout.offset);
        [keys, keys.wrapping_add(self.layout.part_bytes())]
    }
}

/// Panels are read as they are stored.
macro_rules! as_stored {
    ($element:ty) => {
        #[allow(clippy::undocumented_unsafe_blocks)] // As the trait says.
        impl Stored for $element {
            #[inline(always)]
            unsafe fn scores<S: Simd>(product: PageProduct) {
                unsafe { product.with_keys(product.parts()[0], Self::BYTES).of_type::<Self>().body::<S>() }
            }

            #[inline(always)]
            unsafe fn values<S: Simd>(product: PageProduct) {
                unsafe { product.with_values(product.parts()[1], Self::BYTES).of_type::<Self>().body::<S>() }
            }
        }
    };
}

as_stored!(F32);
as_stored!(F16);

/// Stores one head's key and value in slot `slot` of a page. Numbers saturate at the largest half, so that a stored number
/// is finite unless it was NaN.
///
/// # Safety
/// As [`Simd`]; key and value have the layout's `head_dim` numbers, and nothing else touches the slot.
#[inline(always)]
pub unsafe fn store<S: Simd>(layout: HeadLayout, page: *mut u8, slot: usize, key: *const f32, value: *const f32) {
    let (dim, group, lane) = (layout.head_dim, slot / LANES, slot % LANES);
    // SAFETY: offsets are within the head's part of the page, and lanes within the head.
    unsafe {
        let (keys, values) = (page.add(layout.offset), page.add(layout.offset + layout.part_bytes()));
        match layout.kv {
            KvType::F32 => {
                for i in (0..dim).step_by(LANES) {
                    S::store(values.add((i * PAGE + slot * LANES) * 4).cast(), S::load(value.add(i)));
                }
                for i in 0..dim {
                    keys.add(((group * dim + i) * LANES + lane) * 4).cast::<f32>().write(*key.add(i));
                }
            }
            KvType::F16 => {
                for i in (0..dim).step_by(LANES) {
                    S::store_f16(values.add((i * PAGE + slot * LANES) * 2), clamped::<S>(value.add(i)));
                    let mut halves = [0u16; LANES];
                    S::store_f16(halves.as_mut_ptr().cast(), clamped::<S>(key.add(i)));
                    let at = keys.add(((group * dim + i) * LANES + lane) * 2).cast::<u16>();
                    for (i, half) in halves.into_iter().enumerate() {
                        at.add(i * LANES).write(half);
                    }
                }
            }
            KvType::Q8_0 => {
                let blocks = layout.blocks();
                for block in 0..blocks {
                    let (start, end) = (block * BLOCK, dim.min((block + 1) * BLOCK));
                    let (scale, q) = quantize::<S>(key.add(start), end - start);
                    let to = keys.add((group * blocks + block) * block_bytes::<Q80>());
                    for (plane, four) in q.as_chunks::<4>().0.iter().enumerate() {
                        let unsigned = four.map(|q| q.cast_unsigned() ^ 0x80);
                        to.add(plane * 64 + lane * 4).cast::<[u8; 4]>().write(unsigned);
                    }
                    to.add(plane_bytes::<Q80>() + lane * 2).cast::<[u8; 2]>().write(scale);
                    let (scale, q) = quantize::<S>(value.add(start), end - start);
                    for (i, q) in q.as_chunks::<LANES>().0.iter().enumerate().take((end - start) / LANES) {
                        let at = values.add((start + i * LANES) * PAGE + slot * LANES);
                        at.cast::<[i8; LANES]>().write(*q);
                    }
                    values.add(PAGE * dim + (block * PAGE + slot) * 2).cast::<[u8; 2]>().write(scale);
                }
            }
        }
    }
}

/// 16 numbers, none beyond the largest half.
///
/// # Safety
/// As [`Simd`]; there are 16.
#[inline(always)]
unsafe fn clamped<S: Simd>(p: *const f32) -> S::F {
    let limit = half::f16::MAX.to_f32();
    // SAFETY: the caller's promise.
    unsafe { S::min(S::splat(limit), S::max(S::splat(-limit), S::load(p))) }
}

/// Up to 32 numbers as int8, and their scale: the largest magnitude / 127 as a half.
///
/// # Safety
/// As [`Simd`]; there are `count` numbers, a multiple of 16.
#[inline(always)]
unsafe fn quantize<S: Simd>(x: *const f32, count: usize) -> ([u8; 2], [i8; BLOCK]) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut largest = S::splat(0.0);
        for i in (0..count).step_by(LANES) {
            largest = S::max(S::abs(clamped::<S>(x.add(i))), largest);
        }
        let scale = half::f16::from_f32(S::largest(largest) / 127.0);
        let inverse = if scale.to_bits() == 0 { 0.0 } else { 1.0 / scale.to_f32() };
        let (top, mut q) = (S::splat(127.0), [0; BLOCK]);
        for i in (0..count).step_by(LANES) {
            let scaled = S::mul(clamped::<S>(x.add(i)), S::splat(inverse));
            let rounded = S::round(S::min(S::max(scaled, S::splat(-127.0)), top));
            S::store_i8(q.as_mut_ptr().add(i), rounded);
        }
        (scale.to_le_bytes(), q)
    }
}
