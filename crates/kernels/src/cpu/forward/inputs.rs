//! What layers are given of the token itself: the table of all of them, and how a layer takes its part.

use std::ops::Range;

use super::{Added, Pass, each_row, run_norm};
use crate::cpu::matmuls::{Input, Product, matmuls};
use crate::cpu::weights::Rounding;
use crate::ops::glu::Glu;
use crate::quant::panel::BLOCK;
use crate::simd::LANES;

impl Pass<'_> {
    /// The inputs of all layers, from the embeddings in the residual stream.
    pub(super) fn inputs(&mut self) {
        let (tier, model, b) = (self.tier, self.model, self.buffers);
        let Some(inputs) = &model.inputs else { return };
        let n = self.rows.len();
        let rounding = self.lay_out(0, std::slice::from_ref(&inputs.projection));
        self.norm(n, Added::Nothing, &None, rounding, &|r| r);
        let stride = b.inputs_stride;
        let product = [Product { linear: &inputs.projection, out: b.inputs.ptr(), out_stride: stride }];
        self.matmuls(Input { x: b.input.ptr(), stride: b.hidden }, n, &product);
        let (width, rows, Some(norm)) = (inputs.width, self.rows, &inputs.norm) else { return };
        each_row(self.team, n, &|r| {
            // SAFETY: row r of both is touched by this call alone; a layer's part fills whole lanes, as the norm's weights.
            let (own, table) = unsafe {
                let all = inputs.projection.rows;
                (b.inputs.slice_mut(r * stride, all), b.embeddings.slice_mut(r * stride, all))
            };
            (inputs.embedding.dtype.decode)(&inputs.embedding.row(rows[r].token as usize), table);
            own.iter_mut().for_each(|x| *x *= inputs.projection_scale);
            for (own, table) in own.chunks_exact_mut(width).zip(table.chunks_exact(width)) {
                let x = own.as_mut_ptr();
                // SAFETY: as above, and the tier is available.
                unsafe { run_norm(tier, model, x, None, norm, x, (width, width)) };
                let sum = |(x, e): (&mut f32, &f32)| *x = (*x + e * inputs.embedding_scale) * inputs.scale;
                own.iter_mut().zip(table).for_each(sum);
            }
        });
    }

    /// `x += y; y = projection(act(gate(x)) * input)`, where the layer has an input.
    pub(super) fn take_input(&mut self, layer: usize) {
        let (tier, model, b) = (self.tier, self.model, self.buffers);
        let weights = &model.layers[layer];
        let (Some(take), Some(inputs)) = (&weights.input, &model.inputs) else { return };
        let n = self.rows.len();
        let rounding = self.lay_out(0, std::slice::from_ref(&take.gate));
        self.norm(n, Added::Y { post: weights.ffn_post_norm.as_ref(), scale: 1.0 }, &None, rounding, &|r| r);
        let int8 = self.lay_out(1, std::slice::from_ref(&take.projection)) == Rounding::Blocks;
        let activation = take.activation;
        let stream = Input { x: b.input.ptr(), stride: b.hidden };
        self.record([&take.gate], stream, 0..n);
        let [input, hidden] = &*self.quantized;
        let product = [Product { linear: &take.gate, out: b.gate_up.ptr(), out_stride: b.gate_up_stride }];
        let finish = |panels: Range<usize>, rows: Range<usize>| {
            let first = panels.start * LANES;
            for r in rows {
                let gate = b.gate_up.ptr().wrapping_add(r * b.gate_up_stride + first);
                let part = b.inputs.ptr().wrapping_add(r * b.inputs_stride + layer * inputs.width + first);
                let glu = Glu { activation, gate, up: part, out: gate, cols: panels.len() * LANES };
                // SAFETY: the tier is available; these panels of the row have been multiplied, and are this call's alone.
                unsafe {
                    tier.run(glu);
                    if int8 {
                        tier.run(hidden.quantize(r, first / BLOCK..panels.end * LANES / BLOCK, gate));
                    }
                }
            }
        };
        matmuls(tier, model, self.team, input, stream, n, &product, Some(&finish));
        self.expect_layer(layer + 1);
        let gated = Input { x: b.gate_up.ptr(), stride: b.gate_up_stride };
        self.record([&take.projection], gated, 0..n);
        let [_, hidden] = &*self.quantized;
        let product = [Product { linear: &take.projection, out: b.y.ptr(), out_stride: b.hidden }];
        matmuls(tier, model, self.team, hidden, gated, n, &product, None);
    }
}
