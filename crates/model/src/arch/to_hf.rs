//! `config.json` of a decoder: the other direction of `from_hf`.

use std::path::Path;

use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::config::{DecoderConfig, Presence};
use super::from_hf::{ACTIVATIONS, FULL, SLIDING, ternary_config};
use super::rope::{RopeScaling, RopeSettings};
use super::{Architecture, divisors};
use crate::ModelError;

impl Architecture {
    /// The keys of `config.json` that describe the decoder, in both spellings of RoPE. Its biases are `Required` or
    /// `Absent`, `tied` says what the weights are, and `divisors` is the tensor of RoPE divisors, if the file has one. Beside
    /// them, the decoder as they describe it.
    ///
    /// # Errors
    /// There is no such setting in `config.json`; `path` is for the message.
    pub fn hf_config(
        &self,
        config: &DecoderConfig,
        divisors: Option<&[f32]>,
        path: &Path,
    ) -> Result<(Map<String, Value>, DecoderConfig), ModelError> {
        let Some(&(model_type, class)) = self.hf.first() else {
            let supported = "families that transformers has";
            return Err(ModelError::unsupported(path, "architecture", self.name, supported));
        };
        let scaling = match divisors {
            Some(divisors) => divisors::explain(&config.rope, divisors).ok_or_else(|| {
                let expected = "the divisors of RoPE scaling of type llama3 or proportional";
                ModelError::tensor(path, super::ROPE_FREQS, expected, format!("{divisors:?}"))
            })?,
            None => config.rope.scaling.clone(),
        };
        let full = RopeSettings { scaling, ..config.rope.clone() };
        let theta = shortest(full.theta as f32);
        let rope = rope_parameters(&full, config, config.head_dim);
        let with_theta = |settings: &RopeSettings, head_dim: usize| {
            let mut parameters = rope_parameters(settings, config, head_dim);
            parameters.insert("rope_theta".to_owned(), shortest(settings.theta as f32));
            Value::Object(parameters)
        };
        let parameters = match &config.sliding_rope {
            None => with_theta(&full, config.head_dim),
            Some(sliding) => {
                let sliding = with_theta(sliding, config.sliding_head_dim());
                json!({ FULL: with_theta(&full, config.head_dim), SLIDING: sliding })
            }
        };

        let mut out = Map::new();
        let mut set = |key: &str, value: Value| out.insert(key.to_owned(), value);
        set("architectures", json!([class]));
        set("model_type", json!(model_type));
        let activation = ACTIVATIONS.iter().find(|(_, activation)| *activation == config.activation);
        set("hidden_act", json!(activation.map(|(name, _)| name)));
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
        set("rope_parameters", parameters);
        set("rope_theta", theta);
        if full.scaling != RopeScaling::None {
            set("rope_scaling", Value::Object(rope));
        }
        let has = |presence: Presence| json!(presence == Presence::Required);
        for &(key, part) in self.hf_biases {
            set(key, has(part(&config.biases)));
        }
        set("use_cache", json!(true));
        if full.dim != config.head_dim {
            set("partial_rotary_factor", json!(full.dim as f64 / config.head_dim as f64));
        }
        if let Some(ternary) = config.ternary.and_then(ternary_config) {
            set("quantization_config", ternary);
        }
        (self.write_hf)(config, &mut out);
        let read = (self.from_hf)(&HfConfig::new(path, Value::Object(out.clone())))?;
        config.require_same(&read, "config.json", path)?;
        Ok((out, read))
    }

    /// The order in which the rows of a head of Q and K stand in GGUF files, if it is not that of Hugging Face files.
    pub fn permutes_heads(&self) -> bool {
        self.gguf_rope == RopeStyle::Interleaved
    }
}

fn rope_parameters(rope: &RopeSettings, config: &DecoderConfig, head_dim: usize) -> Map<String, Value> {
    let shortest_of = |factors: &[f32]| factors.iter().copied().map(shortest).collect::<Vec<_>>();
    let mut proposed = 1.0;
    let value = match &rope.scaling {
        RopeScaling::None => json!({ "rope_type": "default" }),
        RopeScaling::Proportional { pairs } => {
            json!({ "rope_type": "proportional", "partial_rotary_factor": (2 * pairs) as f64 / rope.dim as f64 })
        }
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_context,
        }),
        RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, truncate } => {
            proposed = RopeSettings::yarn_factor(*factor, 1.0);
            json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original_context,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "truncate": truncate,
            })
        }
        RopeScaling::LongRope { original_context, short, long } => {
            proposed =
                RopeSettings::longrope_factor(config.context as f64 / *original_context as f64, *original_context);
            json!({
                "rope_type": "longrope",
                "original_max_position_embeddings": original_context,
                "short_factor": shortest_of(short),
                "long_factor": shortest_of(long),
            })
        }
    };
    let Value::Object(mut parameters) = value else { return Map::new() };
    if rope.attention_factor != proposed as f32 {
        parameters.insert("attention_factor".to_owned(), shortest(rope.attention_factor));
    }
    if rope.dim != head_dim {
        let share = rope.dim as f64 / head_dim as f64;
        parameters.insert("partial_rotary_factor".to_owned(), json!(share));
    }
    parameters
}

/// The number with the fewest digits that is this one in f32: 0.00001, not 0.000009999999747.
pub(super) fn shortest(value: f32) -> Value {
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
