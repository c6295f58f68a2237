//! OLMoE: norms of all heads' queries and keys together, and mixtures of experts whose weights are not normalized.

use formats::gguf::Metadata;
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::olmo::{self, CLIP};
use super::qwen3moe::PACKINGS;
use super::to_hf::shortest;
use super::{Architecture, DecoderConfig, QkNorm, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "olmoe",
    models: "OLMoE",
    limits: "",
    hf: &[("olmoe", "OlmoeForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[
        ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"),
        ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"),
        ("blk.{}.ffn_gate_inp", "model.layers.{}.mlp.gate"),
    ],
    packings: PACKINGS,
    gguf_rope: RopeStyle::Half,
    hf_biases: &[],
    write_hf,
    write_gguf: |decoder, out| olmo::write_clip(ARCHITECTURE.name, decoder, out),
};

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let name = ARCHITECTURE.name;
    let reads = [from_gguf::EXPERT_COUNT, CLIP];
    let mut decoder = from_gguf::base(metadata, name, ARCHITECTURE.gguf_rope, &reads)?;
    decoder.clip_qkv = from_gguf::Keys { metadata, architecture: name }.get(CLIP)?.filter(|clip| *clip != 0.0);
    decoder.experts = Some(from_gguf::experts(metadata, name, &decoder, false)?);
    decoder.qk_norm = QkNorm::Whole;
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    if config.get("attention_bias")?.unwrap_or(false) {
        return Err(ModelError::unsupported(config.path(), "attention_bias", true, false));
    }
    let mut decoder = from_hf::common_with_experts(config)?;
    decoder.norm_eps = config.get("rms_norm_eps")?.unwrap_or(1e-5);
    decoder.experts = Some(from_hf::experts(config, &decoder, decoder.intermediate)?);
    decoder.qk_norm = QkNorm::Whole;
    decoder.clip_qkv = config.get("clip_qkv")?;
    Ok(decoder)
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    out.insert("clip_qkv".to_owned(), decoder.clip_qkv.map_or(Value::Null, shortest));
    let Some(experts) = &decoder.experts else { return };
    out.insert("num_experts".to_owned(), json!(experts.count));
    out.insert("num_experts_per_tok".to_owned(), json!(experts.used));
    out.insert("norm_topk_prob".to_owned(), json!(experts.normalized));
}
