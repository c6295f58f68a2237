//! Granite 3 and the dense Granite 4: factors of embeddings, scores, the residual stream and logits.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::to_hf::shortest;
use super::{Architecture, Biases, DecoderConfig, Presence, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "granite",
    models: "Granite 3, 4 (dense)",
    limits: "",
    hf: &[("granite", "GraniteForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[],
    gguf_rope: RopeStyle::Interleaved,
    hf_biases: &[("attention_bias", |b| b.qkv), ("mlp_bias", |b| b.mlp)],
    write_hf,
    write_gguf,
};

/// Logits are divided by the file's number.
fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let reads = ["embedding_scale", "residual_scale", "logit_scale"];
    let mut decoder = from_gguf::base(metadata, ARCHITECTURE.name, ARCHITECTURE.gguf_rope, &reads)?;
    let keys = from_gguf::Keys { metadata, architecture: ARCHITECTURE.name };
    let scale = |key: &str| Ok::<f32, ModelError>(keys.get(key)?.filter(|scale| *scale != 0.0).unwrap_or(1.0));
    decoder.scales.embedding = scale("embedding_scale")?;
    decoder.scales.residual = scale("residual_scale")?;
    decoder.scales.logits = 1.0 / scale("logit_scale")?;
    decoder.rope.divisors = Presence::Optional;
    decoder.biases = Biases::all(Presence::Optional);
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let mut decoder = from_hf::common(config)?;
    decoder.biases = from_hf::biases(config)?;
    decoder.attention_scale = config.get("attention_multiplier")?.unwrap_or(1.0);
    decoder.scales.embedding = config.get("embedding_multiplier")?.unwrap_or(1.0);
    decoder.scales.residual = config.get("residual_multiplier")?.unwrap_or(1.0);
    decoder.scales.logits = 1.0 / config.get("logits_scaling")?.unwrap_or(1.0);
    Ok(decoder)
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    out.insert("attention_multiplier".to_owned(), shortest(decoder.attention_scale));
    out.insert("embedding_multiplier".to_owned(), shortest(decoder.scales.embedding));
    out.insert("residual_multiplier".to_owned(), shortest(decoder.scales.residual));
    out.insert("logits_scaling".to_owned(), json!(shortest(1.0 / decoder.scales.logits)));
}

fn write_gguf(decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    out.set("granite.attention.scale", &decoder.attention_scale);
    out.set("granite.embedding_scale", &decoder.scales.embedding);
    out.set("granite.residual_scale", &decoder.scales.residual);
    out.set("granite.logit_scale", &(1.0 / decoder.scales.logits));
}
