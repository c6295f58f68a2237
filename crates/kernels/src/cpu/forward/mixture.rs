//! A mixture of experts: each position's row is gathered beside those that chose the same expert, so that an expert is one
//! matmul of its rows, and only the chosen experts' panels are read.

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::super::buffers::activations;
use super::super::matmuls::{Input, Operands, Product, expect, matmuls, panels_at_once, rows_at_once};
use super::super::weights::{Model, PackedFeedForward, PackedLinear, PackedMixture, Rounding, zeroed};
use super::{Pass, each_row, in_groups};
use crate::backend::BackendError;
use crate::buffer::Buffer;
use crate::ops::glu::Glu;
use crate::ops::quantize::{GROUP, QuantizedRows};
use crate::ops::router::{Combine, Sigmoid, Weighting};
use crate::quant::panel::BLOCK;
use crate::simd::LANES;

/// Rows of the experts of a mixture: a *slot* is a position of the chunk in the hands of one of its experts. The slots of
/// an expert follow one another, in the order of positions, and begin with a group of quantized rows.
pub struct Slots {
    /// The most experts of a position.
    top_k: usize,
    /// Values from one row of `scores` to the next.
    scores_stride: usize,
    /// What the router gives, and in the last lanes the gate of the shared expert.
    scores: Buffer<f32>,
    /// `[row, top_k]`: each position's experts, ascending.
    chosen: Buffer<u32>,
    /// Likewise, their weights.
    weights: Buffer<f32>,
    /// `[row, top_k]`: the slot in the hands of each.
    slots: Vec<usize>,
    /// The position of each slot; none of those that only fill a group.
    positions: Vec<Option<usize>>,
    /// The experts that were chosen, with their slots.
    experts: Vec<(usize, Range<usize>)>,
    /// Slots of each expert.
    counts: Vec<usize>,
    /// Values from one slot of `input` and `out` to the next.
    hidden: usize,
    /// Width of the gate and of the up projection.
    ffn: usize,
    /// The gathered inputs.
    input: Buffer<f32>,
    /// Likewise as int8, and the inputs of the experts' second matmuls.
    quantized: [QuantizedRows; 2],
    /// `[slot, 2 * ffn]`: gate and up; the unit's output takes the gate's place.
    gate_up: Buffer<f32>,
    out: Buffer<f32>,
}

impl Slots {
    /// For chunks of `rows` rows; none if no layer is a mixture.
    ///
    /// # Errors
    /// Too little memory.
    pub fn new(model: &Model, rows: usize) -> Result<Option<Self>, BackendError> {
        let mixtures = || model.layers.iter().filter_map(|l| l.ffn.mixture());
        let widest = |f: &dyn Fn(&PackedMixture) -> usize| mixtures().map(f).max().unwrap_or(0);
        let top_k = widest(&|m| m.router.top_k);
        if top_k == 0 {
            return Ok(None);
        }
        let most = widest(&|m| m.experts.len());
        let slots = rows * top_k + most.min(rows * top_k) * (GROUP - 1);
        let hidden = model.hidden.next_multiple_of(LANES);
        let ffn = widest(&|m| m.experts[0].gate_up[0].padded_rows());
        let scores_stride = most.next_multiple_of(LANES) + LANES;
        let quantized = |cols: usize| {
            let no_memory = BackendError::Memory { what: "activations", bytes: slots * cols };
            QuantizedRows::new(slots, cols.next_multiple_of(BLOCK)).ok_or(no_memory)
        };
        Ok(Some(Self {
            top_k,
            scores_stride,
            scores: activations(rows * scores_stride)?,
            chosen: zeroed("chosen experts", rows * top_k)?,
            weights: activations(rows * top_k)?,
            slots: vec![0; rows * top_k],
            positions: Vec::with_capacity(slots),
            experts: Vec::with_capacity(most),
            counts: Vec::with_capacity(most),
            hidden,
            ffn,
            input: activations(slots * hidden)?,
            quantized: [quantized(hidden)?, quantized(ffn)?],
            gate_up: activations(slots * 2 * ffn)?,
            out: activations(slots * hidden)?,
        }))
    }

    /// Gives each of the `rows` positions a slot with each of its `top_k` experts.
    fn arrange(&mut self, rows: usize, top_k: usize, experts: usize) {
        // SAFETY: the choice is made.
        let chosen = unsafe { self.chosen.slice(0, rows * top_k) };
        self.counts.clear();
        self.counts.resize(experts, 0);
        chosen.iter().for_each(|e| self.counts[*e as usize] += 1);
        self.experts.clear();
        let mut end = 0;
        for (expert, count) in self.counts.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            self.experts.push((expert, end..end + *count));
            // From now on, where the expert's next slot is.
            end += std::mem::replace(count, end).next_multiple_of(GROUP);
        }
        self.positions.clear();
        self.positions.resize(end, None);
        for (i, expert) in chosen.iter().enumerate() {
            let slot = &mut self.counts[*expert as usize];
            self.slots[i] = *slot;
            self.positions[*slot] = Some(i / top_k);
            *slot += 1;
        }
    }

    /// The chosen experts' slots in parts: panels of a node of each expert, `of` it, in groups that give each thread
    /// several, rows in groups that fit a cache.
    fn items<'m>(
        &self,
        mixture: &'m PackedMixture,
        threads: usize,
        of: impl Fn(&PackedFeedForward) -> &PackedLinear,
    ) -> Vec<Item<'m>> {
        let nodes = || self.experts.iter().map(|(e, slots)| (&mixture.experts[*e], slots));
        let all: usize = nodes().map(|(expert, _)| of(expert).panel_count()).sum();
        let (mut left, mut items) = (all, Vec::new());
        for (expert, slots) in nodes() {
            let (linear, count) = (of(expert), of(expert).panel_count());
            let rows = rows_at_once(linear.cols, linear.takes_int8());
            for start in slots.clone().step_by(rows) {
                let mut first = 0;
                while first < count {
                    let end = count.min(first + panels_at_once(left - first, all, slots.len(), threads));
                    items.push(Item { expert, panels: first..end, slots: start..slots.end.min(start + rows) });
                    first = end;
                }
            }
            left -= count;
        }
        items
    }
}

/// A part of an expert's work.
struct Item<'m> {
    expert: &'m PackedFeedForward,
    panels: Range<usize>,
    slots: Range<usize>,
}

impl Pass<'_> {
    /// `y = Σ weight * expert(x) + shared expert(x)`, of the input x; `next` are the weights that are read after it.
    pub(super) fn mixture(&mut self, mixture: &PackedMixture, next: &[PackedLinear]) {
        if let Some(shared) = &mixture.shared {
            self.gated(shared, std::slice::from_ref(&mixture.router.linear));
        }
        let (tier, model, b, n) = (self.tier, self.model, self.buffers, self.rows.len());
        let input = Input { x: b.input.ptr(), stride: b.hidden };
        self.record([&mixture.router.linear].into_iter().chain(&mixture.shared_gate), input, 0..n);
        let Some(slots) = self.slots.as_deref_mut() else { return };
        let (router, experts) = (&mixture.router, mixture.experts.len());
        let (top_k, stride, whole) = (router.top_k, slots.scores_stride, experts.next_multiple_of(LANES));
        debug_assert!(top_k <= slots.top_k);

        let out = slots.scores.ptr();
        let gate = slots.scores_stride - LANES;
        let mut products = vec![Product { linear: &router.linear, out, out_stride: stride }];
        if let Some(linear) = &mixture.shared_gate {
            products.push(Product { linear, out: out.wrapping_add(gate), out_stride: stride });
        }
        matmuls(tier, model, self.team, &self.quantized[0], input, n, &products, None);

        let weighting = Weighting { score: router.score, normalized: router.normalized, scale: router.scale };
        let room = &*slots;
        each_row(self.team, n, &|r| {
            // SAFETY: row r is touched by this call alone; the tier is available, and the gate fills whole lanes.
            unsafe {
                let scores = room.scores.slice_mut(r * stride, whole);
                let chosen = room.chosen.slice_mut(r * top_k, top_k);
                let weights = room.weights.slice_mut(r * top_k, top_k);
                weighting.take(tier, scores, experts, router.choice_bias.as_deref(), (chosen, weights));
                if mixture.shared_gate.is_some() {
                    tier.run(Sigmoid { x: room.scores.ptr().add(r * stride + gate), cols: LANES });
                }
            }
        });
        slots.arrange(n, top_k, experts);
        self.gather(mixture);
        self.experts(mixture, next);
        self.record_experts(mixture);
        self.combine(mixture);
    }

    /// Copies each position's input to its slots, in the forms that the experts take.
    fn gather(&mut self, mixture: &PackedMixture) {
        let Some(slots) = self.slots.as_deref_mut() else { return };
        let takers = || mixture.experts.iter().flat_map(|expert| &expert.gate_up);
        let [int8, floats] = [true, false].map(|int8| takers().any(|linear| linear.takes_int8() == int8));
        if int8 {
            slots.quantized[0].set_cols(takers().map(|linear| linear.cols).max().unwrap_or(0));
        }
        let (b, from, slots) = (self.buffers, &self.quantized[0], &*slots);
        in_groups(self.team, slots.positions.len(), GROUP, &|slot| {
            let Some(row) = slots.positions[slot] else { return };
            // SAFETY: the slot is written by this call alone, and rows have as many values.
            unsafe {
                if int8 {
                    slots.quantized[0].copy_row(slot, from, row);
                }
                if floats {
                    let input = b.input.slice(row * b.hidden, slots.hidden);
                    slots.input.slice_mut(slot * slots.hidden, slots.hidden).copy_from_slice(input);
                }
            }
        });
    }

    /// Sums up what the chosen experts' nodes were given, where that is asked for: both inputs are there once they have run.
    fn record_experts(&mut self, mixture: &PackedMixture) {
        let (Some(recorder), Some(slots)) = (self.recorder.as_deref_mut(), self.slots.as_deref()) else { return };
        let (b, team, model) = (self.buffers, &mut *self.team, self.model);
        let input = Input { x: b.input.ptr(), stride: b.hidden };
        let gated = Input { x: slots.gate_up.ptr(), stride: 2 * slots.ffn };
        for (expert, own) in &slots.experts {
            let PackedFeedForward { gate_up, down, .. } = &mixture.experts[*expert];
            let positions = slots.positions[own.clone()].iter().copied().flatten();
            recorder.add(team, model, gate_up, input, positions);
            recorder.add(team, model, [down], gated, own.clone());
        }
    }

    /// `out = down(act(gate(input)) * up(input))` in each slot.
    fn experts(&mut self, mixture: &PackedMixture, next: &[PackedLinear]) {
        let Some(slots) = self.slots.as_deref_mut() else { return };
        if let Some(down) = mixture.experts.iter().map(|e| &e.down).find(|down| down.takes_int8()) {
            slots.quantized[1].set_cols(down.cols);
        }
        let (tier, model, slots) = (self.tier, self.model, &*slots);
        let (ffn, stride) = (slots.ffn, 2 * slots.ffn);
        let [input, hidden] = &slots.quantized;
        let gathered = Input { x: slots.input.ptr(), stride: slots.hidden };
        let operands = Operands { tier, model, quantized: input, input: gathered };
        let items = slots.items(mixture, self.team.size(), |expert| &expert.gate_up[0]);
        if let Some(item) = items.first() {
            expect(model, self.team, std::slice::from_ref(&item.expert.down), item.slots.len());
        }
        self.team.run(items.len(), &|i| {
            let Item { expert, panels, slots: rows } = &items[i];
            for (i, linear) in expert.gate_up.iter().enumerate() {
                let product = Product { linear, out: slots.gate_up.ptr().wrapping_add(i * ffn), out_stride: stride };
                operands.multiply(&product, panels.clone(), rows.clone());
            }
            let int8 = expert.down.rounding() == Rounding::Blocks;
            for r in rows.clone() {
                let gate = slots.gate_up.ptr().wrapping_add(r * stride + panels.start * LANES);
                let (activation, cols) = (expert.activation, panels.len() * LANES);
                // SAFETY: the tier is available; these panels of the slot have been multiplied, and are this call's alone.
                unsafe {
                    tier.run(Glu { activation, gate, up: gate.wrapping_add(ffn), out: gate, cols });
                    if int8 {
                        let blocks = panels.start * LANES / BLOCK..panels.end * LANES / BLOCK;
                        tier.run(hidden.quantize(r, blocks, gate));
                    }
                }
            }
        });
        let gated = Input { x: slots.gate_up.ptr(), stride };
        let operands = Operands { tier, model, quantized: hidden, input: gated };
        let items = slots.items(mixture, self.team.size(), |expert| &expert.down);
        expect(model, self.team, next, self.rows.len());
        self.team.run(items.len(), &|i| {
            let Item { expert, panels, slots: rows } = &items[i];
            let product = Product { linear: &expert.down, out: slots.out.ptr(), out_stride: slots.hidden };
            operands.multiply(&product, panels.clone(), rows.clone());
        });
    }

    /// `y = Σ weight * out + shared weight * y`: a position's experts in ascending order, whatever else is in the chunk.
    fn combine(&mut self, mixture: &PackedMixture) {
        let Some(slots) = self.slots.as_deref() else { return };
        let (tier, b, top_k) = (self.tier, self.buffers, mixture.router.top_k);
        let gate = slots.scores_stride - LANES;
        each_row(self.team, self.rows.len(), &|r| {
            // SAFETY: the tier is available; weights and outputs are there, and row r of y is touched by this call alone.
            unsafe {
                let weights = slots.weights.slice(r * top_k, top_k);
                let of = |slot: &usize| slots.out.ptr().wrapping_add(slot * slots.hidden).cast_const();
                let parts: Vec<_> =
                    weights.iter().zip(&slots.slots[r * top_k..]).map(|(w, slot)| (*w, of(slot))).collect();
                let shared = match (&mixture.shared, &mixture.shared_gate) {
                    (None, _) => None,
                    (Some(_), None) => Some(1.0),
                    (Some(_), Some(_)) => Some(slots.scores.slice(r * slots.scores_stride + gate, 1)[0]),
                };
                tier.run(Combine { y: b.y.ptr().add(r * b.hidden), parts: &parts, shared, cols: slots.hidden });
            }
        });
    }
}
