//! Qwen3.5 with mixtures of experts: as Qwen3.5, with a shared expert behind a gate beside the others, in every layer.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::names::joined;
use super::{Architecture, DecoderConfig, Packing, from_gguf, from_hf, qwen35};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "qwen35moe",
    models: "Qwen3.5 with experts (text)",
    limits: "layers that guess further tokens are passed over",
    hf: &[("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM"), ("qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &joined::<15>(
        qwen35::TENSORS,
        &[
            ("blk.{}.ffn_gate_inp", "model.layers.{}.mlp.gate"),
            ("blk.{}.ffn_gate_inp_shexp", "model.layers.{}.mlp.shared_expert_gate"),
            ("blk.{}.ffn_gate_shexp", "model.layers.{}.mlp.shared_expert.gate_proj"),
            ("blk.{}.ffn_up_shexp", "model.layers.{}.mlp.shared_expert.up_proj"),
            ("blk.{}.ffn_down_shexp", "model.layers.{}.mlp.shared_expert.down_proj"),
        ],
    ),
    packings: &[
        Packing {
            hf: "model.layers.{}.mlp.experts.gate_up_proj",
            holds: &["ffn_gate_exps", "ffn_up_exps"],
            written: |_| true,
        },
        Packing { hf: "model.layers.{}.mlp.experts.down_proj", holds: &["ffn_down_exps"], written: |_| true },
        // One by one, as older families have them.
        Packing {
            hf: "model.layers.{}.mlp.experts.{e}.gate_proj.weight",
            holds: &["ffn_gate_exps"],
            written: |_| false,
        },
        Packing { hf: "model.layers.{}.mlp.experts.{e}.up_proj.weight", holds: &["ffn_up_exps"], written: |_| false },
        Packing {
            hf: "model.layers.{}.mlp.experts.{e}.down_proj.weight",
            holds: &["ffn_down_exps"],
            written: |_| false,
        },
    ],
    gguf_rope: RopeStyle::Half,
    hf_biases: &[],
    write_hf,
    write_gguf,
};

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let name = ARCHITECTURE.name;
    let mut decoder = qwen35::gguf(metadata, name)?;
    let mut experts = from_gguf::shared_width_experts(metadata, name, &decoder, true)?;
    experts.shared = Some(experts.shared.unwrap_or(decoder.intermediate));
    experts.shared_gate = true;
    decoder.experts = Some(experts);
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let config = &config.text(&[
        ("vocab_size", json!(248_320)),
        ("hidden_size", json!(2048)),
        ("intermediate_size", json!(512)),
        ("num_hidden_layers", json!(40)),
        ("num_attention_heads", json!(16)),
        ("num_key_value_heads", json!(2)),
        ("moe_intermediate_size", json!(512)),
        ("shared_expert_intermediate_size", json!(512)),
        ("num_experts_per_tok", json!(8)),
        ("num_experts", json!(256)),
    ]);
    let mut decoder = qwen35::hf(config)?;
    let mut experts = from_hf::experts(config, &decoder, config.require("moe_intermediate_size")?)?;
    decoder.intermediate = experts.intermediate;
    experts.normalized = true;
    experts.shared = Some(config.require("shared_expert_intermediate_size")?);
    experts.shared_gate = true;
    decoder.experts = Some(experts);
    Ok(decoder)
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    qwen35::write_hf(decoder, out);
    let Some(experts) = &decoder.experts else { return };
    for (key, size) in [
        ("num_experts", Some(experts.count)),
        ("num_experts_per_tok", Some(experts.used)),
        ("moe_intermediate_size", Some(experts.intermediate)),
        ("shared_expert_intermediate_size", experts.shared),
    ] {
        out.insert(key.to_owned(), json!(size));
    }
}

fn write_gguf(decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    qwen35::write_gguf(ARCHITECTURE.name, decoder, out);
    if let Some(experts) = &decoder.experts {
        out.set("qwen35moe.expert_feed_forward_length", &(experts.intermediate as u32));
    }
}
