//! `config.json`: the shape of a model.

use std::ops::Deref;
use std::path::Path;

use super::json::JsonFile;
use super::rope::RopeConfig;
use crate::FormatError;

/// A parsed `config.json`; its keys are read as those of any [`JsonFile`].
#[derive(Clone, Debug)]
pub struct HfConfig {
    json: JsonFile,
}

impl HfConfig {
    /// # Errors
    /// The file cannot be read or is not a JSON object.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        JsonFile::open(path).map(|json| Self { json })
    }

    /// The family of the architecture: `llama`, `qwen3`.
    ///
    /// # Errors
    /// There is no `model_type`.
    pub fn model_type(&self) -> Result<&str, FormatError> {
        self.require("model_type")
    }

    /// Rotary embedding, in any of the file's spellings.
    ///
    /// # Errors
    /// As [`RopeConfig::from_json`].
    pub fn rope(&self) -> Result<RopeConfig, FormatError> {
        RopeConfig::from_json(&self.json)
    }
}

impl Deref for HfConfig {
    type Target = JsonFile;

    fn deref(&self) -> &JsonFile {
        &self.json
    }
}
