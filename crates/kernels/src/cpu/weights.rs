//! A plan's weights in the run layout.

use std::ops::Range;
use std::sync::Arc;

use super::image::{self, ImageFile, Keeper, Panels};
use crate::DType;
use crate::backend::{BackendError, Observer};
use crate::buffer::Buffer;
use crate::plan::{DecoderPlan, Layer, Linear, Rope, Weight};
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
}

/// A layer's nodes; what each does stands in [`Layer`].
pub struct PackedLayer {
    pub attn_norm: Buffer<f32>,
    pub qkv: [PackedLinear; 3],
    pub o: PackedLinear,
    pub q_norm: Option<Buffer<f32>>,
    pub k_norm: Option<Buffer<f32>>,
    pub ffn_norm: Buffer<f32>,
    pub gate_up: [PackedLinear; 2],
    pub down: PackedLinear,
}

impl PackedLayer {
    /// Its nodes in the order of [`DecoderPlan::linears`].
    fn linears(&self) -> impl Iterator<Item = &PackedLinear> {
        self.qkv.iter().chain([&self.o]).chain(&self.gate_up).chain([&self.down])
    }
}

/// The sizes of a decoder.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
}

impl Dims {
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
    pub dims: Dims,
    pub norm_eps: f32,
    pub attention_scale: f32,
    pub rope: Rope,
    pub embedding: Weight,
    pub layers: Vec<PackedLayer>,
    pub output_norm: Buffer<f32>,
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
        let (layers, head, bytes) = lay_out(&plan, bf16)?;
        let (panels, keeper) = match image.and_then(|image| image::open(image, &plan, bytes)) {
            Some(panels) => (panels, None),
            None => {
                let panels = Arc::new(zeroed("weights", bytes)?);
                let total = plan.bytes_per_token();
                let mut packer = Packer { team, observer, panels: &panels, done: 0, total };
                let packed = layers.iter().flat_map(PackedLayer::linears).chain([&head]);
                plan.linears().zip(packed).for_each(|(linear, packed)| packer.pack(linear, packed));
                let keeper = image.and_then(|image| Keeper::start(image, &plan, &panels));
                (Panels::Packed(panels), keeper)
            }
        };
        Ok(Self {
            dims: Dims {
                hidden: plan.hidden,
                heads: plan.heads,
                kv_heads: plan.kv_heads,
                head_dim: plan.head_dim,
                vocab: plan.vocab,
            },
            norm_eps: plan.norm_eps,
            attention_scale: plan.attention_scale,
            output_norm: padded(&plan.output_norm)?,
            rope: plan.rope,
            embedding: plan.embedding,
            layers,
            head,
            panels,
            _keeper: keeper,
        })
    }

    /// The first panel of a linear node.
    pub fn panels(&self, linear: &PackedLinear) -> *const u8 {
        self.panels.ptr().wrapping_add(linear.offset)
    }
}

/// Checks what the kernels rely on.
fn check(plan: &DecoderPlan) -> Result<(), BackendError> {
    let wrong = |what: String| Err(BackendError::Plan(what));
    if plan.heads == 0 || plan.kv_heads == 0 || !plan.heads.is_multiple_of(plan.kv_heads) {
        return wrong(format!("{} heads cannot share {} KV heads evenly", plan.heads, plan.kv_heads));
    }
    if plan.head_dim == 0 || plan.rope.inv_freq.len() * 2 > plan.head_dim {
        let rotary = plan.rope.inv_freq.len() * 2;
        return wrong(format!("{rotary} rotated values do not fit a head of {}", plan.head_dim));
    }
    let (h, f, e) = (plan.hidden, plan.intermediate, plan.head_dim);
    let (q, kv) = (plan.heads * e, plan.kv_heads * e);
    let vector = |name: &str, v: &[f32], len: usize| {
        if v.len() == len { Ok(()) } else { wrong(format!("{name}: expected {len} values, found {}", v.len())) }
    };
    for layer in &plan.layers {
        vector("attention norm", &layer.attn_norm, h)?;
        vector("feed-forward norm", &layer.ffn_norm, h)?;
        for norm in [&layer.q_norm, &layer.k_norm].into_iter().flatten() {
            vector("head norm", norm, e)?;
        }
        let shapes = [
            (&layer.q, q, h),
            (&layer.k, kv, h),
            (&layer.v, kv, h),
            (&layer.o, h, q),
            (&layer.gate, f, h),
            (&layer.up, f, h),
            (&layer.down, h, f),
        ];
        for (linear, rows, cols) in shapes {
            check_linear(linear, rows, cols)?;
        }
    }
    vector("output norm", &plan.output_norm, h)?;
    check_linear(&plan.head, plan.vocab, h)?;
    check_weight(&plan.embedding, plan.vocab, h)
}

fn check_linear(linear: &Linear, rows: usize, cols: usize) -> Result<(), BackendError> {
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
    let problem = if (w.rows, w.cols) != (rows, cols) {
        format!("expected shape [{rows}, {cols}], found [{}, {}]", w.rows, w.cols)
    } else if !cols.is_multiple_of(w.dtype.block.max(if w.dtype.is_float() { 1 } else { BLOCK })) {
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
fn lay_out(plan: &DecoderPlan, bf16: bool) -> Result<(Vec<PackedLayer>, PackedLinear, usize), BackendError> {
    let mut end = 0;
    let mut linear = |linear: &Linear| {
        let Weight { dtype, cols, .. } = linear.weight;
        let (rows, panel_bytes) = (linear.shard.len(), (dtype.run.panel_bytes)(cols));
        let bias = linear.bias.as_ref().map(|b| padded(&b[linear.shard.clone()])).transpose()?;
        let offset = end;
        end += rows.div_ceil(LANES) * panel_bytes;
        let matmul = if bf16 && takes_bf16(&linear.weight) { panel::IN_BF16 } else { dtype.run.matmul };
        Ok::<_, BackendError>(PackedLinear { dtype, matmul, rows, cols, panel_bytes, offset, bias })
    };
    let norm = |n: &Option<Vec<f32>>| n.as_deref().map(padded).transpose();
    let mut layer = |layer: &Layer| {
        Ok::<_, BackendError>(PackedLayer {
            attn_norm: padded(&layer.attn_norm)?,
            qkv: [linear(&layer.q)?, linear(&layer.k)?, linear(&layer.v)?],
            o: linear(&layer.o)?,
            q_norm: norm(&layer.q_norm)?,
            k_norm: norm(&layer.k_norm)?,
            ffn_norm: padded(&layer.ffn_norm)?,
            gate_up: [linear(&layer.gate)?, linear(&layer.up)?],
            down: linear(&layer.down)?,
        })
    };
    let layers = plan.layers.iter().map(&mut layer).collect::<Result<_, _>>()?;
    let head = linear(&plan.head)?;
    Ok((layers, head, end))
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
                    let bytes = &weight.data[file_bytes(linear, panel..panel + 1)];
                    // SAFETY: the panels have room for all nodes, and each panel is packed by one item.
                    let packed = unsafe { panels.slice_mut(offset + panel * panel_bytes, panel_bytes) };
                    (dtype.run.pack)(bytes, cols, packed);
                }
            });
            let read = file_bytes(linear, start..end);
            self.done += read.len();
            if let Some(bytes) = weight.data.slice(read) {
                bytes.release();
            }
            (self.observer)(self.done, self.total);
        }
    }
}

/// Where the rows of a node's panels stand in its weight.
fn file_bytes(linear: &Linear, panels: Range<usize>) -> Range<usize> {
    let Range { start, end } = linear.shard;
    let rows = start + panels.start * LANES..end.min(start + panels.end * LANES);
    rows.start * linear.weight.row_bytes()..rows.end * linear.weight.row_bytes()
}
