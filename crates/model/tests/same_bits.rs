//! Logits do not depend on threads, chunks or tiers, for any type of weights, and stay close to what the plan means.

mod cpu;
mod reference;

use std::sync::Arc;

use cpu::Run;
use kernels::DType;
use kernels::backend::KvType;
use kernels::plan::{Bytes, DecoderPlan, Layer, Linear, Rope, RopeStyle, Weight};
use kernels::simd::Tier;
use model::sampler::uniform;

/// Widths that every type's blocks divide; the other sizes divide nothing.
const HIDDEN: usize = 256;
const INTERMEDIATE: usize = 256;
const VOCAB: usize = 301;
const POSITIONS: usize = 70;
/// Distinct blocks of a matrix.
const BLOCKS: usize = 64;

/// Draws for one plan, each used once.
struct Draws {
    seed: u64,
    next: u64,
}

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.next += 1;
        uniform(self.seed, 0, self.next)
    }

    fn vector(&mut self, len: usize, low: f32, high: f32) -> Vec<f32> {
        (0..len).map(|_| low + (high - low) * self.uniform() as f32).collect()
    }

    /// Random blocks of any type: bytes are drawn until they decode to numbers of a useful size.
    fn block(&mut self, dtype: DType) -> Vec<u8> {
        let mut values = vec![0.0; dtype.block];
        loop {
            let bytes: Vec<u8> = (0..dtype.bytes).map(|_| (self.uniform() * 256.0) as u8).collect();
            (dtype.decode)(&bytes, &mut values);
            let largest = values.iter().fold(0.0f32, |m, v| if v.is_nan() { f32::INFINITY } else { m.max(v.abs()) });
            if (0.02..0.2).contains(&largest) {
                return bytes;
            }
        }
    }

    fn weight(&mut self, dtype: DType, rows: usize, cols: usize) -> Weight {
        let distinct: Vec<_> = (0..BLOCKS).map(|_| self.block(dtype)).collect();
        let blocks = rows * cols / dtype.block;
        let mut pick = || &distinct[(self.uniform() * BLOCKS as f64) as usize];
        let bytes: Vec<u8> = (0..blocks).flat_map(|_| pick().iter().copied()).collect();
        let range = 0..bytes.len();
        Weight { name: format!("{rows}x{cols}"), dtype, rows, cols, data: Bytes::new(Arc::new(bytes), range).unwrap() }
    }

    fn linear(&mut self, dtype: DType, rows: usize, cols: usize, bias: bool) -> Linear {
        let weight = self.weight(dtype, rows, cols);
        Linear::new(weight, bias.then(|| self.vector(rows, -0.5, 0.5)))
    }
}

/// Two layers with biases and head norms, two query heads to a key head.
fn random_plan(dtype: DType, style: RopeStyle) -> DecoderPlan {
    let mut draws = Draws { seed: u64::from(dtype.ggml_id), next: 0 };
    let (heads, kv_heads, head_dim) = (4, 2, 64);
    let d = &mut draws;
    let layer = |d: &mut Draws| Layer {
        attn_norm: d.vector(HIDDEN, 0.5, 1.5),
        q: d.linear(dtype, heads * head_dim, HIDDEN, true),
        k: d.linear(dtype, kv_heads * head_dim, HIDDEN, true),
        v: d.linear(dtype, kv_heads * head_dim, HIDDEN, true),
        o: d.linear(dtype, HIDDEN, heads * head_dim, false),
        q_norm: Some(d.vector(head_dim, 0.5, 1.5)),
        k_norm: Some(d.vector(head_dim, 0.5, 1.5)),
        ffn_norm: d.vector(HIDDEN, 0.5, 1.5),
        gate: d.linear(dtype, INTERMEDIATE, HIDDEN, false),
        up: d.linear(dtype, INTERMEDIATE, HIDDEN, false),
        down: d.linear(dtype, HIDDEN, INTERMEDIATE, false),
    };
    DecoderPlan {
        hidden: HIDDEN,
        intermediate: INTERMEDIATE,
        heads,
        kv_heads,
        head_dim,
        vocab: VOCAB,
        context: 512,
        norm_eps: 1e-5,
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        rope: Rope {
            style,
            inv_freq: (0..head_dim / 2).map(|i| 10_000f32.powf(-(i as f32) / 32.0)).collect(),
            attention_factor: 1.0,
        },
        embedding: d.weight(dtype, VOCAB, HIDDEN),
        layers: vec![layer(d), layer(d)],
        output_norm: d.vector(HIDDEN, 0.5, 1.5),
        head: d.linear(dtype, VOCAB, HIDDEN, false),
    }
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u64).map(|i| (uniform(9, 0, i) * VOCAB as f64) as u32).collect()
}

#[test]
fn logits_are_the_same_bits_for_any_threads_chunks_and_tier() {
    for dtype in DType::all() {
        let plan = random_plan(dtype, RopeStyle::Half);
        let first = Run { tier: Tier::Scalar, threads: 1, kv: KvType::F16, chunk: POSITIONS };
        let expected = first.logits(&plan, &tokens(POSITIONS));
        for tier in Tier::all_available() {
            for (threads, chunk) in [(1, 1), (2, 7), (1, 64), (3, 64), (2, POSITIONS)] {
                let run = Run { tier, threads, chunk, ..first };
                let found = run.logits(&plan, &tokens(POSITIONS));
                let same = found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same && found.len() == expected.len(), "{dtype} {run:?}");
            }
        }
    }
}

/// Relative error in the root mean square over all logits, against the interpreter in f64: activations beside quantized
/// weights are rounded to 8 bits, beside floats they are not.
#[test]
fn logits_are_close_to_what_the_plan_means() {
    let tokens = tokens(20);
    for (dtype, style) in DType::all().zip([RopeStyle::Half, RopeStyle::Interleaved].into_iter().cycle()) {
        let plan = random_plan(dtype, style);
        let expected = reference::logits(&plan, &tokens);
        let found = Run::best(KvType::F32).logits(&plan, &tokens);
        let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let difference = squares(&mut expected.iter().zip(&found).map(|(a, b)| a - b));
        let error = (difference / squares(&mut expected.iter().copied())).sqrt();
        println!("{dtype} {style:?}: {error:.2e}");
        assert!(error < if dtype.is_float() { 1e-5 } else { 0.03 }, "{dtype} {style:?}: {error}");
    }
}
