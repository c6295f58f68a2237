//! A decoder described as data: what a backend compiles.

mod mixture;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

pub use mixture::{Ffn, Mixture, Router, RouterScore, SharedExpert};

use crate::DType;

/// Memory that weights are borrowed from, usually a mapped file.
pub trait Source: Send + Sync {
    /// All bytes of the source. A source that puts them together from others keeps them from then on.
    fn bytes(&self) -> &[u8];
    /// How many there are.
    fn len(&self) -> usize {
        self.bytes().len()
    }
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Some of them, which exist; put together for this call alone where they have to be.
    fn read(&self, range: Range<usize>) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes()[range])
    }
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
        (range.start <= range.end && range.end <= source.len()).then_some(Self { source, range })
    }

    /// A part of these bytes; `None` where it reaches past their end.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(Self { source: self.source.clone(), range: start..start + range.len() })
    }

    pub fn len(&self) -> usize {
        self.range.len()
    }

    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// As [`Source::read`]; `None` where the range reaches past their end.
    pub fn read(&self, range: Range<usize>) -> Option<Cow<'_, [u8]>> {
        let inside = range.start <= range.end && range.end <= self.len();
        inside.then(|| self.source.read(self.range.start + range.start..self.range.start + range.end))
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

    /// The bytes of row `row`, which exists.
    pub fn row(&self, row: usize) -> Cow<'_, [u8]> {
        self.rows(row..row + 1)
    }

    /// The bytes of some rows, which exist.
    pub fn rows(&self, rows: Range<usize>) -> Cow<'_, [u8]> {
        let n = self.row_bytes();
        self.data.read(rows.start * n..rows.end * n).expect("rows that exist")
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

/// Queries count more the later they stand: they are multiplied by `1 + beta * ln(1 + floor(position / every))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueryGrowth {
    pub beta: f32,
    /// Positions, at least 1.
    pub every: usize,
}

impl QueryGrowth {
    pub fn factor(self, position: usize) -> f32 {
        let steps = (1 + position / self.every) as f64;
        (1.0 + f64::from(self.beta) * libm::log(steps)) as f32
    }
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
    /// Projections are cut off at this magnitude, after norms of all heads, before those of each head and RoPE.
    pub clip: Option<f32>,
    pub query_growth: Option<QueryGrowth>,
    /// The earlier layer whose keys and values this one reads; it has none of its own, then, nor norms of them.
    pub reads: Option<usize>,
    /// Whether the rows of each head's query in `q` are followed by as many of its gate, whose sigmoid multiplies what the
    /// head gives.
    pub gated: bool,
    /// `[heads * head_dim, hidden]`, or twice the rows with gates.
    pub q: Linear,
    /// `[kv_heads * head_dim, hidden]`; none where the layer reads another's.
    pub k: Option<Linear>,
    /// `[kv_heads * head_dim, hidden]`; none where the layer reads another's, or where values are what `k` gives.
    pub v: Option<Linear>,
    pub q_norm: Option<HeadNorm>,
    pub k_norm: Option<HeadNorm>,
    /// Norm of each head's values, `[head_dim]`.
    pub v_norm: Option<Vec<f32>>,
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
            gated: false,
            clip: None,
            query_growth: None,
            reads: None,
            q,
            k: Some(k),
            v: Some(v),
            q_norm: None,
            k_norm: None,
            v_norm: None,
            sub_norm: None,
            o,
        }
    }
}

/// A convolution over positions, of each channel alone: `out[t] = Σ_i weights[i] * in[t - (taps - 1) + i]`, where inputs
/// before the first position are 0.
#[derive(Clone, Debug)]
pub struct Conv {
    pub taps: usize,
    /// `[taps, channels]`, that of the latest position last.
    pub weights: Vec<f32>,
}

/// `output(out_gate(x) * conv(in_gate(x) * value(x)))`. Its state is the last inputs of the convolution.
#[derive(Clone, Debug)]
pub struct ShortConv {
    /// `[hidden, hidden]`, as all of them.
    pub in_gate: Linear,
    pub out_gate: Linear,
    pub value: Linear,
    /// Of `hidden` channels.
    pub conv: Conv,
    pub output: Linear,
}

/// Which key head a value head of a delta net has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadOrder {
    /// Value heads of the same key head follow one another: Hugging Face checkpoints.
    Grouped,
    /// Value head i has key head `i % key_heads`: GGUF files.
    Tiled,
}

/// Linear attention by the gated delta rule. For each value head with its key head, in f32:
///
/// `q, k, v = silu(conv(qkv(x)))`, q and k divided by their lengths, q by `sqrt(key_dim)` too;
/// `S = e^(decay * softplus(alpha(x) + dt_bias)) S`; `S += k (sigmoid(beta(x)) (v - Sᵀk))ᵀ`; `y = norm(Sᵀq) * silu(gate(x))`.
///
/// Its state is S, `[key_dim, value_dim]` for each value head, and the last inputs of the convolution.
#[derive(Clone, Debug)]
pub struct DeltaNet {
    pub key_heads: usize,
    /// A multiple of the key heads.
    pub value_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
    pub order: HeadOrder,
    /// Queries and keys of all key heads, then values: `[(2 * key_heads * key_dim) + value_heads * value_dim, hidden]`.
    pub qkv: Linear,
    /// Of as many channels.
    pub conv: Conv,
    /// `[value_heads * value_dim, hidden]`.
    pub gate: Linear,
    /// `[value_heads, hidden]`, as the next.
    pub beta: Linear,
    pub alpha: Linear,
    /// One for each value head; the next likewise, negative.
    pub dt_bias: Vec<f32>,
    pub decay: Vec<f32>,
    /// RMS norm of a value head, `[value_dim]`.
    pub norm: Vec<f32>,
    /// `[hidden, value_heads * value_dim]`.
    pub output: Linear,
}

impl DeltaNet {
    /// Added to the sum of squares when queries and keys are divided by their lengths.
    pub const LENGTH_EPS: f32 = 1e-6;

    /// Channels of the convolution.
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
    }

    /// The key head that value head `head` has.
    pub fn key_head(&self, head: usize) -> usize {
        match self.order {
            HeadOrder::Grouped => head / (self.value_heads / self.key_heads),
            HeadOrder::Tiled => head % self.key_heads,
        }
    }
}

/// How a layer mixes positions.
#[derive(Clone, Debug)]
pub enum Mixer {
    Attention(Attention),
    ShortConv(ShortConv),
    DeltaNet(DeltaNet),
}

impl Mixer {
    /// Its linear nodes, in the order in which a token meets them.
    pub fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Attention(a) => [Some(&a.q), a.k.as_ref(), a.v.as_ref(), Some(&a.o)].into_iter().flatten().collect(),
            Self::ShortConv(c) => vec![&c.in_gate, &c.out_gate, &c.value, &c.output],
            Self::DeltaNet(d) => vec![&d.qkv, &d.gate, &d.beta, &d.alpha, &d.output],
        }
    }

    pub fn attention(&self) -> Option<&Attention> {
        match self {
            Self::Attention(attention) => Some(attention),
            _ => None,
        }
    }

    pub fn attention_mut(&mut self) -> Option<&mut Attention> {
        match self {
            Self::Attention(attention) => Some(attention),
            _ => None,
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

/// What every layer is given of the token itself, beside the residual stream. For layer i, whose part of
/// `[layers * width]` values is the i-th:
/// `(norm(projection(x) * projection_scale) + embedding[token] * embedding_scale) * scale`, where x are the token's embeddings
/// as they enter the first layer.
#[derive(Clone, Debug)]
pub struct TokenInputs {
    /// Values for each layer; a multiple of 16.
    pub width: usize,
    /// `[vocab, layers * width]`; only the rows of the batch's tokens are read.
    pub embedding: Weight,
    pub embedding_scale: f32,
    /// `[layers * width, hidden]`.
    pub projection: Linear,
    pub projection_scale: f32,
    /// Of each layer's part, `[width]`.
    pub norm: Vec<f32>,
    pub scale: f32,
}

/// How a layer takes its part of [`TokenInputs`]: it adds `post_norm(projection(act(gate(x)) * part))`.
#[derive(Clone, Debug)]
pub struct TakeInput {
    pub activation: Activation,
    /// `[width, hidden]`.
    pub gate: Linear,
    /// `[hidden, width]`.
    pub projection: Linear,
    /// `[hidden]`.
    pub post_norm: Vec<f32>,
}

/// One decoder layer: `x += post(mixer(norm(x)))`, `x += post(ffn(norm(x)))`, what it takes of its input, and
/// `x *= scale`. All norms are `[hidden]`; one that is not there changes nothing.
#[derive(Clone, Debug)]
pub struct Layer {
    pub attn_norm: Option<Vec<f32>>,
    pub mixer: Mixer,
    pub attn_post_norm: Option<Vec<f32>>,
    pub ffn_norm: Option<Vec<f32>>,
    pub ffn: Ffn,
    pub ffn_post_norm: Option<Vec<f32>>,
    pub input: Option<TakeInput>,
    pub scale: f32,
}

impl Layer {
    /// With norms before attention and before the feed-forward layer.
    pub fn plain(attn_norm: Vec<f32>, attention: Attention, ffn_norm: Vec<f32>, ffn: impl Into<Ffn>) -> Self {
        let (attn_norm, ffn_norm, ffn) = (Some(attn_norm), Some(ffn_norm), ffn.into());
        let (mixer, attn_post_norm, ffn_post_norm, input) = (Mixer::Attention(attention), None, None, None);
        Self { attn_norm, mixer, attn_post_norm, ffn_norm, ffn, ffn_post_norm, input, scale: 1.0 }
    }

    /// Its linear nodes, in the order in which a token meets them.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.shares().map(|(linear, _)| linear)
    }

    /// Likewise, with the share of positions that meet each: 1 but for the experts of a mixture.
    pub fn shares(&self) -> impl Iterator<Item = (&Linear, f64)> {
        let input = self.input.iter().flat_map(|input| [&input.gate, &input.projection]);
        let always = |linear| (linear, 1.0);
        self.mixer.linears().into_iter().map(always).chain(self.ffn.shares()).chain(input.map(always))
    }
}

/// Factors that some decoders have beside their weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Multiplies the token embeddings.
    pub embedding: f32,
    /// Multiplies what the parts of a layer add to the residual stream.
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
    /// There are some where a layer has an input.
    pub inputs: Option<TokenInputs>,
    pub layers: Vec<Layer>,
    /// Norm weights, `[hidden]`.
    pub output_norm: Vec<f32>,
    /// `[vocab, hidden]`; the embedding again where the two are tied.
    pub head: Linear,
}

impl DecoderPlan {
    /// Every linear node, in the order in which a token meets them; the head last.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let inputs = self.inputs.iter().map(|inputs| &inputs.projection);
        inputs.chain(self.layers.iter().flat_map(Layer::linears)).chain(std::iter::once(&self.head))
    }

    fn shares(&self) -> impl Iterator<Item = (&Linear, f64)> {
        let inputs = self.inputs.iter().map(|inputs| (&inputs.projection, 1.0));
        inputs.chain(self.layers.iter().flat_map(Layer::shares)).chain(std::iter::once((&self.head, 1.0)))
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
