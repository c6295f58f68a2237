//! A decoder described as data: what a backend compiles.

mod mixture;

use std::ops::Range;
use std::sync::Arc;

pub use mixture::{Ffn, Mixture, Router, RouterScore, SharedExpert};

use crate::DType;

/// Memory that weights are borrowed from, usually a mapped file.
pub trait Source: Send + Sync {
    /// All bytes of the source.
    fn bytes(&self) -> &[u8];
    /// Says that `range` has been copied elsewhere and need not stay resident. The bytes stay readable.
    fn release(&self, _range: Range<usize>) {}
}

impl Source for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// A range of a shared [`Source`].
#[derive(Clone)]
pub struct Bytes {
    source: Arc<dyn Source>,
    range: Range<usize>,
}

impl Bytes {
    /// `range` of `source`, or `None` where it reaches past the end.
    pub fn new(source: Arc<dyn Source>, range: Range<usize>) -> Option<Self> {
        source.bytes().get(range.clone())?;
        Some(Self { source, range })
    }

    /// A part of these bytes; `None` where it reaches past their end.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        let start = self.range.start + range.start;
        Some(Self { source: self.source.clone(), range: start..start + range.len() })
    }

    /// Tells the source that these bytes need not stay resident.
    pub fn release(&self) {
        self.source.release(self.range.clone());
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.source.bytes()[self.range.clone()]
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({:?})", self.range)
    }
}

/// A matrix `[rows, cols]` in its file layout: each row is `cols / dtype.block` blocks, rows follow one another.
#[derive(Clone, Debug)]
pub struct Weight {
    /// The tensor's name in its file, for messages.
    pub name: String,
    pub dtype: DType,
    pub rows: usize,
    pub cols: usize,
    pub data: Bytes,
}

impl Weight {
    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.dtype.row_bytes(self.cols)
    }

    /// Some of its rows, as a weight that shares its bytes; `None` where it has fewer.
    pub fn slice(&self, rows: Range<usize>) -> Option<Self> {
        let n = self.row_bytes();
        let data = self.data.slice(rows.start.checked_mul(n)?..rows.end.checked_mul(n)?)?;
        Some(Self { name: self.name.clone(), dtype: self.dtype, rows: rows.len(), cols: self.cols, data })
    }

    /// The bytes of row `row`.
    pub fn row(&self, row: usize) -> &[u8] {
        let n = self.row_bytes();
        &self.data[row * n..(row + 1) * n]
    }
}

/// `y = x W[shard]ᵀ + bias[shard]`.
#[derive(Clone, Debug)]
pub struct Linear {
    pub weight: Weight,
    /// One value per row of the weight.
    pub bias: Option<Vec<f32>>,
    /// The rows of the weight that this node computes; all of them unless the layer is split over several machines.
    pub shard: Range<usize>,
    /// Of a ternary node (BitNet b1.58) the factor of its weight, whose values are -1, 0 and 1: its inputs are rounded to int8
    /// with one scale for each row, `127 / max|x|`, and products are summed as integers.
    pub ternary: Option<f32>,
}

impl Linear {
    /// The whole weight.
    pub fn new(weight: Weight, bias: Option<Vec<f32>>) -> Self {
        let shard = 0..weight.rows;
        Self { weight, bias, shard, ternary: None }
    }
}

/// Which two values of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// `(x[2i], x[2i+1])`: GGUF files of the llama family.
    Interleaved,
    /// `(x[i], x[i + rotary_dim/2])`: Hugging Face checkpoints, and GGUF files of most other families.
    Half,
}

/// Rotary position embedding.
#[derive(Clone, Debug)]
pub struct Rope {
    pub style: RopeStyle,
    /// Angle per position, one for each rotated pair: `angle = position as f32 * inv_freq[i]`.
    /// `2 * inv_freq.len()` values of each head rotate, the rest pass.
    pub inv_freq: Vec<f32>,
    /// Multiplies cosine and sine (1.0 unless the scaling method says otherwise).
    pub attention_factor: f32,
    /// What long sequences take instead.
    pub long: Option<LongRope>,
}

/// Frequencies of sequences for which more than `above` positions are reserved. All keys of a sequence have the same, so
/// the choice is made once, before its first position.
#[derive(Clone, Debug)]
pub struct LongRope {
    pub above: usize,
    /// As many as the others.
    pub inv_freq: Vec<f32>,
    pub attention_factor: f32,
}

/// How a norm measures a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NormKind {
    /// `x / sqrt(mean(x²) + eps)`.
    #[default]
    Rms,
    /// `(x - mean(x)) / sqrt(variance(x) + eps)`.
    Layer,
}

/// What stands between the feed-forward layer's two matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    #[default]
    Silu,
    /// `x / 2 * (1 + tanh(sqrt(2/π) * (x + 0.044715 x³)))`.
    GeluTanh,
    /// `max(x, 0)²`.
    SquaredRelu,
}

/// RMS norm weights of queries or keys, before RoPE.
#[derive(Clone, Debug)]
pub enum HeadNorm {
    /// Of each head alone, `[head_dim]`.
    Each(Vec<f32>),
    /// Of all heads together, `[heads * head_dim]`.
    Whole(Vec<f32>),
}

/// `o(softmax(q·k) v)` over the positions so far.
#[derive(Clone, Debug)]
pub struct Attention {
    pub heads: usize,
    /// Each serves `heads / kv_heads` heads.
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Multiplies `q·k`; `1/sqrt(head_dim)` for the plain decoder.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
    /// A position sees itself and the `window - 1` before it; all before it if there is none.
    pub window: Option<usize>,
    /// Which of the plan's [`DecoderPlan::ropes`] rotates queries and keys.
    pub rope: Option<usize>,
    /// `[heads * head_dim, hidden]`.
    pub q: Linear,
    /// `[kv_heads * head_dim, hidden]`.
    pub k: Linear,
    /// `[kv_heads * head_dim, hidden]`.
    pub v: Linear,
    pub q_norm: Option<HeadNorm>,
    pub k_norm: Option<HeadNorm>,
    /// Norm of what all heads give, `[heads * head_dim]`.
    pub sub_norm: Option<Vec<f32>>,
    /// `[hidden, heads * head_dim]`.
    pub o: Linear,
}

impl Attention {
    /// Full attention with the first RoPE; projections are q, k, v and o.
    pub fn plain(heads: usize, kv_heads: usize, head_dim: usize, [q, k, v, o]: [Linear; 4]) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            scale: (1.0 / (head_dim as f64).sqrt()) as f32,
            softcap: None,
            window: None,
            rope: Some(0),
            q,
            k,
            v,
            q_norm: None,
            k_norm: None,
            sub_norm: None,
            o,
        }
    }
}

/// `down(act(gate(x)) * up(x))`.
#[derive(Clone, Debug)]
pub struct FeedForward {
    pub activation: Activation,
    /// `[intermediate, hidden]`.
    pub gate: Linear,
    /// `[intermediate, hidden]`.
    pub up: Linear,
    /// Norm of the input of `down`, `[intermediate]`.
    pub sub_norm: Option<Vec<f32>>,
    /// `[hidden, intermediate]`.
    pub down: Linear,
}

impl FeedForward {
    /// Gated with SiLU; matrices are gate, up and down.
    pub fn plain([gate, up, down]: [Linear; 3]) -> Self {
        Self { activation: Activation::Silu, gate, up, sub_norm: None, down }
    }
}

/// One decoder layer: `x += post(attention(norm(x)))`, `x += post(ffn(norm(x)))`. All norms are `[hidden]`; one that is
/// not there changes nothing.
#[derive(Clone, Debug)]
pub struct Layer {
    pub attn_norm: Option<Vec<f32>>,
    pub attention: Attention,
    pub attn_post_norm: Option<Vec<f32>>,
    pub ffn_norm: Option<Vec<f32>>,
    pub ffn: Ffn,
    pub ffn_post_norm: Option<Vec<f32>>,
}

impl Layer {
    /// With norms before attention and before the feed-forward layer.
    pub fn plain(attn_norm: Vec<f32>, attention: Attention, ffn_norm: Vec<f32>, ffn: impl Into<Ffn>) -> Self {
        let (attn_norm, ffn_norm, ffn) = (Some(attn_norm), Some(ffn_norm), ffn.into());
        Self { attn_norm, attention, attn_post_norm: None, ffn_norm, ffn, ffn_post_norm: None }
    }

    /// Its linear nodes, in the order in which a token meets them.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.shares().map(|(linear, _)| linear)
    }

    /// Likewise, with the share of positions that meet each: 1 but for the experts of a mixture.
    pub fn shares(&self) -> impl Iterator<Item = (&Linear, f64)> {
        let a = &self.attention;
        [&a.q, &a.k, &a.v, &a.o].into_iter().map(|linear| (linear, 1.0)).chain(self.ffn.shares())
    }
}

/// Factors that some decoders have beside their weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Multiplies the token embeddings.
    pub embedding: f32,
    /// Multiplies what attention and the feed-forward layer add to the residual stream.
    pub residual: f32,
    /// Multiplies the logits.
    pub logits: f32,
    /// Logits become `cap * tanh(logit / cap)`, after the factor.
    pub logit_softcap: Option<f32>,
}

impl Default for Scales {
    fn default() -> Self {
        Self { embedding: 1.0, residual: 1.0, logits: 1.0, logit_softcap: None }
    }
}

/// A decoder-only transformer.
#[derive(Clone, Debug)]
pub struct DecoderPlan {
    pub hidden: usize,
    pub vocab: usize,
    /// Positions that the model was made for.
    pub context: usize,
    pub norm: NormKind,
    pub norm_eps: f32,
    pub scales: Scales,
    /// The rotations that layers choose from.
    pub ropes: Vec<Rope>,
    /// `[vocab, hidden]`; only the rows of the batch's tokens are read.
    pub embedding: Weight,
    pub layers: Vec<Layer>,
    /// Norm weights, `[hidden]`.
    pub output_norm: Vec<f32>,
    /// `[vocab, hidden]`; the embedding again where the two are tied.
    pub head: Linear,
}

impl DecoderPlan {
    /// Every linear node, in the order in which a token meets them; the head last.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(Layer::linears).chain(std::iter::once(&self.head))
    }

    fn shares(&self) -> impl Iterator<Item = (&Linear, f64)> {
        self.layers.iter().flat_map(Layer::shares).chain(std::iter::once((&self.head, 1.0)))
    }

    /// Bytes of file weights of all linear nodes.
    pub fn weight_bytes(&self) -> usize {
        self.linears().map(|l| l.weight.data.len()).sum()
    }

    /// Bytes of file weights that decoding one token reads: of a mixture's experts, those of the chosen.
    pub fn bytes_per_token(&self) -> usize {
        self.shares().map(|(l, share)| l.weight.data.len() as f64 * share).sum::<f64>() as usize
    }

    /// Multiply-adds of all linear nodes that one position meets, the head included.
    pub fn macs_per_token(&self) -> usize {
        self.shares().map(|(l, share)| (l.shard.len() * l.weight.cols) as f64 * share).sum::<f64>() as usize
    }
}
