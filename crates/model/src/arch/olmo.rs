//! OLMo: norms subtract the mean and have no weights.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::{NormKind, RopeStyle};
use serde_json::{Map, Value};

use super::to_hf::shortest;
use super::{Architecture, DecoderConfig, Norms, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "olmo",
    models: "OLMo",
    limits: "",
    hf: &[("olmo", "OlmoForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[],
    packings: &[],
    gguf_rope: RopeStyle::Interleaved,
    hf_biases: &[],
    write_hf: |decoder: &DecoderConfig, out: &mut Map<String, Value>| {
        out.insert("clip_qkv".to_owned(), decoder.clip_qkv.map_or(Value::Null, shortest));
    },
    write_gguf,
};

/// What queries, keys and values are cut off at.
pub const CLIP: &str = "attention.clamp_kqv";
/// The family's own; no file of Hugging Face has it.
const EPS: f32 = 1e-5;

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let reads = [from_gguf::LAYER_NORM, CLIP];
    let mut decoder = from_gguf::base(metadata, ARCHITECTURE.name, ARCHITECTURE.gguf_rope, &reads)?;
    differences(&mut decoder);
    let keys = from_gguf::Keys { metadata, architecture: ARCHITECTURE.name };
    decoder.clip_qkv = keys.get(CLIP)?.filter(|clip| *clip != 0.0);
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    if config.get("attention_bias")?.unwrap_or(false) {
        return Err(ModelError::unsupported(config.path(), "attention_bias", true, false));
    }
    let mut decoder = DecoderConfig { norm_eps: EPS, ..from_hf::common(config)? };
    differences(&mut decoder);
    decoder.clip_qkv = config.get("clip_qkv")?;
    Ok(decoder)
}

fn differences(decoder: &mut DecoderConfig) {
    decoder.norm = NormKind::Layer;
    decoder.norms = Norms { weightless: true, ..Norms::PLAIN };
}

fn write_gguf(decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    out.set("olmo.attention.layer_norm_epsilon", &decoder.norm_eps);
    write_clip(ARCHITECTURE.name, decoder, out);
}

pub fn write_clip(architecture: &str, decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    if let Some(clip) = decoder.clip_qkv {
        out.set(&format!("{architecture}.{CLIP}"), &clip);
    }
}
