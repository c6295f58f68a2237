//! What kind of tokenizer a checkpoint has, without building it.

use std::fmt;

use anyhow::Result;
use formats::gguf::{Metadata, Value};
use formats::hf::HfConfig;
use formats::{Checkpoint, Config, TokenizerFiles};
use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

#[derive(Debug, Serialize)]
pub struct TokenizerFacts {
    pub kind: &'static str,
    pub vocab: Option<usize>,
}

impl TokenizerFacts {
    /// `None` for a checkpoint without a tokenizer.
    ///
    /// # Errors
    /// A key of the metadata has the wrong type, or a file beside the tokenizer is damaged.
    pub fn of(checkpoint: &Checkpoint) -> Result<Option<Self>> {
        match checkpoint.config() {
            Config::Gguf(metadata) => Self::of_gguf(metadata),
            Config::HuggingFace(config) => Self::of_folder(checkpoint, config),
        }
    }

    fn of_gguf(metadata: &Metadata) -> Result<Option<Self>> {
        let Some(kind) = metadata.get::<&str>("tokenizer.ggml.model")? else { return Ok(None) };
        let kind = match kind {
            "gpt2" => "byte-level BPE",
            "llama" | "gemma4" => "SentencePiece BPE",
            "t5" => "SentencePiece unigram",
            "bert" => "WordPiece",
            _ => "unknown",
        };
        let vocab = match metadata.value("tokenizer.ggml.tokens") {
            Some(Value::Array(tokens)) => Some(tokens.len()),
            _ => None,
        };
        Ok(Some(Self { kind, vocab }))
    }

    fn of_folder(checkpoint: &Checkpoint, config: &HfConfig) -> Result<Option<Self>> {
        if !["tokenizer.json", "tekken.json"].iter().any(|name| checkpoint.path().join(name).exists()) {
            return Ok(None);
        }
        let kind = match checkpoint.tokenizer_files()? {
            TokenizerFiles::HuggingFace(tokenizer) => ModelHead::read(&tokenizer.json).describe(),
            TokenizerFiles::Tekken(_) => "byte-level BPE",
            TokenizerFiles::Gguf(_) => "unknown",
        };
        Ok(Some(Self { kind, vocab: config.get("vocab_size")? }))
    }
}

/// What `tokenizer.json` says under `model` before its vocabulary, which makes up nearly all of the file.
#[derive(Debug, Default, PartialEq, Eq)]
struct ModelHead {
    /// `Some(None)` where there is a model that names no type.
    kind: Option<Option<String>>,
    byte_fallback: bool,
}

impl ModelHead {
    /// Reads up to the vocabulary; what is damaged before it leaves the kind unknown.
    fn read(json: &[u8]) -> Self {
        let mut head = Self::default();
        // The reading ends with an error in any case: at the vocabulary, if not before.
        let _ = Object { head: &mut head, inside: false }.deserialize(&mut serde_json::Deserializer::from_slice(json));
        head
    }

    fn describe(&self) -> &'static str {
        match &self.kind {
            None => "unknown",
            Some(Some(kind)) if kind == "Unigram" => "SentencePiece unigram",
            Some(Some(kind)) if kind == "WordPiece" => "WordPiece",
            Some(Some(kind)) if kind != "BPE" => "unknown",
            Some(_) if self.byte_fallback => "SentencePiece BPE",
            Some(_) => "byte-level BPE",
        }
    }
}

/// The file's object, or the one under `model`.
struct Object<'a> {
    head: &'a mut ModelHead,
    inside: bool,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { head, inside } = self;
        while let Some(key) = map.next_key::<String>()? {
            match (inside, key.as_str()) {
                (false, "model") => {
                    head.kind = Some(None);
                    map.next_value_seed(Object { head: &mut *head, inside: true })?;
                }
                (true, "type") => head.kind = Some(map.next_value()?),
                (true, "byte_fallback") => head.byte_fallback = map.next_value()?,
                (true, "vocab") => return Err(A::Error::custom("enough was read")),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_found_and_nothing_behind_it_is_read() {
        let cases = [
            (r#"{"added_tokens":[{"type":"x"}],"model":{"type":"BPE","vocab":{"a""#, "byte-level BPE"),
            (r#"{"model":{"type":"BPE","byte_fallback":true,"vocab":!"#, "SentencePiece BPE"),
            (r#"{"model":{"unk_id":0,"type":"Unigram","vocab":[["#, "SentencePiece unigram"),
            (r#"{"model":{"dropout":null,"vocab":{}"#, "byte-level BPE"),
            (r#"{"model":{"type":"Other","vocab":{}"#, "unknown"),
            (r#"{"version":"1.0"}"#, "unknown"),
            ("nonsense", "unknown"),
        ];
        for (json, kind) in cases {
            assert_eq!(ModelHead::read(json.as_bytes()).describe(), kind, "{json}");
        }
    }
}
