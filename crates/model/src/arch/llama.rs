//! Llama 1, 2 and 3, SmolLM2, and what others publish under that name.

use formats::gguf::Metadata;
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;

use super::{Architecture, Biases, DecoderConfig, Presence, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "llama",
    hf_model_type: "llama",
    hf_class: "LlamaForCausalLM",
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[],
    gguf_rope: RopeStyle::Interleaved,
    hf_biases: &[("attention_bias", |b| b.qkv), ("mlp_bias", |b| b.mlp)],
};

/// GGUF files have the rows of Q and K permuted so that neighbours rotate together. Llama 3's RoPE scaling comes as the
/// tensor `rope_freqs.weight`, and the file tells of biases by having them.
fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let mut config = from_gguf::common(metadata, ARCHITECTURE.name, ARCHITECTURE.gguf_rope)?;
    config.rope.divisors = Presence::Optional;
    config.biases = Biases::all(Presence::Optional);
    Ok(config)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let mut decoder = from_hf::common(config)?;
    let attention = Presence::when(config.get("attention_bias")?.unwrap_or(false));
    let mlp = Presence::when(config.get("mlp_bias")?.unwrap_or(false));
    decoder.biases = Biases { qkv: attention, attention_output: attention, mlp };
    Ok(decoder)
}
