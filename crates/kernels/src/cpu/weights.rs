//! A plan's weights in the run layout.

mod mixture;

use std::ops::Range;
use std::sync::Arc;

pub use mixture::{PackedFfn, PackedMixture};

use super::image::{self, ImageFile, Keeper, Panels};
use crate::DType;
use crate::backend::{BackendError, Observer};
use crate::buffer::Buffer;
use crate::ops::conv::MOST_TAPS;
use crate::plan::{
    Activation, Attention, Conv, DecoderPlan, DeltaNet, FeedForward, Ffn, HeadNorm, Layer, Linear, Mixer, NormKind,
    QueryGrowth, Rope, Scales, ShortConv, TakeInput, TokenInputs, Weight,
};
use crate::quant::panel::{self, BLOCK, MatMulFn};
use crate::simd::{LANES, Tier};
use crate::team::Team;

/// Panels that one item of packing work covers.
const PANELS_AT_ONCE: usize = 8;
/// File bytes that are packed before the file's pages are released.
const RELEASE_AT_ONCE: usize = 16 << 20;

/// A linear node with its weight in panels.
pub struct PackedLinear {
    pub dtype: DType,
    pub matmul: MatMulFn,
    pub rows: usize,
    pub cols: usize,
    pub panel_bytes: usize,
    /// Where the first panel lies among all panels.
    offset: usize,
    /// `[rows]`, rounded up to whole panels.
    pub bias: Option<Buffer<f32>>,
    /// As [`Linear::ternary`].
    pub ternary: Option<f32>,
}

/// How the input of a node is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Not at all: the weights are floats.
    None,
    /// To int8 with a scale for each 32 values.
    Blocks,
    /// To int8 with a scale for the whole row.
    Row,
}

impl PackedLinear {
    pub fn panel_count(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// Rows rounded up to whole panels: the width of the output.
    pub fn padded_rows(&self) -> usize {
        self.rows.next_multiple_of(LANES)
    }

    /// Whether the input is wanted as int8.
    pub fn takes_int8(&self) -> bool {
        matches!(self.matmul, MatMulFn::Int8(_))
    }

    /// How the input is wanted.
    pub fn rounding(&self) -> Rounding {
        match self.ternary {
            Some(_) => Rounding::Row,
            None if self.takes_int8() => Rounding::Blocks,
            None => Rounding::None,
        }
    }
}

/// Weights of a norm in whole lanes.
pub type Norm = Option<Buffer<f32>>;

/// A layer's nodes; what each does stands in [`Layer`].
pub struct PackedLayer {
    pub attn_norm: Norm,
    pub mixer: PackedMixer,
    pub attn_post_norm: Norm,
    pub ffn_norm: Norm,
    pub ffn: PackedFfn,
    pub ffn_post_norm: Norm,
    pub input: Option<PackedTakeInput>,
    pub scale: f32,
}

/// As [`Mixer`].
pub enum PackedMixer {
    Attention(PackedAttention),
    ShortConv(PackedShortConv),
    DeltaNet(Box<PackedDeltaNet>),
}

impl PackedMixer {
    pub fn attention(&self) -> Option<&PackedAttention> {
        match self {
            Self::Attention(attention) => Some(attention),
            _ => None,
        }
    }

    /// Its nodes in the order of [`Mixer::linears`]: those that take the layer's input, and the last.
    pub fn linears(&self) -> (&[PackedLinear], &PackedLinear) {
        match self {
            Self::Attention(a) => (&a.qkv, &a.o),
            Self::ShortConv(c) => (&c.inputs, &c.output),
            Self::DeltaNet(d) => (&d.inputs, &d.output),
        }
    }

    /// Values of its state.
    pub fn state_len(&self) -> usize {
        match self {
            Self::Attention(_) => 0,
            Self::ShortConv(c) => c.conv.state_len(),
            Self::DeltaNet(d) => d.conv.state_len() + d.value_heads * d.key_dim * d.value_dim,
        }
    }
}

/// As [`Conv`].
pub struct PackedConv {
    pub taps: usize,
    /// A multiple of 16.
    pub channels: usize,
    pub weights: Buffer<f32>,
}

impl PackedConv {
    /// Values of the inputs that it keeps.
    pub fn state_len(&self) -> usize {
        (self.taps - 1) * self.channels
    }
}

/// As [`ShortConv`].
pub struct PackedShortConv {
    /// Of the inner gate, the outer gate, and the value.
    pub inputs: [PackedLinear; 3],
    pub conv: PackedConv,
    pub output: PackedLinear,
}

/// As [`DeltaNet`].
pub struct PackedDeltaNet {
    pub key_heads: usize,
    pub value_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
    /// The key head of each value head.
    pub key_head: Vec<usize>,
    /// Of queries, keys and values; of the gate; beta; alpha.
    pub inputs: [PackedLinear; 4],
    pub conv: PackedConv,
    /// In whole lanes, as the next.
    pub dt_bias: Buffer<f32>,
    pub decay: Buffer<f32>,
    pub norm: Buffer<f32>,
    pub output: PackedLinear,
}

/// As [`Attention`].
pub struct PackedAttention {
    pub dims: HeadDims,
    pub scale: f32,
    pub softcap: Option<f32>,
    /// Positions that a query sees, its own included.
    pub window: usize,
    pub rope: Option<usize>,
    pub gated: bool,
    pub clip: Option<f32>,
    pub query_growth: Option<QueryGrowth>,
    /// The layer whose keys and values it reads instead of its own.
    pub reads: Option<usize>,
    /// Queries, then keys and values as far as it has them: two where keys are the values too, else one or three.
    pub qkv: Vec<PackedLinear>,
    /// Norms of each head's queries, keys and values.
    pub head_norms: [Norm; 3],
    /// Norms of all heads' queries and keys together.
    pub whole_norms: [Norm; 2],
    pub sub_norm: Norm,
    pub o: PackedLinear,
}

/// As [`FeedForward`].
pub struct PackedFeedForward {
    pub activation: Activation,
    pub gate_up: [PackedLinear; 2],
    pub sub_norm: Norm,
    pub down: PackedLinear,
}

/// As [`TakeInput`].
pub struct PackedTakeInput {
    pub activation: Activation,
    pub gate: PackedLinear,
    pub projection: PackedLinear,
    pub post_norm: Norm,
}

/// As [`TokenInputs`].
pub struct PackedTokenInputs {
    pub width: usize,
    pub embedding: Weight,
    pub embedding_scale: f32,
    pub projection: PackedLinear,
    pub projection_scale: f32,
    pub norm: Norm,
    pub scale: f32,
}

impl PackedLayer {
    /// Its nodes in the order of [`Layer::linears`].
    fn linears(&self) -> impl Iterator<Item = &PackedLinear> {
        let (inputs, last) = self.mixer.linears();
        let input = self.input.iter().flat_map(|input| [&input.gate, &input.projection]);
        inputs.iter().chain([last]).chain(self.ffn.linears()).chain(input)
    }

    /// Its heads and the layer whose keys and values it reads instead of its own, if it has any.
    pub fn stored(&self) -> Option<(HeadDims, Option<usize>)> {
        self.mixer.attention().map(|attention| (attention.dims, attention.reads))
    }
}

/// The heads of an attention layer.
#[derive(Clone, Copy, Debug)]
pub struct HeadDims {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl HeadDims {
    /// Values of a head in the attention buffers: whole lanes.
    pub fn padded_head(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }
}

/// A decoder ready to run.
pub struct Model {
    panels: Panels,
    /// Writes the panels to their image, and ends with the model.
    _keeper: Option<Keeper>,
    pub hidden: usize,
    pub vocab: usize,
    pub norm: NormKind,
    pub norm_eps: f32,
    pub scales: Scales,
    pub ropes: Vec<Rope>,
    pub embedding: Weight,
    pub inputs: Option<PackedTokenInputs>,
    pub layers: Vec<PackedLayer>,
    /// There is one.
    pub output_norm: Norm,
    pub head: PackedLinear,
}

impl Model {
    /// Checks the plan, and maps the image of its weights or packs them all.
    ///
    /// # Errors
    /// Shapes that do not fit together, or too little memory.
    pub fn prepare(
        plan: DecoderPlan,
        bf16: bool,
        image: Option<&ImageFile>,
        team: &mut Team,
        observer: Observer,
    ) -> Result<Self, BackendError> {
        check(&plan)?;
        let (nodes, bytes) = lay_out(&plan, bf16)?;
        let (panels, keeper) = match image.and_then(|image| image::open(image, &plan, bytes)) {
            Some(panels) => (panels, None),
            None => {
                let panels = Arc::new(zeroed("weights", bytes)?);
                let total = plan.weight_bytes();
                let mut packer = Packer { team, observer, panels: &panels, done: 0, total };
                plan.linears().zip(nodes.linears()).for_each(|(linear, packed)| packer.pack(linear, packed));
                let keeper = image.and_then(|image| Keeper::start(image, &plan, &panels));
                (Panels::Packed(panels), keeper)
            }
        };
        Self::new(plan, nodes, panels, keeper)
    }

    fn new(plan: DecoderPlan, nodes: Nodes, panels: Panels, keeper: Option<Keeper>) -> Result<Self, BackendError> {
        Ok(Self {
            hidden: plan.hidden,
            vocab: plan.vocab,
            norm: plan.norm,
            norm_eps: plan.norm_eps,
            scales: plan.scales,
            output_norm: Some(padded(&plan.output_norm)?),
            ropes: plan.ropes,
            embedding: plan.embedding,
            inputs: nodes.inputs,
            layers: nodes.layers,
            head: nodes.head,
            panels,
            _keeper: keeper,
        })
    }

    /// The model but for its panels, and the bytes that those would have. It cannot run.
    ///
    /// # Errors
    /// Too little memory.
    pub fn without_weights(plan: &DecoderPlan) -> Result<(Self, usize), BackendError> {
        let (nodes, bytes) = lay_out(plan, false)?;
        let panels = Panels::Packed(Arc::new(zeroed("weights", 0)?));
        Ok((Self::new(plan.clone(), nodes, panels, None)?, bytes))
    }

    /// All linear nodes, in the order of [`DecoderPlan::linears`].
    pub fn linears(&self) -> impl Iterator<Item = &PackedLinear> {
        all_linears(self.inputs.as_ref(), &self.layers, &self.head)
    }

    /// The first panel of a linear node.
    pub fn panels(&self, linear: &PackedLinear) -> *const u8 {
        self.panels.ptr().wrapping_add(linear.offset)
    }
}

/// All nodes of a plan.
struct Nodes {
    inputs: Option<PackedTokenInputs>,
    layers: Vec<PackedLayer>,
    head: PackedLinear,
}

impl Nodes {
    /// In the order of [`DecoderPlan::linears`].
    fn linears(&self) -> impl Iterator<Item = &PackedLinear> {
        all_linears(self.inputs.as_ref(), &self.layers, &self.head)
    }
}

fn all_linears<'a>(
    inputs: Option<&'a PackedTokenInputs>,
    layers: &'a [PackedLayer],
    head: &'a PackedLinear,
) -> impl Iterator<Item = &'a PackedLinear> {
    let inputs = inputs.into_iter().map(|inputs| &inputs.projection);
    inputs.chain(layers.iter().flat_map(PackedLayer::linears)).chain([head])
}

/// Checks what the kernels rely on.
fn check(plan: &DecoderPlan) -> Result<(), BackendError> {
    let h = plan.hidden;
    for rope in &plan.ropes {
        let (pairs, long) = (rope.inv_freq.len(), rope.long.as_ref().map(|long| long.inv_freq.len()));
        if long.is_some_and(|long| long != pairs) {
            return wrong(format!("RoPE: expected {pairs} frequencies for long sequences too, found {long:?}"));
        }
    }
    check_inputs(plan)?;
    for (number, layer) in plan.layers.iter().enumerate() {
        if !layer.scale.is_finite() {
            return wrong(format!("layer {number} is scaled by {}", layer.scale));
        }
        check_reads(plan, number)?;
        for norm in [&layer.attn_norm, &layer.attn_post_norm, &layer.ffn_norm, &layer.ffn_post_norm] {
            check_norm("norm", norm.as_deref(), h)?;
        }
        match &layer.mixer {
            Mixer::Attention(attention) => check_attention(plan, attention)?,
            Mixer::ShortConv(conv) => check_short_conv(plan, conv)?,
            Mixer::DeltaNet(net) => check_delta_net(plan, net)?,
        }
        match &layer.ffn {
            Ffn::Dense(ffn) => check_feed_forward(ffn, h)?,
            Ffn::Mixture(mixture) => mixture::check(mixture, h)?,
        }
    }
    check_norm("output norm", Some(&plan.output_norm), h)?;
    check_linear(&plan.head, plan.vocab, h)?;
    check_weight(&plan.embedding, plan.vocab, h)
}

fn check_feed_forward(ffn: &FeedForward, h: usize) -> Result<(), BackendError> {
    let f = ffn.gate.shard.len();
    check_alike("gate and up", &[&ffn.gate, &ffn.up])?;
    check_norm("feed-forward norm", ffn.sub_norm.as_deref(), f)?;
    for (linear, rows, cols) in [(&ffn.gate, f, h), (&ffn.up, f, h), (&ffn.down, h, f)] {
        check_linear(linear, rows, cols)?;
    }
    Ok(())
}

fn wrong(what: String) -> Result<(), BackendError> {
    Err(BackendError::Plan(what))
}

fn check_norm(name: &str, weights: Option<&[f32]>, len: usize) -> Result<(), BackendError> {
    match weights {
        Some(v) if v.len() != len => wrong(format!("{name}: expected {len} values, found {}", v.len())),
        _ => Ok(()),
    }
}

fn check_attention(plan: &DecoderPlan, attention: &Attention) -> Result<(), BackendError> {
    let Attention { heads, kv_heads, head_dim, .. } = *attention;
    if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return wrong(format!("{heads} heads cannot share {kv_heads} KV heads evenly"));
    }
    let rotary = match attention.rope {
        None => 0,
        Some(rope) if rope < plan.ropes.len() => 2 * plan.ropes[rope].inv_freq.len(),
        Some(rope) => return wrong(format!("RoPE {rope} of {}", plan.ropes.len())),
    };
    if head_dim == 0 || rotary > head_dim {
        return wrong(format!("{rotary} rotated values do not fit a head of {head_dim}"));
    }
    if attention.window == Some(0) {
        return wrong("a window of no positions".to_owned());
    }
    let Attention { q, k, v, .. } = attention;
    check_alike("q, k and v", &[Some(q), k.as_ref(), v.as_ref()].into_iter().flatten().collect::<Vec<_>>())?;
    if attention.query_growth.is_some_and(|growth| growth.every == 0) {
        return wrong("queries that grow every 0 positions".to_owned());
    }
    if attention.clip.is_some_and(|clip| clip.is_nan() || clip <= 0.0) {
        return wrong(format!("projections cut off at {:?}", attention.clip));
    }
    if v.is_none() && matches!(attention.k_norm, Some(HeadNorm::Whole(_))) {
        return wrong("a norm of all keys that are values too".to_owned());
    }
    check_norm("norm of values", attention.v_norm.as_deref(), head_dim)?;
    let (h, q, kv) = (plan.hidden, heads * head_dim, kv_heads * head_dim);
    if attention.gated && matches!(attention.q_norm, Some(HeadNorm::Whole(_))) {
        return wrong("a norm of all heads' queries, among which gates stand".to_owned());
    }
    let q_rows = if attention.gated { 2 * q } else { q };
    for (norm, whole) in [(&attention.q_norm, q), (&attention.k_norm, kv)] {
        match norm {
            Some(HeadNorm::Each(weights)) => check_norm("head norm", Some(weights), head_dim)?,
            Some(HeadNorm::Whole(weights)) => check_norm("norm of all heads", Some(weights), whole)?,
            None => {}
        }
    }
    check_norm("attention norm", attention.sub_norm.as_deref(), q)?;
    for (linear, rows, cols) in
        [(Some(&attention.q), q_rows, h), (k.as_ref(), kv, h), (v.as_ref(), kv, h), (Some(&attention.o), h, q)]
    {
        linear.map_or(Ok(()), |linear| check_linear(linear, rows, cols))?;
    }
    Ok(())
}

fn check_short_conv(plan: &DecoderPlan, conv: &ShortConv) -> Result<(), BackendError> {
    let inputs = [&conv.in_gate, &conv.out_gate, &conv.value];
    check_alike("gates and value", &inputs)?;
    check_conv(&conv.conv, plan.hidden)?;
    inputs.into_iter().chain([&conv.output]).try_for_each(|linear| check_linear(linear, plan.hidden, plan.hidden))
}

fn check_delta_net(plan: &DecoderPlan, net: &DeltaNet) -> Result<(), BackendError> {
    let DeltaNet { key_heads, value_heads, key_dim, value_dim, .. } = *net;
    if key_heads == 0 || value_heads == 0 || !value_heads.is_multiple_of(key_heads) {
        return wrong(format!("{value_heads} value heads cannot share {key_heads} key heads evenly"));
    }
    for (name, dim) in [("key", key_dim), ("value", value_dim)] {
        if dim == 0 || !dim.is_multiple_of(LANES) {
            return wrong(format!("delta net: expected {name} heads of a multiple of {LANES} values, found {dim}"));
        }
    }
    check_alike("qkv, gate, beta and alpha", &[&net.qkv, &net.gate, &net.beta, &net.alpha])?;
    check_conv(&net.conv, net.channels())?;
    check_norm("dt_bias", Some(&net.dt_bias), value_heads)?;
    check_norm("decay", Some(&net.decay), value_heads)?;
    check_norm("delta net's norm", Some(&net.norm), value_dim)?;
    let (h, values) = (plan.hidden, value_heads * value_dim);
    for (linear, rows, cols) in [
        (&net.qkv, net.channels(), h),
        (&net.gate, values, h),
        (&net.beta, value_heads, h),
        (&net.alpha, value_heads, h),
        (&net.output, h, values),
    ] {
        check_linear(linear, rows, cols)?;
    }
    Ok(())
}

fn check_conv(conv: &Conv, channels: usize) -> Result<(), BackendError> {
    let Conv { taps, weights } = conv;
    if !(1..=MOST_TAPS).contains(taps) {
        return wrong(format!("convolution: expected 1 to {MOST_TAPS} taps, found {taps}"));
    }
    if !channels.is_multiple_of(LANES) {
        return wrong(format!("convolution: expected a multiple of {LANES} channels, found {channels}"));
    }
    check_norm("convolution", Some(weights), taps * channels)
}

/// A layer has keys, or reads those of an earlier one with the same heads that has.
fn check_reads(plan: &DecoderPlan, number: usize) -> Result<(), BackendError> {
    let Some(own) = plan.layers[number].mixer.attention() else { return Ok(()) };
    let heads = |attention: &Attention| (attention.kv_heads, attention.head_dim);
    match own.reads {
        None if own.k.is_some() => Ok(()),
        None => wrong(format!("layer {number} has no keys")),
        Some(_) if own.k.is_some() || own.v.is_some() => wrong(format!("layer {number} has keys and reads others")),
        Some(layer) => match plan.layers[..number].get(layer).and_then(|layer| layer.mixer.attention()) {
            Some(read) if read.reads.is_none() && heads(read) == heads(own) => Ok(()),
            _ => wrong(format!("layer {number} cannot read the keys of layer {layer}")),
        },
    }
}

fn check_inputs(plan: &DecoderPlan) -> Result<(), BackendError> {
    let h = plan.hidden;
    let Some(inputs) = &plan.inputs else {
        return match plan.layers.iter().any(|layer| layer.input.is_some()) {
            true => wrong("a layer takes an input that there is not".to_owned()),
            false => Ok(()),
        };
    };
    let (width, all) = (inputs.width, inputs.width * plan.layers.len());
    if width == 0 || !width.is_multiple_of(LANES) {
        return wrong(format!("layers' inputs of {width} values, no multiple of {LANES}"));
    }
    check_norm("norm of inputs", Some(&inputs.norm), width)?;
    check_weight(&inputs.embedding, plan.vocab, all)?;
    check_linear(&inputs.projection, all, h)?;
    let takes = plan.layers.iter().filter_map(|layer| layer.input.as_ref());
    let nodes = takes.clone().flat_map(|input| [&input.gate, &input.projection]).chain([&inputs.projection]);
    if nodes.into_iter().any(|linear| linear.ternary.is_some()) {
        return wrong("ternary nodes of inputs".to_owned());
    }
    takes.into_iter().try_for_each(|input| {
        check_norm("norm behind an input", Some(&input.post_norm), h)?;
        check_linear(&input.gate, width, h)?;
        check_linear(&input.projection, h, width)
    })
}

/// Nodes with the same input must want it alike where they are ternary.
fn check_alike(name: &str, linears: &[&Linear]) -> Result<(), BackendError> {
    let ternary = linears.iter().filter(|linear| linear.ternary.is_some()).count();
    if ternary == 0 || ternary == linears.len() {
        return Ok(());
    }
    wrong(format!("{name}: {ternary} of {} are ternary", linears.len()))
}

fn check_linear(linear: &Linear, rows: usize, cols: usize) -> Result<(), BackendError> {
    if linear.ternary.is_some() && linear.weight.dtype.is_float() {
        let problem = format!("ternary weights of type {}", linear.weight.dtype);
        return Err(BackendError::Weight { tensor: linear.weight.name.clone(), problem });
    }
    check_weight(&linear.weight, linear.weight.rows, cols)?;
    let found = linear.shard.len();
    let bias = linear.bias.as_ref().map_or(linear.weight.rows, Vec::len);
    if found != rows || linear.shard.end > linear.weight.rows || bias != linear.weight.rows {
        let problem = format!("expected {rows} rows and as many biases, found {found} rows and {bias} biases");
        return Err(BackendError::Weight { tensor: linear.weight.name.clone(), problem });
    }
    Ok(())
}

fn check_weight(w: &Weight, rows: usize, cols: usize) -> Result<(), BackendError> {
    let takes_int8 = matches!(w.dtype.run.matmul, MatMulFn::Int8(_));
    let problem = if (w.rows, w.cols) != (rows, cols) {
        format!("expected shape [{rows}, {cols}], found [{}, {}]", w.rows, w.cols)
    } else if !cols.is_multiple_of(w.dtype.block.max(if takes_int8 { BLOCK } else { 1 })) {
        format!("{cols} columns are no multiple of the block of {}", w.dtype)
    } else if w.data.len() != w.rows * w.row_bytes() {
        format!("expected {} bytes, found {}", w.rows * w.row_bytes(), w.data.len())
    } else {
        return Ok(());
    };
    Err(BackendError::Weight { tensor: w.name.clone(), problem })
}

/// Whether a weight can be multiplied in BF16 arithmetic as it is.
fn takes_bf16(weight: &Weight) -> bool {
    weight.dtype.name == "BF16" && weight.cols.is_multiple_of(2)
}

/// Checks that BF16 arithmetic can be had: on this tier, for some weights.
///
/// # Errors
/// It cannot.
pub fn check_bf16(plan: &DecoderPlan, tier: Tier) -> Result<(), BackendError> {
    let problem = if !tier.has_bf16() {
        "expected a CPU that multiplies BF16 pairs (AVX512_BF16), found none".to_owned()
    } else if !plan.linears().any(|linear| takes_bf16(&linear.weight)) {
        let found = plan.linears().next().map_or("no weights", |linear| linear.weight.dtype.name);
        format!("expected weights of type BF16, found {found}")
    } else {
        return Ok(());
    };
    Err(BackendError::Plan(format!("BF16 arithmetic: {problem}")))
}

/// A copy of `values` with zeros up to whole lanes.
fn padded(values: &[f32]) -> Result<Buffer<f32>, BackendError> {
    let buffer = zeroed("norm weights", values.len().next_multiple_of(LANES))?;
    // SAFETY: the buffer is new and at least as long.
    unsafe { buffer.slice_mut(0, values.len()) }.copy_from_slice(values);
    Ok(buffer)
}

/// Zeroed memory for `len` values of `what`.
pub fn zeroed<T: bytemuck::Zeroable>(what: &'static str, len: usize) -> Result<Buffer<T>, BackendError> {
    Buffer::zeroed(len).ok_or(BackendError::Memory { what, bytes: len.saturating_mul(size_of::<T>()) })
}

/// Where each node's panels lie, in the order of [`DecoderPlan::linears`], and the bytes of all of them.
fn lay_out(plan: &DecoderPlan, bf16: bool) -> Result<(Nodes, usize), BackendError> {
    let mut end = 0;
    let mut linear = |linear: &Linear| {
        let Weight { dtype, cols, .. } = linear.weight;
        let (rows, panel_bytes) = (linear.shard.len(), (dtype.run.panel_bytes)(cols));
        let bias = linear.bias.as_ref().map(|b| padded(&b[linear.shard.clone()])).transpose()?;
        let offset = end;
        end += rows.div_ceil(LANES) * panel_bytes;
        let matmul = if bf16 && takes_bf16(&linear.weight) { panel::IN_BF16 } else { dtype.run.matmul };
        let ternary = linear.ternary;
        Ok::<_, BackendError>(PackedLinear { dtype, matmul, rows, cols, panel_bytes, offset, bias, ternary })
    };
    let inputs = plan.inputs.as_ref().map(|plan| inputs(plan, &mut linear)).transpose()?;
    let mut layer = |layer: &Layer| {
        Ok::<_, BackendError>(PackedLayer {
            attn_norm: norm(layer.attn_norm.as_deref())?,
            mixer: mixer(&layer.mixer, &mut linear)?,
            attn_post_norm: norm(layer.attn_post_norm.as_deref())?,
            ffn_norm: norm(layer.ffn_norm.as_deref())?,
            ffn: mixture::lay_out(&layer.ffn, &mut linear)?,
            ffn_post_norm: norm(layer.ffn_post_norm.as_deref())?,
            input: layer.input.as_ref().map(|input| take_input(input, &mut linear)).transpose()?,
            scale: layer.scale,
        })
    };
    let layers = plan.layers.iter().map(&mut layer).collect::<Result<_, _>>()?;
    let head = linear(&plan.head)?;
    Ok((Nodes { inputs, layers, head }, end))
}

fn norm(weights: Option<&[f32]>) -> Result<Norm, BackendError> {
    weights.map(padded).transpose()
}

/// Lays out one node behind those before it.
type LayOut<'a> = &'a mut dyn FnMut(&Linear) -> Result<PackedLinear, BackendError>;

fn mixer(mixer: &Mixer, linear: LayOut) -> Result<PackedMixer, BackendError> {
    Ok(match mixer {
        Mixer::Attention(weights) => PackedMixer::Attention(attention(weights, linear)?),
        Mixer::ShortConv(weights) => PackedMixer::ShortConv(short_conv(weights, linear)?),
        Mixer::DeltaNet(weights) => PackedMixer::DeltaNet(Box::new(delta_net(weights, linear)?)),
    })
}

fn conv(conv: &Conv) -> Result<PackedConv, BackendError> {
    let Conv { taps, weights } = conv;
    Ok(PackedConv { taps: *taps, channels: weights.len() / taps, weights: padded(weights)? })
}

fn short_conv(weights: &ShortConv, linear: LayOut) -> Result<PackedShortConv, BackendError> {
    Ok(PackedShortConv {
        inputs: [linear(&weights.in_gate)?, linear(&weights.out_gate)?, linear(&weights.value)?],
        conv: conv(&weights.conv)?,
        output: linear(&weights.output)?,
    })
}

fn delta_net(net: &DeltaNet, linear: LayOut) -> Result<PackedDeltaNet, BackendError> {
    let DeltaNet { key_heads, value_heads, key_dim, value_dim, .. } = *net;
    Ok(PackedDeltaNet {
        key_heads,
        value_heads,
        key_dim,
        value_dim,
        key_head: (0..value_heads).map(|head| net.key_head(head)).collect(),
        inputs: [linear(&net.qkv)?, linear(&net.gate)?, linear(&net.beta)?, linear(&net.alpha)?],
        conv: conv(&net.conv)?,
        dt_bias: padded(&net.dt_bias)?,
        decay: padded(&net.decay)?,
        norm: padded(&net.norm)?,
        output: linear(&net.output)?,
    })
}

fn attention(attention: &Attention, linear: LayOut) -> Result<PackedAttention, BackendError> {
    let Attention { heads, kv_heads, head_dim, scale, softcap, window, rope, gated, clip, query_growth, reads, .. } =
        *attention;
    let nodes = [Some(&attention.q), attention.k.as_ref(), attention.v.as_ref()];
    let norms = [&attention.q_norm, &attention.k_norm];
    let each = |n: &Option<HeadNorm>| match n {
        Some(HeadNorm::Each(weights)) => padded(weights).map(Some),
        _ => Ok(None),
    };
    let whole = |n: &Option<HeadNorm>| match n {
        Some(HeadNorm::Whole(weights)) => padded(weights).map(Some),
        _ => Ok(None),
    };
    Ok(PackedAttention {
        dims: HeadDims { heads, kv_heads, head_dim },
        scale,
        softcap,
        window: window.unwrap_or(usize::MAX),
        rope,
        gated,
        clip,
        query_growth,
        reads,
        qkv: nodes.into_iter().flatten().map(&mut *linear).collect::<Result<_, _>>()?,
        head_norms: [each(norms[0])?, each(norms[1])?, norm(attention.v_norm.as_deref())?],
        whole_norms: [whole(norms[0])?, whole(norms[1])?],
        sub_norm: norm(attention.sub_norm.as_deref())?,
        o: linear(&attention.o)?,
    })
}

fn inputs(plan: &TokenInputs, linear: LayOut) -> Result<PackedTokenInputs, BackendError> {
    let TokenInputs { width, embedding_scale, projection_scale, scale, .. } = *plan;
    Ok(PackedTokenInputs {
        width,
        embedding: plan.embedding.clone(),
        embedding_scale,
        projection: linear(&plan.projection)?,
        projection_scale,
        norm: norm(Some(&plan.norm))?,
        scale,
    })
}

fn take_input(input: &TakeInput, linear: LayOut) -> Result<PackedTakeInput, BackendError> {
    Ok(PackedTakeInput {
        activation: input.activation,
        gate: linear(&input.gate)?,
        projection: linear(&input.projection)?,
        post_norm: norm(Some(&input.post_norm))?,
    })
}

fn feed_forward(ffn: &FeedForward, linear: LayOut) -> Result<PackedFeedForward, BackendError> {
    Ok(PackedFeedForward {
        activation: ffn.activation,
        gate_up: [linear(&ffn.gate)?, linear(&ffn.up)?],
        sub_norm: norm(ffn.sub_norm.as_deref())?,
        down: linear(&ffn.down)?,
    })
}

struct Packer<'a, 'o> {
    team: &'a mut Team,
    observer: Observer<'o>,
    panels: &'a Buffer<u8>,
    /// File bytes packed so far, and all of them.
    done: usize,
    total: usize,
}

impl Packer<'_, '_> {
    fn pack(&mut self, linear: &Linear, packed: &PackedLinear) {
        let PackedLinear { dtype, cols, panel_bytes, offset, .. } = *packed;
        let (weight, panels, count) = (&linear.weight, self.panels, packed.panel_count());
        let slice = (RELEASE_AT_ONCE / (weight.row_bytes() * LANES).max(1)).max(1);
        for start in (0..count).step_by(slice) {
            let end = count.min(start + slice);
            self.team.run((end - start).div_ceil(PANELS_AT_ONCE), &|item| {
                let first = start + item * PANELS_AT_ONCE;
                for panel in first..end.min(first + PANELS_AT_ONCE) {
                    let bytes = weight.rows(rows(linear, panel..panel + 1));
                    // SAFETY: the panels have room for all nodes, and each panel is packed by one item.
                    let packed = unsafe { panels.slice_mut(offset + panel * panel_bytes, panel_bytes) };
                    (dtype.run.pack)(&bytes, cols, packed);
                }
            });
            if let Some(read) = weight.slice(rows(linear, start..end)) {
                self.done += read.data.len();
                read.data.release();
            }
            (self.observer)(self.done, self.total);
        }
    }
}

/// Which rows of its weight are in a node's panels.
fn rows(linear: &Linear, panels: Range<usize>) -> Range<usize> {
    let Range { start, end } = linear.shard;
    start + panels.start * LANES..end.min(start + panels.end * LANES)
}
