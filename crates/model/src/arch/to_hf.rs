//! `config.json` of a decoder: the other direction of `from_hf`.

use std::path::Path;

use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::config::{DecoderConfig, Presence};
use super::rope::RopeScaling;
use super::{Architecture, divisors};
use crate::ModelError;

impl Architecture {
    /// The keys of `config.json` that describe the decoder, in both spellings of RoPE. Its biases are `Required` or
    /// `Absent`, `tied` says what the weights are, and `divisors` is the tensor of RoPE divisors, if the file has one.
    ///
    /// # Errors
    /// There is no such setting in `config.json`; `path` is for the message.
    pub fn hf_config(
        &self,
        config: &DecoderConfig,
        divisors: Option<&[f32]>,
        path: &Path,
    ) -> Result<Map<String, Value>, ModelError> {
        let unsupported = |key: &str, found: &dyn ToString, supported: &dyn ToString| {
            Err(ModelError::unsupported(path, key, found.to_string(), supported.to_string()))
        };
        let plain_scale = DecoderConfig::plain_attention_scale(config.head_dim);
        if config.attention_scale != plain_scale {
            return unsupported("attention.scale", &config.attention_scale, &plain_scale);
        }
        if config.rope.dim != config.head_dim {
            return unsupported("rope.dimension_count", &config.rope.dim, &config.head_dim);
        }
        if config.rope.attention_factor != 1.0 {
            return unsupported("rope.scaling.attn_factor", &config.rope.attention_factor, &1);
        }
        let scaling = match divisors {
            Some(divisors) => divisors::explain(&config.rope, divisors).ok_or_else(|| {
                let expected = "the divisors of RoPE scaling of type llama3";
                ModelError::tensor(path, super::ROPE_FREQS, expected, format!("{divisors:?}"))
            })?,
            None => config.rope.scaling,
        };
        let theta = shortest(config.rope.theta as f32);
        let rope = rope_parameters(scaling);
        let mut parameters = rope.clone();
        parameters.insert("rope_theta".to_owned(), theta.clone());

        let mut out = Map::new();
        let mut set = |key: &str, value: Value| out.insert(key.to_owned(), value);
        set("architectures", json!([self.hf_class]));
        set("model_type", json!(self.hf_model_type));
        set("hidden_act", json!("silu"));
        set("hidden_size", json!(config.hidden));
        set("intermediate_size", json!(config.intermediate));
        set("num_hidden_layers", json!(config.layers));
        set("num_attention_heads", json!(config.heads));
        set("num_key_value_heads", json!(config.kv_heads));
        set("head_dim", json!(config.head_dim));
        set("max_position_embeddings", json!(config.context));
        set("rms_norm_eps", shortest(config.norm_eps));
        set("vocab_size", json!(config.vocab));
        set("tie_word_embeddings", json!(config.tied));
        set("rope_parameters", Value::Object(parameters));
        set("rope_theta", theta);
        if scaling != RopeScaling::None {
            set("rope_scaling", Value::Object(rope));
        }
        let has = |presence: Presence| json!(presence == Presence::Required);
        for &(key, part) in self.hf_biases {
            set(key, has(part(&config.biases)));
        }
        set("use_cache", json!(true));
        Ok(out)
    }

    /// The order in which the rows of a head of Q and K stand in GGUF files, if it is not that of Hugging Face files.
    pub fn permutes_heads(&self) -> bool {
        self.gguf_rope == RopeStyle::Interleaved
    }
}

fn rope_parameters(scaling: RopeScaling) -> Map<String, Value> {
    let value = match scaling {
        RopeScaling::None => json!({ "rope_type": "default" }),
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_context,
        }),
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The number with the fewest digits that is this one in f32: 0.00001, not 0.000009999999747.
fn shortest(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap_or(value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_do() {
        assert_eq!(shortest(1e-5), json!(0.00001));
        assert_eq!(shortest(1e-6), json!(0.000001));
        assert_eq!(shortest(100_000.0), json!(100_000.0));
    }
}
