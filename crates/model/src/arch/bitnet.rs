//! BitNet b1.58: norms of the inputs of the last matrices, squared ReLU, and ternary weights where the file says so.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::{Activation, RopeStyle};
use serde_json::{Map, Value};

use super::from_hf::BITNET;
use super::{Architecture, DecoderConfig, Norms, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "bitnet-b1.58",
    models: "BitNet b1.58",
    limits: "",
    hf: &[(BITNET, "BitNetForCausalLM")],
    from_gguf: gguf,
    from_hf: |config| with_activation(config, Activation::SquaredRelu),
    extra_tensors: &[
        ("blk.{}.attn_sub_norm", "model.layers.{}.self_attn.attn_sub_norm"),
        ("blk.{}.ffn_sub_norm", "model.layers.{}.mlp.ffn_sub_norm"),
    ],
    packings: &[],
    gguf_rope: RopeStyle::Half,
    hf_biases: &[],
    write_hf: |_: &DecoderConfig, _: &mut Map<String, Value>| {},
    write_gguf: |_: &DecoderConfig, _: &mut MetadataBuilder| {},
};

/// The models before it, which have SiLU, as transformers' family may have. llama.cpp gives files of the later model this name
/// too, and runs them so.
pub static OLDER: Architecture = Architecture {
    name: "bitnet",
    models: "BitNet b1.58 of 2024",
    from_gguf: |metadata| Ok(DecoderConfig { activation: Activation::Silu, ..named(metadata, OLDER.name)? }),
    from_hf: |config| with_activation(config, Activation::Silu),
    ..ARCHITECTURE
};

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    named(metadata, ARCHITECTURE.name)
}

fn named(metadata: &Metadata, name: &str) -> Result<DecoderConfig, ModelError> {
    let mut decoder = from_gguf::common(metadata, name, ARCHITECTURE.gguf_rope)?;
    decoder.activation = Activation::SquaredRelu;
    decoder.norms = Norms { sub: true, ..Norms::PLAIN };
    Ok(decoder)
}

fn with_activation(config: &HfConfig, activation: Activation) -> Result<DecoderConfig, ModelError> {
    let decoder = hf(config)?;
    if decoder.activation != activation {
        let found = config.get::<String>("hidden_act")?.unwrap_or_default();
        return Err(ModelError::unsupported(config.path(), "hidden_act", found, "relu2 or silu"));
    }
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let config = &config.text(&[
        ("hidden_act", "relu2".into()),
        ("rms_norm_eps", 1e-5.into()),
        ("rope_theta", 500_000.0.into()),
    ]);
    if config.get("attention_bias")?.unwrap_or(false) {
        return Err(ModelError::unsupported(config.path(), "attention_bias", true, false));
    }
    let mut decoder = from_hf::base(config, config.rope()?)?;
    decoder.norms = Norms { sub: true, ..Norms::PLAIN };
    Ok(decoder)
}
