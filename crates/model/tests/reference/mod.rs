//! The slow oracle: a `DecoderPlan` interpreted literally, every sum in f64, nothing stored in less than f64.

use kernels::plan::{DecoderPlan, Layer, Linear, Rope, RopeStyle, Weight};

/// One vector for each position.
type Rows = Vec<Vec<f64>>;

/// Logits `[tokens, vocab]`, row i after tokens `0..=i`.
pub fn logits(plan: &DecoderPlan, tokens: &[u32]) -> Vec<f32> {
    let mut x: Rows = tokens.iter().map(|&token| decode_row(&plan.embedding, token as usize)).collect();
    for layer in &plan.layers {
        let normed = norm_all(&x, &layer.attn_norm, plan.norm_eps);
        add(&mut x, &attention(plan, layer, &normed));
        let normed = norm_all(&x, &layer.ffn_norm, plan.norm_eps);
        let (mut inner, up) = (linear(&layer.gate, &normed), linear(&layer.up, &normed));
        for (gate, up) in inner.iter_mut().flatten().zip(up.iter().flatten()) {
            *gate = *gate / (1.0 + (-*gate).exp()) * up;
        }
        add(&mut x, &linear(&layer.down, &inner));
    }
    let normed = norm_all(&x, &plan.output_norm, plan.norm_eps);
    linear(&plan.head, &normed).into_iter().flatten().map(|v| v as f32).collect()
}

fn attention(plan: &DecoderPlan, layer: &Layer, x: &Rows) -> Rows {
    let heads_of = |layer: &Linear, norm: &Option<Vec<f32>>| {
        let mut rows = linear(layer, x);
        for (position, row) in rows.iter_mut().enumerate() {
            for head in row.chunks_mut(plan.head_dim) {
                if let Some(weights) = norm {
                    head.copy_from_slice(&rms_norm(head, weights, plan.norm_eps));
                }
                rotate(head, &plan.rope, position);
            }
        }
        rows
    };
    let queries = heads_of(&layer.q, &layer.q_norm);
    let keys = heads_of(&layer.k, &layer.k_norm);
    let values = linear(&layer.v, x);

    let mut out = Rows::new();
    for (position, row) in queries.iter().enumerate() {
        let mut result = Vec::new();
        for (head, query) in row.chunks(plan.head_dim).enumerate() {
            let kv_head = head / (plan.heads / plan.kv_heads);
            let range = kv_head * plan.head_dim..(kv_head + 1) * plan.head_dim;
            let score = |key: &Vec<f64>| dot(query, &key[range.clone()]) * f64::from(plan.attention_scale);
            let scores: Vec<f64> = keys[..=position].iter().map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let total: f64 = weights.iter().sum();
            result.extend(range.map(|i| values.iter().zip(&weights).map(|(v, w)| v[i] * w / total).sum::<f64>()));
        }
        out.push(result);
    }
    linear(&layer.o, &out)
}

fn rotate(head: &mut [f64], rope: &Rope, position: usize) {
    let pairs = rope.inv_freq.len();
    for (i, &frequency) in rope.inv_freq.iter().enumerate() {
        let (a, b) = match rope.style {
            RopeStyle::Interleaved => (2 * i, 2 * i + 1),
            RopeStyle::Half => (i, i + pairs),
        };
        // The angle is an f32 product by the plan's definition.
        let angle = f64::from(position as f32 * frequency);
        let factor = f64::from(rope.attention_factor);
        let (sin, cos) = (angle.sin() * factor, angle.cos() * factor);
        (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
    }
}

fn norm_all(x: &Rows, weights: &[f32], eps: f32) -> Rows {
    x.iter().map(|row| rms_norm(row, weights, eps)).collect()
}

fn rms_norm(x: &[f64], weights: &[f32], eps: f32) -> Vec<f64> {
    let scale = 1.0 / (dot(x, x) / x.len() as f64 + f64::from(eps)).sqrt();
    x.iter().zip(weights).map(|(v, w)| v * scale * f64::from(*w)).collect()
}

fn linear(linear: &Linear, x: &Rows) -> Rows {
    let mut out = vec![Vec::new(); x.len()];
    for row in linear.shard.clone() {
        let weights = decode_row(&linear.weight, row);
        let bias = linear.bias.as_ref().map_or(0.0, |bias| f64::from(bias[row]));
        out.iter_mut().zip(x).for_each(|(y, x)| y.push(dot(&weights, x) + bias));
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
