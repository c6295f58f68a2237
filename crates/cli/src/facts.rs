//! What a checkpoint's header says of a model, computed from its tensors and settings, never from its name.

mod imatrix;
mod memory;
mod tokenizer;

use std::collections::BTreeMap;

use anyhow::Result;
use formats::{Checkpoint, Config, Format, RawType, TensorInfo};
use model::arch::{Architecture, DecoderConfig, Experts, Ternary};
use pipeline::card::Card;
use serde::Serialize;

pub use imatrix::ImatrixFacts;
pub use memory::{AtContext, KvBytes, Memory};
pub use tokenizer::TokenizerFacts;

#[derive(Debug, Serialize)]
pub struct Facts {
    pub format: &'static str,
    pub architecture: String,
    /// The name that the file gives itself.
    pub name: Option<String>,
    pub parameters: u64,
    pub class: Class,
    pub precision: Precision,
    /// Bits of all tensors by parameters.
    pub bits_per_weight: f64,
    /// Parameters of each storage type.
    pub types: BTreeMap<String, u64>,
    /// Bytes of all files that hold tensors.
    pub bytes: u64,
    /// Positions that the model was made for.
    pub context: Option<usize>,
    /// `None` where the architecture is not supported; `unsupported` says why.
    pub shape: Option<Shape>,
    pub unsupported: Option<String>,
    /// `None` where there is no shape.
    pub memory: Option<Memory>,
    pub tokenizer: Option<TokenizerFacts>,
    /// Whether there is a chat template.
    pub template: bool,
    pub licence: Option<String>,
    /// What was measured of the file when it was made.
    pub evaluation: Option<Card>,
}

#[derive(Debug, Serialize)]
pub struct Shape {
    pub layers: usize,
    pub hidden: usize,
    pub intermediate: usize,
    /// Of a mixture of experts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<ExpertFacts>,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab: usize,
    pub kv_bytes_per_token: KvBytes,
}

#[derive(Debug, Serialize)]
pub struct ExpertFacts {
    pub count: usize,
    /// How many a token takes.
    pub used: usize,
    /// Width of each.
    pub intermediate: usize,
    /// Width of the expert that all tokens take.
    pub shared: Option<usize>,
    /// Parameters of experts that a token does not take.
    pub idle_parameters: u64,
}

/// Models by number of parameters, in billions rounded to one decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Less than 0.1.
    Below,
    /// 0.1 to 1.4.
    Micro,
    /// 1.5 to 13.9.
    Small,
    /// 14 to 30.
    Medium,
    /// More than 30.
    Above,
}

impl Class {
    fn of(parameters: u64) -> Self {
        // In tenths of a billion, rounded.
        match parameters.saturating_add(50_000_000) / 100_000_000 {
            0 => Self::Below,
            1..=14 => Self::Micro,
            15..=139 => Self::Small,
            140..=300 => Self::Medium,
            _ => Self::Above,
        }
    }

    pub fn describe(self) -> &'static str {
        match self {
            Self::Below => "below the classes (under 0.1 B parameters)",
            Self::Micro => "micro (0.1–1.4 B parameters)",
            Self::Small => "small (1.5–13.9 B parameters)",
            Self::Medium => "medium (14–30 B parameters)",
            Self::Above => "above the classes (over 30 B parameters)",
        }
    }
}

/// Models by the bits of the type that holds most of their parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    UltraLow,
    Low,
    Medium,
    High,
}

impl Precision {
    fn of_bits(bits: u64) -> Self {
        match bits {
            0..=2 => Self::UltraLow,
            3..=4 => Self::Low,
            5..=8 => Self::Medium,
            _ => Self::High,
        }
    }

    pub fn describe(self) -> &'static str {
        match self {
            Self::UltraLow => "ultra-low (1–2 bit)",
            Self::Low => "low (3–4 bit)",
            Self::Medium => "medium (5–8 bit)",
            Self::High => "high (16 bit and more)",
        }
    }
}

impl Facts {
    /// # Errors
    /// A setting of the file has the wrong type. An architecture that is not supported is no error.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let tensor_bytes: u64 = checkpoint.tensors().map(|t| t.bytes as u64).sum();
        let config = Architecture::of(checkpoint).and_then(|architecture| architecture.config(checkpoint));
        let (name, context, licence) = settings(checkpoint)?;
        let context = config.as_ref().map(|c| c.context).ok().or(context);
        let types = by_type(checkpoint, config.as_ref().ok().and_then(|c| c.ternary));
        let parameters = types.values().map(|(_, count)| count).sum();
        let measured = config.map_err(anyhow::Error::from).and_then(|config| Ok((config, memory::of(checkpoint)?)));
        let (shape, memory, unsupported) = match measured {
            Ok((config, (kv, memory))) => (Some(Shape::of(&config, kv)), Some(memory), None),
            Err(error) => (None, None, Some(error.to_string())),
        };
        Ok(Self {
            format: match checkpoint.format() {
                Format::Gguf => "gguf",
                Format::HuggingFace if checkpoint.is_mlx() => "mlx",
                Format::HuggingFace => "hf",
            },
            architecture: checkpoint.architecture()?.to_owned(),
            name,
            parameters,
            class: Class::of(parameters),
            precision: Precision::of_bits(types.values().max_by_key(|(_, count)| count).map_or(0, |(bits, _)| *bits)),
            bits_per_weight: tensor_bytes as f64 * 8.0 / (parameters as f64).max(1.0),
            types: types.into_iter().map(|(name, (_, count))| (name, count)).collect(),
            bytes: checkpoint.total_bytes() as u64,
            context,
            shape,
            unsupported,
            memory,
            tokenizer: TokenizerFacts::of(checkpoint)?,
            template: checkpoint.chat_templates()?.default_template().is_some(),
            licence,
            evaluation: match checkpoint.config() {
                Config::Gguf(metadata) => Card::read(metadata)?,
                Config::HuggingFace(_) => None,
            },
        })
    }
}

impl Shape {
    fn of(config: &DecoderConfig, kv_bytes_per_token: KvBytes) -> Self {
        Self {
            layers: config.layers,
            hidden: config.hidden,
            intermediate: config.intermediate,
            experts: config.experts.as_ref().map(|experts| ExpertFacts::of(experts, config.hidden)),
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            vocab: config.vocab,
            kv_bytes_per_token,
        }
    }
}

impl ExpertFacts {
    fn of(experts: &Experts, hidden: usize) -> Self {
        let layers = experts.layers.iter().filter(|sparse| **sparse).count() as u64;
        let each = 3 * hidden as u64 * experts.intermediate as u64;
        let Experts { count, used, intermediate, shared, .. } = *experts;
        Self { count, used, intermediate, shared, idle_parameters: layers * (count - used) as u64 * each }
    }
}

/// Nominal bits and parameters by name of the type.
fn by_type(checkpoint: &Checkpoint, ternary: Option<Ternary>) -> BTreeMap<String, (u64, u64)> {
    let mut types = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        let packed = matches!(ternary, Some(Ternary::Packed { .. })) && tensor.raw_type.to_string() == "U8";
        let (name, bits, share) = match packed {
            // Two bits each.
            true => ("ternary in U8".to_owned(), 2, 4),
            false => (tensor.raw_type.to_string(), nominal_bits(tensor), 1),
        };
        let sums = types.entry(name).or_insert((bits, 0));
        sums.1 += share * tensor.elements() as u64;
    }
    types
}

/// The bits that a type is called by: 4 for Q4_K, although its scales make it 4.5.
fn nominal_bits(tensor: &TensorInfo) -> u64 {
    let name = tensor.raw_type.to_string();
    let digits: String = name.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    let stored = tensor.bytes as u64 * 8 / (tensor.elements() as u64).max(1);
    match tensor.raw_type {
        RawType::Ggml(_) if tensor.dtype().is_none() => stored,
        _ => digits.parse().unwrap_or(stored),
    }
}

/// The model's own name, its context and its licence, as far as the files say.
fn settings(checkpoint: &Checkpoint) -> Result<(Option<String>, Option<usize>, Option<String>)> {
    let (name, context) = match checkpoint.config() {
        Config::Gguf(metadata) => {
            let context = metadata.get::<u64>(&format!("{}.context_length", checkpoint.architecture()?))?;
            let name = metadata.get::<&str>("general.name")?.map(str::to_owned);
            (name, context.and_then(|n| n.try_into().ok()))
        }
        Config::HuggingFace(config) => (None, config.get("max_position_embeddings")?),
    };
    Ok((name, context, checkpoint.licence()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_meet_without_a_gap() {
        let cases = [
            (49_999_999, Class::Below),
            (134_515_008, Class::Micro),
            (1_449_999_999, Class::Micro),
            (1_450_000_000, Class::Small),
            (13_949_999_999, Class::Small),
            (14_000_000_000, Class::Medium),
            (30_000_000_000, Class::Medium),
            (30_500_000_000, Class::Above),
        ];
        for (parameters, class) in cases {
            assert_eq!(Class::of(parameters), class, "{parameters}");
        }
    }

    #[test]
    fn precisions_follow_the_bits() {
        let of = Precision::of_bits;
        assert_eq!([of(1), of(2)], [Precision::UltraLow; 2]);
        assert_eq!([of(3), of(4)], [Precision::Low; 2]);
        assert_eq!([of(5), of(8)], [Precision::Medium; 2]);
        assert_eq!([of(16), of(32)], [Precision::High; 2]);
        assert_eq!(serde_json::to_string(&Precision::UltraLow).unwrap(), "\"ultra-low\"");
    }
}
