//! Causal attention over paged keys and values.
//!
//! Keys are walked in segments of 256 at absolute positions. Each segment gives (max, sum, out); segments are merged in
//! ascending order. Within a segment scores are summed over the head's values in order, the exponentials in sixteen lanes
//! (key mod 16) and then in [`Simd::sum`]'s tree, and the output over keys in order. So a query's result depends on
//! nothing but itself and the stored keys and values: not on the batch, the chunk or the thread.
//!
//! Keys and values are panels of the float matmul; [`super::cache`] says how they are stored.

use std::marker::PhantomData;
use std::ops::Range;

use super::cache::{HeadLayout, PAGE, Stored};
use super::heads::HeadShape;
use super::matmul::FloatMatMul;
use crate::quant::panel::Element;
use crate::simd::{Kernel, LANES, Simd};

/// Keys in a segment.
const SEGMENT: usize = 256;

/// The start of a page.
#[derive(Clone, Copy)]
pub struct PagePtr(pub *mut u8);

// SAFETY: kernels write through it each to slots of their own.
unsafe impl Send for PagePtr {}
// SAFETY: as above.
unsafe impl Sync for PagePtr {}

/// What is known of a query after some segments.
#[derive(Clone, Copy, Default)]
struct Running {
    max: f32,
    sum: f32,
    /// Factors of the earlier output and of the latest segment's when the two are merged.
    keep: f32,
    take: f32,
}

/// Buffers of one thread.
pub struct Scratch {
    /// `[rows, head_dim]`: normed, rotated and scaled.
    queries: Vec<f32>,
    /// `[rows, SEGMENT]`: scores, then their exponentials.
    scores: Vec<f32>,
    /// `[rows, head_dim]`: the latest segment's output.
    segment: Vec<f32>,
    running: Vec<Running>,
    /// `[2, head_dim]`: a key and a value.
    pub key_value: Vec<f32>,
    /// `[PAGE, head_dim]`: the keys, or values, of a page.
    page: Vec<f32>,
}

impl Scratch {
    /// Room for `rows` queries of `head_dim` values.
    pub fn new(rows: usize, head_dim: usize) -> Self {
        Self {
            queries: vec![0.0; rows * head_dim],
            scores: vec![0.0; rows * SEGMENT],
            segment: vec![0.0; rows * head_dim],
            running: vec![Running::default(); rows],
            key_value: vec![0.0; 2 * head_dim],
            page: vec![0.0; PAGE * head_dim],
        }
    }
}

/// Several consecutive queries of a sequence, each with the heads that share one KV head.
pub struct Queries<'a> {
    /// The sequence's pages in order.
    pub pages: &'a [PagePtr],
    pub layout: HeadLayout,
    /// Position of the first query.
    pub position: usize,
    pub queries: usize,
    /// Query heads per KV head; they follow one another in a row of `q` and of `out`.
    pub group: usize,
    /// What becomes of a query's projection.
    pub shape: HeadShape,
    /// `padded` values.
    pub q_norm: Option<*const f32>,
    /// Multiplies the queries.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// A query sees as many keys, its own included.
    pub window: usize,
    /// First head of the group in the first query's projection, and the values from one query to the next.
    pub q: *const f32,
    pub q_stride: usize,
    /// Cosines and then sines of the first query, and likewise.
    pub angles: *const f32,
    pub angles_stride: usize,
    /// First head of the group in the first query's row, and likewise; each head has `padded` values.
    pub out: *mut f32,
    pub out_stride: usize,
    pub scratch: &'a mut Scratch,
}

impl<'a> Queries<'a> {
    /// The kernel over keys and values stored as `K`.
    ///
    /// Its safety: the pages hold the keys and values of positions `0..position + queries` as `K`; `q`, `angles` and `out`
    /// have the rows described; nothing else touches `out`; the scratch has room for `queries * group` rows and has served
    /// no other shape of head.
    pub fn over<K: Stored>(self) -> impl Kernel<Output = ()> + use<'a, K> {
        Attention(self, PhantomData::<K>)
    }
}

struct Attention<'a, K>(Queries<'a>, PhantomData<K>);

impl<K: Stored> Kernel for Attention<'_, K> {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(mut self) {
        let dim = self.0.layout.head_dim;
        let rows = self.0.queries * self.0.group;
        let end = self.0.position + self.0.queries;
        let (group, first_out, stride) = (self.0.group, self.0.out, self.0.out_stride);
        let out = |row: usize| first_out.wrapping_add(row / group * stride + row % group * dim);
        let queries = self.0.scratch.queries.as_mut_ptr();
        let (scores, segment) = (self.0.scratch.scores.as_mut_ptr(), self.0.scratch.segment.as_mut_ptr());
        // SAFETY: rows, keys and pages are within what the struct promises; a segment's keys are stored up to `end`.
        unsafe {
            for row in 0..rows {
                let (query, head) = (row / self.0.group, row % self.0.group);
                let q = self.0.q.add(query * self.0.q_stride + head * self.0.shape.head_dim);
                let angles = self.0.angles.add(query * self.0.angles_stride);
                let to = queries.add(row * dim);
                self.0.shape.prepare::<S>(q, self.0.q_norm, angles, to);
                for i in (0..dim).step_by(LANES) {
                    S::store(to.add(i), S::mul(S::load(to.add(i)), S::splat(self.0.scale)));
                }
            }
            // The first key that a row sees.
            let (position, window) = (self.0.position, self.0.window);
            let lowest = |row: usize| (position + row / group + 1).saturating_sub(window);
            for start in (lowest(0) / SEGMENT * SEGMENT..end).step_by(SEGMENT) {
                let keys = (end - start).min(SEGMENT);
                // Queries before the segment see none of its keys, nor do those that it is too far behind.
                let first = start.saturating_sub(position) * group;
                let last =
                    (start + keys).saturating_add(window).saturating_sub(position + 1).saturating_mul(group).min(rows);
                self.scores::<S>(start, keys, first..last, queries, scores);
                for row in first..last {
                    let lowest = lowest(row);
                    let valid = lowest.saturating_sub(start)..(position + row / group + 1 - start).min(keys);
                    let scores = scores.add(row * SEGMENT);
                    if let Some(cap) = self.0.softcap {
                        softcap::<S>(scores, keys.next_multiple_of(LANES), cap);
                    }
                    let (max, sum) = softmax::<S>(scores, valid, keys);
                    self.0.scratch.running[row].merge::<S>(max, sum, start <= lowest);
                }
                self.values::<S>(start, keys, first..last, scores, segment);
                for row in first..last {
                    let running = self.0.scratch.running[row];
                    let (keep, take) = (S::splat(running.keep), S::splat(running.take));
                    let opens = start <= lowest(row);
                    for i in (0..dim).step_by(LANES) {
                        let (new, out) = (S::load(segment.add(row * dim + i)), out(row).add(i));
                        let old = if opens { S::splat(0.0) } else { S::load(out) };
                        S::store(out, S::fma(old, keep, S::mul(new, take)));
                    }
                }
            }
            for row in 0..rows {
                let sum = S::splat(self.0.scratch.running[row].sum);
                for i in (0..dim).step_by(LANES) {
                    let out = out(row).add(i);
                    S::store(out, S::div(S::load(out), sum));
                }
            }
        }
    }
}

impl<K: Stored> Attention<'_, K> {
    /// `scores[row, key] = q[row] · k[key]` for the segment's keys, rounded up to whole groups of 16.
    #[inline(always)]
    unsafe fn scores<S: Simd>(&mut self, start: usize, keys: usize, rows: Range<usize>, q: *const f32, out: *mut f32) {
        let dim = self.0.layout.head_dim;
        for slot in (0..keys).step_by(PAGE) {
            // SAFETY: the page exists and holds panels of 16 keys.
            unsafe {
                let (page, groups) = (self.0.pages[(start + slot) / PAGE].0, (keys - slot).min(PAGE).div_ceil(LANES));
                let product = FloatMatMul {
                    panels: K::keys::<S>(&self.0.layout, page, groups, self.0.scratch.page.as_mut_ptr()),
                    panel_bytes: dim * LANES * K::Element::BYTES,
                    range: 0..groups,
                    cols: dim,
                    x: q,
                    x_stride: dim,
                    tokens: rows.clone(),
                    out: out.add(slot),
                    out_stride: SEGMENT,
                    accumulate: false,
                };
                product.of_type::<K::Element>().body::<S>();
            }
        }
    }

    /// `out[row] = Σ p[row, key] * v[key]` over the segment's keys.
    #[inline(always)]
    unsafe fn values<S: Simd>(&mut self, start: usize, keys: usize, rows: Range<usize>, p: *const f32, out: *mut f32) {
        let dim = self.0.layout.head_dim;
        for slot in (0..keys).step_by(PAGE) {
            // SAFETY: the page exists; behind its keys stand panels of 16 of the head's values.
            unsafe {
                let (page, keys) = (self.0.pages[(start + slot) / PAGE].0, (keys - slot).min(PAGE));
                let product = FloatMatMul {
                    panels: K::values::<S>(&self.0.layout, page, keys, self.0.scratch.page.as_mut_ptr()),
                    panel_bytes: PAGE * LANES * K::Element::BYTES,
                    range: 0..dim / LANES,
                    cols: keys,
                    x: p.add(slot),
                    x_stride: SEGMENT,
                    tokens: rows.clone(),
                    out,
                    out_stride: dim,
                    accumulate: slot > 0,
                };
                product.of_type::<K::Element>().body::<S>();
            }
        }
    }
}

/// `cap * tanh(score / cap)` of `len` scores, a multiple of 16.
#[inline(always)]
unsafe fn softcap<S: Simd>(scores: *mut f32, len: usize, cap: f32) {
    // SAFETY: the row has SEGMENT scores, and `len` is at most SEGMENT.
    unsafe {
        let cap = S::splat(cap);
        for i in (0..len).step_by(LANES) {
            let score = S::div(S::load(scores.add(i)), cap);
            S::store(scores.add(i), S::mul(S::tanh(score), cap));
        }
    }
}

/// Turns the `valid` ones of `keys` scores into exponentials relative to their maximum, the others into zero; gives the
/// maximum and the sum.
#[inline(always)]
unsafe fn softmax<S: Simd>(scores: *mut f32, valid: Range<usize>, keys: usize) -> (f32, f32) {
    // SAFETY: the row has SEGMENT scores; the valid ones are some of the first `keys <= SEGMENT`.
    unsafe {
        let lanes = valid.end.next_multiple_of(LANES);
        for i in (0..valid.start).chain(valid.end..lanes) {
            *scores.add(i) = f32::NEG_INFINITY;
        }
        for i in lanes..keys {
            *scores.add(i) = 0.0;
        }
        let mut largest = S::splat(f32::NEG_INFINITY);
        for i in (0..lanes).step_by(LANES) {
            largest = S::max(S::load(scores.add(i)), largest);
        }
        let max = S::largest(largest);
        let mut sum = S::splat(0.0);
        for i in (0..lanes).step_by(LANES) {
            let p = S::exp(S::sub(S::load(scores.add(i)), S::splat(max)));
            S::store(scores.add(i), p);
            sum = S::add(sum, p);
        }
        (max, S::sum(sum))
    }
}

impl Running {
    /// Takes in a segment's maximum and sum.
    #[inline(always)]
    unsafe fn merge<S: Simd>(&mut self, max: f32, sum: f32, first: bool) {
        if first {
            *self = Self { max, sum, keep: 0.0, take: 1.0 };
            return;
        }
        let both = if max > self.max { max } else { self.max };
        // SAFETY: no pointer but the lanes' own.
        unsafe {
            // Not by a closure, which would be compiled without the tier's instructions.
            let (mut keep, mut take) = ([0.0; LANES], [0.0; LANES]);
            S::store(keep.as_mut_ptr(), S::exp(S::splat(self.max - both)));
            S::store(take.as_mut_ptr(), S::exp(S::splat(max - both)));
            (self.keep, self.take) = (keep[0], take[0]);
        }
        self.sum = self.sum.mul_add(self.keep, sum * self.take);
        self.max = both;
    }
}
