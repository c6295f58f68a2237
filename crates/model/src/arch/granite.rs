//! Granite 3 and the dense Granite 4: factors of embeddings, scores, the residual stream and logits. Granite 4 calls its
//! feed-forward layer the shared expert of none.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::to_hf::shortest;
use super::{Architecture, Biases, DecoderConfig, Packing, Presence, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "granite",
    hf: &[("granite", "GraniteForCausalLM"), HYBRID],
    from_gguf: |metadata| gguf(metadata, "granite"),
    from_hf: hf,
    extra_tensors: &[],
    packings: &[
        Packing {
            hf: "model.layers.{}.shared_mlp.input_linear.weight",
            holds: &["ffn_gate", "ffn_up"],
            written: no_layer_rotates,
        },
        Packing {
            hf: "model.layers.{}.shared_mlp.output_linear.weight",
            holds: &["ffn_down"],
            written: no_layer_rotates,
        },
    ],
    gguf_rope: RopeStyle::Interleaved,
    hf_biases: &[("attention_bias", |b| b.qkv), ("mlp_bias", |b| b.mlp)],
    write_hf,
    write_gguf: |decoder, out| write_gguf("granite", decoder, out),
};

/// Granite 4, which has layers of Mamba, or of attention alone, with experts or without.
pub const HYBRID: (&str, &str) = ("granitemoehybrid", "GraniteMoeHybridForCausalLM");

/// Whether GGUF files rotate queries and keys; that they do is also meant where the key is missing.
const ROTATES: &str = "rope.scaling.finetuned";

/// What files of architecture `name` say of the layers but for their experts. Logits are divided by the file's number.
pub fn gguf(metadata: &Metadata, name: &str) -> Result<DecoderConfig, ModelError> {
    let reads = ["embedding_scale", "residual_scale", "logit_scale", from_gguf::EXPERT_COUNT];
    let reads = if name == ARCHITECTURE.name { &reads[..3] } else { &reads };
    let mut decoder = from_gguf::base(metadata, name, ARCHITECTURE.gguf_rope, reads)?;
    let keys = from_gguf::Keys { metadata, architecture: name };
    let scale = |key: &str| Ok::<f32, ModelError>(keys.get(key)?.filter(|scale| *scale != 0.0).unwrap_or(1.0));
    decoder.scales.embedding = scale("embedding_scale")?;
    decoder.scales.residual = scale("residual_scale")?;
    decoder.scales.logits = 1.0 / scale("logit_scale")?;
    decoder.rope.divisors = Presence::Optional;
    decoder.biases = Biases::all(Presence::Optional);
    let rotates = keys.get(ROTATES)?.unwrap_or(true);
    decoder.layer_types.iter_mut().for_each(|layer| layer.rope = rotates);
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    if config.model_type()? == HYBRID.0 {
        let mut decoder = hybrid(config)?;
        decoder.intermediate = config.get("shared_intermediate_size")?.unwrap_or(1024);
        return Ok(decoder);
    }
    factors(config, from_hf::common(config)?)
}

/// Adds the factors and biases that `config.json` names alike for the whole family.
pub fn factors(config: &HfConfig, mut decoder: DecoderConfig) -> Result<DecoderConfig, ModelError> {
    decoder.biases = from_hf::biases(config)?;
    decoder.attention_scale = config.get("attention_multiplier")?.unwrap_or(1.0);
    decoder.scales.embedding = config.get("embedding_multiplier")?.unwrap_or(1.0);
    decoder.scales.residual = config.get("residual_multiplier")?.unwrap_or(1.0);
    decoder.scales.logits = 1.0 / config.get("logits_scaling")?.unwrap_or(1.0);
    Ok(decoder)
}

/// Granite 4 of attention layers alone, but for its feed-forward layers.
///
/// # Errors
/// There are layers of Mamba.
pub fn hybrid(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let decoder = from_hf::base_with_experts(config, config.rope()?)?;
    let types: Option<Vec<String>> = config.get("layer_types")?;
    // Where the file says nothing, all layers are of Mamba.
    let types = types.unwrap_or_else(|| vec!["mamba".to_owned(); decoder.layers]);
    if types.len() < decoder.layers {
        let expected = format!("layer_types of {} layers", decoder.layers);
        return Err(ModelError::config(config.path(), expected, types.len()));
    }
    if let Some(other) = types.iter().find(|kind| ![ATTENTION, from_hf::FULL].contains(&kind.as_str())) {
        let supported = "attention in every layer; layers of Mamba do not run";
        return Err(ModelError::unsupported(config.path(), "layer_types", other, supported));
    }
    let mut decoder = factors(config, decoder)?;
    let rotates = config.get::<String>("position_embedding_type")?.is_some_and(|kind| kind == "rope");
    decoder.layer_types.iter_mut().for_each(|layer| layer.rope = rotates);
    Ok(decoder)
}

/// What Granite 4 calls layers of attention.
const ATTENTION: &str = "attention";

pub fn no_layer_rotates(decoder: &DecoderConfig) -> bool {
    decoder.layer_types.iter().all(|layer| !layer.rope)
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    write_factors(decoder, out);
    if no_layer_rotates(decoder) {
        write_hybrid(decoder, out);
        out.insert("shared_intermediate_size".to_owned(), json!(decoder.intermediate));
        out.insert("num_local_experts".to_owned(), json!(0));
        out.insert("num_experts_per_tok".to_owned(), json!(0));
    }
}

pub fn write_factors(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    out.insert("attention_multiplier".to_owned(), shortest(decoder.attention_scale));
    out.insert("embedding_multiplier".to_owned(), shortest(decoder.scales.embedding));
    out.insert("residual_multiplier".to_owned(), shortest(decoder.scales.residual));
    out.insert("logits_scaling".to_owned(), json!(shortest(1.0 / decoder.scales.logits)));
}

/// Granite 4 whose layers do not rotate: the settings of Mamba are there to be valid.
pub fn write_hybrid(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    for (key, value) in [
        ("model_type", json!(HYBRID.0)),
        ("architectures", json!([HYBRID.1])),
        ("layer_types", json!(vec![ATTENTION; decoder.layers])),
        ("position_embedding_type", json!("nope")),
        ("mamba_n_heads", json!(1)),
        ("mamba_d_head", json!("auto")),
    ] {
        out.insert(key.to_owned(), value);
    }
}

pub fn write_gguf(name: &str, decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    let key = |key: &str| format!("{name}.{key}");
    out.set(&key("attention.scale"), &decoder.attention_scale);
    out.set(&key("embedding_scale"), &decoder.scales.embedding);
    out.set(&key("residual_scale"), &decoder.scales.residual);
    out.set(&key("logit_scale"), &(1.0 / decoder.scales.logits));
    if no_layer_rotates(decoder) {
        out.set(&key(ROTATES), &false);
    }
}
