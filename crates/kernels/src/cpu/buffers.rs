//! The activations of a chunk of rows.

use super::weights::{Model, PackedLayer};
use crate::backend::BackendError;
use crate::buffer::Buffer;
use crate::simd::LANES;

/// Row-major buffers with one row per position of the chunk.
pub struct Buffers {
    /// Values from one row of `x`, `y` and `input` to the next.
    pub hidden: usize,
    /// Where the q, k and v projections start in a row of `qkv`, and the values from one row to the next.
    pub qkv_starts: [usize; 4],
    /// Width of the gate and of the up projection.
    pub ffn: usize,
    /// Values from one row of `gate_up` to the next.
    pub gate_up_stride: usize,
    /// Values from one row of `attended`, all heads, each in whole lanes, to the next.
    pub heads: usize,
    /// The most heads that share a KV head.
    pub group: usize,
    /// The most values of a head, in whole lanes.
    pub head: usize,
    /// Where each of the plan's ropes starts in a row of `angles`; behind the last, the row's width.
    pub angle_starts: Vec<usize>,
    /// The residual stream.
    pub x: Buffer<f32>,
    /// What the last matmul adds to it.
    pub y: Buffer<f32>,
    /// The input of the next matmul, but for the feed-forward layer's second; its width is the matmul's.
    pub input: Buffer<f32>,
    pub qkv: Buffer<f32>,
    /// What attention makes of the queries.
    pub attended: Buffer<f32>,
    pub gate_up: Buffer<f32>,
    /// Of each rope, cosines and then sines of the rotated pairs.
    pub angles: Buffer<f32>,
    /// A key and a value of one head.
    pub key_value: Buffer<f32>,
}

impl Buffers {
    /// Buffers for `rows` rows.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(model: &Model, rows: usize) -> Result<Self, BackendError> {
        let widest = |f: &dyn Fn(&PackedLayer) -> usize| model.layers.iter().map(f).max().unwrap_or(0);
        let hidden = spread(model.hidden);
        let [q, k, v] = [0, 1, 2].map(|i| widest(&|l| l.attention.qkv[i].padded_rows()));
        let ffn = widest(&|l| l.ffn.whole().map_or(0, |ffn| ffn.gate_up[0].padded_rows()));
        let heads = spread(widest(&|l| l.attention.dims.heads * l.attention.dims.padded_head()));
        let (qkv, gate_up_stride) = (spread(q + k + v), spread(2 * ffn));
        let head = widest(&|l| l.attention.dims.padded_head());
        let mut angle_starts = vec![0];
        for rope in &model.ropes {
            angle_starts.push(angle_starts[angle_starts.len() - 1] + 2 * rope.inv_freq.len());
        }
        let angles = angle_starts[model.ropes.len()];
        let zeroed = |width: usize| activations(rows * width);
        Ok(Self {
            hidden,
            qkv_starts: [0, q, q + k, qkv],
            ffn,
            gate_up_stride,
            heads,
            group: widest(&|l| l.attention.dims.heads / l.attention.dims.kv_heads),
            head,
            angle_starts,
            x: zeroed(hidden)?,
            y: zeroed(hidden)?,
            input: zeroed(hidden.max(Self::widest_input(model)))?,
            qkv: zeroed(qkv)?,
            attended: zeroed(heads)?,
            gate_up: zeroed(gate_up_stride)?,
            angles: zeroed(angles)?,
            key_value: zeroed(2 * head)?,
        })
    }

    /// The most columns that a linear node takes, in whole lanes, but for the feed-forward layer's second.
    pub fn widest_input(model: &Model) -> usize {
        let attention = model.layers.iter().map(|l| &l.attention);
        let widest = attention.map(|a| a.qkv[0].cols.max(a.o.cols)).max().unwrap_or(0);
        widest.max(model.head.cols).next_multiple_of(LANES)
    }
}

/// The values from one row to the next: at least `width`, in whole lanes, and so many that the same column of many rows
/// spreads over all sets of a cache.
fn spread(width: usize) -> usize {
    (width.div_ceil(LANES) | 1) * LANES
}

/// Zeroed memory for `len` activations.
pub fn activations(len: usize) -> Result<Buffer<f32>, BackendError> {
    super::weights::zeroed("activations", len)
}
