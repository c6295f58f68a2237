//! Architectures: one file and one row of [`ARCHITECTURES`] for each.
//!
//! All of them are the plain decoder of [`kernels::plan::DecoderPlan`] with differences. `from_gguf` and `from_hf` read what
//! the formats name alike for every architecture, `names` holds the tensors' names in both, and an architecture's file says
//! what differs.

mod bitnet;
mod config;
mod divisors;
mod from_gguf;
mod from_hf;
mod gemma2;
mod gemma3;
mod gemma4;
mod granite;
mod granitemoe;
mod lfm2;
mod lfm2moe;
mod llama;
mod mistral3;
mod mlx;
mod names;
mod olmo;
mod olmo2;
mod olmoe;
mod packing;
mod phi3;
mod qwen2;
mod qwen2moe;
mod qwen3;
mod qwen35;
mod qwen35moe;
mod qwen3moe;
mod rope;
mod smollm3;
mod to_gguf;
mod to_hf;

use std::collections::HashSet;

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use formats::{Checkpoint, Config, Format};
use kernels::plan::RopeStyle;
use serde_json::{Map, Value};

pub use config::{
    Biases, DecoderConfig, DeltaNetConfig, Experts, LayerType, MixerType, Norms, Presence, QkNorm, Ternary,
};
pub use mlx::{mlx_does_not_cast, mlx_has_eight_bits, name_for_hf};
pub use packing::{Assembly, Packing, Piece};
pub use rope::{RopeScaling, RopeSettings};
pub use to_gguf::{ROPE_FREQS, ROPE_LONG, ROPE_SHORT};

use crate::ModelError;

/// A family of models.
#[derive(Debug)]
pub struct Architecture {
    /// `general.architecture` in GGUF files; also the prefix of their keys.
    pub name: &'static str,
    /// What is published under it, for people.
    pub models: &'static str,
    /// What of it does not work, for people; empty where all does.
    pub limits: &'static str,
    /// `model_type` and `architectures` in `config.json`; the first are written. Empty where transformers has no such family.
    pub hf: &'static [(&'static str, &'static str)],
    pub from_gguf: fn(&Metadata) -> Result<DecoderConfig, ModelError>,
    pub from_hf: fn(&HfConfig) -> Result<DecoderConfig, ModelError>,
    /// Tensors beyond those of the plain decoder, or in their place: the canonical name, which is GGUF's, and the name in
    /// Hugging Face files; without `.weight`, and with `{}` for the layer.
    pub extra_tensors: &'static [(&'static str, &'static str)],
    /// Matrices that Hugging Face files hold otherwise.
    pub packings: &'static [Packing],
    /// Which values of a head GGUF files rotate together; in Hugging Face files it is its halves.
    pub gguf_rope: RopeStyle,
    /// Keys of `config.json` that say which linear layers have biases.
    pub hf_biases: &'static [BiasKey],
    /// Adds the keys of `config.json` that this family alone has.
    pub write_hf: fn(&DecoderConfig, &mut Map<String, Value>),
    /// Adds the keys of GGUF files that this family alone has.
    pub write_gguf: fn(&DecoderConfig, &mut MetadataBuilder),
}

/// A key of `config.json`, and the biases that it speaks of.
pub type BiasKey = (&'static str, fn(&Biases) -> Presence);

/// Every architecture that runs, each a file of this folder.
pub static ARCHITECTURES: [&Architecture; 22] = [
    &llama::ARCHITECTURE,
    &qwen2::ARCHITECTURE,
    &qwen3::ARCHITECTURE,
    &qwen35::ARCHITECTURE,
    &qwen35moe::ARCHITECTURE,
    &qwen2moe::ARCHITECTURE,
    &qwen3moe::ARCHITECTURE,
    &gemma2::ARCHITECTURE,
    &gemma3::ARCHITECTURE,
    &gemma4::ARCHITECTURE,
    &mistral3::ARCHITECTURE,
    &phi3::ARCHITECTURE,
    &smollm3::ARCHITECTURE,
    &granite::ARCHITECTURE,
    &granitemoe::ARCHITECTURE,
    &olmo::ARCHITECTURE,
    &olmo2::ARCHITECTURE,
    &olmoe::ARCHITECTURE,
    &bitnet::ARCHITECTURE,
    &bitnet::OLDER,
    &lfm2::ARCHITECTURE,
    &lfm2moe::ARCHITECTURE,
];

impl Architecture {
    /// The architecture that a checkpoint names.
    ///
    /// # Errors
    /// It names none, or one that is not supported.
    pub fn of(checkpoint: &Checkpoint) -> Result<&'static Self, ModelError> {
        let unknown = |found: String, mut supported: Vec<&str>| {
            let mut seen = HashSet::new();
            supported.retain(|name| seen.insert(*name));
            let supported = supported.join(", ");
            ModelError::Architecture { path: checkpoint.path().to_owned(), found, supported }
        };
        let hf = || ARCHITECTURES.iter().flat_map(|a| a.hf.iter().map(|names| (*a, *names)));
        let found = checkpoint.architecture()?;
        match checkpoint.config() {
            Config::Gguf(_) => {
                let known = ARCHITECTURES.into_iter().find(|a| a.name == found);
                known.ok_or_else(|| unknown(found.to_owned(), ARCHITECTURES.iter().map(|a| a.name).collect()))
            }
            Config::HuggingFace(config) => {
                // Of those with the same type, one is a mixture of experts, or has another activation.
                let known: Vec<_> = hf().filter(|(_, (model_type, _))| *model_type == found).collect();
                let sparse = from_hf::expert_count(config)? > 0;
                let alike: Vec<_> = known.iter().filter(|(a, _)| a.has_experts() == sparse).collect();
                let fits = || alike.iter().find(|(a, _)| (a.from_hf)(config).is_ok()).copied();
                let known = match alike[..] {
                    [only] => Some(only),
                    _ => fits().or(alike.first().copied()).or(known.first()),
                };
                let types = || hf().map(|(_, (model_type, _))| model_type).collect();
                let (known, (_, class)) = *known.ok_or_else(|| unknown(found.to_owned(), types()))?;
                let classes: Vec<&str> = config.get("architectures")?.unwrap_or_default();
                if !classes.is_empty() && !classes.contains(&class) {
                    return Err(unknown(classes.join(", "), hf().map(|(_, (_, class))| class).collect()));
                }
                Ok(known)
            }
        }
    }

    /// Whether its matrices were trained to be ternary.
    pub fn is_bitnet(&self) -> bool {
        self.hf.iter().any(|(model_type, _)| *model_type == from_hf::BITNET)
    }

    /// The configuration of a checkpoint of this architecture.
    ///
    /// # Errors
    /// A setting is missing, contradicts another, or asks for what the decoder does not do.
    pub fn config(&self, checkpoint: &Checkpoint) -> Result<DecoderConfig, ModelError> {
        let mut config = match checkpoint.config() {
            Config::Gguf(metadata) => (self.from_gguf)(metadata),
            Config::HuggingFace(config) => (self.from_hf)(config),
        }?;
        if checkpoint.format() == Format::Gguf
            && let RopeScaling::LongRope { short, long, .. } = &mut config.rope.scaling
        {
            *short = checkpoint.tensor(ROPE_SHORT)?.to_f32();
            *long = checkpoint.tensor(ROPE_LONG)?.to_f32();
        }
        if self.is_transformed(checkpoint, &config) {
            config.norms.plus_one = false;
        }
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

    /// The name in the checkpoint's files of the tensor with this canonical name; none where its format has no such tensor.
    pub fn file_name(&self, checkpoint: &Checkpoint, canonical: &str) -> Option<String> {
        match checkpoint.format() {
            Format::Gguf => Some(canonical.to_owned()),
            Format::HuggingFace => Some(HfNames::of(checkpoint).nested(&self.to_hf(canonical)?)),
        }
    }

    fn names(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let replaced = |a: &(&str, &str)| self.extra_tensors.iter().any(|b| a.0 == b.0 || a.1 == b.1);
        names::COMMON.iter().filter(move |names| !replaced(names)).chain(self.extra_tensors).copied()
    }
}

/// How a Hugging Face checkpoint names the language model's tensors: those of a model that does more, too, stand under a
/// prefix, beside others that are no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HfNames {
    /// In place of `model.`.
    model: &'static str,
    /// Of the output matrix.
    head: &'static str,
}

impl HfNames {
    const ALL: [Self; 3] = [
        Self { model: "model.", head: "lm_head." },
        Self { model: "model.language_model.", head: "lm_head." },
        Self { model: "language_model.model.", head: "language_model.lm_head." },
    ];

    /// As in folders of mlx-lm, which hold the language model alone.
    pub fn of_mlx(self) -> Self {
        if self == Self::ALL[0] { self } else { Self::ALL[2] }
    }

    pub fn of(checkpoint: &Checkpoint) -> Self {
        let has = |names: &&Self| checkpoint.tensor_info(&names.nested("model.embed_tokens.weight")).is_some();
        Self::ALL.iter().find(has).copied().unwrap_or(Self::ALL[0])
    }

    /// The name here of a tensor that has this name in a checkpoint of the language model alone.
    pub fn nested(self, name: &str) -> String {
        match (name.strip_prefix("model."), name.strip_prefix("lm_head.")) {
            (Some(rest), _) => format!("{}{rest}", self.model),
            (_, Some(rest)) => format!("{}{rest}", self.head),
            _ => name.to_owned(),
        }
    }

    /// The name that the tensor has in a checkpoint of the language model alone; `None` where it is no part of it.
    pub fn plain(self, name: &str) -> Option<String> {
        match (name.strip_prefix(self.model), name.strip_prefix(self.head)) {
            // Layers that guess further tokens.
            _ if name.starts_with("mtp.") => None,
            (Some(rest), _) => Some(format!("model.{rest}")),
            (_, Some(rest)) => Some(format!("lm_head.{rest}")),
            _ if self == Self::ALL[0] => Some(name.to_owned()),
            _ => None,
        }
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
                let bare = names::is_bare(hf);
                for ending in if bare { &["weight"][..] } else { &["weight", "bias"] } {
                    let canonical = format!("{}.{ending}", canonical.replace("{}", "12"));
                    let hf = hf.replace("{}", "12") + &if bare { String::new() } else { format!(".{ending}") };
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
            let types = |a: &Architecture| a.hf.iter().map(|names| names.0).collect::<Vec<_>>();
            let shared = |b: &Architecture| types(a).iter().any(|name| types(b).contains(name));
            // Of BitNet, two activations.
            let same = |b: &&&Architecture| {
                b.name == a.name || shared(b) && !a.is_bitnet() && a.has_experts() == b.has_experts()
            };
            assert_eq!(ARCHITECTURES.iter().filter(same).count(), 1, "{}", a.name);
        }
    }
}
