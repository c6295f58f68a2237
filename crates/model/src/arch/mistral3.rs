//! Ministral 3, and the Mistrals that see: the plain decoder, whose YaRN leaves cosine and sine as they are, and whose
//! queries grow with their position.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::{QueryGrowth, RopeStyle};
use serde_json::{Map, Value, json};

use super::to_hf::shortest;
use super::{Architecture, Biases, DecoderConfig, Presence, RopeScaling, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "mistral3",
    models: "Ministral 3, Mistral Small 3.1, the text part",
    limits: "",
    hf: &[("ministral3", "Ministral3ForCausalLM"), ("mistral3", "Mistral3ForConditionalGeneration")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[],
    packings: &[],
    gguf_rope: RopeStyle::Interleaved,
    hf_biases: &[],
    write_hf,
    write_gguf,
};

/// By how much queries grow.
const GROWTH: &str = "attention.temperature_scale";

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let (name, reads) = (ARCHITECTURE.name, [from_gguf::SLIDING_WINDOW]);
    let mut decoder = from_gguf::base(metadata, name, ARCHITECTURE.gguf_rope, &reads)?;
    from_gguf::read_windows(metadata, name, &mut decoder, 0)?;
    decoder.rope.divisors = Presence::Optional;
    decoder.biases = Biases::all(Presence::Optional);
    let keys = from_gguf::Keys { metadata, architecture: name };
    if let Some(beta) = keys.get::<f32>(GROWTH)?.filter(|beta| *beta != 0.0) {
        let every = keys.get("rope.scaling.original_context_length")?.unwrap_or(decoder.context);
        decoder.query_growth = Some(QueryGrowth { beta, every });
    }
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let inner = config.text(&[]);
    let defaults: &[(&str, Value)] = match inner.model_type()? {
        "ministral3" => &[
            ("vocab_size", json!(131_072)),
            ("hidden_size", json!(4096)),
            ("intermediate_size", json!(14_336)),
            ("num_hidden_layers", json!(34)),
            ("num_attention_heads", json!(32)),
            ("num_key_value_heads", json!(8)),
            ("head_dim", json!(128)),
            ("max_position_embeddings", json!(262_144)),
            ("rms_norm_eps", json!(1e-5)),
            (
                "rope_parameters",
                json!({
                    "rope_type": "yarn", "rope_theta": 1_000_000.0, "factor": 16.0,
                    "original_max_position_embeddings": 16_384, "beta_fast": 32.0, "beta_slow": 1.0,
                    "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1,
                }),
            ),
        ],
        "mistral" => &[("head_dim", json!(128)), ("rms_norm_eps", json!(1e-6))],
        // A file that has been written from one of the others.
        "mistral3" => &[],
        other => {
            let supported = "ministral3 or mistral";
            return Err(ModelError::unsupported(config.path(), "text_config.model_type", other, supported));
        }
    };
    let config = &config.text(defaults);
    let rope = config.rope()?;
    let mut decoder = from_hf::base(config, rope.clone())?;
    decoder.window = config.get("sliding_window")?;
    let sliding = decoder.window.is_some();
    decoder.layer_types.iter_mut().for_each(|layer| layer.sliding = sliding);
    if let Some(beta) = config.get("rope_parameters.llama_4_scaling_beta")? {
        let every = rope.original_context.unwrap_or(decoder.context);
        decoder.query_growth = Some(QueryGrowth { beta, every });
    }
    Ok(decoder)
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    out.insert("sliding_window".to_owned(), json!(decoder.window.filter(|_| decoder.first_layer(true).is_some())));
    // Spellings that are older than the family.
    for key in ["rope_scaling", "rope_theta"] {
        out.remove(key);
    }
    let Some(rope) = out.get_mut("rope_parameters").and_then(Value::as_object_mut) else { return };
    if let Some(growth) = decoder.query_growth {
        rope.insert("llama_4_scaling_beta".to_owned(), shortest(growth.beta));
        rope.insert("original_max_position_embeddings".to_owned(), json!(growth.every));
    }
    if leaves_cosine(decoder) {
        rope.remove("attention_factor");
        rope.insert("mscale".to_owned(), json!(1.0));
        rope.insert("mscale_all_dim".to_owned(), json!(1.0));
    }
}

/// Whether what YaRN implies for cosine and sine is taken back.
fn leaves_cosine(decoder: &DecoderConfig) -> bool {
    matches!(decoder.rope.scaling, RopeScaling::Yarn { .. }) && decoder.rope.attention_factor == 1.0
}

fn write_gguf(decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    let key = |name: &str| format!("{}.{name}", ARCHITECTURE.name);
    if let Some(growth) = decoder.query_growth {
        out.set(&key(GROWTH), &growth.beta);
    }
    if leaves_cosine(decoder) {
        out.set(&key("rope.scaling.yarn_log_multiplier"), &1f32);
        out.remove(&key("rope.scaling.attn_factor"));
    }
}
