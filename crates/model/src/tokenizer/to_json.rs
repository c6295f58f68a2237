//! `tokenizer.json` of a tokenizer that GGUF metadata describes, with the same ids.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::GgufVocabulary;
use super::error::TokenizerError;
use super::pretokenize::{self, PreTokenizer};
use super::steps::Step;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

impl GgufVocabulary<'_> {
    /// The content of `tokenizer.json`.
    ///
    /// # Errors
    /// The tokenizer is not supported, or the `tokenizers` library has no such tokenizer.
    pub fn to_tokenizer_json(&self) -> Result<Value, TokenizerError> {
        let listed = Listed::new(self)?;
        let (add_bos, parts) = match self.model {
            "gpt2" => {
                let name = self.pre.unwrap_or_default();
                let row = pretokenize::by_gguf_name(name).filter(|row| !steps_of(row).is_empty());
                let row =
                    row.ok_or_else(|| unsupported("tokenizer.ggml.pre", name, "one that tokenizer.json can say"))?;
                (self.add_bos_token.unwrap_or(row.add_bos), byte_level(self, row, &listed))
            }
            "gemma4" => {
                let merges = merges_of(self, &listed).collect();
                (self.add_bos_token.unwrap_or(true), marked(self, &listed, merges, false))
            }
            "llama" => (self.add_bos_token.unwrap_or(true), sentencepiece(self, &listed)),
            other => {
                let expected = "gpt2, gemma4 or llama, to write tokenizer.json";
                return Err(unsupported("tokenizer.ggml.model", other, expected));
            }
        };
        let before = if add_bos { self.bos_token_id } else { None };
        let after = if self.add_eos_token.unwrap_or(false) { self.eos_token_id } else { None };
        let mut out = Map::new();
        out.insert("version".to_owned(), json!("1.0"));
        out.insert("truncation".to_owned(), Value::Null);
        out.insert("padding".to_owned(), Value::Null);
        out.insert("added_tokens".to_owned(), Value::Array(listed.added()));
        out.insert("normalizer".to_owned(), parts.normalizer);
        out.insert("pre_tokenizer".to_owned(), parts.pre_tokenizer);
        out.insert("post_processor".to_owned(), listed.frame(before, after)?.unwrap_or(parts.post_processor));
        out.insert("decoder".to_owned(), parts.decoder);
        out.insert("model".to_owned(), parts.model);
        Ok(Value::Object(out))
    }
}

fn unsupported(place: &'static str, part: impl Into<String>, expected: &str) -> TokenizerError {
    TokenizerError::Unsupported { place, part: part.into(), expected: expected.to_owned() }
}

/// What differs between the kinds of tokenizers.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: Value,
}

/// Tokens by id, as text.
struct Listed<'a> {
    texts: Vec<&'a str>,
    types: &'a [i32],
    ids: HashMap<&'a str, usize>,
}

impl<'a> Listed<'a> {
    fn new(source: &'a GgufVocabulary) -> Result<Self, TokenizerError> {
        let mut texts = Vec::with_capacity(source.tokens.len());
        let mut ids = HashMap::with_capacity(source.tokens.len());
        for (id, token) in source.tokens.iter().enumerate() {
            let text = std::str::from_utf8(token)
                .map_err(|_| TokenizerError::invalid(format!("token {id}"), "text in UTF-8", format!("{token:?}")))?;
            texts.push(text);
            ids.entry(text).or_insert(id);
        }
        Ok(Self { texts, types: &source.token_type, ids })
    }

    fn kind(&self, id: usize) -> i32 {
        self.types.get(id).copied().unwrap_or(NORMAL)
    }

    /// Whether a tokenizer can give the id. Those that it cannot are left out: they have no text.
    fn is_used(&self, id: usize) -> bool {
        matches!(self.kind(id), NORMAL | UNKNOWN | CONTROL | USER_DEFINED | BYTE)
    }

    /// Every token that is used, the added ones too: so they keep ids that lie before those of text.
    fn vocab(&self) -> Value {
        let used = self.texts.iter().enumerate().filter(|&(id, text)| self.is_used(id) && self.ids[text] == id);
        Value::Object(used.map(|(id, text)| ((*text).to_owned(), json!(id))).collect())
    }

    fn added(&self) -> Vec<Value> {
        let added = (0..self.texts.len()).filter(|&id| matches!(self.kind(id), UNKNOWN | CONTROL | USER_DEFINED));
        added
            .map(|id| {
                json!({
                    "id": id,
                    "content": self.texts[id],
                    "single_word": false,
                    "lstrip": false,
                    "rstrip": false,
                    "normalized": false,
                    "special": self.kind(id) != USER_DEFINED,
                })
            })
            .collect()
    }

    /// The post-processor that puts tokens around a text; `None` where there are none.
    fn frame(&self, before: Option<u32>, after: Option<u32>) -> Result<Option<Value>, TokenizerError> {
        if before.is_none() && after.is_none() {
            return Ok(None);
        }
        let text = |id: u32| {
            let text = self.texts.get(id as usize).copied();
            text.ok_or_else(|| TokenizerError::invalid("tokenizer.ggml", "ids in the vocabulary", id.to_string()))
        };
        let mut specials = Map::new();
        let mut special = |id: u32| -> Result<Value, TokenizerError> {
            let text = text(id)?;
            specials.insert(text.to_owned(), json!({ "id": text, "ids": [id], "tokens": [text] }));
            Ok(json!({ "SpecialToken": { "id": text, "type_id": 0 } }))
        };
        let before = before.map(&mut special).transpose()?;
        let after = after.map(&mut special).transpose()?;
        let sequence = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
        let single = || before.iter().cloned().chain([sequence("A")]).chain(after.clone());
        let second = before.iter().cloned().chain([sequence("B")]).chain(after.clone());
        Ok(Some(json!({
            "type": "TemplateProcessing",
            "single": single().collect::<Vec<_>>(),
            "pair": single().chain(second).collect::<Vec<_>>(),
            "special_tokens": specials,
        })))
    }
}

fn model(listed: &Listed, merges: Vec<Value>, ignore_merges: bool, unknown: Option<&str>) -> Value {
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unknown,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": unknown.is_some(),
        "byte_fallback": unknown.is_some(),
        "ignore_merges": ignore_merges,
        "vocab": listed.vocab(),
        "merges": merges,
    })
}

/// The steps by which `tokenizer.json` says how a row cuts.
fn steps_of(row: &PreTokenizer) -> &'static [Step<'static>] {
    let same = pretokenize::PRE_TOKENIZERS.iter().filter(|other| other.cuts == row.cuts);
    same.flat_map(|other| other.steps).next().copied().unwrap_or_default()
}

/// Merges that no token follows from cannot apply, and `tokenizers` refuses them.
fn merges_of<'a>(source: &'a GgufVocabulary, listed: &'a Listed) -> impl Iterator<Item = Value> + 'a {
    let known = |text: &str| listed.ids.get(text).is_some_and(|id| listed.is_used(*id));
    source.merges.iter().filter_map(move |merge| {
        let (left, right) = std::str::from_utf8(merge).ok()?.split_once(' ')?;
        (known(left) && known(right) && known(&[left, right].concat())).then(|| json!([left, right]))
    })
}

fn byte_level(source: &GgufVocabulary, row: &PreTokenizer, listed: &Listed) -> Parts {
    let merges = merges_of(source, listed);
    let own = |use_regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": use_regex });
    let steps = steps_of(row);
    let mut parts: Vec<Value> = steps
        .iter()
        .map(|step| match step {
            Step::Split(pattern, behavior, invert) => {
                let pattern = json!({ "Regex": pattern });
                json!({ "type": "Split", "pattern": pattern, "behavior": behavior.name(), "invert": invert })
            }
            Step::Digits(individual) => json!({ "type": "Digits", "individual_digits": individual }),
            Step::Punctuation(behavior) => json!({ "type": "Punctuation", "behavior": behavior.name() }),
            Step::ByteLevel => own(true),
        })
        .collect();
    if !steps.contains(&Step::ByteLevel) {
        parts.push(own(false));
    }
    Parts {
        normalizer: if source.nfc.unwrap_or(row.nfc) { json!({ "type": "NFC" }) } else { Value::Null },
        pre_tokenizer: json!({ "type": "Sequence", "pretokenizers": parts }),
        post_processor: own(false),
        decoder: own(false),
        model: model(listed, merges.collect(), row.ignore_merges, None),
    }
}

/// BPE by scores: the merges are all pairs of tokens that make a third, those of better scores first.
fn sentencepiece(source: &GgufVocabulary, listed: &Listed) -> Parts {
    let mut merges: Vec<(f32, &str, &str)> = Vec::new();
    for (id, text) in listed.texts.iter().enumerate() {
        if listed.kind(id) != NORMAL {
            continue;
        }
        let mut own: Vec<(usize, usize, usize)> = Vec::new();
        for (at, _) in text.char_indices().skip(1) {
            let half = |part: &str| listed.ids.get(part).copied().filter(|id| listed.kind(*id) == NORMAL);
            if let (Some(left), Some(right)) = (half(&text[..at]), half(&text[at..])) {
                own.push((left, right, at));
            }
        }
        own.sort_unstable();
        let score = source.scores.get(id).copied().unwrap_or(0.0);
        merges.extend(own.into_iter().map(|(_, _, at)| (score, &text[..at], &text[at..])));
    }
    // Stable: pairs of one token stay in their order.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let merges = merges.into_iter().map(|(_, left, right)| json!([left, right])).collect();
    let prefix = source.add_space_prefix.unwrap_or(true);
    marked(source, listed, merges, prefix)
}

/// BPE over characters with `▁` for spaces, and a space before the text where `prefix` says so.
fn marked(source: &GgufVocabulary, listed: &Listed, merges: Vec<Value>, prefix: bool) -> Parts {
    let mut normalizers = Vec::new();
    if prefix {
        normalizers.push(json!({ "type": "Prepend", "prepend": "▁" }));
    }
    normalizers.push(json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" }));
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let unknown = listed.texts.get(source.unknown_token_id.unwrap_or(0) as usize).copied();
    Parts {
        normalizer: json!({ "type": "Sequence", "normalizers": normalizers }),
        pre_tokenizer: Value::Null,
        post_processor: Value::Null,
        decoder: json!({ "type": "Sequence", "decoders": decoders }),
        model: model(listed, merges, false, unknown),
    }
}
