//! The gated short convolution.

use std::ops::Range;

use super::convolve::Inputs;
use super::{Pass, left_before, round};
use crate::cpu::matmuls::{Input, Product, expect, matmuls};
use crate::cpu::weights::PackedShortConv;
use crate::ops::conv::{CausalConv, Finish};
use crate::ops::glu::Times;
use crate::ops::quantize::QuantizedRows;
use crate::simd::LANES;

impl Pass<'_> {
    /// `y = output(out_gate * conv(in_gate * value))`, each of the norm of x.
    pub(super) fn short_conv(&mut self, layer: usize, weights: &PackedShortConv) {
        let (tier, model, b, n) = (self.tier, self.model, self.buffers, self.rows.len());
        let rounding = self.lay_out(0, &weights.inputs);
        self.norm(n, left_before(model, layer), &model.layers[layer].attn_norm, rounding, &|r| r);
        let (width, stride) = (weights.conv.channels, b.qkv_starts[3]);
        let products = [0, 1, 2].map(|i| Product {
            linear: &weights.inputs[i],
            out: b.qkv.ptr().wrapping_add(i * width),
            out_stride: stride,
        });
        // The convolution's input takes the inner gate's place.
        let finish = |panels: Range<usize>, rows: Range<usize>| {
            for r in rows {
                let x = b.qkv.ptr().wrapping_add(r * stride + panels.start * LANES);
                let by = x.wrapping_add(2 * width);
                // SAFETY: the tier is available; these panels of the row have been multiplied, and are this call's alone.
                unsafe { tier.run(Times { x, by, cols: panels.len() * LANES }) }
            }
        };
        let input = Input { x: b.input.ptr(), stride: b.hidden };
        self.record(&weights.inputs, input, 0..n);
        expect(model, self.team, std::slice::from_ref(&weights.output), n);
        matmuls(tier, model, self.team, &self.quantized[0], input, n, &products, Some(&finish));
        let rounding = self.lay_out(0, std::slice::from_ref(&weights.output));
        let step = |r: usize, inputs: &[*const f32], quantized: &QuantizedRows| {
            let out = b.attended.ptr().wrapping_add(r * b.heads);
            let out_gate = b.qkv.ptr().wrapping_add(r * stride + width).cast_const();
            let (weights, finish) = (weights.conv.weights.ptr().cast_const(), Finish::Times(out_gate));
            // SAFETY: the tier is available; rows and buffers are as wide; each row is touched by its call alone.
            unsafe {
                tier.run(CausalConv { inputs, weights, channels: width, finish, out });
                round(tier, quantized, rounding, r, out);
            }
        };
        self.convolve(layer, &weights.conv, Inputs { x: b.qkv.ptr(), stride }, &step);
        let product = [Product { linear: &weights.output, out: b.y.ptr(), out_stride: b.hidden }];
        expect(model, self.team, model.layers[layer].ffn.first(), n);
        self.matmuls(Input { x: b.attended.ptr(), stride: b.heads }, n, &product);
    }
}
