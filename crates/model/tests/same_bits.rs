//! Logits do not depend on threads, chunks or tiers, for any type of weights, and stay close to what the plan means.

mod cpu;
mod reference;

use std::sync::Arc;

use cpu::Run;
use kernels::DType;
use kernels::backend::KvType;
use kernels::plan::{
    Activation, Attention, Bytes, DecoderPlan, FeedForward, Ffn, HeadNorm, Layer, Linear, LongRope, Mixture, NormKind,
    Rope, RopeStyle, Router, RouterScore, Scales, SharedExpert, Weight,
};
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
    let layer = |d: &mut Draws| {
        let projections = [
            d.linear(dtype, heads * head_dim, HIDDEN, true),
            d.linear(dtype, kv_heads * head_dim, HIDDEN, true),
            d.linear(dtype, kv_heads * head_dim, HIDDEN, true),
            d.linear(dtype, HIDDEN, heads * head_dim, false),
        ];
        let attention = Attention {
            q_norm: Some(HeadNorm::Each(d.vector(head_dim, 0.5, 1.5))),
            k_norm: Some(HeadNorm::Each(d.vector(head_dim, 0.5, 1.5))),
            ..Attention::plain(heads, kv_heads, head_dim, projections)
        };
        let matrices = [
            d.linear(dtype, INTERMEDIATE, HIDDEN, false),
            d.linear(dtype, INTERMEDIATE, HIDDEN, false),
            d.linear(dtype, HIDDEN, INTERMEDIATE, false),
        ];
        let norms = [d.vector(HIDDEN, 0.5, 1.5), d.vector(HIDDEN, 0.5, 1.5)];
        let [attn_norm, ffn_norm] = norms;
        Layer::plain(attn_norm, attention, ffn_norm, FeedForward::plain(matrices))
    };
    DecoderPlan {
        hidden: HIDDEN,
        vocab: VOCAB,
        context: 512,
        norm: NormKind::Rms,
        norm_eps: 1e-5,
        scales: Scales::default(),
        ropes: vec![Rope {
            style,
            inv_freq: (0..head_dim / 2).map(|i| 10_000f32.powf(-(i as f32) / 32.0)).collect(),
            attention_factor: 1.0,
            long: None,
        }],
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
        let expected = first.logits(&plan, &tokens(POSITIONS), POSITIONS);
        for tier in Tier::all_available() {
            for (threads, chunk) in [(1, 1), (2, 7), (1, 64), (3, 64), (2, POSITIONS)] {
                let run = Run { tier, threads, chunk, ..first };
                let found = run.logits(&plan, &tokens(POSITIONS), POSITIONS);
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
        let expected = reference::logits(&plan, &tokens, tokens.len());
        let found = Run::best(KvType::F32).logits(&plan, &tokens, tokens.len());
        let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let difference = squares(&mut expected.iter().zip(&found).map(|(a, b)| a - b));
        let error = (difference / squares(&mut expected.iter().copied())).sqrt();
        println!("{dtype} {style:?}: {error:.2e}");
        assert!(error < if dtype.is_float() { 1e-5 } else { 0.03 }, "{dtype} {style:?}: {error}");
    }
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Every tiny checkpoint, and so every family: token by token as all at once, alone as beside others, on every tier.
#[test]
fn every_case_gives_the_same_bits() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints");
    for folder in std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()) {
        let tokens: Vec<u32> = serde_json::from_slice(&std::fs::read(folder.join("tokens.json")).unwrap()).unwrap();
        let plan = model::build_plan(&formats::Checkpoint::open(&folder).unwrap()).unwrap();
        for kv in [KvType::F16, KvType::Q8_0] {
            let first = Run { tier: Tier::Scalar, threads: 1, kv, chunk: tokens.len() };
            let expected = first.logits(&plan, &tokens, tokens.len());
            for tier in Tier::all_available() {
                for (threads, chunk) in [(1, 1), (2, 7), (3, 40), (2, tokens.len())] {
                    let run = Run { tier, threads, chunk, ..first };
                    let found = run.logits(&plan, &tokens, tokens.len());
                    assert!(same(&found, &expected), "{} {run:?}", folder.display());
                }
            }
            let run = Run { chunk: 5, ..Run::best(kv) };
            let sequences = [&tokens[3..], &tokens[..], &tokens[..31]];
            let found = run.side_by_side(&plan, &sequences, tokens.len());
            assert!(same(&found[1], &expected), "{} beside others", folder.display());
            assert!(same(&found[2], &expected[..31 * plan.vocab]), "{} cut short", folder.display());
        }
    }
}

/// All that a layer may have and a plain one has not, in sizes that leave remainders everywhere; the second layer has heads
/// of another size and does not rotate.
fn peculiar_plan(dtype: DType, norm: NormKind) -> DecoderPlan {
    let mut plan = random_plan(dtype, RopeStyle::Half);
    let mut draws = Draws { seed: 77, next: 0 };
    let d = &mut draws;
    plan.norm = norm;
    plan.scales = Scales { embedding: 3.0, residual: 0.7, logits: 0.5, logit_softcap: Some(8.0) };
    let long = LongRope { above: 200, inv_freq: vec![0.5, 0.2, 0.01], attention_factor: 1.2 };
    let inv_freq = vec![1.0, 0.3, 0.05];
    plan.ropes.push(Rope { style: RopeStyle::Half, inv_freq, attention_factor: 0.9, long: Some(long) });
    let activations = [Activation::GeluTanh, Activation::SquaredRelu];
    for (i, (layer, activation)) in plan.layers.iter_mut().zip(activations).enumerate() {
        layer.attn_post_norm = Some(d.vector(HIDDEN, 0.5, 1.5));
        layer.ffn_post_norm = Some(d.vector(HIDDEN, 0.5, 1.5));
        let Ffn::Dense(ffn) = &mut layer.ffn else { unreachable!("a random plan is dense") };
        (ffn.activation, ffn.sub_norm) = (activation, Some(d.vector(INTERMEDIATE, 0.5, 1.5)));
        let attention = &mut layer.attention;
        (attention.softcap, attention.window) = (Some(5.0), Some(100));
        attention.rope = (i == 0).then_some(1);
        if i == 0 {
            attention.sub_norm = Some(d.vector(256, 0.5, 1.5));
            attention.q_norm = Some(HeadNorm::Whole(d.vector(256, 0.5, 1.5)));
            attention.k_norm = Some(HeadNorm::Whole(d.vector(128, 0.5, 1.5)));
        } else {
            layer.attn_norm = None;
            // Eight heads of 24, which fill no whole lanes, where the type's blocks divide their width.
            let wide = if dtype.block <= 32 { dtype } else { DType::F32 };
            let projections = [
                d.linear(dtype, 192, HIDDEN, false),
                d.linear(dtype, 48, HIDDEN, false),
                d.linear(dtype, 48, HIDDEN, true),
                d.linear(wide, HIDDEN, 192, false),
            ];
            let plain = Attention::plain(8, 2, 24, projections);
            let sub_norm = Some(d.vector(192, 0.5, 1.5));
            *attention = Attention { window: Some(300), rope: None, sub_norm, ..plain };
        }
    }
    plan
}

#[test]
fn a_peculiar_plan_gives_the_same_bits_and_means_what_it_says() {
    let tokens = tokens(330);
    for (dtype, norm) in [("F32", NormKind::Layer), ("BF16", NormKind::Rms), ("Q8_0", NormKind::Rms)] {
        let plan = peculiar_plan(DType::from_name(dtype).unwrap(), norm);
        for reserved in [330, 4096] {
            let first = Run { chunk: tokens.len(), ..Run::best(KvType::F32) };
            let expected = first.logits(&plan, &tokens, reserved);
            for tier in Tier::all_available() {
                for (threads, chunk) in [(2, 1), (3, 50)] {
                    let run = Run { tier, threads, chunk, ..first };
                    assert!(same(&run.logits(&plan, &tokens, reserved), &expected), "{dtype} {run:?}");
                }
            }
            let meant = reference::logits(&plan, &tokens, reserved);
            let worst = expected.iter().zip(&meant).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{dtype} {reserved}: {worst:.2e}");
            assert!(worst < if dtype == "Q8_0" { 0.3 } else { 1e-4 }, "{dtype} {reserved}: {worst}");
        }
        // A short sequence has other frequencies.
        let short = Run::best(KvType::F32).logits(&plan, &tokens[..90], 90);
        let meant = reference::logits(&plan, &tokens[..90], 90);
        let long = Run::best(KvType::F32).logits(&plan, &tokens[..90], 330);
        assert!(short.iter().zip(&meant).all(|(a, b)| (a - b).abs() < if dtype == "Q8_0" { 0.3 } else { 1e-4 }));
        assert!(!same(&short, &long));
    }
}

/// The random plan with mixtures in place of its feed-forward layers: experts of one type and the second matrix of another,
/// routers in F32, and in the second layer also a shared expert of another width with a gate.
fn mixture_plan(dtype: DType) -> DecoderPlan {
    let mut plan = random_plan(dtype, RopeStyle::Half);
    let mut draws = Draws { seed: 5, next: 0 };
    let d = &mut draws;
    let f32 = DType::from_name("F32").unwrap();
    let down = if dtype.is_float() { dtype } else { DType::from_name("Q8_0").unwrap() };
    for (i, layer) in plan.layers.iter_mut().enumerate() {
        let mut expert = |width: usize| {
            let gate_up = [d.linear(dtype, width, HIDDEN, i == 0), d.linear(dtype, width, HIDDEN, i == 0)];
            let [gate, up] = gate_up;
            FeedForward::plain([gate, up, d.linear(down, HIDDEN, width, false)])
        };
        let experts: Vec<_> = (0..9).map(|_| expert(96)).collect();
        let shared = (i == 1).then(|| expert(160));
        let gate = Some(d.linear(f32, 1, HIDDEN, false));
        let (score, top_k) = [(RouterScore::Softmax, 2), (RouterScore::Sigmoid, 3)][i];
        let linear = d.linear(f32, experts.len(), HIDDEN, false);
        let router = Router { score, top_k, normalized: i == 1, scale: 1.5, linear };
        layer.ffn = Mixture { router, experts, shared: shared.map(|ffn| SharedExpert { ffn, gate }) }.into();
    }
    plan
}

#[test]
fn a_mixture_gives_the_same_bits_and_means_what_it_says() {
    let tokens = tokens(100);
    for dtype in ["F32", "Q4_0", "Q4_K"] {
        let plan = mixture_plan(DType::from_name(dtype).unwrap());
        let first = Run { chunk: tokens.len(), ..Run::best(KvType::F32) };
        let expected = first.logits(&plan, &tokens, tokens.len());
        for tier in Tier::all_available() {
            for (threads, chunk) in [(1, 1), (2, 7), (3, 100)] {
                let run = Run { tier, threads, chunk, ..first };
                assert!(same(&run.logits(&plan, &tokens, tokens.len()), &expected), "{dtype} {run:?}");
            }
        }
        let run = Run { chunk: 5, ..first };
        let found = run.side_by_side(&plan, &[&tokens[3..], &tokens[..], &tokens[..31]], tokens.len());
        assert!(same(&found[1], &expected) && same(&found[2], &expected[..31 * plan.vocab]), "{dtype} beside others");

        // Rounded activations may choose another expert where two scores are close.
        let meant = reference::logits(&plan, &tokens[..40], tokens.len());
        let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let difference = squares(&mut expected.iter().zip(&meant).map(|(a, b)| a - b));
        let error = (difference / squares(&mut meant.iter().copied())).sqrt();
        println!("{dtype}: {error:.2e}");
        assert!(error < if plan.head.weight.dtype.is_float() { 1e-5 } else { 0.1 }, "{dtype}: {error}");
    }
}
