//! How a model's makers say that it is to be run.

use serde::Deserialize;

use crate::FormatError;
use crate::gguf::Metadata;
use crate::hf::{HfConfig, JsonFile};

/// Special tokens and sampling defaults; what the files leave out is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    pub bos_token_id: Option<u32>,
    /// Each of these ends an answer.
    pub eos_token_ids: Vec<u32>,
    pub pad_token_id: Option<u32>,
    /// `false`: greedy, whatever the values below are.
    pub do_sample: Option<bool>,
    pub temperature: Option<f32>,
    pub top_k: Option<u32>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
}

/// One token or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenIds {
    One(u32),
    Many(Vec<u32>),
}

impl GenerationDefaults {
    /// From GGUF metadata: the tokenizer's special tokens and `general.sampling`.
    ///
    /// # Errors
    /// A key has the wrong type.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, FormatError> {
        let token = |name: &str| metadata.get::<u32>(&format!("tokenizer.ggml.{name}_token_id"));
        let sampling = |name: &str| metadata.get::<f32>(&format!("general.sampling.{name}"));
        let mut eos_token_ids = Vec::new();
        // End of text, of a turn, and of a message.
        for name in ["eos", "eot", "eom"] {
            eos_token_ids.extend(token(name)?.filter(|id| !eos_token_ids.contains(id)));
        }
        Ok(Self {
            bos_token_id: token("bos")?,
            eos_token_ids,
            pad_token_id: token("padding")?,
            do_sample: None,
            temperature: sampling("temp")?,
            top_k: metadata.get("general.sampling.top_k")?,
            top_p: sampling("top_p")?,
            min_p: sampling("min_p")?,
            repetition_penalty: sampling("penalty_repeat")?,
        })
    }

    /// From `generation_config.json`; token ids that it lacks, or all where there is no such file, from `config.json`.
    ///
    /// # Errors
    /// A key has the wrong type.
    pub fn from_hf(generation: Option<&JsonFile>, config: &HfConfig) -> Result<Self, FormatError> {
        let config_ids = Self::token_ids(config)?;
        let Some(file) = generation else { return Ok(config_ids) };
        let ids = Self::token_ids(file)?;
        Ok(Self {
            bos_token_id: ids.bos_token_id.or(config_ids.bos_token_id),
            eos_token_ids: if ids.eos_token_ids.is_empty() { config_ids.eos_token_ids } else { ids.eos_token_ids },
            pad_token_id: ids.pad_token_id.or(config_ids.pad_token_id),
            do_sample: file.get("do_sample")?,
            temperature: file.get("temperature")?,
            top_k: file.get("top_k")?,
            top_p: file.get("top_p")?,
            min_p: file.get("min_p")?,
            repetition_penalty: file.get("repetition_penalty")?,
        })
    }

    fn token_ids(file: &JsonFile) -> Result<Self, FormatError> {
        // Padding is -1 in some files, which means none.
        let pad = file.get::<i64>("pad_token_id")?;
        Ok(Self {
            bos_token_id: file.get("bos_token_id")?,
            eos_token_ids: match file.get("eos_token_id")? {
                Some(TokenIds::One(id)) => vec![id],
                Some(TokenIds::Many(ids)) => ids,
                None => Vec::new(),
            },
            pad_token_id: pad.and_then(|id| id.try_into().ok()),
            ..Self::default()
        })
    }
}
