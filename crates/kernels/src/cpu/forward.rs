//! The decoder pass: a chunk of rows through all layers.
//!
//! The steps between the matmuls work row by row; the calling thread does them alone when rows are few, so that a decoded
//! token costs five meetings of the team per layer. Every step leaves what it adds to the residual stream in `y`, and the
//! next norm takes it in.

mod attend;
mod convolve;
mod delta_net;
mod inputs;
mod mixture;
mod short_conv;
mod tiles;

use std::ops::Range;
use std::sync::Mutex;

use mixture::Slots;

use super::buffers::{Buffers, activations};
use super::matmuls::{Input, Product, expect, matmuls};
use super::pages::Pages;
use super::recorder::Recorder;
use super::states::StatePtr;
use super::weights::{Model, Norm, PackedAttention, PackedFeedForward, PackedFfn, PackedLinear, PackedMixer, Rounding};
use crate::backend::{BackendError, NodeInputs};
use crate::buffer::Buffer;
use crate::ops::attention::{PagePtr, Scratch};
use crate::ops::glu::Glu;
use crate::ops::norm::{LayerNorm, NoNorm, RmsNorm, Scaled};
use crate::ops::quantize::{GROUP, QuantizedRows};
use crate::ops::rope;
use crate::plan::NormKind;
use crate::quant::panel::BLOCK;
use crate::simd::{LANES, Tier};
use crate::team::Team;

/// Rows up to which a step is not worth a meeting of the team.
const FEW_ROWS: usize = 2;
/// Rows whose logits are computed together.
const LOGITS_AT_ONCE: usize = 32;

/// One position of a chunk.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Index of its sequence's page table.
    pub span: usize,
    pub token: u32,
    pub position: usize,
    /// Positions that its sequence may have.
    pub reserved: usize,
    /// Whether its logits are wanted.
    pub logits: bool,
}

/// Where the states of a span lie.
#[derive(Default)]
pub struct SpanStates {
    /// The sequence's own, if the program has states.
    pub own: Option<StatePtr>,
    /// Copies to leave: behind so many positions.
    pub copies: Vec<(usize, StatePtr)>,
}

/// The model with the buffers of a chunk.
pub struct Forward {
    tier: Tier,
    model: Model,
    team: Team,
    buffers: Buffers,
    /// The inputs of matmuls; the second is the feed-forward layer's own, filled while the first is read.
    quantized: [QuantizedRows; 2],
    /// Logits in whole lanes, before the vocabulary's are taken out.
    logits: Buffer<f32>,
    /// Of each thread.
    scratch: Mutex<Vec<Scratch>>,
    /// What segments of attention give, where threads share an item.
    partials: Vec<f32>,
    /// Rows of experts, if there are any.
    slots: Option<Slots>,
    /// What nodes are given, where that is asked for.
    recorder: Option<Recorder>,
}

impl Forward {
    /// For chunks of up to `rows` rows.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(tier: Tier, model: Model, team: Team, rows: usize) -> Result<Self, BackendError> {
        let quantized = |cols: usize| {
            let no_memory = BackendError::Memory { what: "activations", bytes: rows * cols };
            QuantizedRows::new(rows, cols).ok_or(no_memory)
        };
        let ffn = model.layers.iter().filter_map(|l| l.ffn.whole()).map(|ffn| ffn.down.cols).max().unwrap_or(0);
        let ffn = ffn.max(model.inputs.as_ref().map_or(0, |inputs| inputs.width));
        let buffers = Buffers::new(&model, rows)?;
        Ok(Self {
            tier,
            scratch: Mutex::new(attend::scratches(&model, &buffers, team.size())?),
            buffers,
            quantized: [quantized(Buffers::widest_input(&model))?, quantized(ffn)?],
            logits: activations(LOGITS_AT_ONCE.min(rows) * model.head.padded_rows())?,
            partials: Vec::new(),
            slots: Slots::new(&model, rows)?,
            recorder: None,
            model,
            team,
        })
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// As [`Program::record_inputs`](crate::backend::Program::record_inputs).
    pub fn record_inputs(&mut self, spans: &[usize]) -> Result<(), BackendError> {
        self.recorder = Some(Recorder::new(self.tier, &self.model, spans)?);
        Ok(())
    }

    /// As [`Program::take_inputs`](crate::backend::Program::take_inputs).
    pub fn take_inputs(&mut self, each: &mut dyn FnMut(usize, &NodeInputs)) {
        if let Some(recorder) = &mut self.recorder {
            recorder.take(each);
        }
    }

    /// Bytes of the buffers.
    pub fn buffer_bytes(&self) -> usize {
        let quantized: usize = self.quantized.iter().map(QuantizedRows::bytes).sum();
        self.buffers.bytes() + quantized + self.logits.bytes()
    }

    /// Runs `rows` through the decoder: stores their keys and values, moves states on, and writes the logits of those that
    /// want them, `[wanted, vocab]`. The rows of a span follow one another in ascending position; `tables` has each span's
    /// pages, `states` each span's states, and where in a state each layer's part starts.
    pub fn run(
        &mut self,
        rows: &[Row],
        tables: &[Vec<PagePtr>],
        pages: &Pages,
        states: (&[SpanStates], &[usize]),
        logits: &mut [f32],
    ) {
        let mut pass = self.pass(rows, tables, pages, states);
        pass.embed();
        pass.inputs();
        for layer in 0..pass.model.layers.len() {
            match &pass.model.layers[layer].mixer {
                PackedMixer::Attention(attention) => pass.attention(layer, attention),
                PackedMixer::ShortConv(conv) => pass.short_conv(layer, conv),
                PackedMixer::DeltaNet(net) => pass.delta_net(layer, net),
            }
            pass.feed_forward(layer);
            pass.take_input(layer);
        }
        pass.head(logits);
    }

    /// A chunk of rows under way.
    fn pass<'a>(
        &'a mut self,
        rows: &'a [Row],
        tables: &'a [Vec<PagePtr>],
        pages: &'a Pages,
        states: (&'a [SpanStates], &'a [usize]),
    ) -> Pass<'a> {
        Pass {
            tier: self.tier,
            model: &self.model,
            buffers: &self.buffers,
            scratch: &self.scratch,
            partials: &mut self.partials,
            slots: self.slots.as_mut(),
            recorder: self.recorder.as_mut(),
            quantized: &mut self.quantized,
            team: &mut self.team,
            rows,
            tables,
            pages,
            states: states.0,
            state_starts: states.1,
            runs: tiles::tiles(rows, usize::MAX),
            logits: &self.logits,
        }
    }
}

/// One chunk under way.
struct Pass<'a> {
    tier: Tier,
    model: &'a Model,
    buffers: &'a Buffers,
    /// As [`Forward::logits`].
    logits: &'a Buffer<f32>,
    scratch: &'a Mutex<Vec<Scratch>>,
    partials: &'a mut Vec<f32>,
    slots: Option<&'a mut Slots>,
    recorder: Option<&'a mut Recorder>,
    quantized: &'a mut [QuantizedRows; 2],
    team: &'a mut Team,
    rows: &'a [Row],
    tables: &'a [Vec<PagePtr>],
    pages: &'a Pages,
    states: &'a [SpanStates],
    state_starts: &'a [usize],
    /// The rows of each span that is in the chunk.
    runs: Vec<Range<usize>>,
}

impl Pass<'_> {
    /// Multiplies the first `rows` rows of an input, and of its quantized form, with each product's weight.
    fn matmuls(&mut self, input: Input, rows: usize, products: &[Product]) {
        self.record(products.iter().map(|product| product.linear), input, 0..rows);
        matmuls(self.tier, self.model, self.team, &self.quantized[0], input, rows, products, None);
    }

    /// Sums up what these nodes are about to be given, where that is asked for.
    fn record<'l>(
        &mut self,
        linears: impl IntoIterator<Item = &'l PackedLinear>,
        input: Input,
        rows: impl IntoIterator<Item = usize>,
    ) {
        if let Some(recorder) = self.recorder.as_deref_mut() {
            recorder.add(self.team, self.model, linears, input, rows);
        }
    }

    /// Lays out quantized buffer `which` as the input of these nodes. How they want it rounded: ternary nodes stand among
    /// their like.
    fn lay_out<'l>(&mut self, which: usize, linears: impl IntoIterator<Item = &'l PackedLinear>) -> Rounding {
        let taker = linears.into_iter().find(|l| l.takes_int8());
        taker.inspect(|l| self.quantized[which].set_cols(l.cols)).map_or(Rounding::None, PackedLinear::rounding)
    }

    /// Token embeddings into the residual stream, and the rotation of each position.
    fn embed(&mut self) {
        let (model, b, rows) = (self.model, self.buffers, self.rows);
        let (width, scale) = (b.angle_starts[model.ropes.len()], model.scales.embedding);
        each_row(self.team, rows.len(), &|r| {
            // SAFETY: row r is written by this call alone.
            let (x, mut angles) =
                unsafe { (b.x.slice_mut(r * b.hidden, model.hidden), b.angles.slice_mut(r * width, width)) };
            (model.embedding.dtype.decode)(&model.embedding.row(rows[r].token as usize), x);
            if scale != 1.0 {
                x.iter_mut().for_each(|x| *x *= scale);
            }
            for rope in &model.ropes {
                let (cos, rest) = angles.split_at_mut(rope.inv_freq.len());
                let (sin, rest) = rest.split_at_mut(rope.inv_freq.len());
                rope::angles(rope, rows[r].position, rows[r].reserved, cos, sin);
                angles = rest;
            }
        });
    }

    /// `x += post(y) * residual scale` if there is a y yet; `input = norm(x)`, rounded too. Row i of the input is row
    /// `from(i)` of x.
    fn norm(
        &mut self,
        rows: usize,
        y: Added,
        weight: &Norm,
        rounding: Rounding,
        from: &(dyn Fn(usize) -> usize + Sync),
    ) {
        let (tier, model, b, quantized) = (self.tier, self.model, self.buffers, &self.quantized[0]);
        let cols = model.hidden.next_multiple_of(LANES);
        let residual = model.scales.residual;
        let step = |r: usize| {
            let at = from(r) * b.hidden;
            let out = b.input.ptr().wrapping_add(r * b.hidden);
            let (x, added) = (b.x.ptr().wrapping_add(at), b.y.ptr().wrapping_add(at));
            // SAFETY: the tier is available, each row is touched by this call alone, and the weights are as wide.
            unsafe {
                let add = match y {
                    Added::Nothing => None,
                    Added::Y { post, scale } => {
                        if let Some(post) = post {
                            run_norm(tier, model, added, None, post, added, (cols, model.hidden));
                        }
                        if residual != 1.0 {
                            tier.run(Scaled { x: added, factor: residual, cap: None, cols });
                        }
                        if scale == 1.0 {
                            Some(added.cast_const())
                        } else {
                            tier.run(NoNorm { x, add: Some(added), out: x, cols });
                            tier.run(Scaled { x, factor: scale, cap: None, cols });
                            None
                        }
                    }
                };
                match weight {
                    Some(weight) => run_norm(tier, model, x, add, weight, out, (cols, model.hidden)),
                    None => tier.run(NoNorm { x, add, out, cols }),
                }
                round(tier, quantized, rounding, r, out);
            }
        };
        each_row(self.team, rows, &step);
    }

    /// `x = norm(x)`, if there is one, for the first `len` values of each row at `x`, whose rows are `stride` apart; rounded
    /// too, into quantized buffer `which`.
    fn norm_in_place(&mut self, x: *mut f32, stride: usize, len: usize, norm: &Norm, which: usize, rounding: Rounding) {
        let (tier, model, x, quantized) = (self.tier, self.model, PagePtr(x.cast()), &self.quantized[which]);
        each_row(self.team, self.rows.len(), &|r| {
            let x = { x }.0.cast::<f32>().wrapping_add(r * stride);
            // SAFETY: the tier is available, and each row, which has whole lanes, is touched by this call alone.
            unsafe {
                if let Some(weight) = norm {
                    run_norm(tier, model, x, None, weight, x, (len.next_multiple_of(LANES), len));
                }
                round(tier, quantized, rounding, r, x);
            }
        });
    }

    /// Cuts the outputs of matmuls off at a magnitude.
    fn clip(&mut self, products: &[Product], most: f32) {
        each_row(self.team, self.rows.len(), &|r| {
            for product in products {
                let row = product.out.wrapping_add(r * product.out_stride);
                // SAFETY: the product's row, which this call alone touches.
                let row = unsafe { std::slice::from_raw_parts_mut(row, product.linear.rows) };
                row.iter_mut().for_each(|x| *x = x.clamp(-most, most));
            }
        });
    }

    /// `y = o(attention(norm(x)))`.
    fn attention(&mut self, layer: usize, attention: &PackedAttention) {
        let (b, weights) = (self.buffers, &self.model.layers[layer]);
        let n = self.rows.len();
        let rounding = self.lay_out(0, &attention.qkv);
        self.norm(n, left_before(self.model, layer), &weights.attn_norm, rounding, &|r| r);
        let product = |(linear, start): (_, &usize)| Product {
            linear,
            out: b.qkv.ptr().wrapping_add(*start),
            out_stride: b.qkv_starts[3],
        };
        let products: Vec<Product> = attention.qkv.iter().zip(&b.qkv_starts).map(product).collect();
        expect(self.model, self.team, std::slice::from_ref(&attention.o), n);
        self.matmuls(Input { x: b.input.ptr(), stride: b.hidden }, n, &products);
        for (norm, product) in attention.whole_norms.iter().zip(&products) {
            if norm.is_some() {
                let (rows, none) = (product.linear.rows, Rounding::None);
                self.norm_in_place(product.out, product.out_stride, rows, norm, 0, none);
            }
        }
        if let Some(clip) = attention.clip {
            self.clip(&products, clip);
        }
        let rounding = self.lay_out(0, std::slice::from_ref(&attention.o));
        // What takes the whole row comes after all heads.
        let last = attention.sub_norm.is_none() && rounding != Rounding::Row;
        let int8 = last && rounding == Rounding::Blocks;
        self.attend(layer, attention, int8);
        let (mut x, mut stride) = (b.attended.ptr(), b.heads);
        if attention.dims.head_dim != attention.dims.padded_head() {
            // Rows of whole lanes, where a norm needs them.
            (x, stride) =
                (b.input.ptr(), if last { attention.o.cols } else { attention.o.cols.next_multiple_of(LANES) });
            self.close_ranks(attention.dims, stride, int8);
        }
        if !last {
            self.norm_in_place(x, stride, attention.o.cols, &attention.sub_norm, 0, rounding);
        }
        let product = [Product { linear: &attention.o, out: b.y.ptr(), out_stride: b.hidden }];
        expect(self.model, self.team, weights.ffn.first(), n);
        self.matmuls(Input { x, stride }, n, &product);
    }

    /// `x += y; y = ffn(norm(x))`.
    fn feed_forward(&mut self, index: usize) {
        let (model, layer) = (self.model, &self.model.layers[index]);
        let rounding = self.lay_out(0, layer.ffn.takers());
        let added = Added::Y { post: layer.attn_post_norm.as_ref(), scale: 1.0 };
        self.norm(self.rows.len(), added, &layer.ffn_norm, rounding, &|r| r);
        let next = match &layer.input {
            Some(take) => std::slice::from_ref(&take.gate),
            None => next_nodes(model, index + 1),
        };
        match &layer.ffn {
            PackedFfn::Dense(ffn) => self.gated(ffn, next),
            PackedFfn::Mixture(mixture) => self.mixture(mixture, next),
        }
    }

    /// `y = down(act(gate(x)) * up(x))`; `next` are the nodes that come after it.
    fn gated(&mut self, weights: &PackedFeedForward, next: &[PackedLinear]) {
        let (tier, b, n) = (self.tier, self.buffers, self.rows.len());
        let rounding = self.lay_out(1, std::slice::from_ref(&weights.down));
        // What takes the whole row comes after all panels.
        let last = weights.sub_norm.is_none() && rounding != Rounding::Row;
        let int8 = last && rounding == Rounding::Blocks;
        let activation = weights.activation;
        let normed = Input { x: b.input.ptr(), stride: b.hidden };
        self.record(&weights.gate_up, normed, 0..n);
        let [input, hidden] = &*self.quantized;
        let products = [0, 1].map(|i| Product {
            linear: &weights.gate_up[i],
            out: b.gate_up.ptr().wrapping_add(i * b.ffn),
            out_stride: b.gate_up_stride,
        });
        // The unit's output takes the gate's place.
        let finish = |panels: Range<usize>, rows: Range<usize>| {
            for r in rows {
                let gate = b.gate_up.ptr().wrapping_add(r * b.gate_up_stride + panels.start * LANES);
                let glu = Glu { activation, gate, up: gate.wrapping_add(b.ffn), out: gate, cols: panels.len() * LANES };
                // SAFETY: the tier is available; these panels of the row have been multiplied, and are this call's alone.
                unsafe {
                    tier.run(glu);
                    if int8 {
                        let blocks = panels.start * LANES / BLOCK..panels.end * LANES / BLOCK;
                        tier.run(hidden.quantize(r, blocks, gate));
                    }
                }
            }
        };
        expect(self.model, self.team, std::slice::from_ref(&weights.down), n);
        matmuls(tier, self.model, self.team, input, normed, n, &products, Some(&finish));
        if !last {
            let (x, cols) = (b.gate_up.ptr(), weights.down.cols);
            self.norm_in_place(x, b.gate_up_stride, cols, &weights.sub_norm, 1, rounding);
        }
        let gated = Input { x: b.gate_up.ptr(), stride: b.gate_up_stride };
        self.record([&weights.down], gated, 0..n);
        let [_, hidden] = &*self.quantized;
        let product = [Product { linear: &weights.down, out: b.y.ptr(), out_stride: b.hidden }];
        expect(self.model, self.team, next, n);
        matmuls(tier, self.model, self.team, hidden, gated, n, &product, None);
    }

    /// Tells the team that the first matmul of this layer comes next, or that of the head behind all layers.
    fn expect_layer(&mut self, layer: usize) {
        expect(self.model, self.team, next_nodes(self.model, layer), self.rows.len());
    }

    /// The logits of the rows that want them, through `scratch` if they do not fill whole lanes.
    fn head(&mut self, logits: &mut [f32]) {
        let (model, b, scratch) = (self.model, self.buffers, self.logits);
        let (tier, vocab, width) = (self.tier, model.vocab, model.head.padded_rows());
        let (factor, cap) = (model.scales.logits, model.scales.logit_softcap);
        let wanted: Vec<usize> = (0..self.rows.len()).filter(|r| self.rows[*r].logits).collect();
        let outs = logits.chunks_mut(LOGITS_AT_ONCE * vocab.max(1));
        for (rows, out) in wanted.chunks(LOGITS_AT_ONCE).zip(outs) {
            let rounding = self.lay_out(0, std::slice::from_ref(&model.head));
            self.norm(rows.len(), left_before(model, model.layers.len()), &model.output_norm, rounding, &|i| rows[i]);
            let to = if width == vocab { out.as_mut_ptr() } else { scratch.ptr() };
            let product = [Product { linear: &model.head, out: to, out_stride: width }];
            let input = Input { x: b.input.ptr(), stride: b.hidden };
            if factor == 1.0 && cap.is_none() {
                self.matmuls(input, rows.len(), &product);
            } else {
                let finish = |panels: Range<usize>, rows: Range<usize>| {
                    for r in rows {
                        let x = product[0].out.wrapping_add(r * width + panels.start * LANES);
                        // SAFETY: the tier is available; these logits have been computed, and are this call's alone.
                        unsafe { tier.run(Scaled { x, factor, cap, cols: panels.len() * LANES }) }
                    }
                };
                let quantized = &self.quantized[0];
                matmuls(tier, model, self.team, quantized, input, rows.len(), &product, Some(&finish));
            }
            if width != vocab {
                for (i, row) in out.chunks_exact_mut(vocab).enumerate() {
                    // SAFETY: the matmul is done.
                    row.copy_from_slice(unsafe { scratch.slice(i * width, vocab) });
                }
            }
        }
    }
}

/// What is added to the residual stream before a norm.
#[derive(Clone, Copy)]
enum Added<'a> {
    Nothing,
    /// `y`, after its norm; the sum is multiplied by `scale`.
    Y {
        post: Option<&'a Buffer<f32>>,
        scale: f32,
    },
}

/// What the layers before layer `layer` leave to add.
fn left_before(model: &Model, layer: usize) -> Added<'_> {
    let Some(layer) = layer.checked_sub(1).map(|before| &model.layers[before]) else { return Added::Nothing };
    let post = layer.input.as_ref().map_or(&layer.ffn_post_norm, |input| &input.post_norm);
    Added::Y { post: post.as_ref(), scale: layer.scale }
}

/// Rounds row `r` at `x` for the nodes that take it.
///
/// # Safety
/// The tier is available; x has the row's values, and nothing else touches the rounded row.
unsafe fn round(tier: Tier, quantized: &QuantizedRows, rounding: Rounding, r: usize, x: *const f32) {
    // SAFETY: the caller's promise.
    unsafe {
        match rounding {
            Rounding::None => {}
            Rounding::Blocks => tier.run(quantized.quantize_row(r, x)),
            Rounding::Row => tier.run(quantized.round_row(r, x)),
        }
    }
}

/// The model's norm of one row: `cols` values in whole lanes, of which `len` count.
///
/// # Safety
/// As [`RmsNorm`], and the tier is available.
unsafe fn run_norm(
    tier: Tier,
    model: &Model,
    x: *mut f32,
    add: Option<*const f32>,
    weight: &Buffer<f32>,
    out: *mut f32,
    (cols, len): (usize, usize),
) {
    let norm = RmsNorm { x, add, weight: weight.as_slice().as_ptr(), out, cols, len, eps: model.norm_eps };
    // SAFETY: the caller's promise.
    unsafe {
        match model.norm {
            NormKind::Rms => tier.run(norm),
            NormKind::Layer => tier.run(LayerNorm(norm)),
        }
    }
}

/// Calls `step` with each number below `rows`, on the team if they are many. An item is a group of quantized rows, which
/// share cache lines.
fn each_row(team: &mut Team, rows: usize, step: &(dyn Fn(usize) + Sync)) {
    in_groups(team, rows, GROUP, step);
}

/// Likewise, with the rows of an item given.
fn in_groups(team: &mut Team, rows: usize, group: usize, step: &(dyn Fn(usize) + Sync)) {
    if rows <= FEW_ROWS {
        (0..rows).for_each(step);
    } else {
        team.run(rows.div_ceil(group), &|item| (item * group..rows.min((item + 1) * group)).for_each(step));
    }
}

/// The first nodes of this layer, or those of the head behind all layers.
fn next_nodes(model: &Model, layer: usize) -> &[PackedLinear] {
    model.layers.get(layer).map_or(std::slice::from_ref(&model.head), |layer| layer.mixer.linears().0)
}
