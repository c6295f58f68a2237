//! The keys and the derived tensor by which a GGUF file describes a decoder: the other direction of `from_gguf`.

use std::path::Path;

use formats::gguf::MetadataBuilder;
use kernels::plan::{RopeStyle, RouterScore};

use super::config::DecoderConfig;
use super::from_gguf::{ACTIVATIONS, PER_TOKEN, SIGMOID};
use super::rope::{RopeScaling, RopeSettings};
use super::{Architecture, Presence};
use crate::ModelError;

/// The tensor that Llama 3's RoPE scaling is in GGUF files: what each frequency is divided by.
pub const ROPE_FREQS: &str = "rope_freqs.weight";
/// What LongRoPE divides each frequency by, in short sequences and in long ones.
pub const ROPE_SHORT: &str = "rope_factors_short.weight";
pub const ROPE_LONG: &str = "rope_factors_long.weight";

/// What pairs that do not rotate are divided by.
const STILL: f32 = 1e30;

impl Architecture {
    /// Adds the keys that [`Architecture::from_gguf`] reads. The numbers of [`RopeSettings::tensors`] are not among them.
    ///
    /// # Errors
    /// GGUF has no key for a setting; `path` is for the message.
    pub fn gguf_keys(&self, config: &DecoderConfig, out: &mut MetadataBuilder, path: &Path) -> Result<(), ModelError> {
        let rope = &config.rope;
        let key = |name: &str| format!("{}.{name}", self.name);
        out.set(&key("block_count"), &(config.layers as u32));
        out.set(&key("context_length"), &(config.context as u32));
        out.set(&key("embedding_length"), &(config.hidden as u32));
        out.set(&key("feed_forward_length"), &(config.intermediate as u32));
        out.set(&key("attention.head_count"), &(config.heads as u32));
        out.set(&key("attention.head_count_kv"), &(config.kv_heads as u32));
        match rope.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => {
                out.set(&key("rope.scaling.type"), "linear");
                out.set(&key("rope.scaling.factor"), &(factor as f32));
            }
            RopeScaling::Proportional { .. } => {}
            RopeScaling::Llama3 { .. } if self.gguf_rope == RopeStyle::Interleaved => {}
            RopeScaling::Llama3 { .. } => {
                let supported = format!("default or linear in GGUF files of {}", self.name);
                return Err(ModelError::unsupported(path, "rope_type", "llama3", supported));
            }
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, truncate: true } => {
                out.set(&key("rope.scaling.type"), "yarn");
                out.set(&key("rope.scaling.factor"), &(factor as f32));
                out.set(&key("rope.scaling.original_context_length"), &(original_context as u32));
                out.set(&key("rope.scaling.yarn_beta_fast"), &(beta_fast as f32));
                out.set(&key("rope.scaling.yarn_beta_slow"), &(beta_slow as f32));
                let implied = RopeSettings::yarn_factor(factor, 1.0) as f32;
                if rope.attention_factor != implied {
                    out.set(&key("rope.scaling.attn_factor"), &(rope.attention_factor / implied));
                }
            }
            RopeScaling::Yarn { .. } => {
                return Err(ModelError::unsupported(path, "truncate", false, "true in GGUF files"));
            }
            RopeScaling::LongRope { original_context, .. } => {
                out.set(&key("rope.scaling.type"), "longrope");
                out.set(&key("rope.scaling.original_context_length"), &(original_context as u32));
                out.set(&key("rope.scaling.attn_factor"), &rope.attention_factor);
            }
        }
        let sliding: Vec<bool> = config.layer_types.iter().map(|layer| layer.sliding).collect();
        if let Some(window) = config.window.filter(|_| sliding.contains(&true)) {
            out.set(&key("attention.sliding_window"), &(window as u32));
            if sliding.contains(&false) {
                out.set(&key("attention.sliding_window_pattern"), &sliding);
            }
        }
        if let Some(rope) = &config.sliding_rope {
            out.set(&key("rope.freq_base_swa"), &(rope.theta as f32));
        }
        for (name, cap) in [("attn_logit", config.attention_softcap), ("final_logit", config.scales.logit_softcap)] {
            if let Some(cap) = cap {
                out.set(&key(&format!("{name}_softcapping")), &cap);
            }
        }
        out.set(&key("rope.freq_base"), &(rope.theta as f32));
        out.set(&key("attention.layer_norm_rms_epsilon"), &config.norm_eps);
        out.set(&key("attention.key_length"), &(config.head_dim as u32));
        out.set(&key("attention.value_length"), &(config.head_dim as u32));
        out.set(&key("vocab_size"), &(config.vocab as u32));
        out.set(&key("rope.dimension_count"), &(rope.dim as u32));
        if let Some(experts) = &config.experts {
            out.set(&key("expert_count"), &(experts.count as u32));
            out.set(&key("expert_used_count"), &(experts.used as u32));
            if let Some(width) = experts.shared {
                out.set(&key("expert_shared_feed_forward_length"), &(width as u32));
            }
            if experts.scale != 1.0 {
                out.set(&key("expert_weights_scale"), &experts.scale);
            }
            if experts.score == RouterScore::Sigmoid {
                out.set(&key("expert_gating_func"), &SIGMOID);
            }
        }
        if config.ternary.is_some() {
            out.set(ACTIVATIONS, PER_TOKEN);
        }
        (self.write_gguf)(config, out);
        // What files of the family say only where it is not as usual.
        let read = (self.from_gguf)(&out.read_back(path)?)?;
        if read.attention_scale != config.attention_scale {
            out.set(&key("attention.scale"), &config.attention_scale);
        }
        let normalized = |config: &DecoderConfig| config.experts.as_ref().map(|experts| experts.normalized);
        if let Some(own) = normalized(config).filter(|own| normalized(&read) != Some(*own)) {
            out.set(&key("expert_weights_norm"), &own);
        }
        let read = (self.from_gguf)(&out.read_back(path)?)?;
        if matches!(rope.scaling, RopeScaling::Proportional { .. }) && read.rope.divisors == Presence::Absent {
            let supported = format!("others in GGUF files of {}", self.name);
            return Err(ModelError::unsupported(path, "rope_type", "proportional", supported));
        }
        config.require_same(&read, &format!("GGUF files of {}", self.name), path)
    }
}

impl RopeSettings {
    /// The tensors by which GGUF files describe scaling that has a number for each frequency, `[dim / 2]`.
    pub fn tensors(&self) -> Vec<(&'static str, Vec<f32>)> {
        match &self.scaling {
            RopeScaling::LongRope { short, long, .. } => vec![(ROPE_LONG, long.clone()), (ROPE_SHORT, short.clone())],
            RopeScaling::Proportional { pairs } => {
                let divisor = |pair: usize| if pair < *pairs { 1.0 } else { STILL };
                vec![(ROPE_FREQS, (0..self.dim / 2).map(divisor).collect())]
            }
            _ => self.divisors().map(|divisors| (ROPE_FREQS, divisors)).into_iter().collect(),
        }
    }

    /// What scaling of type `llama3` divides each frequency by, `[dim / 2]`; `None` for other scaling.
    ///
    /// In f32 step by step, as llama.cpp's converter computes them with PyTorch, where a number divided by a tensor is the
    /// number times the reciprocal.
    pub fn divisors(&self) -> Option<Vec<f32>> {
        let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } = self.scaling else {
            return None;
        };
        let (factor, low, high) = (factor as f32, low_freq_factor, high_freq_factor);
        let original = original_context as f64;
        let plain = Self { scaling: RopeScaling::None, divisors: Presence::Absent, ..self.clone() };
        let divisor = |frequency: f32| {
            let wavelength = 1.0 / frequency * std::f32::consts::TAU;
            if f64::from(wavelength) < original / high {
                1.0
            } else if f64::from(wavelength) > original / low {
                factor
            } else {
                let kept = (1.0 / wavelength * original as f32 - low as f32) / (high - low) as f32;
                1.0 / ((1.0 - kept) / factor + kept)
            }
        };
        Some(plain.inv_freq().into_iter().map(divisor).collect())
    }
}
