//! Qwen3: each head's queries and keys are RMS-normed before RoPE; heads are wider than `hidden / heads`.

use formats::gguf::Metadata;
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;

use super::{Architecture, Biases, DecoderConfig, Presence, QkNorm, from_gguf, from_hf, names};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "qwen3",
    hf: &[("qwen3", "Qwen3ForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: names::QK_NORM,
    packings: &[],
    gguf_rope: RopeStyle::Half,
    hf_biases: &[("attention_bias", |b| b.qkv)],
    write_hf: |_, _| {},
    write_gguf: |_, _| {},
};

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let config = from_gguf::common(metadata, ARCHITECTURE.name, ARCHITECTURE.gguf_rope)?;
    Ok(DecoderConfig { qk_norm: QkNorm::Heads, ..config })
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    config.require::<usize>("head_dim")?; // Not to be guessed from the hidden size.
    let mut decoder = from_hf::common(config)?;
    let attention = Presence::when(config.get("attention_bias")?.unwrap_or(false));
    decoder.biases = Biases { qkv: attention, attention_output: attention, ..Biases::NONE };
    decoder.qk_norm = QkNorm::Heads;
    Ok(decoder)
}
