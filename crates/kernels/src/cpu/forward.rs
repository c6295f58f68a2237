//! The decoder pass: a chunk of rows through all layers.
//!
//! The steps between the matmuls work row by row; the calling thread does them alone when rows are few, so that a decoded
//! token costs five meetings of the team per layer. Every step leaves what it adds to the residual stream in `y`, and the
//! next norm takes it in.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::buffers::{Buffers, activations};
use super::matmuls::{Input, Product, matmuls};
use super::pages::Pages;
use super::weights::{Dims, Model};
use crate::backend::{BackendError, KvType};
use crate::buffer::Buffer;
use crate::ops::attention::{PAGE, PagePtr, Queries, Scratch};
use crate::ops::glu::SwiGlu;
use crate::ops::heads::Heads;
use crate::ops::norm::RmsNorm;
use crate::ops::quantize::QuantizedRows;
use crate::ops::rope;
use crate::quant::{F16, F32};
use crate::simd::Tier;
use crate::team::Team;

/// Rows up to which a step is not worth a meeting of the team.
const FEW_ROWS: usize = 2;
/// Queries of an attention item, over all heads of a group.
const QUERIES_AT_ONCE: usize = 32;
/// Rows whose logits are computed together.
const LOGITS_AT_ONCE: usize = 32;

/// One position of a chunk.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Index of its sequence's page table.
    pub span: usize,
    pub token: u32,
    pub position: usize,
    /// Whether its logits are wanted.
    pub logits: bool,
}

/// The model with the buffers of a chunk.
pub struct Forward {
    tier: Tier,
    model: Model,
    team: Team,
    buffers: Buffers,
    quantized: QuantizedRows,
    /// Logits in whole lanes, before the vocabulary's are taken out.
    logits: Buffer<f32>,
    scratch: Mutex<Vec<Scratch>>,
}

impl Forward {
    /// For chunks of up to `rows` rows.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(tier: Tier, model: Model, team: Team, rows: usize) -> Result<Self, BackendError> {
        let widest = Buffers::widest_input(&model);
        let no_memory = BackendError::Memory { what: "activations", bytes: rows * widest };
        Ok(Self {
            tier,
            buffers: Buffers::new(&model, rows)?,
            quantized: QuantizedRows::new(rows, widest).ok_or(no_memory)?,
            logits: activations(LOGITS_AT_ONCE.min(rows) * model.head.padded_rows())?,
            scratch: Mutex::new(Vec::new()),
            model,
            team,
        })
    }

    pub fn dims(&self) -> &Dims {
        &self.model.dims
    }

    /// Runs `rows` through the decoder: stores their keys and values and writes the logits of those that want them,
    /// `[wanted, vocab]`. The rows of a span follow one another in ascending position; `tables` has each span's pages.
    pub fn run(&mut self, rows: &[Row], tables: &[Vec<PagePtr>], pages: &Pages, logits: &mut [f32]) {
        let mut pass = Pass {
            tier: self.tier,
            model: &self.model,
            buffers: &self.buffers,
            scratch: &self.scratch,
            quantized: &mut self.quantized,
            team: &mut self.team,
            rows,
            tables,
            pages,
        };
        pass.embed();
        for layer in 0..pass.model.layers.len() {
            pass.attention(layer);
            pass.feed_forward(layer);
        }
        pass.head(&self.logits, logits);
    }
}

/// One chunk under way.
struct Pass<'a> {
    tier: Tier,
    model: &'a Model,
    buffers: &'a Buffers,
    scratch: &'a Mutex<Vec<Scratch>>,
    quantized: &'a mut QuantizedRows,
    team: &'a mut Team,
    rows: &'a [Row],
    tables: &'a [Vec<PagePtr>],
    pages: &'a Pages,
}

impl Pass<'_> {
    /// Calls `step` with each number below `rows`, on the team if they are many.
    fn each_row(&mut self, rows: usize, step: &(dyn Fn(usize) + Sync)) {
        if rows <= FEW_ROWS { (0..rows).for_each(step) } else { self.team.run(rows, step) }
    }

    /// Multiplies the first `rows` rows of an input with each product's weight.
    fn matmuls(&mut self, input: Input, rows: usize, products: &[Product]) {
        matmuls(self.tier, self.model, self.team, self.quantized, input, rows, products);
    }

    /// Token embeddings into the residual stream, and the rotation of each position.
    fn embed(&mut self) {
        let (model, b, rows) = (self.model, self.buffers, self.rows);
        let pairs = model.rope.inv_freq.len();
        self.each_row(rows.len(), &|r| {
            // SAFETY: row r is written by this call alone.
            let (x, angles) = unsafe {
                (b.x.slice_mut(r * b.hidden, model.dims.hidden), b.angles.slice_mut(r * 2 * pairs, 2 * pairs))
            };
            (model.embedding.dtype.decode)(model.embedding.row(rows[r].token as usize), x);
            let (cos, sin) = angles.split_at_mut(pairs);
            rope::angles(&model.rope, rows[r].position, cos, sin);
        });
    }

    /// `x += y` if there is a y yet; `input = norm(x) * weight`. Row i of the input is row `from(i)` of x.
    fn norm(&mut self, rows: usize, add: bool, weight: &Buffer<f32>, from: &(dyn Fn(usize) -> usize + Sync)) {
        let (tier, model, b) = (self.tier, self.model, self.buffers);
        let weight = weight.as_slice();
        self.each_row(rows, &|r| {
            let at = from(r) * b.hidden;
            let norm = RmsNorm {
                x: b.x.ptr().wrapping_add(at),
                add: add.then(|| b.y.ptr().wrapping_add(at).cast_const()),
                weight: weight.as_ptr(),
                out: b.input.ptr().wrapping_add(r * b.hidden),
                cols: b.hidden,
                len: model.dims.hidden,
                eps: model.norm_eps,
            };
            // SAFETY: the tier is available, and each row is touched by this call alone.
            unsafe { tier.run(norm) }
        });
    }

    /// `y = o(attention(norm(x)))`.
    fn attention(&mut self, layer: usize) {
        let (b, dims, weights) = (self.buffers, &self.model.dims, &self.model.layers[layer]);
        let n = self.rows.len();
        self.norm(n, layer > 0, &weights.attn_norm, &|r| r);
        let products = [0, 1, 2].map(|i| Product {
            linear: &weights.qkv[i],
            out: b.qkv.ptr().wrapping_add(b.qkv_starts[i]),
            out_stride: b.qkv_starts[3],
        });
        self.matmuls(Input { x: b.input.ptr(), stride: b.hidden }, n, &products);
        self.split_heads(layer);
        self.attend(layer);
        let mut attended = Input { x: b.attended.ptr(), stride: b.heads };
        if dims.head_dim != dims.padded_head() {
            self.close_ranks();
            attended.x = b.input.ptr();
        }
        self.matmuls(attended, n, &[Product { linear: &weights.o, out: b.y.ptr(), out_stride: b.hidden }]);
    }

    /// Norms and rotates the heads; queries go to their buffer, keys and values to their pages.
    fn split_heads(&mut self, layer: usize) {
        let (tier, model, b) = (self.tier, self.model, self.buffers);
        let (rows, tables, pages) = (self.rows, self.tables, self.pages);
        let (dims, weights) = (model.dims, &model.layers[layer]);
        let (padded, pairs) = (dims.padded_head(), model.rope.inv_freq.len());
        let norm = |weight: &Option<Buffer<f32>>| weight.as_ref().map(|w| w.ptr().cast_const());
        self.each_row(rows.len(), &|r| {
            let projected = b.qkv.ptr().wrapping_add(r * b.qkv_starts[3]);
            // SAFETY: nothing writes the angles now.
            let (cos, sin) = unsafe { b.angles.slice(r * 2 * pairs, 2 * pairs) }.split_at(pairs);
            let row = rows[r];
            let heads = Heads {
                q: projected,
                k: projected.wrapping_add(b.qkv_starts[1]),
                v: projected.wrapping_add(b.qkv_starts[2]),
                q_norm: norm(&weights.q_norm),
                k_norm: norm(&weights.k_norm),
                heads: dims.heads,
                kv_heads: dims.kv_heads,
                head_dim: dims.head_dim,
                padded,
                norm_eps: model.norm_eps,
                scale: model.attention_scale,
                style: model.rope.style,
                cos,
                sin,
                queries: b.queries.ptr().wrapping_add(r * b.heads),
                kv: pages.kv,
                layout: |kv_head| pages.head(layer, kv_head),
                page: tables[row.span][row.position / PAGE].0,
                slot: row.position % PAGE,
                scratch: b.key_value.ptr().wrapping_add(r * 2 * padded),
            };
            // SAFETY: the tier is available; row r has its own parts of the buffers and its own slot.
            unsafe { tier.run(heads) }
        });
    }

    /// Attention of all rows: an item per span, KV head and tile of queries.
    fn attend(&mut self, layer: usize) {
        let (tier, dims, b, scratch) = (self.tier, self.model.dims, self.buffers, self.scratch);
        let (rows, tables, pages) = (self.rows, self.tables, self.pages);
        let (padded, group) = (dims.padded_head(), dims.heads / dims.kv_heads);
        let tiles = tiles(rows, (QUERIES_AT_ONCE / group).max(1));
        self.team.run(tiles.len() * dims.kv_heads, &|item| {
            let (tile, kv_head) = (tiles[item / dims.kv_heads].clone(), item % dims.kv_heads);
            let free = || scratch.lock().unwrap_or_else(PoisonError::into_inner);
            let own = free().pop();
            let mut own = own.unwrap_or_else(|| Scratch::new(QUERIES_AT_ONCE.max(group), padded));
            let at = tile.start * b.heads + kv_head * group * padded;
            let row = rows[tile.start];
            let query = Queries {
                pages: &tables[row.span],
                position: row.position,
                queries: tile.len(),
                group,
                q: b.queries.ptr().wrapping_add(at),
                out: b.attended.ptr().wrapping_add(at),
                stride: b.heads,
                layout: pages.head(layer, kv_head),
                scratch: &mut own,
            };
            // SAFETY: the tier is available; the span's keys up to the last query are stored as the pages' type, and each
            // item has its own part of the output.
            unsafe {
                match pages.kv {
                    KvType::F32 => tier.run(query.over::<F32>()),
                    KvType::F16 => tier.run(query.over::<F16>()),
                }
            }
            free().push(own);
        });
    }

    /// Copies attended heads that do not fill their lanes to the input, one right behind the other.
    fn close_ranks(&mut self) {
        let (dims, b) = (self.model.dims, self.buffers);
        self.each_row(self.rows.len(), &|r| {
            for h in 0..dims.heads {
                // SAFETY: two buffers, offsets within row r, which this call alone touches.
                unsafe {
                    let head = b.attended.slice(r * b.heads + h * dims.padded_head(), dims.head_dim);
                    b.input.slice_mut(r * b.heads + h * dims.head_dim, dims.head_dim).copy_from_slice(head);
                }
            }
        });
    }

    /// `x += y; y = down(silu(gate(norm(x))) * up(norm(x)))`.
    fn feed_forward(&mut self, layer: usize) {
        let (tier, b, weights) = (self.tier, self.buffers, &self.model.layers[layer]);
        let n = self.rows.len();
        self.norm(n, true, &weights.ffn_norm, &|r| r);
        let products = [0, 1].map(|i| Product {
            linear: &weights.gate_up[i],
            out: b.gate_up.ptr().wrapping_add(i * b.ffn),
            out_stride: 2 * b.ffn,
        });
        self.matmuls(Input { x: b.input.ptr(), stride: b.hidden }, n, &products);
        self.each_row(n, &|r| {
            let gate = b.gate_up.ptr().wrapping_add(r * 2 * b.ffn);
            let out = b.input.ptr().wrapping_add(r * b.ffn);
            // SAFETY: the tier is available, and row r has its own part of the buffers.
            unsafe { tier.run(SwiGlu { gate, up: gate.wrapping_add(b.ffn), out, cols: b.ffn }) }
        });
        let product = [Product { linear: &weights.down, out: b.y.ptr(), out_stride: b.hidden }];
        self.matmuls(Input { x: b.input.ptr(), stride: b.ffn }, n, &product);
    }

    /// The logits of the rows that want them.
    fn head(&mut self, scratch: &Buffer<f32>, logits: &mut [f32]) {
        let (model, b) = (self.model, self.buffers);
        let (vocab, width) = (model.dims.vocab, model.head.padded_rows());
        let wanted: Vec<usize> = (0..self.rows.len()).filter(|r| self.rows[*r].logits).collect();
        let outs = logits.chunks_mut(LOGITS_AT_ONCE * vocab.max(1));
        for (rows, out) in wanted.chunks(LOGITS_AT_ONCE).zip(outs) {
            self.norm(rows.len(), !model.layers.is_empty(), &model.output_norm, &|i| rows[i]);
            let product = [Product { linear: &model.head, out: scratch.ptr(), out_stride: width }];
            self.matmuls(Input { x: b.input.ptr(), stride: b.hidden }, rows.len(), &product);
            for (i, row) in out.chunks_exact_mut(vocab).enumerate() {
                // SAFETY: the matmul is done.
                row.copy_from_slice(unsafe { scratch.slice(i * width, vocab) });
            }
        }
    }
}

/// The rows in tiles of at most `size`, none across two spans.
fn tiles(rows: &[Row], size: usize) -> Vec<Range<usize>> {
    let mut tiles: Vec<Range<usize>> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        match tiles.last_mut() {
            Some(tile) if tile.len() < size && rows[tile.start].span == row.span => tile.end = i + 1,
            _ => tiles.push(i..i + 1),
        }
    }
    tiles
}
