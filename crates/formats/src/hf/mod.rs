//! The JSON files of a Hugging Face folder.

mod config;
mod json;
pub(crate) mod model_card;
mod rope;
mod tokenizer_config;

pub use config::HfConfig;
pub use json::JsonFile;
pub use rope::RopeConfig;
pub use tokenizer_config::TokenizerConfig;

pub(crate) use json::read_json;

pub(crate) const CONFIG_FILE: &str = "config.json";
pub(crate) const GENERATION_FILE: &str = "generation_config.json";
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";
