//! What `config.json` names alike for every architecture.

use formats::hf::HfConfig;
use kernels::plan::RopeStyle;

use super::config::{Biases, DecoderConfig, Presence};
use super::rope::{RopeScaling, RopeSettings};
use crate::ModelError;

/// The plain decoder as `config` describes it: no biases, no norms of queries and keys.
///
/// # Errors
/// A key is missing or of the wrong type, or asks for what the decoder does not do.
pub fn common(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    refuse_variants(config)?;
    let hidden: usize = config.require("hidden_size")?;
    let heads: usize = config.require("num_attention_heads")?;
    let head_dim = match config.get("head_dim")? {
        Some(size) => size,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    let context: usize = config.require("max_position_embeddings")?;
    Ok(DecoderConfig {
        hidden,
        layers: config.require("num_hidden_layers")?,
        heads,
        kv_heads: config.get("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        intermediate: config.require("intermediate_size")?,
        vocab: config.require("vocab_size")?,
        context,
        norm_eps: config.get("rms_norm_eps")?.unwrap_or(1e-6),
        attention_scale: DecoderConfig::plain_attention_scale(head_dim),
        rope: rope(config, head_dim, context)?,
        tied: config.get("tie_word_embeddings")?.unwrap_or(false),
        biases: Biases::NONE,
        qk_norm: false,
    })
}

/// All values of a head rotate, its halves together.
fn rope(config: &HfConfig, head_dim: usize, context: usize) -> Result<RopeSettings, ModelError> {
    let rope = config.rope()?;
    let unsupported = |key, found: &dyn ToString, supported| {
        Err(ModelError::unsupported(config.path(), key, found.to_string(), supported))
    };
    if let Some(share) = rope.partial_rotary_factor.filter(|share| *share != 1.0) {
        return unsupported("partial_rotary_factor", &share, "1");
    }
    let required = |key: &str, value: Option<f64>| {
        let expected = || format!("{key} for RoPE scaling of type {}", rope.kind);
        value.ok_or_else(|| ModelError::config(config.path(), expected(), "none"))
    };
    let scaling = match rope.kind.as_str() {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: required("factor", rope.factor)? },
        "llama3" => RopeScaling::Llama3 {
            factor: required("factor", rope.factor)?,
            low_freq_factor: required("low_freq_factor", rope.low_freq_factor)?,
            high_freq_factor: required("high_freq_factor", rope.high_freq_factor)?,
            original_context: rope.original_context.unwrap_or(context),
        },
        _ => return unsupported("rope_type", &rope.kind, "default, linear or llama3"),
    };
    Ok(RopeSettings {
        style: RopeStyle::Half,
        dim: head_dim,
        theta: rope.theta,
        scaling,
        divisors: Presence::Absent,
        attention_factor: 1.0,
    })
}

fn refuse_variants(config: &HfConfig) -> Result<(), ModelError> {
    let unsupported =
        |key, found: String, supported| Err(ModelError::unsupported(config.path(), key, found, supported));
    if let Some(activation) = config.get::<String>("hidden_act")?.filter(|a| a != "silu" && a != "swish") {
        return unsupported("hidden_act", activation, "silu");
    }
    if let Some(method) = config.find("quantization_config") {
        let method = method.get("quant_method").unwrap_or(method).to_string();
        return unsupported("quantization_config", method, "weights that are not quantized, in F32, F16 or BF16");
    }
    if let Some(experts) = config.get::<usize>("num_local_experts")?.filter(|n| *n > 0) {
        return unsupported("num_local_experts", experts.to_string(), "0");
    }
    let layer_types: Vec<String> = config.get("layer_types")?.unwrap_or_default();
    if let Some(other) = layer_types.into_iter().find(|t| t != "full_attention") {
        return unsupported("layer_types", other, "full_attention");
    }
    // A window counts unless its switch, which some families have, is off.
    let window_used = config.get("use_sliding_window")?.unwrap_or(true);
    let window = config.get::<usize>("sliding_window")?.filter(|_| window_used);
    let context: usize = config.require("max_position_embeddings")?;
    match window {
        Some(window) if window < context => {
            unsupported("sliding_window", window.to_string(), "attention to the whole context")
        }
        _ => Ok(()),
    }
}
