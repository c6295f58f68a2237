//! A whole random decoder: the same bits however it is run, and attention against a plain one.

mod support;

use std::sync::Arc;

use kernels::DType;
use kernels::backend::{self, Backend, KvType, Logits, Program, ProgramOptions, Span, States};
use kernels::cpu::CpuBackend;
use kernels::plan::{
    Attention, Bytes, DecoderPlan, FeedForward, HeadNorm, Layer, Linear, NormKind, Rope, RopeStyle, Scales, Weight,
};
use kernels::quant::GroupAffine;
use kernels::simd::Tier;
use support::{Random, random_rows};

const VOCAB: usize = 77;
const HIDDEN: usize = 256;

/// Sizes that leave remainders everywhere: 3 heads a KV head, a head that fills no whole lanes if `head_dim` is 24.
struct Shape {
    dtype: DType,
    head_dim: usize,
    layers: usize,
}

fn plan(shape: &Shape, random: &mut Random) -> DecoderPlan {
    let mut linear = |rows: usize, cols: usize, bias: bool| {
        // Heads that are no multiple of the type's block stay in F32.
        let dtype = if cols.is_multiple_of(shape.dtype.block) { shape.dtype } else { DType::F32 };
        let data = random_rows(dtype, rows, cols, random);
        let data = Bytes::new(Arc::new(data.clone()), 0..data.len()).unwrap();
        let weight = Weight { name: format!("{rows}x{cols}"), dtype, rows, cols, data };
        Linear::new(weight, bias.then(|| (0..rows).map(|_| random.normal() * 0.1).collect()))
    };
    let (heads, kv_heads, ffn, d) = (6, 2, 512, shape.head_dim);
    let layers = (0..shape.layers)
        .map(|_| {
            let projections = [
                linear(heads * d, HIDDEN, true),
                linear(kv_heads * d, HIDDEN, true),
                linear(kv_heads * d, HIDDEN, true),
                linear(HIDDEN, heads * d, false),
            ];
            let attention = Attention {
                q_norm: Some(HeadNorm::Each(vec![1.1; d])),
                k_norm: Some(HeadNorm::Each(vec![0.9; d])),
                ..Attention::plain(heads, kv_heads, d, projections)
            };
            let matrices = [linear(ffn, HIDDEN, false), linear(ffn, HIDDEN, false), linear(HIDDEN, ffn, false)];
            Layer::plain(vec![0.1; HIDDEN], attention, vec![0.1; HIDDEN], FeedForward::plain(matrices))
        })
        .collect();
    let head = linear(VOCAB, HIDDEN, false);
    DecoderPlan {
        hidden: HIDDEN,
        vocab: VOCAB,
        context: 1024,
        norm: NormKind::Rms,
        norm_eps: 1e-5,
        scales: Scales::default(),
        ropes: vec![Rope {
            style: RopeStyle::Half,
            inv_freq: (0..d / 2).map(|i| 10000f32.powf(-2.0 * i as f32 / d as f32)).collect(),
            attention_factor: 1.0,
            long: None,
        }],
        embedding: head.weight.clone(),
        inputs: None,
        layers,
        output_norm: vec![0.5; HIDDEN],
        head,
    }
}

fn compile(plan: &DecoderPlan, tier: Tier, threads: usize, kv: KvType) -> Box<dyn Program> {
    compile_with(plan, tier, ProgramOptions { kv, threads, bf16: false })
}

fn compile_with(plan: &DecoderPlan, tier: Tier, options: ProgramOptions) -> Box<dyn Program> {
    let mut program = CpuBackend::new(tier).unwrap().compile(plan.clone(), &options, &mut |_, _| {}).unwrap();
    program.reserve(16).unwrap();
    program
}

/// Logits of every position, `chunk` positions at a time.
fn logits(program: &mut dyn Program, tokens: &[u32], pages: &[u32], chunk: usize) -> Vec<u32> {
    let mut out = Vec::new();
    for (i, tokens) in tokens.chunks(chunk).enumerate() {
        let span =
            Span { tokens, position: i * chunk, reserved: 1024, pages, states: States::default(), logits: Logits::All };
        out.extend(backend::run(program, &[span]).unwrap().logits.iter().map(|v| v.to_bits()));
    }
    out
}

/// Every type; of the affine ones, one size of groups with each type of scales.
fn types() -> impl Iterator<Item = DType> {
    let usual = [(32, DType::F16), (64, DType::BF16), (128, DType::F32)];
    DType::all()
        .filter(move |t| GroupAffine::of(*t).is_none_or(|affine| usual.contains(&(affine.group, affine.scales))))
}

#[test]
fn any_chunking_thread_count_and_tier_gives_the_same_bits() {
    let mut random = Random(3);
    let tokens: Vec<u32> = (0..330).map(|_| random.below(VOCAB) as u32).collect();
    let all = [KvType::F16, KvType::F32, KvType::Q8_0];
    for (i, dtype) in types().enumerate() {
        let plan = plan(&Shape { dtype, head_dim: 24, layers: 2 }, &mut random);
        // Every type of weights with some type of keys and values, and some with all.
        for kv in if i < all.len() { &all[..] } else { &all[i % all.len()..][..1] }.iter().copied() {
            let mut program = compile(&plan, Tier::detect().unwrap(), 1, kv);
            let expected = logits(&mut *program, &tokens, &[0, 1, 2, 3, 4, 5], tokens.len());
            assert!(expected.iter().all(|v| f32::from_bits(*v).is_finite()));
            for (threads, chunk) in [(2, tokens.len()), (1, 1), (2, 7), (3, 64)] {
                let mut program = compile(&plan, Tier::detect().unwrap(), threads, kv);
                let found = logits(&mut *program, &tokens, &[9, 3, 5, 4, 0, 2], chunk);
                assert!(found == expected, "{dtype}, {kv:?}, {threads} threads, chunks of {chunk}");
            }
            for tier in Tier::all_available() {
                let mut program = compile(&plan, tier, 2, kv);
                let found = logits(&mut *program, &tokens[..70], &[1, 0], 64);
                assert!(found == expected[..70 * VOCAB], "{dtype}, {kv:?}, {}", tier.name());
            }
        }
    }
}

/// What nodes were given: each one's number, count of rows, the bits of its sums, and those of its sums of products.
fn recorded(program: &mut dyn Program) -> Vec<(usize, u64, Vec<u64>, Vec<u32>)> {
    let mut found = Vec::new();
    program.take_inputs(&mut |node, inputs| {
        let squares = inputs.squares.iter().map(|sum| sum.to_bits()).collect();
        found.push((node, inputs.rows, squares, inputs.products.iter().map(|sum| sum.to_bits()).collect()));
    });
    found
}

#[test]
fn recorded_inputs_have_the_same_bits_for_any_chunking_thread_count_and_tier() {
    let mut random = Random(5);
    let tokens: Vec<u32> = (0..90).map(|_| random.below(VOCAB) as u32).collect();
    for name in ["F32", "Q4_0"] {
        let plan = plan(&Shape { dtype: DType::from_name(name).unwrap(), head_dim: 24, layers: 2 }, &mut random);
        let mut expected = Vec::new();
        // Of groups of 32 columns, of which the last may be shorter; none of the second node.
        let spans: Vec<usize> = (0..plan.linears().count()).map(|node| if node == 1 { 0 } else { 32 }).collect();
        for (tier, threads, chunk) in Tier::all_available().flat_map(|t| [(t, 1, 90), (t, 2, 7)]) {
            let mut program = compile(&plan, tier, threads, KvType::F16);
            let silent = logits(&mut *program, &tokens, &[0, 1], chunk);
            assert!(recorded(&mut *program).is_empty());
            program.record_inputs(&spans).unwrap();
            assert_eq!(logits(&mut *program, &tokens, &[0, 1], chunk), silent);
            let found = recorded(&mut *program);
            assert!(recorded(&mut *program).is_empty());
            if expected.is_empty() {
                // All nodes but the head; those that share an input have the same.
                assert_eq!(found.len(), plan.linears().count() - 1);
                for ((number, rows, sums, products), linear) in found.iter().zip(plan.linears()) {
                    assert_eq!((*rows, sums.len()), (90, linear.weight.cols), "{number}");
                    assert!(sums.iter().all(|sum| f64::from_bits(*sum) > 0.0));
                    // A column's product with itself is its square.
                    for (column, products) in products.chunks(32).enumerate() {
                        let (sum, square) = (f32::from_bits(products[column % 32]), f64::from_bits(sums[column]));
                        assert!((f64::from(sum) / square - 1.0).abs() < 1e-5, "{number} column {column}");
                    }
                }
                assert!(found.iter().any(|(.., products)| !products.is_empty()));
                assert!(found[0].2 == found[1].2 && found[0].2 != found[3].2);
                expected = found;
            } else {
                assert!(found == expected, "{name}, {}, {threads} threads, chunks of {chunk}", tier.name());
            }
        }
    }
}

#[test]
fn bf16_arithmetic_gives_the_same_bits_everywhere_and_nearly_those_of_f32() {
    let mut random = Random(4);
    let tokens: Vec<u32> = (0..70).map(|_| random.below(VOCAB) as u32).collect();
    let dtype = DType::from_name("BF16").unwrap();
    let plan = plan(&Shape { dtype, head_dim: 24, layers: 2 }, &mut random);
    let options = |threads, bf16| ProgramOptions { kv: KvType::F32, threads, bf16 };
    let exact = logits(&mut *compile(&plan, Tier::Scalar, 1, KvType::F32), &tokens, &[0, 1], tokens.len());
    let expected = logits(&mut *compile_with(&plan, Tier::Scalar, options(1, true)), &tokens, &[0, 1], tokens.len());
    assert_ne!(expected, exact, "inputs are rounded");
    let largest = exact.iter().map(|v| f32::from_bits(*v).abs()).fold(0.0, f32::max);
    for (found, exact) in expected.iter().zip(&exact) {
        let error = (f32::from_bits(*found) - f32::from_bits(*exact)).abs();
        assert!(error < 0.02 * largest, "off by {error} of {largest}");
    }
    for tier in Tier::all_available().filter(|tier| tier.has_bf16()) {
        for (threads, chunk) in [(1, 1), (2, 7), (3, tokens.len())] {
            let mut program = compile_with(&plan, tier, options(threads, true));
            let found = logits(&mut *program, &tokens, &[3, 1], chunk);
            assert!(found == expected, "{}, {threads} threads, chunks of {chunk}", tier.name());
        }
    }
}

#[test]
fn bf16_arithmetic_needs_bf16_weights() {
    let plan = plan(&Shape { dtype: DType::from_name("F16").unwrap(), head_dim: 24, layers: 1 }, &mut Random(5));
    let options = ProgramOptions { kv: KvType::F32, threads: 1, bf16: true };
    let error = CpuBackend::new(Tier::Scalar).unwrap().compile(plan, &options, &mut |_, _| {}).err().unwrap();
    assert_eq!(error.to_string(), "model: BF16 arithmetic: expected weights of type BF16, found F16");
}

#[test]
fn a_batch_gives_each_sequence_what_it_gets_alone() {
    let mut random = Random(5);
    let plan = plan(&Shape { dtype: DType::from_name("Q4_0").unwrap(), head_dim: 32, layers: 2 }, &mut random);
    let sequences: Vec<Vec<u32>> =
        [3, 90, 1, 130].iter().map(|n| (0..*n).map(|_| random.below(VOCAB) as u32).collect()).collect();
    let tables: [&[u32]; 4] = [&[0], &[1, 2], &[3], &[6, 5, 4]];
    let alone: Vec<Vec<u32>> = sequences
        .iter()
        .zip(tables)
        .map(|(s, pages)| {
            let mut program = compile(&plan, Tier::detect().unwrap(), 2, KvType::F16);
            logits(&mut *program, s, pages, s.len())
        })
        .collect();
    let mut program = compile(&plan, Tier::detect().unwrap(), 2, KvType::F16);
    let spans: Vec<Span> = sequences
        .iter()
        .zip(tables)
        .map(|(tokens, pages)| Span {
            tokens,
            position: 0,
            reserved: 1024,
            pages,
            states: States::default(),
            logits: Logits::Last,
        })
        .collect();
    let together = backend::run(&mut *program, &spans).unwrap().logits;
    for (i, alone) in alone.iter().enumerate() {
        let row: Vec<u32> = together[i * VOCAB..(i + 1) * VOCAB].iter().map(|v| v.to_bits()).collect();
        assert!(row == alone[alone.len() - VOCAB..], "sequence {i}");
    }
    // What a page holds goes with its copy.
    program.copy_page(5, 7);
    let next = Span {
        tokens: &[1],
        position: 130,
        reserved: 1024,
        pages: &[6, 7, 4],
        states: States::default(),
        logits: Logits::Last,
    };
    let copied = backend::run(&mut *program, &[next]).unwrap().logits;
    let original = backend::run(&mut *program, &[Span { pages: &[6, 5, 4], ..next }]).unwrap().logits;
    assert_eq!(copied, original);
}

#[test]
fn wrong_batches_are_refused() {
    let mut random = Random(5);
    let plan = plan(&Shape { dtype: DType::F32, head_dim: 32, layers: 1 }, &mut random);
    let mut program = compile(&plan, Tier::Scalar, 1, KvType::F16);
    let good = Span {
        tokens: &[1],
        position: 0,
        reserved: 1024,
        pages: &[0],
        states: States::default(),
        logits: Logits::None,
    };
    assert!(backend::run(&mut *program, &[good]).is_ok());
    for (bad, what) in [
        (Span { tokens: &[], ..good }, "at least one token"),
        (Span { tokens: &[77], ..good }, "below 77, found 77"),
        (Span { position: 64, ..good }, "expected 2 pages, found 1"),
        (Span { reserved: 0, ..good }, "at least 1 reserved positions, found 0"),
        (Span { pages: &[16], ..good }, "below 16, found 16"),
    ] {
        let error = backend::run(&mut *program, &[bad]).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let mut random = Random(6);
    let mut plan = plan(&Shape { dtype: DType::F32, head_dim: 32, layers: 1 }, &mut random);
    plan.layers[0].mixer.attention_mut().unwrap().q.weight.rows -= 1;
    let options = ProgramOptions { kv: KvType::F16, threads: 1, bf16: false };
    let backend = CpuBackend::new(Tier::Scalar).unwrap();
    let error = backend.compile(plan, &options, &mut |_, _| {}).err().unwrap().to_string();
    assert!(error.contains("192x256"), "{error}");
}
