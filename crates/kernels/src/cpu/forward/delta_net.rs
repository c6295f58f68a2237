//! Linear attention by the gated delta rule.

use super::convolve::Inputs;
use super::{Pass, left_before};
use crate::cpu::matmuls::{Input, Product, expect};
use crate::cpu::states::StatePtr;
use crate::cpu::weights::{PackedDeltaNet, Rounding};
use crate::ops::conv::{CausalConv, Finish};
use crate::ops::delta::{DeltaRule, Length, Rates};
use crate::ops::glu::Glu;
use crate::ops::norm::RmsNorm;
use crate::ops::quantize::QuantizedRows;
use crate::plan::{Activation, DeltaNet};
use crate::quant::panel::BLOCK;

impl Pass<'_> {
    /// `y = output(norm(delta rule) * silu(gate))`, of the norm of x.
    pub(super) fn delta_net(&mut self, layer: usize, net: &PackedDeltaNet) {
        let (model, b, n) = (self.model, self.buffers, self.rows.len());
        let rounding = self.lay_out(0, &net.inputs);
        self.norm(n, left_before(model, layer), &model.layers[layer].attn_norm, rounding, &|r| r);
        let mut start = 0;
        let products = [0, 1, 2, 3].map(|i| {
            let (linear, out) = (&net.inputs[i], b.qkv.ptr().wrapping_add(start));
            start += linear.padded_rows();
            Product { linear, out, out_stride: b.qkv_starts[3] }
        });
        expect(model, self.team, std::slice::from_ref(&net.output), n);
        self.matmuls(Input { x: b.input.ptr(), stride: b.hidden }, n, &products);
        self.convolve_heads(layer, net);
        let rounding = self.lay_out(0, std::slice::from_ref(&net.output));
        let int8 = rounding == Rounding::Blocks && net.value_dim.is_multiple_of(BLOCK);
        self.delta_rule(layer, net, int8);
        if !int8 {
            self.norm_in_place(b.attended.ptr(), b.heads, net.output.cols, &None, 0, rounding);
        }
        let product = [Product { linear: &net.output, out: b.y.ptr(), out_stride: b.hidden }];
        expect(model, self.team, model.layers[layer].ffn.first(), n);
        self.matmuls(Input { x: b.attended.ptr(), stride: b.heads }, n, &product);
    }

    /// Where the gate, beta and alpha start in a row of projections.
    fn starts(net: &PackedDeltaNet) -> [usize; 3] {
        let [qkv, gate, beta, _] = net.inputs.each_ref().map(|linear| linear.padded_rows());
        [qkv, qkv + gate, qkv + gate + beta]
    }

    /// Queries, keys and values of unit length, and what each head keeps and takes.
    fn convolve_heads(&mut self, layer: usize, net: &PackedDeltaNet) {
        let (tier, b, stride) = (self.tier, self.buffers, self.buffers.qkv_starts[3]);
        let [_, beta, alpha] = Self::starts(net);
        let (channels, len, eps) = (net.conv.channels, net.key_dim, DeltaNet::LENGTH_EPS);
        let query_factor = (1.0 / (len as f64).sqrt()) as f32;
        let step = |r: usize, inputs: &[*const f32], _: &QuantizedRows| {
            let (row, out) = (b.qkv.ptr().wrapping_add(r * stride), b.convolved.ptr().wrapping_add(r * b.channels));
            let weights = net.conv.weights.ptr().cast_const();
            // SAFETY: the tier is available; rows and buffers are as wide; each row is touched by its call alone, but for
            // the inputs, which nothing writes.
            unsafe {
                tier.run(CausalConv { inputs, weights, channels, finish: Finish::Silu, out });
                for head in 0..2 * net.key_heads {
                    let factor = if head < net.key_heads { query_factor } else { 1.0 };
                    tier.run(Length { x: out.add(head * len), len, eps, factor });
                }
                tier.run(Rates {
                    alpha: row.add(alpha),
                    beta: row.add(beta),
                    dt_bias: net.dt_bias.ptr(),
                    decay: net.decay.ptr(),
                    heads: net.inputs[3].padded_rows(),
                });
            }
        };
        self.convolve(layer, &net.conv, Inputs { x: b.qkv.ptr(), stride }, &step);
    }

    /// The rule, the norm and the gate: an item per span and value head. Quantizes the result if `int8`.
    fn delta_rule(&mut self, layer: usize, net: &PackedDeltaNet, int8: bool) {
        let (tier, model, b, quantized) = (self.tier, self.model, self.buffers, &self.quantized[0]);
        let [gate, beta, alpha] = Self::starts(net);
        let (stride, heads) = (b.qkv_starts[3], net.value_heads);
        let (key_dim, value_dim) = (net.key_dim, net.value_dim);
        let (keys, state_len) = (net.key_heads * key_dim, key_dim * value_dim);
        let projected = |r: usize, at: usize| b.qkv.ptr().wrapping_add(r * stride + at).cast_const();
        let convolved = |r: usize, at: usize| b.convolved.ptr().wrapping_add(r * b.channels + at).cast_const();
        let part = |state: StatePtr, head: usize| state.0.wrapping_add(net.conv.state_len() + head * state_len);
        let runs: Vec<_> = (0..self.runs.len())
            .map(|run| (self.runs[run].clone(), self.begins(run), self.state(layer, run)))
            .collect();
        let copies: Vec<Vec<_>> = (0..self.runs.len()).map(|run| self.copies(layer, run).collect()).collect();
        self.team.run(runs.len() * heads, &|item| {
            let (run, head) = (item / heads, item % heads);
            let (rows, begins, state) = runs[run].clone();
            let (state, key) = (part(state, head), net.key_head[head] * key_dim);
            let out = |r: usize| b.attended.ptr().wrapping_add(r * b.heads + head * value_dim);
            let advance = |from: usize, to: usize| DeltaRule {
                state,
                key_dim,
                value_dim,
                positions: to - from,
                q: convolved(from, key),
                k: convolved(from, keys + key),
                v: convolved(from, 2 * keys + head * value_dim),
                stride: b.channels,
                alpha: projected(from, alpha + head),
                beta: projected(from, beta + head),
                rate_stride: stride,
                out: out(from),
                out_stride: b.heads,
            };
            // SAFETY: the tier is available; rows and buffers are as wide; each item has its own part of the states, of the
            // output and of the quantized rows.
            unsafe {
                if begins {
                    state.write_bytes(0, state_len);
                }
                let mut from = rows.start;
                for (end, copy) in &copies[run] {
                    tier.run(advance(from, *end));
                    std::ptr::copy_nonoverlapping(state, part(*copy, head), state_len);
                    from = *end;
                }
                tier.run(advance(from, rows.end));
                for r in rows {
                    let (x, weight) = (out(r), net.norm.ptr().cast_const());
                    let (cols, eps) = (value_dim, model.norm_eps);
                    tier.run(RmsNorm { x, add: None, weight, out: x, cols, len: cols, eps });
                    let gate = projected(r, gate + head * value_dim);
                    tier.run(Glu { activation: Activation::Silu, gate, up: x, out: x, cols });
                    if int8 {
                        let blocks = head * value_dim / BLOCK..(head + 1) * value_dim / BLOCK;
                        tier.run(quantized.quantize(r, blocks, x));
                    }
                }
            }
        });
    }
}
