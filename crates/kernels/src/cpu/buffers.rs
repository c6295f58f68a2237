//! The activations of a chunk of rows.

use super::weights::{Model, PackedAttention, PackedLayer, PackedMixer};
use crate::backend::BackendError;
use crate::buffer::Buffer;
use crate::simd::LANES;

/// Row-major buffers with one row per position of the chunk.
pub struct Buffers {
    /// Values from one row of `x`, `y` and `input` to the next.
    pub hidden: usize,
    /// Where the q, k and v projections start in a row of `qkv`, and the values from one row to the next, whatever mixes.
    pub qkv_starts: [usize; 4],
    /// Width of the gate and of the up projection.
    pub ffn: usize,
    /// Values from one row of `gate_up` to the next.
    pub gate_up_stride: usize,
    /// Values from one row of `attended`, all heads, each in whole lanes, to the next.
    pub heads: usize,
    /// Values from one row of `convolved` to the next.
    pub channels: usize,
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
    /// What the projections of the layer's mixer give.
    pub qkv: Buffer<f32>,
    /// What the convolution of a delta net gives.
    pub convolved: Buffer<f32>,
    /// What attention makes of the queries; the input of the mixer's last matmul.
    pub attended: Buffer<f32>,
    pub gate_up: Buffer<f32>,
    /// Values from one row of `inputs` and of `embeddings` to the next.
    pub inputs_stride: usize,
    /// The layers' inputs.
    pub inputs: Buffer<f32>,
    /// What the table of embeddings adds to them.
    pub embeddings: Buffer<f32>,
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
        let of_attention = |f: &dyn Fn(&PackedAttention) -> usize| widest(&|l| l.mixer.attention().map_or(0, f));
        let [q, k, v] = [0, 1, 2].map(|i| of_attention(&|a| a.qkv.get(i).map_or(0, |node| node.padded_rows())));
        let projected = |l: &PackedLayer| l.mixer.linears().0.iter().map(|linear| linear.padded_rows()).sum();
        // The unit of a layer's input has its place there too.
        let ffn = widest(&|l| l.ffn.whole().map_or(0, |ffn| ffn.gate_up[0].padded_rows()));
        let ffn = ffn.max(model.inputs.as_ref().map_or(0, |i| i.width));
        let inputs = model.inputs.as_ref().map_or(0, |inputs| inputs.projection.padded_rows());
        let attended = |l: &PackedLayer| match &l.mixer {
            PackedMixer::Attention(a) => a.dims.heads * a.dims.padded_head(),
            other => other.linears().1.cols.next_multiple_of(LANES),
        };
        let heads = spread(widest(&attended));
        let (qkv, gate_up_stride) = (spread(widest(&projected).max(q + k + v)), spread(2 * ffn));
        let head = of_attention(&|a| a.dims.padded_head());
        let channels = |l: &PackedLayer| match &l.mixer {
            PackedMixer::DeltaNet(net) => net.conv.channels,
            _ => 0,
        };
        let channels = match widest(&channels) {
            0 => 0,
            most => spread(most),
        };
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
            channels,
            group: of_attention(&|a| a.dims.heads / a.dims.kv_heads),
            head,
            angle_starts,
            x: zeroed(hidden)?,
            y: zeroed(hidden)?,
            input: zeroed(hidden.max(Self::widest_input(model)))?,
            qkv: zeroed(qkv)?,
            convolved: zeroed(channels)?,
            attended: zeroed(heads)?,
            gate_up: zeroed(gate_up_stride)?,
            inputs_stride: inputs,
            inputs: zeroed(inputs)?,
            embeddings: zeroed(inputs)?,
            angles: zeroed(angles)?,
            key_value: zeroed(2 * head)?,
        })
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        let all = [
            &self.x,
            &self.y,
            &self.input,
            &self.qkv,
            &self.convolved,
            &self.attended,
            &self.gate_up,
            &self.inputs,
            &self.embeddings,
            &self.angles,
            &self.key_value,
        ];
        all.into_iter().map(Buffer::bytes).sum()
    }

    /// The most columns that a linear node takes, in whole lanes, but for the feed-forward layer's second.
    pub fn widest_input(model: &Model) -> usize {
        let linears = model.layers.iter().map(|l| l.mixer.linears());
        let widest = linears.map(|(inputs, last)| inputs[0].cols.max(last.cols)).max().unwrap_or(0);
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
