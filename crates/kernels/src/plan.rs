//! A decoder described as data: what a backend compiles.

use std::ops::Range;
use std::sync::Arc;

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
}

impl Linear {
    /// The whole weight.
    pub fn new(weight: Weight, bias: Option<Vec<f32>>) -> Self {
        let shard = 0..weight.rows;
        Self { weight, bias, shard }
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
}

/// One decoder layer: `x += o(attention(norm(x)))`, `x += down(silu(gate(norm(x))) * up(norm(x)))`.
#[derive(Clone, Debug)]
pub struct Layer {
    /// RMS norm weights, `[hidden]`.
    pub attn_norm: Vec<f32>,
    /// `[heads * head_dim, hidden]`.
    pub q: Linear,
    /// `[kv_heads * head_dim, hidden]`.
    pub k: Linear,
    /// `[kv_heads * head_dim, hidden]`.
    pub v: Linear,
    /// `[hidden, heads * head_dim]`.
    pub o: Linear,
    /// RMS norm per head before RoPE, `[head_dim]`.
    pub q_norm: Option<Vec<f32>>,
    /// RMS norm per head before RoPE, `[head_dim]`.
    pub k_norm: Option<Vec<f32>>,
    /// RMS norm weights, `[hidden]`.
    pub ffn_norm: Vec<f32>,
    /// `[intermediate, hidden]`.
    pub gate: Linear,
    /// `[intermediate, hidden]`.
    pub up: Linear,
    /// `[hidden, intermediate]`.
    pub down: Linear,
}

/// A decoder-only transformer.
#[derive(Clone, Debug)]
pub struct DecoderPlan {
    pub hidden: usize,
    pub intermediate: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
    /// Positions that the model was made for.
    pub context: usize,
    pub norm_eps: f32,
    /// Multiplies `q·k`; `1/sqrt(head_dim)` for the plain decoder.
    pub attention_scale: f32,
    pub rope: Rope,
    /// `[vocab, hidden]`; only the rows of the batch's tokens are read.
    pub embedding: Weight,
    pub layers: Vec<Layer>,
    /// RMS norm weights, `[hidden]`.
    pub output_norm: Vec<f32>,
    /// `[vocab, hidden]`; the embedding again where the two are tied.
    pub head: Linear,
}

impl DecoderPlan {
    /// Every linear node, in the order in which a token meets them; the head last.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let layers = self.layers.iter().flat_map(|l| [&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down]);
        layers.chain(std::iter::once(&self.head))
    }

    /// Bytes of file weights that decoding one token reads.
    pub fn bytes_per_token(&self) -> usize {
        self.linears().map(|l| l.weight.data.len()).sum()
    }

    /// Multiply-adds of all linear nodes for one position, the head included.
    pub fn macs_per_token(&self) -> usize {
        self.linears().map(|l| l.shard.len() * l.weight.cols).sum()
    }
}
