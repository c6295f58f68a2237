//! Qwen2 and Qwen2.5: queries, keys and values have biases.

use formats::gguf::Metadata;
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;

use super::{Architecture, Biases, DecoderConfig, Presence, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "qwen2",
    hf: &[("qwen2", "Qwen2ForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[],
    packings: &[],
    gguf_rope: RopeStyle::Half,
    hf_biases: &[],
    write_hf: |_, _| {},
    write_gguf: |_, _| {},
};

const BIASES: Biases = Biases { qkv: Presence::Required, ..Biases::NONE };

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let config = from_gguf::common(metadata, ARCHITECTURE.name, ARCHITECTURE.gguf_rope)?;
    Ok(DecoderConfig { biases: BIASES, ..config })
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    Ok(DecoderConfig { biases: BIASES, ..from_hf::common(config)? })
}
