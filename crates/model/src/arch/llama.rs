//! Llama 1, 2 and 3, SmolLM2, and what others publish under that name; Mistral and Ministral, whose layers may slide.

use formats::gguf::Metadata;
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::{Architecture, Biases, DecoderConfig, Presence, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "llama",
    hf: &[("llama", "LlamaForCausalLM"), ("mistral", "MistralForCausalLM"), ("ministral", "MinistralForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[],
    packings: &[],
    gguf_rope: RopeStyle::Interleaved,
    hf_biases: &[("attention_bias", |b| b.qkv), ("mlp_bias", |b| b.mlp)],
    write_hf,
    write_gguf: |_, _| {},
};

/// GGUF files have the rows of Q and K permuted so that neighbours rotate together. Llama 3's RoPE scaling comes as the
/// tensor `rope_freqs.weight`, and the file tells of biases by having them.
fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let reads = [from_gguf::SLIDING_WINDOW];
    let mut config = from_gguf::base(metadata, ARCHITECTURE.name, ARCHITECTURE.gguf_rope, &reads)?;
    from_gguf::read_windows(metadata, ARCHITECTURE.name, &mut config, 0)?;
    config.rope.divisors = Presence::Optional;
    config.biases = Biases::all(Presence::Optional);
    Ok(config)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let mut decoder = match config.model_type()? {
        "mistral" => {
            let mut decoder = from_hf::base(config, config.rope()?)?;
            // Null is "no window"; a file that says nothing means the first model's.
            let window = config.get("sliding_window")?;
            decoder.window = if config.value().get("sliding_window").is_none() { Some(4096) } else { window };
            let sliding = decoder.window.is_some();
            decoder.layer_types.iter_mut().for_each(|layer| layer.sliding = sliding);
            decoder
        }
        "ministral" => {
            let mut decoder = from_hf::base(config, config.rope()?)?;
            let sliding = config.find("sliding_window").is_some();
            from_hf::read_layer_types(config, &mut decoder, |_| sliding)?;
            decoder
        }
        _ => from_hf::common(config)?,
    };
    decoder.biases = from_hf::biases(config)?;
    Ok(decoder)
}

/// Windows belong to Mistral where all layers have them, else to Ministral.
fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    let sliding = decoder.layer_types.iter().filter(|layer| layer.sliding).count();
    let (model_type, class) = match sliding {
        0 => return,
        n if n == decoder.layers => ARCHITECTURE.hf[1],
        _ => ARCHITECTURE.hf[2],
    };
    out.insert("model_type".to_owned(), json!(model_type));
    out.insert("architectures".to_owned(), json!([class]));
    out.insert("sliding_window".to_owned(), json!(decoder.window));
    if sliding != decoder.layers {
        out.insert("layer_types".to_owned(), json!(from_hf::layer_types(&decoder.layer_types)));
    }
}
