//! Causal attention over paged keys and values.
//!
//! Keys are walked in segments of 256 at absolute positions. Each segment gives (max, sum, out); segments are merged in
//! ascending order. Within a segment scores are summed over the head's values in order, the exponentials in sixteen lanes
//! (key mod 16) and then in [`Simd::sum`]'s tree, and the output over keys in order. So a query's result depends on
//! nothing but itself and the stored keys and values: not on the batch, the chunk or the thread.
//!
//! Keys and values are panels of the float matmul; [`super::cache`] says how they are stored.

use std::marker::PhantomData;
use std::ops::{Deref, Range};

use super::cache::{HeadLayout, PAGE, PageProduct, Stored};
use super::cache_q8::weighted_len;
use super::heads::HeadShape;
use super::matmul::Fetch;
use super::quantize::QuantizedRows;
use crate::plan::QueryGrowth;
use crate::quant::panel::BLOCK;
use crate::simd::{Kernel, LANES, Simd};

/// Keys in a segment.
const SEGMENT: usize = 256;
/// Numbers between two rows, so that a column of rows spreads over the sets of a cache.
const PAD: usize = LANES;
/// Numbers from one row of scores to the next.
const SCORES: usize = SEGMENT + PAD;
/// Rows up to which attention waits for memory, and so fetches pages ahead.
const FETCHING_ROWS: usize = 8;

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
    /// `[rows, head_dim in whole blocks + PAD]`: normed, rotated and scaled.
    queries: Vec<f32>,
    /// The same, where keys are int8.
    quantized: QuantizedRows,
    /// `[rows, SCORES]`: scores, then their exponentials.
    scores: Vec<f32>,
    /// `[rows, head_dim + PAD]`: the latest segment's output.
    segment: Vec<f32>,
    /// The latest segment's maximum and sum of each row.
    latest: Vec<(f32, f32)>,
    running: Vec<Running>,
    /// `[2, head_dim]`: a key and a value.
    pub key_value: Vec<f32>,
    /// `[PAGE, head_dim]`: the values of a page.
    page: Vec<f32>,
    /// `weighted_len(head_dim)`: probabilities times scales.
    weighted: Vec<f32>,
}

impl Scratch {
    /// Room for `rows` queries of `head_dim` values; `None` if there is not enough memory.
    pub fn new(rows: usize, head_dim: usize) -> Option<Self> {
        Some(Self {
            queries: vec![0.0; rows * (head_dim.next_multiple_of(BLOCK) + PAD)],
            quantized: QuantizedRows::new(rows, head_dim)?,
            scores: vec![0.0; rows * SCORES],
            segment: vec![0.0; rows * (head_dim + PAD)],
            latest: vec![(0.0, 0.0); rows],
            running: vec![Running::default(); rows],
            key_value: vec![0.0; 2 * head_dim],
            page: vec![0.0; PAGE * head_dim],
            weighted: vec![0.0; weighted_len(head_dim)],
        })
    }
}

/// Several consecutive queries of a sequence, each with the heads that share one KV head.
pub struct Queries<'a> {
    /// The sequence's pages in order.
    pub pages: &'a [PagePtr],
    pub layout: HeadLayout,
    /// Of the same pages, what is attended to next.
    pub next: Option<HeadLayout>,
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
    pub growth: Option<QueryGrowth>,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// A query sees as many keys, its own included.
    pub window: usize,
    /// First head of the group in the first query's projection, the values from one head to the next, and from one query
    /// to the next.
    pub q: *const f32,
    pub q_head: usize,
    pub q_stride: usize,
    /// Cosines and then sines of the first query, and likewise.
    pub angles: *const f32,
    pub angles_stride: usize,
    /// First head of the group in the first query's row, and likewise; each head has `padded` values.
    pub out: *mut f32,
    pub out_stride: usize,
}

impl<'a> Queries<'a> {
    /// The kernel over keys and values stored as `K`.
    ///
    /// Its safety: the pages hold the keys and values of positions `0..position + queries` as `K`; `q`, `angles` and `out`
    /// have the rows described; nothing else touches `out`; the scratch has room for `queries * group` rows and has served
    /// no other shape of head.
    pub fn over<K: Stored>(self, scratch: &'a mut Scratch) -> impl Kernel<Output = ()> + use<'a, K> {
        Attention(Work { queries: self, scratch }, PhantomData::<K>)
    }

    /// The kernel over the keys and values of some segments, whose results go to `partials`,
    /// `[segments, rows, partial_len]`: what [`Queries::merged`] makes an output of.
    ///
    /// Its safety is that of [`Queries::over`], for the keys of these segments; nothing else touches their partials.
    pub fn over_segments<K: Stored>(
        self,
        numbers: Range<usize>,
        partials: *mut f32,
        scratch: &'a mut Scratch,
    ) -> impl Kernel<Output = ()> + use<'a, K> {
        SomeSegments { attention: Attention(Work { queries: self, scratch }, PhantomData::<K>), numbers, partials }
    }

    /// The kernel that merges the results of all segments.
    ///
    /// Its safety: the partials are there, and nothing else touches `out`.
    pub fn merged(self, partials: *const f32, scratch: &'a mut Scratch) -> impl Kernel<Output = ()> + use<'a> {
        Merge { work: Work { queries: self, scratch }, partials }
    }

    /// Queries of all heads.
    fn rows(&self) -> usize {
        self.queries * self.group
    }

    /// The position behind the last query.
    fn end(&self) -> usize {
        self.position + self.queries
    }

    /// The first position that a row sees.
    #[inline(always)]
    fn lowest(&self, row: usize) -> usize {
        (self.position + row / self.group + 1).saturating_sub(self.window)
    }

    /// The rows that see keys of segment `number`: not those before it, nor those that it is too far behind.
    #[inline(always)]
    fn seeing_segment(&self, number: usize) -> Range<usize> {
        let start = number * SEGMENT;
        let end = (start + SEGMENT).min(self.end());
        let last = end.saturating_add(self.window).saturating_sub(self.position + 1).saturating_mul(self.group);
        self.seeing(start, 0..self.rows().min(last))
    }

    /// Those of `rows` that see position `key`, or keys behind it.
    #[inline(always)]
    fn seeing(&self, key: usize, rows: Range<usize>) -> Range<usize> {
        let first = key.saturating_sub(self.position) * self.group;
        rows.start.max(first)..rows.end
    }

    /// Where the output of row `row` goes.
    #[inline(always)]
    fn out(&self, row: usize) -> *mut f32 {
        self.out.wrapping_add(row / self.group * self.out_stride + row % self.group * self.layout.head_dim)
    }
}

/// Numbers of what one segment gives a query: its output, then the largest score and the sum of the exponentials.
pub const fn partial_len(head_dim: usize) -> usize {
    head_dim + 2
}

/// Segments that `positions` positions take.
pub fn segments(positions: usize) -> usize {
    positions.div_ceil(SEGMENT)
}

struct Attention<'a, K>(Work<'a>, PhantomData<K>);

impl<K: Stored> Kernel for Attention<'_, K> {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(mut self) {
        // SAFETY: rows, keys and pages are within what the struct promises; a segment's keys are stored up to the last query.
        unsafe {
            self.0.fetch_next::<S>();
            self.prepare::<S>();
            for number in self.0.lowest(0) / SEGMENT..segments(self.0.end()) {
                let rows = self.segment::<S>(number);
                for row in rows {
                    let segment = self.0.scratch.segment.as_ptr().add(row * (self.0.layout.head_dim + PAD));
                    let (max, sum) = self.0.scratch.latest[row];
                    let first = number * SEGMENT <= self.0.lowest(row);
                    self.0.merge::<S>(row, first, max, sum, segment);
                }
            }
            self.0.finish::<S>();
        }
    }
}

struct SomeSegments<'a, K> {
    attention: Attention<'a, K>,
    numbers: Range<usize>,
    partials: *mut f32,
}

impl<K: Stored> Kernel for SomeSegments<'_, K> {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        let mut attention = self.attention;
        let (dim, rows) = (attention.0.layout.head_dim, attention.0.rows());
        // SAFETY: as in `Attention`; a partial result has `partial_len` numbers.
        unsafe {
            attention.prepare::<S>();
            for number in self.numbers {
                for row in attention.segment::<S>(number) {
                    let to = self.partials.add((number * rows + row) * partial_len(dim));
                    let scratch = &attention.0.scratch;
                    std::ptr::copy_nonoverlapping(scratch.segment.as_ptr().add(row * (dim + PAD)), to, dim);
                    (*to.add(dim), *to.add(dim + 1)) = scratch.latest[row];
                }
            }
        }
    }
}

struct Merge<'a> {
    work: Work<'a>,
    partials: *const f32,
}

impl Kernel for Merge<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        let mut work = self.work;
        let (dim, rows) = (work.layout.head_dim, work.rows());
        // SAFETY: as in `SomeSegments`.
        unsafe {
            for number in work.lowest(0) / SEGMENT..segments(work.end()) {
                for row in work.seeing_segment(number) {
                    let from = self.partials.add((number * rows + row) * partial_len(dim));
                    let first = number * SEGMENT <= work.lowest(row);
                    work.merge::<S>(row, first, *from.add(dim), *from.add(dim + 1), from);
                }
            }
            work.finish::<S>();
        }
    }
}

/// Queries and the scratch they are worked out in.
struct Work<'a> {
    queries: Queries<'a>,
    scratch: &'a mut Scratch,
}

impl<'a> Deref for Work<'a> {
    type Target = Queries<'a>;
    fn deref(&self) -> &Queries<'a> {
        &self.queries
    }
}

/// The safety of all functions: that of [`Queries::over`].
impl Work<'_> {
    /// While the keys (part 0) or values (part 1) of a page are read: those of another, if few rows wait for them and they
    /// will be read. Pages are given by a position. A page that is not full goes with one of as many keys only, and is
    /// fetched before it is read.
    #[inline(always)]
    unsafe fn fetch<S: Simd>(&self, rows: usize, from: (usize, usize), to: (usize, usize)) -> Fetch {
        let page = |position: usize| self.pages.get(position / PAGE).filter(|_| position < self.end());
        let keys = |position: usize| (self.end() - position).min(PAGE);
        match (page(from.0), page(to.0)) {
            (Some(from_page), Some(to_page)) if rows <= FETCHING_ROWS => {
                if keys(from.0) < PAGE {
                    // SAFETY: the caller's promise.
                    unsafe { self.layout.fetch::<S>(to_page.0, to.1, keys(to.0)) };
                    return Fetch::Nothing;
                }
                let at = |page: &PagePtr, part: usize| page.0.addr() + part * self.layout.part_bytes();
                Fetch::Other(at(to_page, to.1).wrapping_sub(at(from_page, from.1)).cast_signed())
            }
            _ => Fetch::Nothing,
        }
    }

    /// Fetches the keys that another head's queries read first, and the values if there are no more keys.
    #[inline(always)]
    unsafe fn fetch_next<S: Simd>(&self) {
        let start = self.lowest(0) / SEGMENT * SEGMENT;
        let (Some(next), Some(page)) = (self.next, self.pages.get(start / PAGE)) else { return };
        if self.rows() <= FETCHING_ROWS {
            let keys = (self.end() - start).min(PAGE);
            for part in 0..if start + keys == self.end() { 2 } else { 1 } {
                // SAFETY: the caller's promise.
                unsafe { next.fetch::<S>(page.0, part, keys) }
            }
        }
    }

    /// Norms, rotates and scales the queries.
    #[inline(always)]
    unsafe fn prepare<S: Simd>(&mut self) {
        let (dim, stride) = (self.layout.head_dim, self.query_stride());
        let queries = self.scratch.queries.as_mut_ptr();
        // SAFETY: as `over` says.
        unsafe {
            for row in 0..self.rows() {
                let (query, head) = (row / self.group, row % self.group);
                let q = self.q.add(query * self.q_stride + head * self.q_head);
                let angles = self.angles.add(query * self.angles_stride);
                let to = queries.add(row * stride);
                self.shape.prepare::<S>(q, self.q_norm, angles, to);
                let scale = self.growth.map_or(self.scale, |growth| growth.factor(self.position + query) * self.scale);
                for i in (0..dim).step_by(LANES) {
                    S::store(to.add(i), S::mul(S::load(to.add(i)), S::splat(scale)));
                }
                for i in dim..stride - PAD {
                    *to.add(i) = 0.0;
                }
            }
        }
    }

    /// Numbers from one prepared query to the next.
    fn query_stride(&self) -> usize {
        self.layout.head_dim.next_multiple_of(BLOCK) + PAD
    }

    /// Takes the next segment's maximum, sum and output into the output of a row.
    #[inline(always)]
    unsafe fn merge<S: Simd>(&mut self, row: usize, first: bool, max: f32, sum: f32, segment: *const f32) {
        // SAFETY: as `over` says; the segment has `head_dim` values.
        unsafe {
            let running = &mut self.scratch.running[row];
            running.merge::<S>(max, sum, first);
            let (keep, take) = (S::splat(running.keep), S::splat(running.take));
            for i in (0..self.layout.head_dim).step_by(LANES) {
                let (new, out) = (S::load(segment.add(i)), self.out(row).add(i));
                let old = if first { S::splat(0.0) } else { S::load(out) };
                S::store(out, S::fma(old, keep, S::mul(new, take)));
            }
        }
    }

    /// Divides all outputs by their sums.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&mut self) {
        // SAFETY: as `over` says.
        unsafe {
            for row in 0..self.rows() {
                let sum = S::splat(self.scratch.running[row].sum);
                for i in (0..self.layout.head_dim).step_by(LANES) {
                    let out = self.out(row).add(i);
                    S::store(out, S::div(S::load(out), sum));
                }
            }
        }
    }
}

impl<K: Stored> Attention<'_, K> {
    /// Prepares the queries as the keys want them.
    #[inline(always)]
    unsafe fn prepare<S: Simd>(&mut self) {
        let (rows, stride) = (self.0.rows(), self.0.query_stride());
        // SAFETY: as `over` says.
        unsafe {
            self.0.prepare::<S>();
            let Scratch { queries, quantized, .. } = &mut *self.0.scratch;
            quantized.set_cols(stride - PAD);
            // A closure here would be compiled without the tier's instructions.
            for row in 0..rows {
                K::query::<S>(quantized, row, queries.as_ptr().add(row * stride));
            }
        }
    }

    /// Attends to the keys of segment `number`: leaves the output, the maximum and the sum of each row that sees it in the
    /// scratch, and answers with these rows.
    #[inline(always)]
    unsafe fn segment<S: Simd>(&mut self, number: usize) -> Range<usize> {
        let start = number * SEGMENT;
        let keys = (self.0.end() - start).min(SEGMENT);
        let rows = self.0.seeing_segment(number);
        if rows.is_empty() {
            return rows;
        }
        let scratch = &mut *self.0.scratch;
        let (queries, scores) = (scratch.queries.as_ptr(), scratch.scores.as_mut_ptr());
        let (segment, room) = (scratch.segment.as_mut_ptr(), scratch.page.as_mut_ptr());
        let weighted = scratch.weighted.as_mut_ptr();
        let latest = scratch.latest.as_mut_ptr();
        let quantized = &self.0.scratch.quantized;
        let (layout, dim, x_stride) = (self.0.layout, self.0.layout.head_dim, self.0.query_stride());
        let product = |slot: usize| PageProduct {
            layout: &layout,
            page: self.0.pages[(start + slot) / PAGE].0,
            keys: (keys - slot).min(PAGE),
            x: queries,
            quantized,
            x_stride,
            rows: self.0.seeing(start + slot, rows.clone()),
            out: scores.wrapping_add(slot),
            out_stride: SCORES,
            accumulate: false,
            fetch: Fetch::Nothing,
            room,
            weighted,
        };
        // SAFETY: the pages up to the last query exist; rows have SEGMENT scores.
        unsafe {
            for slot in (0..keys).step_by(PAGE) {
                let next = if slot + PAGE < keys { (start + slot + PAGE, 0) } else { (start, 1) };
                let fetch = self.0.fetch::<S>(rows.len(), (start + slot, 0), next);
                K::scores::<S>(PageProduct { fetch, ..product(slot) });
            }
            for row in rows.clone() {
                let end = (self.0.position + row / self.0.group + 1 - start).min(keys);
                let (valid, scores) = (self.0.lowest(row).saturating_sub(start)..end, scores.add(row * SCORES));
                if let Some(cap) = self.0.softcap {
                    softcap::<S>(scores, end.next_multiple_of(LANES), cap);
                }
                *latest.add(row) = softmax::<S>(scores, valid, keys);
            }
            for slot in (0..keys).step_by(PAGE) {
                let next = (start + slot + PAGE, usize::from(slot + PAGE < keys));
                K::values::<S>(PageProduct {
                    fetch: self.0.fetch::<S>(rows.len(), (start + slot, 1), next),
                    x: scores.add(slot),
                    x_stride: SCORES,
                    out: segment,
                    out_stride: dim + PAD,
                    accumulate: slot > 0,
                    ..product(slot)
                });
            }
        }
        rows
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
