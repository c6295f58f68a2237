//! Logits do not depend on threads, chunks or tiers, for any type of weights, and are what the plan means.

mod cpu;
mod reference;

use std::ops::Range;
use std::sync::Arc;

use cpu::Run;
use kernels::DType;
use kernels::backend::{KvType, Logits, Span, States, run};
use kernels::plan::{
    Activation, Attention, Bytes, Conv, DecoderPlan, DeltaNet, FeedForward, Ffn, HeadNorm, HeadOrder, Layer, Linear,
    LongRope, Mixer, Mixture, NormKind, QueryGrowth, Rope, RopeStyle, Router, RouterScore, Scales, SharedExpert,
    ShortConv, TakeInput, TokenInputs, Weight,
};
use kernels::quant::GroupAffine;
use kernels::simd::Tier;
use model::sampler::uniform;
use reference::Meaning;

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
    let mut draws = Draws { seed: u64::from(dtype.ggml_id.unwrap_or(1000)), next: 0 };
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
        inputs: None,
        layers: vec![layer(d), layer(d)],
        output_norm: d.vector(HIDDEN, 0.5, 1.5),
        head: d.linear(dtype, VOCAB, HIDDEN, false),
    }
}

/// Every type; of the affine ones, one size of groups with each type of scales.
fn types() -> impl Iterator<Item = DType> {
    let usual = [(32, DType::F16), (64, DType::BF16), (128, DType::F32)];
    DType::all()
        .filter(move |t| GroupAffine::of(*t).is_none_or(|affine| usual.contains(&(affine.group, affine.scales))))
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u64).map(|i| (uniform(9, 0, i) * VOCAB as f64) as u32).collect()
}

#[test]
fn logits_are_the_same_bits_for_any_threads_chunks_and_tier() {
    for dtype in types() {
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

/// Relative error in the root mean square over all logits.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let difference = squares(&mut expected.iter().zip(found).map(|(a, b)| a - b));
    (difference / squares(&mut expected.iter().copied())).sqrt()
}

/// Beside quantized weights, the interpreter rounds as the plan's program does. A value between two steps may fall to either
/// side, by the last bit of a sum, and shows in all logits that depend on it (up to 1e-2). So there are several sequences, of
/// few values, and one of them without such a value must be as close as floats are.
#[test]
fn logits_are_close_to_what_the_plan_means() {
    let tokens = tokens(20);
    for dtype in types() {
        for style in [RopeStyle::Half, RopeStyle::Interleaved] {
            let plan = random_plan(dtype, style);
            let error = |tokens: &[u32]| {
                let found = Run::best(KvType::F32).logits(&plan, tokens, tokens.len());
                let expected = reference::logits(Meaning { plan: &plan, rounds: true }, tokens, tokens.len());
                relative_error(&found, &expected)
            };
            let errors: Vec<f64> = tokens.chunks(4).map(error).collect();
            let least = errors.iter().copied().fold(f64::INFINITY, f64::min);
            println!("{dtype} {style:?}: {errors:?}");
            assert!(least < 2e-6 && errors.iter().all(|error| *error < 0.1), "{dtype} {style:?}: {errors:?}");
        }
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
/// of another size, does not rotate, and takes its keys for values; the third reads what the second stores.
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
        let attention = layer.mixer.attention_mut().unwrap();
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
            let v_norm = Some(d.vector(24, 0.5, 1.5));
            let growth = Some(QueryGrowth { beta: 0.3, every: 50 });
            let own = Attention { v: None, v_norm, query_growth: growth, clip: Some(0.8), ..plain };
            *attention = Attention { window: Some(300), rope: None, sub_norm, ..own };
        }
    }
    let mut third = plan.layers[1].clone();
    let attention = third.mixer.attention_mut().unwrap();
    *attention = Attention { reads: Some(1), k: None, v_norm: None, window: None, ..attention.clone() };
    attention.q = d.linear(dtype, 192, HIDDEN, true);
    plan.layers.push(third);
    let width = 32;
    plan.inputs = Some(TokenInputs {
        width,
        embedding: d.weight(DType::F32, VOCAB, 3 * width),
        embedding_scale: 2.0,
        projection: d.linear(dtype, 3 * width, HIDDEN, false),
        projection_scale: 0.3,
        norm: d.vector(width, 0.5, 1.5),
        scale: 0.7,
    });
    // Not all layers take theirs.
    for layer in [1, 2] {
        let narrow = if dtype.block <= width { dtype } else { DType::F32 };
        plan.layers[layer].scale = 0.6;
        plan.layers[layer].input = Some(TakeInput {
            activation: Activation::GeluTanh,
            gate: d.linear(dtype, width, HIDDEN, false),
            projection: d.linear(narrow, HIDDEN, width, false),
            post_norm: d.vector(HIDDEN, 0.5, 1.5),
        });
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

/// A short convolution, a delta net whose value heads share key heads, and attention with gates.
fn plan_with_states(dtype: DType, order: HeadOrder) -> DecoderPlan {
    let mut plan = random_plan(dtype, RopeStyle::Half);
    let mut draws = Draws { seed: 78, next: 0 };
    let d = &mut draws;
    let mut square = || d.linear(dtype, HIDDEN, HIDDEN, false);
    let (in_gate, out_gate, value, output) = (square(), square(), square(), square());
    let conv =
        |d: &mut Draws, taps: usize, channels: usize| Conv { taps, weights: d.vector(taps * channels, -0.6, 0.6) };
    let short = ShortConv { in_gate, out_gate, value, conv: conv(d, 3, HIDDEN), output };
    // Heads of 64 columns: four times sixteen, which are computed together.
    let (key_heads, value_heads, key_dim, value_dim) = (2, 4, 32, 64);
    let channels = 2 * key_heads * key_dim + value_heads * value_dim;
    let net = DeltaNet {
        key_heads,
        value_heads,
        key_dim,
        value_dim,
        order,
        qkv: d.linear(dtype, channels, HIDDEN, false),
        conv: conv(d, 4, channels),
        gate: d.linear(dtype, value_heads * value_dim, HIDDEN, false),
        beta: d.linear(dtype, value_heads, HIDDEN, false),
        alpha: d.linear(DType::F32, value_heads, HIDDEN, false),
        dt_bias: d.vector(value_heads, -1.0, 1.0),
        decay: d.vector(value_heads, -0.5, -0.01),
        norm: d.vector(value_dim, 0.5, 1.5),
        output: d.linear(dtype, HIDDEN, value_heads * value_dim, false),
    };
    // Heads of 80 columns: five times sixteen, and no whole blocks.
    let wide = if dtype.block <= 32 { dtype } else { DType::F32 };
    let (heads, value_dim) = (2, 80);
    let channels = heads * (2 * 48 + value_dim);
    let odd = DeltaNet {
        key_heads: heads,
        value_heads: heads,
        key_dim: 48,
        value_dim,
        order,
        qkv: d.linear(dtype, channels, HIDDEN, false),
        conv: conv(d, 2, channels),
        gate: d.linear(dtype, heads * value_dim, HIDDEN, false),
        beta: d.linear(dtype, heads, HIDDEN, false),
        alpha: d.linear(dtype, heads, HIDDEN, false),
        dt_bias: d.vector(heads, -1.0, 1.0),
        decay: d.vector(heads, -0.5, -0.01),
        norm: d.vector(value_dim, 0.5, 1.5),
        output: d.linear(wide, HIDDEN, heads * value_dim, false),
    };
    let attention = plan.layers[1].mixer.attention_mut().unwrap();
    (attention.gated, attention.q) = (true, d.linear(dtype, 2 * 256, HIDDEN, true));
    for mixer in [Mixer::ShortConv(short), Mixer::DeltaNet(net), Mixer::DeltaNet(odd)] {
        let layer = Layer { mixer, ..plan.layers[0].clone() };
        plan.layers.insert(1, layer);
    }
    plan
}

#[test]
fn states_give_the_same_bits_and_mean_what_the_plan_says() {
    let tokens = tokens(POSITIONS);
    let orders = [HeadOrder::Grouped, HeadOrder::Tiled].into_iter().cycle();
    for (name, order) in ["F32", "Q8_0", "Q4_K"].into_iter().zip(orders) {
        let plan = plan_with_states(DType::from_name(name).unwrap(), order);
        let first = Run { tier: Tier::Scalar, threads: 1, kv: KvType::F32, chunk: POSITIONS };
        let expected = first.logits(&plan, &tokens, POSITIONS);
        for tier in Tier::all_available() {
            for (threads, chunk) in [(1, 1), (2, 2), (2, 7), (3, 64), (2, POSITIONS)] {
                let run = Run { tier, threads, chunk, ..first };
                assert!(same(&run.logits(&plan, &tokens, POSITIONS), &expected), "{name} {run:?}");
            }
        }
        let run = Run { chunk: 3, threads: 2, ..Run::best(KvType::F32) };
        let found = run.side_by_side(&plan, &[&tokens[9..], &tokens, &tokens[..31]], POSITIONS);
        assert!(same(&found[1], &expected) && same(&found[2], &expected[..31 * VOCAB]), "{name} beside others");
        let meant = reference::logits(&plan, &tokens, POSITIONS);
        let error = relative_error(&expected, &meant);
        println!("{name} {order:?}: {error:.2e}");
        assert!(error < if name == "F32" { 1e-5 } else { 0.05 }, "{name} {order:?}: {error}");
    }
}

/// A span of a sequence that is alone in its program.
fn span<'a>(tokens: &'a [u32], range: Range<usize>, states: States<'a>) -> Span<'a> {
    let (position, tokens) = (range.start, &tokens[range]);
    Span { tokens, position, reserved: POSITIONS, pages: &[1, 0], states, logits: Logits::All }
}

#[test]
fn a_copy_of_a_state_goes_on_as_the_original() {
    let (tokens, plan) = (tokens(POSITIONS), plan_with_states(DType::F32, HeadOrder::Grouped));
    let expected = Run::best(KvType::F32).logits(&plan, &tokens, POSITIONS);
    let mut program = Run { threads: 2, ..Run::best(KvType::F32) }.compile(&plan);
    program.reserve(2).unwrap();
    program.reserve_states(5).unwrap();
    let mut compute = |range: Range<usize>, own: u32, copies: &[(usize, u32)]| {
        let logits = run(&mut *program, &[span(&tokens, range.clone(), States { own, copies })]).unwrap().logits;
        assert!(same(&logits, &expected[range.start * VOCAB..range.end * VOCAB]), "{range:?} in state {own}");
    };
    compute(0..50, 3, &[(1, 0), (20, 1), (50, 2)]);
    compute(20..40, 1, &[(22, 4)]);
    compute(22..23, 4, &[]);
    compute(23..24, 4, &[]);
    compute(50..POSITIONS, 2, &[]);
    compute(50..POSITIONS, 3, &[]);
    compute(1..POSITIONS, 0, &[]);
    program.copy_state(4, 2);
    for (own, copies, position, what) in [
        (5, &[][..], 24, "expected state ids below 5, found 5"),
        (2, &[(25, 6)], 24, "expected state ids below 5, found 6"),
        (2, &[], 25, "expected a state of 25 positions, found one of 24"),
        (2, &[(24, 0)], 24, "expected copies of states behind positions 25 to 30, found [24]"),
        (2, &[(26, 0), (31, 1)], 24, "expected copies of states behind positions 25 to 30, found [26, 31]"),
        (2, &[(26, 2)], 24, "expected 2 states, found 1 ids"),
    ] {
        let error = run(&mut *program, &[span(&tokens, position..30, States { own, copies })]).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let rest = run(&mut *program, &[span(&tokens, 24..POSITIONS, States { own: 2, copies: &[] })]).unwrap().logits;
    assert!(same(&rest, &expected[24 * VOCAB..]), "what was refused has changed nothing");
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
        let choice_bias = (i == 1).then(|| d.vector(experts.len(), -0.2, 0.2));
        let router = Router { score, top_k, normalized: i == 1, scale: 1.5, choice_bias, linear };
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
        let error = relative_error(&expected, &meant);
        println!("{dtype}: {error:.2e}");
        assert!(error < if plan.head.weight.dtype.is_float() { 1e-5 } else { 0.1 }, "{dtype}: {error}");
    }
}
