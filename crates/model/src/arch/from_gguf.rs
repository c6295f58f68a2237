//! What GGUF files name alike for every architecture: keys that begin with the architecture's name.

use formats::gguf::{Array, FromValue, Metadata};
use kernels::plan::RopeStyle;

use super::config::{Biases, DecoderConfig, Presence};
use super::rope::{RopeScaling, RopeSettings};
use crate::ModelError;

/// Keys of variants that the plain decoder lacks, with the one value that changes nothing.
const NEUTRAL_ONLY: [(&str, f64); 9] = [
    ("expert_count", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("final_logit_softcapping", 0.0),
    ("embedding_scale", 1.0),
    ("residual_scale", 1.0),
    ("logit_scale", 1.0),
    ("nextn_predict_layers", 0.0),
];

/// The plain decoder as `metadata` describes it: no biases, no norms of queries and keys, no tensor of RoPE divisors.
///
/// # Errors
/// A key is missing or of the wrong type, or asks for what the decoder does not do.
pub fn common(metadata: &Metadata, architecture: &str, style: RopeStyle) -> Result<DecoderConfig, ModelError> {
    let keys = Keys { metadata, architecture };
    keys.refuse_variants()?;
    let hidden: usize = keys.require("embedding_length")?;
    let heads: usize = keys.require("attention.head_count")?;
    let head_dim = match keys.get("attention.key_length")? {
        Some(length) => length,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    let context: usize = keys.require("context_length")?;
    keys.require_only("attention.value_length", head_dim)?;
    if let Some(window) = keys.get::<usize>("attention.sliding_window")?.filter(|w| (1..context).contains(w)) {
        let supported = format!("attention to the whole context of {context}");
        return Err(keys.unsupported("attention.sliding_window", window, supported));
    }
    let plain_scale = DecoderConfig::plain_attention_scale(head_dim);
    Ok(DecoderConfig {
        hidden,
        layers: keys.require("block_count")?,
        heads,
        kv_heads: keys.get("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        intermediate: keys.require("feed_forward_length")?,
        vocab: keys.vocab()?,
        context,
        norm_eps: keys.require("attention.layer_norm_rms_epsilon")?,
        // Some files write 0 for "not set".
        attention_scale: keys.get("attention.scale")?.filter(|s| *s != 0.0).unwrap_or(plain_scale),
        rope: RopeSettings {
            style,
            dim: keys.get("rope.dimension_count")?.unwrap_or(head_dim),
            theta: keys.get("rope.freq_base")?.unwrap_or(10_000.0),
            scaling: keys.rope_scaling()?,
            divisors: Presence::Absent,
            attention_factor: keys.get("rope.scaling.attn_factor")?.unwrap_or(1.0),
        },
        tied: false,
        biases: Biases::NONE,
        qk_norm: false,
    })
}

/// The keys of one architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl<'a> Keys<'a> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn get<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>, ModelError> {
        Ok(self.metadata.get(&self.full(key))?)
    }

    fn require<T: FromValue<'a>>(&self, key: &str) -> Result<T, ModelError> {
        Ok(self.metadata.require(&self.full(key))?)
    }

    fn unsupported(&self, key: &str, found: impl ToString, supported: impl ToString) -> ModelError {
        ModelError::unsupported(self.metadata.path(), &self.full(key), found, supported)
    }

    /// Refuses any value of an optional key but one.
    fn require_only(&self, key: &str, only: usize) -> Result<(), ModelError> {
        match self.get::<usize>(key)? {
            Some(found) if found != only => Err(self.unsupported(key, found, only)),
            _ => Ok(()),
        }
    }

    fn refuse_variants(&self) -> Result<(), ModelError> {
        for (key, neutral) in NEUTRAL_ONLY {
            // 0 stands for "not set" in every one of them.
            if let Some(found) = self.get::<f64>(key)?.filter(|v| *v != neutral && *v != 0.0) {
                return Err(self.unsupported(key, found, neutral));
            }
        }
        for (key, neutral) in [("attention.causal", true), ("use_parallel_residual", false)] {
            if let Some(found) = self.get::<bool>(key)?.filter(|v| *v != neutral) {
                return Err(self.unsupported(key, found, neutral));
            }
        }
        Ok(())
    }

    /// The size that the file states, else the length of its token list.
    fn vocab(&self) -> Result<usize, ModelError> {
        match self.get("vocab_size")? {
            Some(size) => Ok(size),
            None => Ok(self.metadata.require::<Array>("tokenizer.ggml.tokens")?.len()),
        }
    }

    fn rope_scaling(&self) -> Result<RopeScaling, ModelError> {
        let factor: Option<f64> = match self.get("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.get("rope.scale_linear")?, // The key's name before scaling had types.
        };
        // 0 stands for "not set", and a factor without a type is linear.
        let factor = factor.filter(|f| *f != 0.0 && *f != 1.0);
        match self.get::<&str>("rope.scaling.type")?.unwrap_or("linear") {
            "none" => Ok(RopeScaling::None),
            "linear" => Ok(factor.map_or(RopeScaling::None, |factor| RopeScaling::Linear { factor })),
            other => Err(self.unsupported("rope.scaling.type", other, "none or linear")),
        }
    }
}
