//! `config.json`: the shape of a model.

use std::ops::Deref;
use std::path::Path;

use serde_json::Value;

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

    /// The object `value` as a file at `path` would hold it.
    pub fn new(path: &Path, value: Value) -> Self {
        Self { json: JsonFile::new(path.to_owned(), value) }
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

    /// Rotary embedding of the layers of one type, in any of the file's spellings; `None` where others have parameters of
    /// their own and these have not.
    ///
    /// # Errors
    /// As [`RopeConfig::of_layers`].
    pub fn rope_of(&self, layers: &str) -> Result<Option<RopeConfig>, FormatError> {
        RopeConfig::of_layers(&self.json, layers)
    }

    /// The language model of a configuration that nests it in `text_config`, beside what else the model has; of another one,
    /// itself. What the file leaves out has the value in `defaults`.
    pub fn text(&self, defaults: &[(&str, Value)]) -> Self {
        let own = match self.find("text_config") {
            Some(text) if text.is_object() => {
                let outer = ["quantization_config", "tie_word_embeddings"].into_iter();
                let outer = outer.filter_map(|key| Some((key, self.find(key)?.clone())));
                let mut text = text.clone();
                outer.for_each(|(key, value)| text[key] = value);
                text
            }
            _ => self.value().clone(),
        };
        let mut json = JsonFile::new(self.path().to_owned(), own);
        for (key, value) in defaults {
            json.set_default(key, value);
        }
        Self { json }
    }
}

impl Deref for HfConfig {
    type Target = JsonFile;

    fn deref(&self) -> &JsonFile {
        &self.json
    }
}
