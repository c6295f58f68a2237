//! Qwen1.5-MoE and Qwen2 with mixtures of experts: biases of queries, keys and values, and a shared expert with a gate.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::qwen3moe::{self, PACKINGS};
use super::{Architecture, Biases, DecoderConfig, Presence, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "qwen2moe",
    hf: &[("qwen2_moe", "Qwen2MoeForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[
        ("blk.{}.ffn_gate_inp", "model.layers.{}.mlp.gate"),
        ("blk.{}.ffn_gate_inp_shexp", "model.layers.{}.mlp.shared_expert_gate"),
        ("blk.{}.ffn_gate_shexp", "model.layers.{}.mlp.shared_expert.gate_proj"),
        ("blk.{}.ffn_up_shexp", "model.layers.{}.mlp.shared_expert.up_proj"),
        ("blk.{}.ffn_down_shexp", "model.layers.{}.mlp.shared_expert.down_proj"),
    ],
    packings: PACKINGS,
    gguf_rope: RopeStyle::Half,
    hf_biases: &[("qkv_bias", |b| b.qkv)],
    write_hf,
    write_gguf,
};

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let name = ARCHITECTURE.name;
    let mut decoder = from_gguf::base(metadata, name, ARCHITECTURE.gguf_rope, &[from_gguf::EXPERT_COUNT])?;
    let mut experts = from_gguf::shared_width_experts(metadata, name, &decoder, false)?;
    experts.shared = Some(experts.shared.unwrap_or(decoder.intermediate));
    experts.shared_gate = true;
    decoder.experts = Some(experts);
    decoder.biases = Biases { qkv: Presence::Optional, ..Biases::NONE };
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let mut decoder = from_hf::common_with_experts(config)?;
    decoder.biases.qkv = Presence::when(config.get("qkv_bias")?.unwrap_or(true));
    let mut experts = from_hf::qwen_experts(config, &decoder)?;
    experts.shared = Some(config.require("shared_expert_intermediate_size")?);
    experts.shared_gate = true;
    decoder.experts = Some(experts);
    Ok(decoder)
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    qwen3moe::write_hf(decoder, out);
    let shared = decoder.experts.as_ref().and_then(|experts| experts.shared);
    out.insert("shared_expert_intermediate_size".to_owned(), json!(shared));
}

fn write_gguf(decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    if let Some(experts) = &decoder.experts {
        out.set("qwen2moe.expert_feed_forward_length", &(experts.intermediate as u32));
    }
}
