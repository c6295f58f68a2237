//! The slow oracle: a `DecoderPlan` interpreted literally, every sum in f64, nothing stored in less than f64.

use kernels::plan::{
    Activation, Attention, DecoderPlan, FeedForward, Ffn, HeadNorm, Linear, Mixture, NormKind, Rope, RopeStyle,
    RouterScore, Weight,
};

/// One vector for each position.
type Rows = Vec<Vec<f64>>;

/// Logits `[tokens, vocab]`, row i after tokens `0..=i`, of a sequence for which `reserved` positions are reserved.
pub fn logits(plan: &DecoderPlan, tokens: &[u32], reserved: usize) -> Vec<f32> {
    let scales = plan.scales;
    let mut x: Rows = tokens.iter().map(|&token| decode_row(&plan.embedding, token as usize)).collect();
    scale(&mut x, scales.embedding);
    for layer in &plan.layers {
        let y = attention(plan, &layer.attention, &norm_all(plan, &x, layer.attn_norm.as_deref()), reserved);
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
        let activated = match ffn.activation {
            Activation::Silu => *gate / (1.0 + (-*gate).exp()),
            Activation::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (*gate + 0.044715 * gate.powi(3));
                0.5 * *gate * (1.0 + inner.tanh())
            }
            Activation::SquaredRelu => gate.max(0.0).powi(2),
        };
        *gate = activated * up;
    }
    linear(&ffn.down, &norm_all(plan, &inner, ffn.sub_norm.as_deref()))
}

fn attention(plan: &DecoderPlan, layer: &Attention, x: &Rows, reserved: usize) -> Rows {
    let head_dim = layer.head_dim;
    let heads_of = |node: &Linear, head_norm: &Option<HeadNorm>| {
        let mut rows = linear(node, x);
        for (position, row) in rows.iter_mut().enumerate() {
            if let Some(HeadNorm::Whole(weights)) = head_norm {
                *row = norm(plan, row, weights);
            }
            for head in row.chunks_mut(head_dim) {
                if let Some(HeadNorm::Each(weights)) = head_norm {
                    head.copy_from_slice(&norm(plan, head, weights));
                }
                if let Some(rope) = layer.rope {
                    rotate(head, &plan.ropes[rope], position, reserved);
                }
            }
        }
        rows
    };
    let queries = heads_of(&layer.q, &layer.q_norm);
    let keys = heads_of(&layer.k, &layer.k_norm);
    let values = linear(&layer.v, x);

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
    let mean = match plan.norm {
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
