//! Qwen3 with mixtures of experts: 30B-A3B, 235B-A22B and their like.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::{Architecture, Biases, DecoderConfig, Packing, Presence, QkNorm, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "qwen3moe",
    models: "Qwen3 with experts",
    limits: "",
    hf: &[("qwen3_moe", "Qwen3MoeForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[
        ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"),
        ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"),
        ("blk.{}.ffn_gate_inp", "model.layers.{}.mlp.gate"),
    ],
    packings: PACKINGS,
    gguf_rope: RopeStyle::Half,
    hf_biases: &[("attention_bias", |b| b.qkv)],
    write_hf,
    write_gguf,
};

/// Each expert's matrices, or those of all in two tensors, as transformers 5 keeps them in memory.
pub const PACKINGS: &[Packing] = &[
    Packing { hf: "model.layers.{}.mlp.experts.{e}.gate_proj.weight", holds: &["ffn_gate_exps"], written: |_| true },
    Packing { hf: "model.layers.{}.mlp.experts.{e}.up_proj.weight", holds: &["ffn_up_exps"], written: |_| true },
    Packing { hf: "model.layers.{}.mlp.experts.{e}.down_proj.weight", holds: &["ffn_down_exps"], written: |_| true },
    Packing {
        hf: "model.layers.{}.mlp.experts.gate_up_proj",
        holds: &["ffn_gate_exps", "ffn_up_exps"],
        written: |_| false,
    },
    Packing { hf: "model.layers.{}.mlp.experts.down_proj", holds: &["ffn_down_exps"], written: |_| false },
];

/// Files say how wide experts are; else they share the feed-forward layer's width. Weights are normalized.
fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let name = ARCHITECTURE.name;
    let mut decoder = from_gguf::base(metadata, name, ARCHITECTURE.gguf_rope, &[from_gguf::EXPERT_COUNT])?;
    decoder.experts = Some(from_gguf::shared_width_experts(metadata, name, &decoder, true)?);
    decoder.qk_norm = QkNorm::Heads;
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let mut decoder = from_hf::common_with_experts(config)?;
    let attention = Presence::when(config.get("attention_bias")?.unwrap_or(false));
    decoder.biases = Biases { qkv: attention, attention_output: attention, ..Biases::NONE };
    decoder.qk_norm = QkNorm::Heads;
    decoder.experts = Some(from_hf::qwen_experts(config, &decoder)?);
    Ok(decoder)
}

pub fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    let Some(experts) = &decoder.experts else { return };
    let dense: Vec<usize> = (0..decoder.layers).filter(|layer| !experts.layers[*layer]).collect();
    for (key, value) in [
        ("num_experts", json!(experts.count)),
        ("num_experts_per_tok", json!(experts.used)),
        ("moe_intermediate_size", json!(experts.intermediate)),
        ("norm_topk_prob", json!(experts.normalized)),
        ("decoder_sparse_step", json!(1)),
        ("mlp_only_layers", json!(dense)),
    ] {
        out.insert(key.to_owned(), value);
    }
}

fn write_gguf(decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    if let Some(experts) = &decoder.experts {
        out.set("qwen3moe.expert_feed_forward_length", &(experts.intermediate as u32));
    }
}
