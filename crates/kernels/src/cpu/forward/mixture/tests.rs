//! A mixture against a naive one: position by position and expert by expert, each a dense layer of its own.

use std::sync::Arc;

use super::super::{Forward, Row};
use crate::DType;
use crate::backend::KvType;
use crate::buffer::Buffer;
use crate::cpu::pages::Pages;
use crate::cpu::weights::{HeadDims, Model};
use crate::plan::{
    Activation, Attention, Bytes, DecoderPlan, FeedForward, Ffn, Layer, Linear, Mixture, NormKind, Rope, RopeStyle,
    Router, RouterScore, Scales, SharedExpert, Weight,
};
use crate::simd::{LANES, Tier};
use crate::team::Team;

const HIDDEN: usize = 64;

/// SplitMix64, uniform in -1..1.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    fn linear(&mut self, dtype: DType, rows: usize, cols: usize) -> Linear {
        let values: Vec<f32> = (0..rows * cols).map(|_| self.uniform()).collect();
        let mut bytes = vec![0; dtype.row_bytes(rows * cols)];
        dtype.encode.expect("a type that is made")(Tier::Scalar, &values, &mut bytes);
        let data = Bytes::new(Arc::new(bytes.clone()), 0..bytes.len()).unwrap();
        Linear::new(Weight { name: format!("{rows}x{cols}"), dtype, rows, cols, data }, None)
    }

    fn expert(&mut self, dtype: DType, down: DType, width: usize) -> FeedForward {
        let matrices =
            [self.linear(dtype, width, HIDDEN), self.linear(dtype, width, HIDDEN), self.linear(down, HIDDEN, width)];
        FeedForward { activation: Activation::GeluTanh, ..FeedForward::plain(matrices) }
    }
}

/// A decoder of one layer with this feed-forward part.
fn forward(ffn: Ffn, tier: Tier, threads: usize, rows: usize) -> Forward {
    let zeros = |rows: usize, cols: usize| {
        let data = Bytes::new(Arc::new(vec![0; rows * cols * 4]), 0..rows * cols * 4).unwrap();
        Linear::new(Weight { name: "zeros".to_owned(), dtype: DType::F32, rows, cols, data }, None)
    };
    let projections = [zeros(16, HIDDEN), zeros(16, HIDDEN), zeros(16, HIDDEN), zeros(HIDDEN, 16)];
    let norm = vec![1.0; HIDDEN];
    let head = zeros(8, HIDDEN);
    let plan = DecoderPlan {
        hidden: HIDDEN,
        vocab: 8,
        context: 64,
        norm: NormKind::Rms,
        norm_eps: 1e-5,
        scales: Scales::default(),
        ropes: vec![Rope { style: RopeStyle::Half, inv_freq: vec![1.0], attention_factor: 1.0, long: None }],
        embedding: head.weight.clone(),
        inputs: None,
        layers: vec![Layer::plain(norm.clone(), Attention::plain(1, 1, 16, projections), norm.clone(), ffn)],
        output_norm: norm,
        head,
    };
    let mut team = Team::new(threads);
    let model = Model::prepare(plan, false, None, &mut team, &mut |_, _| ()).unwrap();
    Forward::new(tier, model, team, rows).unwrap()
}

/// What the feed-forward part of the layer adds to the residual streams `x`, `[row, HIDDEN]`, as bits.
fn outputs(forward: &mut Forward, x: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let rows: Vec<Row> =
        (0..x.len()).map(|position| Row { span: 0, token: 0, position, reserved: 64, logits: false }).collect();
    let pages = Pages::new([Some((HeadDims { heads: 1, kv_heads: 1, head_dim: 16 }, None))].into_iter(), KvType::F32);
    let mut pass = forward.pass(&rows, &[], &pages, (&[], &[]));
    let b = pass.buffers;
    for (r, row) in x.iter().enumerate() {
        // SAFETY: no pass is under way.
        unsafe {
            b.x.slice_mut(r * b.hidden, HIDDEN).copy_from_slice(row);
            b.y.slice_mut(r * b.hidden, b.hidden).fill(0.0);
        }
    }
    pass.feed_forward(0);
    let bits = |y: &Buffer<f32>, r: usize| {
        // SAFETY: the pass is done.
        unsafe { y.slice(r * b.hidden, HIDDEN) }.iter().map(|v| v.to_bits()).collect()
    };
    (0..x.len()).map(|r| bits(&b.y, r)).collect()
}

fn dense(ffn: &FeedForward, x: &[f32]) -> Vec<f32> {
    let bits = outputs(&mut forward(ffn.clone().into(), Tier::Scalar, 1, 1), &[x.to_vec()]).remove(0);
    bits.into_iter().map(f32::from_bits).collect()
}

/// The output of a node, taken as a part of a dense layer would be: of `x` after the layer's norm.
fn scores(linear: &Linear, x: &[f32]) -> Vec<f64> {
    let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / HIDDEN as f64;
    let normed: Vec<f64> = x.iter().map(|v| f64::from(*v) / (mean + 1e-5).sqrt()).collect();
    let mut row = vec![0.0; HIDDEN];
    let dot = |row: &[f32]| row.iter().zip(&normed).map(|(w, x)| f64::from(*w) * x).sum();
    (0..linear.weight.rows)
        .map(|r| {
            (linear.weight.dtype.decode)(&linear.weight.row(r), &mut row);
            dot(&row)
        })
        .collect()
}

/// The mixture of one row: each chosen expert by itself, in ascending order, with weights in f64.
fn naive(mixture: &Mixture, x: &[f32]) -> Vec<f32> {
    let scores = scores(&mixture.router.linear, x);
    let weigh = |s: f64| match mixture.router.score {
        RouterScore::Softmax => s.exp(),
        RouterScore::Sigmoid => 1.0 / (1.0 + (-s).exp()),
    };
    let key = |e: usize| match &mixture.router.choice_bias {
        None => scores[e],
        Some(bias) => weigh(scores[e]) + f64::from(bias[e]),
    };
    let mut chosen: Vec<usize> = (0..scores.len()).collect();
    chosen.sort_by(|a, b| key(*b).total_cmp(&key(*a)));
    chosen.truncate(mixture.router.top_k);
    chosen.sort_unstable();
    let total = match (mixture.router.normalized, mixture.router.score) {
        (true, _) => chosen.iter().map(|e| weigh(scores[*e])).sum(),
        (false, RouterScore::Softmax) => scores.iter().map(|s| weigh(*s)).sum(),
        (false, RouterScore::Sigmoid) => 1.0,
    };
    let mut sum = vec![0.0; HIDDEN];
    let mut add = |weight: f64, part: Vec<f32>| {
        sum.iter_mut().zip(part).for_each(|(s, v)| *s += weight * f64::from(v));
    };
    for e in chosen {
        add(weigh(scores[e]) / total * f64::from(mixture.router.scale), dense(&mixture.experts[e], x));
    }
    if let Some(shared) = &mixture.shared {
        let gate = shared.gate.as_ref().map_or(1.0, |gate| 1.0 / (1.0 + (-self::scores(gate, x)[0]).exp()));
        add(gate, dense(&shared.ffn, x));
    }
    sum.into_iter().map(|v| v as f32).collect()
}

fn random_mixture(random: &mut Random, dtype: DType) -> Mixture {
    let experts = 1 + random.below(20);
    let down = if dtype.is_float() { dtype } else { DType::Q8_0 };
    // A float layer need not fill whole lanes.
    let width = if dtype.is_float() { 5 + random.below(40) } else { 32 * (1 + random.below(3)) };
    let score = if random.below(2) == 0 { RouterScore::Softmax } else { RouterScore::Sigmoid };
    let gate = (random.below(2) == 0).then(|| random.linear(DType::F32, 1, HIDDEN));
    let shared = (random.below(2) == 0).then(|| SharedExpert { ffn: random.expert(dtype, down, 96), gate });
    let router = Router {
        score,
        top_k: 1 + random.below(experts.min(8)),
        normalized: random.below(2) == 0,
        scale: 1.0 + random.uniform() / 2.0,
        choice_bias: (score == RouterScore::Sigmoid).then(|| (0..experts).map(|_| random.uniform()).collect()),
        linear: random.linear(DType::F32, experts, HIDDEN),
    };
    Mixture { router, experts: (0..experts).map(|_| random.expert(dtype, down, width)).collect(), shared }
}

/// In any batch, on any number of threads and on any tier: the bits of each row alone, and what the naive mixture gives.
#[test]
fn any_batch_gives_what_each_row_gets_alone_and_what_its_experts_give() {
    let mut random = Random(11);
    for case in 0..30 {
        let dtype = [DType::F32, DType::Q4_0, DType::Q8_0][case % 3];
        let mixture = random_mixture(&mut random, dtype);
        let x: Vec<Vec<f32>> =
            (0..1 + random.below(40)).map(|_| (0..HIDDEN).map(|_| random.uniform()).collect()).collect();
        let mut one = forward(mixture.clone().into(), Tier::Scalar, 1, 1);
        let alone: Vec<Vec<u32>> = x.iter().map(|row| outputs(&mut one, std::slice::from_ref(row)).remove(0)).collect();
        for tier in Tier::all_available() {
            for threads in [1, 3] {
                let mut together = forward(mixture.clone().into(), tier, threads, x.len());
                assert_eq!(outputs(&mut together, &x), alone, "case {case}, {}, {threads} threads", tier.name());
            }
        }
        for (row, alone) in x.iter().zip(&alone).take(5) {
            let expected = naive(&mixture, row);
            let largest = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
            for (found, expected) in alone.iter().zip(expected) {
                let off = (f32::from_bits(*found) - expected).abs();
                assert!(off < 1e-5 * largest, "case {case}: off by {off} of {largest}");
            }
        }
    }
}

/// Experts with equal scores: the first are chosen, however many there are.
#[test]
fn of_equal_scores_the_first_win() {
    let mut random = Random(12);
    let mut mixture = random_mixture(&mut random, DType::F32);
    let row = random.linear(DType::F32, 1, HIDDEN).weight;
    let data = row.data.repeat(2 * LANES);
    let weight = Weight { rows: 2 * LANES, data: Bytes::new(Arc::new(data.clone()), 0..data.len()).unwrap(), ..row };
    mixture.experts = (0..2 * LANES).map(|_| random.expert(DType::F32, DType::F32, 16)).collect();
    mixture.router = Router {
        score: RouterScore::Softmax,
        top_k: 3,
        normalized: true,
        scale: 1.0,
        choice_bias: None,
        linear: Linear::new(weight, None),
    };
    mixture.shared = None;
    let x: Vec<f32> = (0..HIDDEN).map(|_| random.uniform()).collect();
    let first = Mixture {
        experts: mixture.experts[..3].to_vec(),
        router: Router {
            linear: Linear::new(mixture.router.linear.weight.slice(0..3).unwrap(), None),
            ..mixture.router.clone()
        },
        shared: None,
    };
    let [all, first] =
        [mixture, first].map(|m| outputs(&mut forward(m.into(), Tier::Scalar, 1, 1), std::slice::from_ref(&x)));
    assert_eq!(all, first);
}
