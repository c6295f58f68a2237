//! The small random models of `scripts/oracle/quantize_models.py`, made from the same integers.

use std::path::Path;

use formats::gguf::{GgufWriter, MetadataBuilder, NewTensor};
use kernels::DType;
use kernels::simd::Tier;

pub struct Model {
    architecture: &'static str,
    hidden: usize,
    ffn: usize,
    layers: usize,
    /// Rows of k and v.
    kv: usize,
    vocab: usize,
    experts: usize,
    /// Width of the shared expert.
    shared: usize,
    /// Whether the output matrix is a tensor of its own.
    untied: bool,
    /// The types of layers in turn: attention, feed-forward.
    kinds: &'static [(DType, DType)],
}

/// Layers of different types; all widths are multiples of 256.
pub const DENSE: Model = Model {
    architecture: "llama",
    hidden: 256,
    ffn: 512,
    layers: 5,
    kv: 128,
    vocab: 320,
    experts: 0,
    shared: 0,
    untied: true,
    kinds: &[(DType::F16, DType::F16), (DType::F32, DType::BF16)],
};

/// An eighth of the layers are two.
pub const DEEP: Model = Model { ffn: 256, layers: 16, vocab: 64, kinds: &[(DType::F16, DType::F16)], ..DENSE };

/// Widths that are multiples of 32, and of 8.
pub const NARROW: Model = Model {
    architecture: "llama",
    hidden: 96,
    ffn: 72,
    layers: 2,
    kv: 96,
    vocab: 64,
    experts: 0,
    shared: 0,
    untied: false,
    kinds: &[(DType::F32, DType::F32)],
};

/// A mixture of eight experts.
pub const EXPERTS: Model = Model {
    architecture: "llama",
    hidden: 256,
    ffn: 256,
    layers: 2,
    kv: 256,
    vocab: 64,
    experts: 8,
    shared: 0,
    untied: true,
    kinds: &[(DType::F16, DType::F16)],
};

/// A mixture with a shared expert beside three others.
pub const SHARED: Model = Model {
    architecture: "granitemoe",
    hidden: 256,
    ffn: 256,
    layers: 5,
    kv: 128,
    vocab: 64,
    experts: 3,
    shared: 512,
    untied: false,
    kinds: &[(DType::BF16, DType::BF16)],
};

impl Model {
    pub fn write(&self, path: &Path) {
        let tensors = self.tensors();
        let mut writer = GgufWriter::create(path, &self.metadata(), &tensors).unwrap();
        for (i, tensor) in tensors.iter().enumerate() {
            let cols = *tensor.shape.last().unwrap();
            let rows = tensor.shape.iter().product::<usize>() / cols;
            let values = values(i as u64 + 1, rows, cols);
            let mut bytes = vec![0; tensor.dtype.row_bytes(values.len())];
            tensor.dtype.encode.unwrap()(Tier::Scalar, &values, &mut bytes);
            writer.write(&tensor.name, &bytes).unwrap();
        }
        writer.finish().unwrap();
    }

    pub fn metadata(&self) -> MetadataBuilder {
        let mut keys = MetadataBuilder::new();
        let key = |key: &str| format!("{}.{key}", self.architecture);
        keys.set("general.architecture", self.architecture);
        for (name, value) in [
            ("block_count", self.layers),
            ("context_length", 64),
            ("embedding_length", self.hidden),
            ("feed_forward_length", self.ffn),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 4 * self.kv / self.hidden),
        ] {
            keys.set(&key(name), &(value as u32));
        }
        keys.set(&key("attention.layer_norm_rms_epsilon"), &1e-5f32);
        if self.experts > 0 {
            keys.set(&key("expert_count"), &(self.experts as u32));
            keys.set(&key("expert_used_count"), &2u32);
        }
        if self.shared > 0 {
            keys.set(&key("expert_shared_feed_forward_length"), &(self.shared as u32));
            keys.set(&key("logit_scale"), &2f32);
        }
        keys.set("tokenizer.ggml.model", "none");
        keys.set(&key("vocab_size"), &(self.vocab as u32));
        keys
    }

    pub fn tensors(&self) -> Vec<NewTensor> {
        let mut tensors = Vec::new();
        let mut add = |name: String, dtype: DType, shape: &[usize]| {
            tensors.push(NewTensor { name, dtype, shape: shape.to_owned() });
        };
        let &Self { hidden, ffn, kv, vocab, experts, shared, .. } = self;
        let kind = self.kinds[0].0;
        add("token_embd.weight".to_owned(), kind, &[vocab, hidden]);
        for layer in 0..self.layers {
            let (attention, feed_forward) = self.kinds[layer % self.kinds.len()];
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            add(name("attn_norm"), DType::F32, &[hidden]);
            add(name("attn_q"), attention, &[hidden, hidden]);
            add(name("attn_k"), attention, &[kv, hidden]);
            add(name("attn_v"), attention, &[kv, hidden]);
            add(name("attn_output"), attention, &[hidden, hidden]);
            add(name("ffn_norm"), DType::F32, &[hidden]);
            if experts > 0 {
                add(name("ffn_gate_inp"), DType::F32, &[experts, hidden]);
                add(name("ffn_gate_exps"), feed_forward, &[experts, ffn, hidden]);
                add(name("ffn_up_exps"), feed_forward, &[experts, ffn, hidden]);
                add(name("ffn_down_exps"), feed_forward, &[experts, hidden, ffn]);
            } else {
                add(name("ffn_gate"), feed_forward, &[ffn, hidden]);
                add(name("ffn_up"), feed_forward, &[ffn, hidden]);
                add(name("ffn_down"), feed_forward, &[hidden, ffn]);
            }
            if shared > 0 {
                add(name("ffn_gate_shexp"), feed_forward, &[shared, hidden]);
                add(name("ffn_up_shexp"), feed_forward, &[shared, hidden]);
                add(name("ffn_down_shexp"), feed_forward, &[hidden, shared]);
            }
        }
        add("output_norm.weight".to_owned(), DType::F32, &[hidden]);
        if self.untied {
            add("output.weight".to_owned(), kind, &[vocab, hidden]);
        }
        tensors
    }
}

/// SplitMix64.
pub fn mixed(seed: u64, count: usize) -> impl Iterator<Item = u64> {
    (1..=count as u64).map(move |i| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// `[rows, cols]` values of about 0.01, and every now and then a row of another kind. Nothing is rounded.
fn values(seed: u64, rows: usize, cols: usize) -> Vec<f32> {
    let power = |n: i32| 2f32.powi(n);
    let mut x: Vec<f32> = mixed(seed, rows * cols)
        .map(|z| {
            let sum: i32 = (0..4).map(|part| i32::from((z >> (16 * part)) as i16)).sum();
            sum as f32 * power(-22)
        })
        .collect();
    for (row, x) in x.chunks_exact_mut(cols).enumerate() {
        match (seed + row as u64) % 16 {
            0 => x.fill(0.0),
            1 => x.fill(x[0]),
            2 => x.iter_mut().for_each(|v| *v *= power(20)),
            3 => x.iter_mut().for_each(|v| *v *= power(-18)),
            4 => x[7] *= power(10),
            5 => x.iter_mut().for_each(|v| *v = v.abs()),
            6 => x.iter_mut().for_each(|v| *v = -v.abs()),
            7 => x.iter_mut().enumerate().filter(|(i, _)| i % 8 != 0).for_each(|(_, v)| *v = -0.0),
            _ => {}
        }
    }
    x
}
