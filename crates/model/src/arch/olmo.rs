//! OLMo: norms subtract the mean and have no weights.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::{NormKind, RopeStyle};
use serde_json::{Map, Value};

use super::{Architecture, DecoderConfig, Norms, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "olmo",
    hf: &[("olmo", "OlmoForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[],
    packings: &[],
    gguf_rope: RopeStyle::Interleaved,
    hf_biases: &[],
    write_hf: |_: &DecoderConfig, _: &mut Map<String, Value>| {},
    write_gguf,
};

/// The family's own; no file of Hugging Face has it.
const EPS: f32 = 1e-5;

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let reads = [from_gguf::LAYER_NORM];
    let mut decoder = from_gguf::base(metadata, ARCHITECTURE.name, ARCHITECTURE.gguf_rope, &reads)?;
    differences(&mut decoder);
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    if let Some(clip) = config.get::<f64>("clip_qkv")? {
        return Err(ModelError::unsupported(config.path(), "clip_qkv", clip, "null"));
    }
    if config.get("attention_bias")?.unwrap_or(false) {
        return Err(ModelError::unsupported(config.path(), "attention_bias", true, false));
    }
    let mut decoder = DecoderConfig { norm_eps: EPS, ..from_hf::common(config)? };
    differences(&mut decoder);
    Ok(decoder)
}

fn differences(decoder: &mut DecoderConfig) {
    decoder.norm = NormKind::Layer;
    decoder.norms = Norms { weightless: true, ..Norms::PLAIN };
}

fn write_gguf(decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    out.set("olmo.attention.layer_norm_epsilon", &decoder.norm_eps);
}
