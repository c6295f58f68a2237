//! Tokenizers from checkpoints on disk.

use std::path::Path;

use formats::gguf::Metadata;
use formats::{FormatError, TokenizerFiles};

use super::{GgufVocabulary, SpecialNames, Tokenizer, TokenizerError};

impl Tokenizer {
    /// Opens the tokenizer of a GGUF file, or of a folder with `tokenizer.json` or `tekken.json`. Weights need not be there.
    ///
    /// # Errors
    /// When there is no tokenizer, or it is not one that is supported.
    pub fn open(path: &Path) -> Result<Self, TokenizerError> {
        Self::from_files(&TokenizerFiles::open(path)?)
    }

    /// Builds the tokenizer of a checkpoint from its files.
    ///
    /// # Errors
    /// When the files contradict themselves or describe what is not supported.
    pub fn from_files(files: &TokenizerFiles) -> Result<Self, TokenizerError> {
        match files {
            TokenizerFiles::Gguf(metadata) => Self::from_gguf(&GgufVocabulary::of(metadata)?),
            TokenizerFiles::Tekken(tokenizer) => Self::from_tekken_json(&tokenizer.json),
            TokenizerFiles::HuggingFace(tokenizer) => {
                let name = |key| tokenizer.config.special_token(key);
                let names = SpecialNames { bos: name("bos_token")?, eos: name("eos_token")?, eot: name("eot_token")? };
                Self::from_tokenizer_json(&tokenizer.json, names)
            }
        }
    }
}

impl<'a> GgufVocabulary<'a> {
    /// The keys `tokenizer.ggml.*` of a file.
    ///
    /// # Errors
    /// A key is missing or of the wrong type.
    pub fn of(metadata: &'a Metadata) -> Result<Self, FormatError> {
        // A file gives ids outside the vocabulary, or -1, for roles that no token has.
        let id = |key: &str| Ok::<_, FormatError>(metadata.get::<i64>(key)?.and_then(|id| u32::try_from(id).ok()));
        Ok(Self {
            model: metadata.require("tokenizer.ggml.model")?,
            pre: metadata.get("tokenizer.ggml.pre")?,
            tokens: metadata.require("tokenizer.ggml.tokens")?,
            token_type: metadata.get("tokenizer.ggml.token_type")?.unwrap_or_default(),
            scores: metadata.get("tokenizer.ggml.scores")?.unwrap_or_default(),
            merges: metadata.get("tokenizer.ggml.merges")?.unwrap_or_default(),
            bos_token_id: id("tokenizer.ggml.bos_token_id")?,
            eos_token_id: id("tokenizer.ggml.eos_token_id")?,
            eot_token_id: id("tokenizer.ggml.eot_token_id")?,
            unknown_token_id: id("tokenizer.ggml.unknown_token_id")?,
            cls_token_id: id("tokenizer.ggml.cls_token_id")?,
            sep_token_id: id("tokenizer.ggml.seperator_token_id")?, // The format's spelling.
            add_bos_token: metadata.get("tokenizer.ggml.add_bos_token")?,
            add_eos_token: metadata.get("tokenizer.ggml.add_eos_token")?,
            add_space_prefix: metadata.get("tokenizer.ggml.add_space_prefix")?,
            remove_extra_whitespaces: metadata.get("tokenizer.ggml.remove_extra_whitespaces")?,
            lowercase: metadata.get("tokenizer.ggml.normalizer.lowercase")?,
            nfc: metadata.get("tokenizer.ggml.normalizer.nfc")?,
            strip_accents: metadata.get("tokenizer.ggml.normalizer.strip_accents")?,
            precompiled_charsmap: metadata
                .get::<Vec<i64>>("tokenizer.ggml.precompiled_charsmap")?
                .map_or_else(Vec::new, |bytes| bytes.into_iter().map(|byte| byte as u8).collect()), // Signed or not.
        })
    }
}
