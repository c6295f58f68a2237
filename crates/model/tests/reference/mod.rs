//! The slow oracle: a `DecoderPlan` interpreted literally, every sum in f64, nothing stored in less than f64.

use kernels::plan::{
    Activation, Attention, DecoderPlan, FeedForward, Ffn, HeadNorm, Linear, Mixture, NormKind, Rope, RopeStyle,
    RouterScore, TakeInput, Weight,
};

/// One vector for each position.
type Rows = Vec<Vec<f64>>;

/// Logits `[tokens, vocab]`, row i after tokens `0..=i`, of a sequence for which `reserved` positions are reserved.
pub fn logits(plan: &DecoderPlan, tokens: &[u32], reserved: usize) -> Vec<f32> {
    let scales = plan.scales;
    let mut x: Rows = tokens.iter().map(|&token| decode_row(&plan.embedding, token as usize)).collect();
    scale(&mut x, scales.embedding);
    let inputs = inputs(plan, tokens, &x);
    let mut stored = Vec::new();
    for (number, layer) in plan.layers.iter().enumerate() {
        let normed = norm_all(plan, &x, layer.attn_norm.as_deref());
        let y = attention(plan, &layer.attention, &normed, &mut stored, reserved);
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
    let mut logits = linear(&plan.head, &norm_all(plan, &x, Some(&plan.output_norm)));
    scale(&mut logits, scales.logits);
    logits.into_iter().flatten().map(|v| soft_cap(v, scales.logit_softcap) as f32).collect()
}

fn scale(x: &mut Rows, factor: f32) {
    x.iter_mut().flatten().for_each(|v| *v *= f64::from(factor));
}

fn soft_cap(x: f64, cap: Option<f32>) -> f64 {
    cap.map_or(x, |cap| (x / f64::from(cap)).tanh() * f64::from(cap))
}

/// For each layer its part of the inputs of all positions.
fn inputs(plan: &DecoderPlan, tokens: &[u32], x: &Rows) -> Vec<Rows> {
    let Some(inputs) = &plan.inputs else { return Vec::new() };
    let mut projected = linear(&inputs.projection, x);
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

fn take_input(plan: &DecoderPlan, take: &TakeInput, x: &Rows, input: &Rows) -> Rows {
    let mut inner = linear(&take.gate, x);
    let parts = inner.iter_mut().flatten().zip(input.iter().flatten());
    parts.for_each(|(gate, part)| *gate = activated(take.activation, *gate) * part);
    norm_all(plan, &linear(&take.projection, &inner), Some(&take.post_norm))
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

fn mixture(plan: &DecoderPlan, mixture: &Mixture, x: &Rows) -> Rows {
    let router = &mixture.router;
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let one = |row: &Vec<f64>, ffn: &FeedForward| feed_forward(plan, ffn, &vec![row.clone()]).remove(0);
    x.iter()
        .zip(linear(&router.linear, x))
        .map(|(row, scores)| {
            let scores: Vec<f64> = match router.score {
                RouterScore::Sigmoid => scores.into_iter().map(sigmoid).collect(),
                RouterScore::Softmax => {
                    let total: f64 = scores.iter().map(|s| s.exp()).sum();
                    scores.iter().map(|s| s.exp() / total).collect()
                }
            };
            let mut chosen: Vec<usize> = (0..scores.len()).collect();
            chosen.sort_by(|a, b| scores[*b].total_cmp(&scores[*a])); // Stable: of equal ones the first.
            chosen.truncate(router.top_k);
            let total = if router.normalized { chosen.iter().map(|e| scores[*e]).sum() } else { 1.0 };
            let mut out = vec![0.0; row.len()];
            for expert in chosen {
                let weight = scores[expert] / total * f64::from(router.scale);
                out.iter_mut().zip(one(row, &mixture.experts[expert])).for_each(|(o, v)| *o += weight * v);
            }
            if let Some(shared) = &mixture.shared {
                let gate = |gate: &Linear| sigmoid(linear(gate, &vec![row.clone()])[0][0]);
                let weight = shared.gate.as_ref().map_or(1.0, gate);
                out.iter_mut().zip(one(row, &shared.ffn)).for_each(|(o, v)| *o += weight * v);
            }
            out
        })
        .collect()
}

fn feed_forward(plan: &DecoderPlan, ffn: &FeedForward, x: &Rows) -> Rows {
    let (mut inner, up) = (linear(&ffn.gate, x), linear(&ffn.up, x));
    for (gate, up) in inner.iter_mut().flatten().zip(up.iter().flatten()) {
        *gate = activated(ffn.activation, *gate) * up;
    }
    linear(&ffn.down, &norm_all(plan, &inner, ffn.sub_norm.as_deref()))
}

/// `stored` has the keys and values of the layers before, and gets this one's.
fn attention(plan: &DecoderPlan, layer: &Attention, x: &Rows, stored: &mut Vec<(Rows, Rows)>, reserved: usize) -> Rows {
    let head_dim = layer.head_dim;
    let clipped = |node: &Linear| {
        let mut rows = linear(node, x);
        let most = f64::from(layer.clip.unwrap_or(f32::INFINITY));
        rows.iter_mut().flatten().for_each(|v| *v = v.clamp(-most, most));
        rows
    };
    let heads_of = |node: &Linear, head_norm: &Option<HeadNorm>| {
        let mut rows = clipped(node);
        for (position, row) in rows.iter_mut().enumerate() {
            if let Some(HeadNorm::Whole(weights)) = head_norm {
                *row = norm(plan, row, weights);
            }
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
    let mut queries = heads_of(&layer.q, &layer.q_norm);
    if let Some(growth) = layer.query_growth {
        let factor = |position: usize| 1.0 + f64::from(growth.beta) * f64::ln((1 + position / growth.every) as f64);
        queries.iter_mut().enumerate().for_each(|(i, row)| row.iter_mut().for_each(|q| *q *= factor(i)));
    }
    let own = || {
        let k = layer.k.as_ref().unwrap();
        let mut values = clipped(layer.v.as_ref().unwrap_or(k));
        if let Some(weights) = &layer.v_norm {
            let heads = values.iter_mut().flat_map(|row| row.chunks_mut(head_dim));
            heads.for_each(|head| head.copy_from_slice(&norm_as(NormKind::Rms, plan, head, weights)));
        }
        (heads_of(k, &layer.k_norm), values)
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
    linear(&layer.o, &norm_all(plan, &out, layer.sub_norm.as_deref()))
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

fn norm_all(plan: &DecoderPlan, x: &Rows, weights: Option<&[f32]>) -> Rows {
    x.iter().map(|row| weights.map_or_else(|| row.clone(), |weights| norm(plan, row, weights))).collect()
}

fn norm(plan: &DecoderPlan, x: &[f64], weights: &[f32]) -> Vec<f64> {
    norm_as(plan.norm, plan, x, weights)
}

fn norm_as(kind: NormKind, plan: &DecoderPlan, x: &[f64], weights: &[f32]) -> Vec<f64> {
    let mean = match kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => x.iter().sum::<f64>() / x.len() as f64,
    };
    let centred: Vec<f64> = x.iter().map(|v| v - mean).collect();
    let scale = 1.0 / (dot(&centred, &centred) / x.len() as f64 + f64::from(plan.norm_eps)).sqrt();
    centred.iter().zip(weights).map(|(v, w)| v * scale * f64::from(*w)).collect()
}

fn linear(linear: &Linear, x: &Rows) -> Rows {
    let mut out = vec![Vec::new(); x.len()];
    // Rounding by the plan's definition: in f32, so that both sides round the same way wherever they can.
    let rounded = |row: &Vec<f64>| {
        let scale = 127.0 / row.iter().fold(1e-5, |m: f32, v| m.max((*v as f32).abs()));
        row.iter().map(|v| f64::from((*v as f32 * scale).round_ties_even()) / f64::from(scale)).collect()
    };
    let inputs: Rows = if linear.ternary.is_some() { x.iter().map(rounded).collect() } else { x.clone() };
    let (x, factor) = (&inputs, f64::from(linear.ternary.unwrap_or(1.0)));
    for row in linear.shard.clone() {
        let weights = decode_row(&linear.weight, row);
        let bias = linear.bias.as_ref().map_or(0.0, |bias| f64::from(bias[row]));
        out.iter_mut().zip(x).for_each(|(y, x)| y.push(dot(&weights, x) * factor + bias));
    }
    out
}

fn decode_row(weight: &Weight, row: usize) -> Vec<f64> {
    let mut values = vec![0.0; weight.cols];
    (weight.dtype.decode)(weight.row(row), &mut values);
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
