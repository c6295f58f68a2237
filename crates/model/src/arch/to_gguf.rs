//! The keys and the derived tensor by which a GGUF file describes a decoder: the other direction of `from_gguf`.

use std::path::Path;

use formats::gguf::MetadataBuilder;
use kernels::plan::RopeStyle;

use super::config::DecoderConfig;
use super::rope::{RopeScaling, RopeSettings};
use super::{Architecture, Presence};
use crate::ModelError;

/// The tensor that Llama 3's RoPE scaling is in GGUF files: what each frequency is divided by.
pub const ROPE_FREQS: &str = "rope_freqs.weight";

impl Architecture {
    /// Adds the keys that [`Architecture::from_gguf`] reads. Scaling of type `llama3` is not among them: it is the tensor
    /// [`ROPE_FREQS`] with the values of [`RopeSettings::divisors`].
    ///
    /// # Errors
    /// GGUF has no key for a setting; `path` is for the message.
    pub fn write_gguf(&self, config: &DecoderConfig, out: &mut MetadataBuilder, path: &Path) -> Result<(), ModelError> {
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
            RopeScaling::Llama3 { .. } if self.gguf_rope == RopeStyle::Interleaved => {}
            RopeScaling::Llama3 { .. } => {
                let supported = format!("default or linear in GGUF files of {}", self.name);
                return Err(ModelError::unsupported(path, "rope_type", "llama3", supported));
            }
        }
        out.set(&key("rope.freq_base"), &(rope.theta as f32));
        out.set(&key("attention.layer_norm_rms_epsilon"), &config.norm_eps);
        out.set(&key("attention.key_length"), &(config.head_dim as u32));
        out.set(&key("attention.value_length"), &(config.head_dim as u32));
        out.set(&key("vocab_size"), &(config.vocab as u32));
        out.set(&key("rope.dimension_count"), &(rope.dim as u32));
        Ok(())
    }
}

impl RopeSettings {
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
