//! The slow oracle: a `DecoderPlan` interpreted literally, every sum in f64, nothing stored in less than f64. If asked to, it
//! rounds what meets quantized weights as the CPU backend does.

use std::ops::Deref;

use kernels::plan::{
    Activation, Attention, Conv, DecoderPlan, DeltaNet, FeedForward, Ffn, HeadNorm, Linear, Mixer, Mixture, NormKind,
    Rope, RopeStyle, RouterScore, ShortConv, TakeInput, Weight,
};
use kernels::quant::panel::MatMulFn;

/// One vector for each position.
type Rows = Vec<Vec<f64>>;

/// A plan, and whether what meets quantized weights is rounded to 8 bits, with a scale for each 32 values.
pub struct Meaning<'a> {
    pub plan: &'a DecoderPlan,
    pub rounds: bool,
}

impl<'a> From<&'a DecoderPlan> for Meaning<'a> {
    fn from(plan: &'a DecoderPlan) -> Self {
        Self { plan, rounds: false }
    }
}

impl Deref for Meaning<'_> {
    type Target = DecoderPlan;

    fn deref(&self) -> &DecoderPlan {
        self.plan
    }
}

/// Logits `[tokens, vocab]`, row i after tokens `0..=i`, of a sequence for which `reserved` positions are reserved.
pub fn logits<'a>(meaning: impl Into<Meaning<'a>>, tokens: &[u32], reserved: usize) -> Vec<f32> {
    let plan = &meaning.into();
    let scales = plan.scales;
    let mut x: Rows = tokens.iter().map(|&token| decode_row(&plan.embedding, token as usize)).collect();
    scale(&mut x, scales.embedding);
    let inputs = inputs(plan, tokens, &x);
    let mut stored = Vec::new();
    for (number, layer) in plan.layers.iter().enumerate() {
        let normed = norm_all(plan, &x, layer.attn_norm.as_deref());
        let y = match &layer.mixer {
            Mixer::Attention(layer) => attention(plan, layer, &normed, &mut stored, reserved),
            Mixer::ShortConv(layer) => short_conv(plan, layer, &normed),
            Mixer::DeltaNet(layer) => delta_net(plan, layer, &normed),
        };
        let mut y = norm_all(plan, &y, layer.attn_post_norm.as_deref());
        scale(&mut y, scales.residual);
        add(&mut x, &y);
        let input = norm_all(plan, &x, layer.ffn_norm.as_deref());
        let y = match &layer.ffn {
            Ffn::Dense(ffn) => feed_forward(plan, ffn, &input),
            Ffn::Mixture(ffn) => mixture(plan, ffn, &input),
        };
        let mut y = norm_all(plan, &y, layer.ffn_post_norm.as_deref());
        scale(&mut y, scales.residual);
        add(&mut x, &y);
        if let Some(take) = &layer.input {
            let mut y = take_input(plan, take, &x, &inputs[number]);
            scale(&mut y, scales.residual);
            add(&mut x, &y);
        }
        scale(&mut x, layer.scale);
    }
    let mut logits = linear(plan, &plan.head, &norm_all(plan, &x, Some(&plan.output_norm)));
    scale(&mut logits, scales.logits);
    logits.into_iter().flatten().map(|v| soft_cap(v, scales.logit_softcap) as f32).collect()
}

fn scale(x: &mut Rows, factor: f32) {
    x.iter_mut().flatten().for_each(|v| *v *= f64::from(factor));
}

fn soft_cap(x: f64, cap: Option<f32>) -> f64 {
    cap.map_or(x, |cap| (x / f64::from(cap)).tanh() * f64::from(cap))
}

fn mixture(plan: &Meaning, mixture: &Mixture, x: &Rows) -> Rows {
    let router = &mixture.router;
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let one = |row: &Vec<f64>, ffn: &FeedForward| feed_forward(plan, ffn, &vec![row.clone()]).remove(0);
    x.iter()
        .zip(linear(plan, &router.linear, x))
        .map(|(row, scores)| {
            let scores: Vec<f64> = match router.score {
                RouterScore::Sigmoid => scores.into_iter().map(sigmoid).collect(),
                RouterScore::Softmax => {
                    let total: f64 = scores.iter().map(|s| s.exp()).sum();
                    scores.iter().map(|s| s.exp() / total).collect()
                }
            };
            let mut chosen: Vec<usize> = (0..scores.len()).collect();
            let bias = |e: usize| router.choice_bias.as_ref().map_or(0.0, |bias| f64::from(bias[e]));
            let key = |e: usize| scores[e] + bias(e);
            chosen.sort_by(|a, b| key(*b).total_cmp(&key(*a))); // Stable: of equal ones the first.
            chosen.truncate(router.top_k);
            let total = if router.normalized { chosen.iter().map(|e| scores[*e]).sum() } else { 1.0 };
            let mut out = vec![0.0; row.len()];
            for expert in chosen {
                let weight = scores[expert] / total * f64::from(router.scale);
                out.iter_mut().zip(one(row, &mixture.experts[expert])).for_each(|(o, v)| *o += weight * v);
            }
            if let Some(shared) = &mixture.shared {
                let gate = |gate: &Linear| sigmoid(linear(plan, gate, &vec![row.clone()])[0][0]);
                let weight = shared.gate.as_ref().map_or(1.0, gate);
                out.iter_mut().zip(one(row, &shared.ffn)).for_each(|(o, v)| *o += weight * v);
            }
            out
        })
        .collect()
}

/// For each layer its part of the inputs of all positions.
fn inputs(plan: &Meaning, tokens: &[u32], x: &Rows) -> Vec<Rows> {
    let Some(inputs) = &plan.inputs else { return Vec::new() };
    let mut projected = linear(plan, &inputs.projection, x);
    scale(&mut projected, inputs.projection_scale);
    let table: Rows = tokens.iter().map(|&token| decode_row(&inputs.embedding, token as usize)).collect();
    let part = |layer: usize, position: usize| {
        let range = layer * inputs.width..(layer + 1) * inputs.width;
        let normed = norm(plan, &projected[position][range.clone()], &inputs.norm);
        let sum = |(p, e): (f64, &f64)| (p + e * f64::from(inputs.embedding_scale)) * f64::from(inputs.scale);
        normed.into_iter().zip(&table[position][range]).map(sum).collect()
    };
    (0..plan.layers.len()).map(|layer| (0..tokens.len()).map(|position| part(layer, position)).collect()).collect()
}

fn take_input(plan: &Meaning, take: &TakeInput, x: &Rows, input: &Rows) -> Rows {
    let mut inner = linear(plan, &take.gate, x);
    let parts = inner.iter_mut().flatten().zip(input.iter().flatten());
    parts.for_each(|(gate, part)| *gate = activated(take.activation, *gate) * part);
    norm_all(plan, &linear(plan, &take.projection, &inner), Some(&take.post_norm))
}

fn activated(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::SquaredRelu => x.max(0.0).powi(2),
    }
}

fn feed_forward(plan: &Meaning, ffn: &FeedForward, x: &Rows) -> Rows {
    let (mut inner, up) = (linear(plan, &ffn.gate, x), linear(plan, &ffn.up, x));
    for (gate, up) in inner.iter_mut().flatten().zip(up.iter().flatten()) {
        *gate = activated(ffn.activation, *gate) * up;
    }
    linear(plan, &ffn.down, &norm_all(plan, &inner, ffn.sub_norm.as_deref()))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

fn convolve(conv: &Conv, x: &Rows) -> Rows {
    let channels = conv.weights.len() / conv.taps;
    let value = |position: usize, channel: usize| {
        let tap = |tap: usize| {
            let at = (position + tap + 1).checked_sub(conv.taps)?;
            Some(x[at][channel] * f64::from(conv.weights[tap * channels + channel]))
        };
        (0..conv.taps).filter_map(tap).sum()
    };
    (0..x.len()).map(|position| (0..channels).map(|channel| value(position, channel)).collect()).collect()
}

fn multiply(x: &mut Rows, y: &Rows) {
    x.iter_mut().flatten().zip(y.iter().flatten()).for_each(|(x, y)| *x *= y);
}

fn short_conv(plan: &Meaning, layer: &ShortConv, x: &Rows) -> Rows {
    let mut inner = linear(plan, &layer.in_gate, x);
    multiply(&mut inner, &linear(plan, &layer.value, x));
    let mut outer = convolve(&layer.conv, &inner);
    multiply(&mut outer, &linear(plan, &layer.out_gate, x));
    linear(plan, &layer.output, &outer)
}

fn delta_net(plan: &Meaning, layer: &DeltaNet, x: &Rows) -> Rows {
    let (key_dim, value_dim) = (layer.key_dim, layer.value_dim);
    let mut qkv = convolve(&layer.conv, &linear(plan, &layer.qkv, x));
    qkv.iter_mut().flatten().for_each(|v| *v = silu(*v));
    let (gates, betas, alphas) =
        (linear(plan, &layer.gate, x), linear(plan, &layer.beta, x), linear(plan, &layer.alpha, x));
    let unit = |head: &[f64]| -> Vec<f64> {
        let length = (dot(head, head) + f64::from(DeltaNet::LENGTH_EPS)).sqrt();
        head.iter().map(|v| v / length).collect()
    };
    let mut states = vec![vec![vec![0.0; value_dim]; key_dim]; layer.value_heads];
    let mut out = Rows::new();
    for (position, row) in qkv.iter().enumerate() {
        let mut result = Vec::new();
        for (head, state) in states.iter_mut().enumerate() {
            let key = layer.key_head(head) * key_dim;
            let keys = layer.key_heads * key_dim;
            let (q, k) = (unit(&row[key..key + key_dim]), unit(&row[keys + key..keys + key + key_dim]));
            let v = &row[2 * keys + head * value_dim..][..value_dim];
            let beta = sigmoid(betas[position][head]);
            let step = (alphas[position][head] + f64::from(layer.dt_bias[head])).exp().ln_1p();
            let kept = (f64::from(layer.decay[head]) * step).exp();
            state.iter_mut().flatten().for_each(|s| *s *= kept);
            let mut y = vec![0.0; value_dim];
            for column in 0..value_dim {
                let known: f64 = (0..key_dim).map(|i| state[i][column] * k[i]).sum();
                let change = beta * (v[column] - known);
                (0..key_dim).for_each(|i| state[i][column] += k[i] * change);
                y[column] = (0..key_dim).map(|i| state[i][column] * q[i]).sum::<f64>() / (key_dim as f64).sqrt();
            }
            let gate = &gates[position][head * value_dim..][..value_dim];
            result.extend(norm(plan, &y, &layer.norm).iter().zip(gate).map(|(y, gate)| y * silu(*gate)));
        }
        out.push(result);
    }
    linear(plan, &layer.output, &out)
}

/// `stored` has the keys and values of the layers before, and gets this one's.
fn attention(plan: &Meaning, layer: &Attention, x: &Rows, stored: &mut Vec<(Rows, Rows)>, reserved: usize) -> Rows {
    let head_dim = layer.head_dim;
    let most = f64::from(layer.clip.unwrap_or(f32::INFINITY));
    let clip = |row: &mut Vec<f64>| row.iter_mut().for_each(|v| *v = v.clamp(-most, most));
    let heads_of = |mut rows: Rows, head_norm: &Option<HeadNorm>| {
        for (position, row) in rows.iter_mut().enumerate() {
            if let Some(HeadNorm::Whole(weights)) = head_norm {
                *row = norm(plan, row, weights);
            }
            clip(row);
            for head in row.chunks_mut(head_dim) {
                if let Some(HeadNorm::Each(weights)) = head_norm {
                    head.copy_from_slice(&norm_as(NormKind::Rms, plan, head, weights));
                }
                if let Some(rope) = layer.rope {
                    rotate(head, &plan.ropes[rope], position, reserved);
                }
            }
        }
        rows
    };
    let mut queries = linear(plan, &layer.q, x);
    let mut gates = Rows::new();
    if layer.gated {
        let every_other = |rows: &Rows, first: usize| -> Rows {
            let of_row = |row: &Vec<f64>| row.chunks(head_dim).skip(first).step_by(2).flatten().copied().collect();
            rows.iter().map(of_row).collect()
        };
        (queries, gates) = (every_other(&queries, 0), every_other(&queries, 1));
        gates.iter_mut().flatten().for_each(|gate| *gate = sigmoid(*gate));
    }
    let mut queries = heads_of(queries, &layer.q_norm);
    if let Some(growth) = layer.query_growth {
        let factor = |position: usize| 1.0 + f64::from(growth.beta) * f64::ln((1 + position / growth.every) as f64);
        queries.iter_mut().enumerate().for_each(|(i, row)| row.iter_mut().for_each(|q| *q *= factor(i)));
    }
    let own = || {
        let k = layer.k.as_ref().unwrap();
        let mut values = linear(plan, layer.v.as_ref().unwrap_or(k), x);
        values.iter_mut().for_each(clip);
        if let Some(weights) = &layer.v_norm {
            let heads = values.iter_mut().flat_map(|row| row.chunks_mut(head_dim));
            heads.for_each(|head| head.copy_from_slice(&norm_as(NormKind::Rms, plan, head, weights)));
        }
        (heads_of(linear(plan, k, x), &layer.k_norm), values)
    };
    let (keys, values) = layer.reads.map_or_else(own, |read| stored[read].clone());
    stored.push((keys.clone(), values.clone()));

    let mut out = Rows::new();
    for (position, row) in queries.iter().enumerate() {
        let first = layer.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let mut result = Vec::new();
        for (head, query) in row.chunks(head_dim).enumerate() {
            let kv_head = head / (layer.heads / layer.kv_heads);
            let range = kv_head * head_dim..(kv_head + 1) * head_dim;
            let score =
                |key: &Vec<f64>| soft_cap(dot(query, &key[range.clone()]) * f64::from(layer.scale), layer.softcap);
            let scores: Vec<f64> = keys[first..=position].iter().map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let total: f64 = weights.iter().sum();
            let values = &values[first..];
            result.extend(range.map(|i| values.iter().zip(&weights).map(|(v, w)| v[i] * w / total).sum::<f64>()));
        }
        out.push(result);
    }
    multiply(&mut out, &gates);
    linear(plan, &layer.o, &norm_all(plan, &out, layer.sub_norm.as_deref()))
}

fn rotate(head: &mut [f64], rope: &Rope, position: usize, reserved: usize) {
    let (inv_freq, factor) = match &rope.long {
        Some(long) if reserved > long.above => (&long.inv_freq, long.attention_factor),
        _ => (&rope.inv_freq, rope.attention_factor),
    };
    let pairs = inv_freq.len();
    for (i, &frequency) in inv_freq.iter().enumerate() {
        let (a, b) = match rope.style {
            RopeStyle::Interleaved => (2 * i, 2 * i + 1),
            RopeStyle::Half => (i, i + pairs),
        };
        // The angle is an f32 product by the plan's definition.
        let angle = f64::from(position as f32 * frequency);
        let (sin, cos) = (angle.sin() * f64::from(factor), angle.cos() * f64::from(factor));
        (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
    }
}

fn norm_all(plan: &Meaning, x: &Rows, weights: Option<&[f32]>) -> Rows {
    x.iter().map(|row| weights.map_or_else(|| row.clone(), |weights| norm(plan, row, weights))).collect()
}

fn norm(plan: &Meaning, x: &[f64], weights: &[f32]) -> Vec<f64> {
    norm_as(plan.norm, plan, x, weights)
}

fn norm_as(kind: NormKind, plan: &Meaning, x: &[f64], weights: &[f32]) -> Vec<f64> {
    let mean = match kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => x.iter().sum::<f64>() / x.len() as f64,
    };
    let centred: Vec<f64> = x.iter().map(|v| v - mean).collect();
    let scale = 1.0 / (dot(&centred, &centred) / x.len() as f64 + f64::from(plan.norm_eps)).sqrt();
    centred.iter().zip(weights).map(|(v, w)| v * scale * f64::from(*w)).collect()
}

fn linear(plan: &Meaning, linear: &Linear, x: &Rows) -> Rows {
    let mut out = vec![Vec::new(); x.len()];
    // Rounding by the plan's definition: in f32, so that both sides round the same way wherever they can.
    let rounded = |row: &Vec<f64>| {
        let scale = 127.0 / row.iter().fold(1e-5, |m: f32, v| m.max((*v as f32).abs()));
        row.iter().map(|v| f64::from((*v as f32 * scale).round_ties_even()) / f64::from(scale)).collect()
    };
    let takes_int8 = matches!(linear.weight.dtype.run.matmul, MatMulFn::Int8(_));
    let inputs: Rows = match linear.ternary {
        Some(_) => x.iter().map(rounded).collect(),
        None if plan.rounds && takes_int8 => {
            x.iter().map(|row| row.chunks(32).flat_map(rounded_block).collect()).collect()
        }
        None => x.clone(),
    };
    let (x, factor) = (&inputs, f64::from(linear.ternary.unwrap_or(1.0)));
    for row in linear.shard.clone() {
        let weights = decode_row(&linear.weight, row);
        let bias = linear.bias.as_ref().map_or(0.0, |bias| f64::from(bias[row]));
        out.iter_mut().zip(x).for_each(|(y, x)| y.push(dot(&weights, x) * factor + bias));
    }
    out
}

/// A block's values in steps of a 127th of its largest, in f32 as above.
fn rounded_block(block: &[f64]) -> impl Iterator<Item = f64> {
    let largest = block.iter().fold(0.0, |m: f32, v| m.max((*v as f32).abs()));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    block.iter().map(move |v| f64::from((*v as f32 * inverse).round_ties_even()) * f64::from(largest) / 127.0)
}

fn decode_row(weight: &Weight, row: usize) -> Vec<f64> {
    let mut values = vec![0.0; weight.cols];
    (weight.dtype.decode)(&weight.row(row), &mut values);
    values.into_iter().map(f64::from).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mut sum = 0.0;
    for i in 0..a.len() {
        sum += a[i] * b[i];
    }
    sum
}

fn add(x: &mut Rows, y: &Rows) {
    x.iter_mut().flatten().zip(y.iter().flatten()).for_each(|(x, y)| *x += y);
}
