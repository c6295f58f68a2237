//! Architectures: one file and one row of [`ARCHITECTURES`] for each.
//!
//! All of them are the plain decoder of [`kernels::plan::DecoderPlan`] with differences. `from_gguf` and `from_hf` read what
//! the formats name alike for every architecture, `names` holds the tensors' names in both, and an architecture's file says
//! what differs.

mod config;
mod divisors;
mod from_gguf;
mod from_hf;
mod llama;
mod names;
mod qwen2;
mod qwen3;
mod rope;
mod to_gguf;
mod to_hf;

use formats::gguf::Metadata;
use formats::hf::HfConfig;
use formats::{Checkpoint, Config};
use kernels::plan::RopeStyle;

pub use config::{Biases, DecoderConfig, Presence};
pub use rope::{RopeScaling, RopeSettings};
pub use to_gguf::ROPE_FREQS;

use crate::ModelError;

/// A key of `config.json` that says whether some linear layers have biases, and which layers these are.
pub type BiasKey = (&'static str, fn(&Biases) -> Presence);

/// A family of models.
#[derive(Debug)]
pub struct Architecture {
    /// `general.architecture` in GGUF files; also the prefix of their keys.
    pub name: &'static str,
    /// `model_type` in `config.json`.
    pub hf_model_type: &'static str,
    /// `architectures` in `config.json`.
    pub hf_class: &'static str,
    pub from_gguf: fn(&Metadata) -> Result<DecoderConfig, ModelError>,
    pub from_hf: fn(&HfConfig) -> Result<DecoderConfig, ModelError>,
    /// Tensors beyond those of the plain decoder: the canonical name, which is GGUF's, and the name in Hugging Face files;
    /// without `.weight`, and with `{}` for the layer.
    pub extra_tensors: &'static [(&'static str, &'static str)],
    /// Which values of a head GGUF files rotate together; in Hugging Face files it is its halves.
    pub gguf_rope: RopeStyle,
    pub hf_biases: &'static [BiasKey],
}

/// Every architecture that runs, each a file of this folder.
pub static ARCHITECTURES: [&Architecture; 3] = [&llama::ARCHITECTURE, &qwen2::ARCHITECTURE, &qwen3::ARCHITECTURE];

impl Architecture {
    /// The architecture that a checkpoint names.
    ///
    /// # Errors
    /// It names none, or one that is not supported.
    pub fn of(checkpoint: &Checkpoint) -> Result<&'static Self, ModelError> {
        let unknown = |found: String, field: fn(&Self) -> &str| {
            let supported: Vec<_> = ARCHITECTURES.iter().map(|a| field(a)).collect();
            ModelError::Architecture { path: checkpoint.path().to_owned(), found, supported: supported.join(", ") }
        };
        let found = checkpoint.architecture()?;
        match checkpoint.config() {
            Config::Gguf(_) => {
                let known = ARCHITECTURES.into_iter().find(|a| a.name == found);
                known.ok_or_else(|| unknown(found.to_owned(), |a| a.name))
            }
            Config::HuggingFace(config) => {
                let known = ARCHITECTURES.into_iter().find(|a| a.hf_model_type == found);
                let known = known.ok_or_else(|| unknown(found.to_owned(), |a| a.hf_model_type))?;
                let classes: Vec<&str> = config.get("architectures")?.unwrap_or_default();
                if !classes.is_empty() && !classes.contains(&known.hf_class) {
                    return Err(unknown(classes.join(", "), |a| a.hf_class));
                }
                Ok(known)
            }
        }
    }

    /// The configuration of a checkpoint of this architecture.
    ///
    /// # Errors
    /// A setting is missing, contradicts another, or asks for what the decoder does not do.
    pub fn config(&self, checkpoint: &Checkpoint) -> Result<DecoderConfig, ModelError> {
        let config = match checkpoint.config() {
            Config::Gguf(metadata) => (self.from_gguf)(metadata),
            Config::HuggingFace(config) => (self.from_hf)(config),
        }?;
        config.validate(checkpoint.path())?;
        Ok(config)
    }

    /// The name in Hugging Face files of the tensor with this canonical name: `blk.3.attn_q.weight` is
    /// `model.layers.3.self_attn.q_proj.weight`.
    pub fn to_hf(&self, canonical: &str) -> Option<String> {
        names::translate(canonical, self.names(), |(canonical, hf)| (canonical, hf))
    }

    /// The canonical name of the tensor with this name in Hugging Face files.
    pub fn to_canonical(&self, hf: &str) -> Option<String> {
        names::translate(hf, self.names(), |(canonical, hf)| (hf, canonical))
    }

    fn names(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        names::COMMON.iter().chain(self.extra_tensors).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_translate_both_ways() {
        for architecture in ARCHITECTURES {
            let names: Vec<_> = architecture.names().collect();
            for (canonical, hf) in names {
                for ending in ["weight", "bias"] {
                    let canonical = format!("{}.{ending}", canonical.replace("{}", "12"));
                    let hf = format!("{}.{ending}", hf.replace("{}", "12"));
                    assert_eq!(architecture.to_hf(&canonical).as_deref(), Some(hf.as_str()));
                    assert_eq!(architecture.to_canonical(&hf).as_deref(), Some(canonical.as_str()));
                }
            }
            for unknown in ["blk.x.attn_q.weight", "blk..attn_q.weight", "blk.1.attn_q.scale", "blk.1.attn_q", "", "."]
            {
                assert_eq!(architecture.to_hf(unknown), None, "{unknown}");
            }
        }
    }

    #[test]
    fn rows_are_distinct() {
        for a in ARCHITECTURES {
            let same = |b: &&&Architecture| b.name == a.name || b.hf_model_type == a.hf_model_type;
            assert_eq!(ARCHITECTURES.iter().filter(same).count(), 1, "{}", a.name);
        }
    }
}
