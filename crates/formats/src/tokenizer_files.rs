//! What a tokenizer is built from, with or without weights beside it.

use std::path::Path;

use kernels::plan::Bytes;

use crate::gguf::{self, Metadata};
use crate::hf::{TOKENIZER_FILE, TokenizerConfig};
use crate::{ChatTemplates, FormatError, MappedFile};

/// The raw material of a tokenizer.
#[derive(Clone, Debug)]
pub enum TokenizerFiles {
    /// The keys `tokenizer.ggml.*`.
    Gguf(Metadata),
    HuggingFace(HfTokenizer),
    /// Mistral's `tekken.json`, in a folder without `tokenizer.json`.
    Tekken(HfTokenizer),
}

/// The tokenizer of a Hugging Face folder.
#[derive(Clone, Debug)]
pub struct HfTokenizer {
    /// The content of `tokenizer.json` or `tekken.json`, mapped and not parsed.
    pub json: Bytes,
    pub config: TokenizerConfig,
}

impl TokenizerFiles {
    /// Opens the tokenizer of a GGUF file or of a folder with `tokenizer.json` or `tekken.json`; a folder needs no other file.
    ///
    /// # Errors
    /// There is no tokenizer, or its files break the rules of their formats.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        if path.is_dir() { Self::open_folder(path) } else { gguf::open(path).map(|(metadata, _)| Self::Gguf(metadata)) }
    }

    fn open_folder(folder: &Path) -> Result<Self, FormatError> {
        let path = folder.join(TOKENIZER_FILE);
        let tekken = folder.join("tekken.json");
        if !path.exists() && tekken.exists() {
            let json = MappedFile::open(&tekken)?.bytes();
            return Ok(Self::Tekken(HfTokenizer { json, config: TokenizerConfig::open(folder)? }));
        }
        if !path.exists() {
            let only_sentencepiece = folder.join("tokenizer.model").exists();
            return Err(FormatError::Kind {
                path: folder.to_owned(),
                expected: "a folder with tokenizer.json",
                found: if only_sentencepiece { "tokenizer.model alone" } else { "no such file" }.to_owned(),
                hint: only_sentencepiece.then_some("save the tokenizer again as tokenizer.json, the `fast` form"),
            });
        }
        let json = MappedFile::open(&path)?.bytes();
        Ok(Self::HuggingFace(HfTokenizer { json, config: TokenizerConfig::open(folder)? }))
    }

    /// # Errors
    /// A template is not a string in UTF-8.
    pub fn chat_templates(&self) -> Result<ChatTemplates, FormatError> {
        match self {
            Self::Gguf(metadata) => ChatTemplates::from_gguf(metadata),
            Self::HuggingFace(tokenizer) | Self::Tekken(tokenizer) => Ok(tokenizer.config.chat_templates().clone()),
        }
    }
}
