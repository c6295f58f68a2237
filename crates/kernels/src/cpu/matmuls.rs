//! Matmuls that share an input, split over the team.

use std::ops::Range;

use super::caches;
use super::weights::{Model, PackedLinear};
use crate::buffer::Buffer;
use crate::ops::float::UNPACKED_COLS;
use crate::ops::matmul::{Fetch, FloatMatMul, IntMatMul};
use crate::ops::quantize::{GROUP, QuantizedRows};
use crate::quant::panel::MatMulFn;
use crate::simd::{LANES, Tier};
use crate::team::Team;

/// Panels of an item at most.
const PANELS_AT_ONCE: usize = 18;
/// Rows that wait for memory rather than for arithmetic.
const FEW_ROWS: usize = 8;
/// Bytes that quantized weights are fetched ahead of the panel's own order: what memory delivers in its latency, and a
/// little more.
const FETCH: usize = 8192;
/// Bytes that float weights are fetched ahead in each panel.
const FLOAT_FETCH: usize = 4096;
/// What is left is split into as many items per thread, of which the first is taken.
const ITEMS_AHEAD: usize = 3;
/// Items per thread, so that a thread that is held up leaves little behind.
const ITEMS_PER_THREAD: usize = 8;

/// Row-major f32 rows.
#[derive(Clone, Copy)]
pub struct Input {
    pub x: *const f32,
    pub stride: usize,
}

// SAFETY: only read through while matmuls run.
unsafe impl Sync for Input {}

/// One node and where its output goes, row-major in whole lanes.
pub struct Product<'a> {
    pub linear: &'a PackedLinear,
    pub out: *mut f32,
    pub out_stride: usize,
}

// SAFETY: written through by kernels only, each in its own part.
unsafe impl Sync for Product<'_> {}

/// A part of a product.
struct Item {
    product: usize,
    panels: Range<usize>,
    rows: Range<usize>,
}

/// What is done with the outputs of all products, once they are there: for some panels and rows.
pub type Finish<'a> = dyn Fn(Range<usize>, Range<usize>) + Sync + 'a;

/// Multiplies the first `rows` rows of the input, all as wide as the products' weights, with each weight. Quantized
/// weights take the rows from `quantized`. With a `finish`, the products have as many panels each.
#[allow(clippy::too_many_arguments)]
pub fn matmuls(
    tier: Tier,
    model: &Model,
    team: &mut Team,
    quantized: &QuantizedRows,
    input: Input,
    rows: usize,
    products: &[Product],
    finish: Option<&Finish>,
) {
    let operands = Operands { tier, model, quantized, input };
    let multiply = |product: &Product, panels, rows| operands.multiply(product, panels, rows);
    if let Some(finish) = finish {
        let items = items(&products[..1], rows, team.size());
        team.run(items.len(), &|i| {
            let Item { panels, rows, .. } = &items[i];
            products.iter().for_each(|p| multiply(p, panels.clone(), rows.clone()));
            finish(panels.clone(), rows.clone());
        });
    } else {
        let items = items(products, rows, team.size());
        team.run(items.len(), &|i| {
            let Item { product, panels, rows } = &items[i];
            multiply(&products[*product], panels.clone(), rows.clone());
        });
    }
}

/// What products are made of, but for their weights.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    pub tier: Tier,
    pub model: &'a Model,
    /// The input of nodes that take int8.
    pub quantized: &'a QuantizedRows,
    /// The input of the others.
    pub input: Input,
}

impl Operands<'_> {
    /// Computes a part of a product: some panels for some rows of the input, which this call alone writes.
    pub fn multiply(&self, product: &Product, panels: Range<usize>, rows: Range<usize>) {
        let Self { tier, model, quantized, input } = *self;
        let Product { linear, out, out_stride } = *product;
        let (range, tokens) = (panels.clone(), rows.clone());
        let (first, panel_bytes, cols) = (model.panels(linear), linear.panel_bytes, linear.cols);
        // SAFETY: the tier is available; the panels are packed for this type, the rows are quantized, and each item has
        // its own part of the output.
        unsafe {
            match linear.matmul {
                MatMulFn::Int8(run) => {
                    let (panels, x, fetch) = (first, quantized, Fetch::Ahead(FETCH));
                    run(tier, IntMatMul { panels, panel_bytes, range, cols, x, tokens, out, out_stride, fetch });
                }
                MatMulFn::F32(run) => {
                    let Input { x, stride: x_stride } = input;
                    let (panels, accumulate) = (first, false);
                    let fetch = if tokens.len() <= FEW_ROWS { Fetch::Ahead(FLOAT_FETCH) } else { Fetch::Nothing };
                    let m = FloatMatMul {
                        panels,
                        panel_bytes,
                        range,
                        cols,
                        x,
                        x_stride,
                        tokens,
                        out,
                        out_stride,
                        accumulate,
                        fetch,
                    };
                    run(tier, m);
                }
            }
            if let Some(factor) = linear.ternary {
                scale(factor, quantized, panels.clone(), rows.clone(), out, out_stride);
            }
            if let Some(bias) = &linear.bias {
                add_bias(bias, panels, rows, out, out_stride);
            }
        }
    }
}

/// Says to the team which weights are read after the jobs under way: these, in one call of [`matmuls`] for `rows` rows.
pub fn expect(model: &Model, team: &mut Team, linears: &[PackedLinear], rows: usize) {
    let panels = linears.iter().map(PackedLinear::panel_count).sum();
    let first = panels_at_once(panels, panels, rows, team.size());
    team.expect(model.panels(&linears[0]), first * linears[0].panel_bytes);
}

/// Panels of the next item when `left` of `all` are left. Each thread has several. For few rows, which wait for memory,
/// items are long at first, since each begins with a wait, and short in the end, so that threads end together.
pub fn panels_at_once(left: usize, all: usize, rows: usize, threads: usize) -> usize {
    // Kernels take panels in pairs, and for many rows three at a time.
    if rows <= FEW_ROWS {
        (left / (threads * ITEMS_AHEAD)).max(2).next_multiple_of(2)
    } else {
        (all / (threads * ITEMS_PER_THREAD)).clamp(2, PANELS_AT_ONCE).next_multiple_of(6)
    }
}

/// Rows of an item: as many as stay in the second-level cache while panels pass.
pub fn rows_at_once(cols: usize, int8: bool) -> usize {
    // An int8 row has 24 bytes of scales and sums for each 32 values. Of an f32 row, some columns pass at once for all panels
    // of an item, and what they add to the outputs.
    let row = if int8 {
        cols + cols * 24 / 32
    } else {
        (cols.min(UNPACKED_COLS) + PANELS_AT_ONCE * LANES) * size_of::<f32>()
    };
    (caches::second_level() / row.max(1)).next_multiple_of(GROUP).max(4 * GROUP)
}

/// Splits the products into items: panels in groups that give each thread several, rows in groups that fit a cache.
fn items(products: &[Product], rows: usize, threads: usize) -> Vec<Item> {
    let all: usize = products.iter().map(|p| p.linear.panel_count()).sum();
    let mut items = Vec::new();
    let rows_at_once =
        products.iter().map(|p| rows_at_once(p.linear.cols, p.linear.takes_int8())).min().unwrap_or(rows);
    for start in (0..rows).step_by(rows_at_once) {
        let mut left = all;
        for (product, p) in products.iter().enumerate() {
            let (mut first, count) = (0, p.linear.panel_count());
            while first < count {
                let end = count.min(first + panels_at_once(left, all, rows, threads));
                items.push(Item { product, panels: first..end, rows: start..rows.min(start + rows_at_once) });
                left -= end - first;
                first = end;
            }
        }
    }
    items
}

/// Multiplies integer sums in a part of the output by what their units stand for.
///
/// # Safety
/// The part of the output is the caller's, and the rows have been rounded.
unsafe fn scale(
    factor: f32,
    quantized: &QuantizedRows,
    panels: Range<usize>,
    rows: Range<usize>,
    out: *mut f32,
    out_stride: usize,
) {
    // SAFETY: the output is as wide as the panels; the caller's promise.
    unsafe {
        for row in rows {
            let unit = quantized.row_scale(row) * factor;
            let out = out.add(row * out_stride + panels.start * LANES);
            (0..panels.len() * LANES).for_each(|i| *out.add(i) *= unit);
        }
    }
}

/// Adds the bias to a part of the output.
///
/// # Safety
/// The part of the output is the caller's.
unsafe fn add_bias(bias: &Buffer<f32>, panels: Range<usize>, rows: Range<usize>, out: *mut f32, out_stride: usize) {
    let at = panels.start * LANES;
    let len = panels.len() * LANES;
    // SAFETY: the bias and each row of the output are as wide as the panels; the caller's promise.
    unsafe {
        let bias = bias.slice(at, len);
        for row in rows {
            for (i, b) in bias.iter().enumerate() {
                *out.add(row * out_stride + at + i) += b;
            }
        }
    }
}
