//! The parts of `tokenizer.json` around the model, each brought to the form in which it runs.

use serde::Deserialize;
use serde_json::Value;

use crate::tokenizer::PrefixSpace;
use crate::tokenizer::error::TokenizerError;
use crate::tokenizer::normalize::{Normalizer, SPACE_MARK};
use crate::tokenizer::pretokenize::Segmentation;
use crate::tokenizer::steps::{Behavior, Step};
use crate::tokenizer::stream::LeadingSpace;

/// What the pre-tokenizer says.
pub struct PreTokenization {
    pub byte_level: bool,
    pub prefix_space: PrefixSpace,
    pub segmentation: Segmentation,
    /// `Metaspace`: spaces are written as `▁`.
    pub marks_spaces: bool,
}

/// The parts of a sequence, nested sequences included, or the one part that `value` is. `list` is the key of the parts.
fn flatten<'a>(value: &'a Value, list: &str, out: &mut Vec<&'a Value>) {
    match value.get(list).and_then(Value::as_array) {
        Some(parts) if kind(value) == "Sequence" => parts.iter().for_each(|part| flatten(part, list, out)),
        _ if value.is_null() => {}
        _ => out.push(value),
    }
}

fn kind(part: &Value) -> &str {
    part.get("type").and_then(Value::as_str).unwrap_or("?")
}

fn flag(part: &Value, key: &str, default: bool) -> bool {
    part.get(key).and_then(Value::as_bool).unwrap_or(default)
}

fn unsupported(place: &'static str, part: &Value, expected: impl Into<String>) -> TokenizerError {
    TokenizerError::Unsupported { place, part: part.to_string(), expected: expected.into() }
}

fn is_space_mark(part: &Value, key: &str) -> bool {
    part.get(key).and_then(Value::as_str).is_some_and(|text| text.chars().eq([SPACE_MARK]))
}

/// Whether the part replaces the string `from` by `to`.
fn replaces(part: &Value, from: &str, to: &str) -> bool {
    part.pointer("/pattern/String").and_then(Value::as_str) == Some(from)
        && part.get("content").and_then(Value::as_str) == Some(to)
}

pub fn normalizer(value: &Value) -> Result<Normalizer, TokenizerError> {
    let mut parts = Vec::new();
    flatten(value, "normalizers", &mut parts);
    let mut normalizer = Normalizer::default();
    for part in parts {
        match kind(part) {
            "NFC" => normalizer.nfc = true,
            "Prepend" if is_space_mark(part, "prepend") => normalizer.prepend_space = true,
            "Replace" if replaces(part, " ", "▁") => normalizer.unmark_spaces = true,
            _ => return Err(unsupported("normalizer", part, "NFC, Prepend of ▁, or Replace of a space by ▁")),
        }
    }
    if normalizer.prepend_space && !normalizer.unmark_spaces {
        return Err(unsupported("normalizer", value, "Replace of a space by ▁ beside Prepend"));
    }
    Ok(normalizer)
}

/// `normalizer` is the file's: a split at spaces does nothing where spaces have become marks.
pub fn pre_tokenizer(value: &Value, normalizer: &Normalizer) -> Result<PreTokenization, TokenizerError> {
    const PLACE: &str = "pre_tokenizer";
    let mut parts = Vec::new();
    flatten(value, "pretokenizers", &mut parts);
    let mut result = PreTokenization {
        byte_level: false,
        prefix_space: PrefixSpace::Never,
        segmentation: Segmentation::Whole,
        marks_spaces: false,
    };
    let mut steps = Vec::new();
    for part in &parts {
        // Behind it the library sees bytes as letters, some of which are numbers or punctuation.
        if steps.contains(&Step::ByteLevel) {
            return Err(unsupported(PLACE, part, "no cuts behind those of ByteLevel"));
        }
        match kind(part) {
            "ByteLevel" => {
                result.byte_level = true;
                if flag(part, "add_prefix_space", true) {
                    if parts.len() > 1 {
                        return Err(unsupported(PLACE, part, "add_prefix_space only where ByteLevel stands alone"));
                    }
                    result.prefix_space = PrefixSpace::Always;
                }
                if flag(part, "use_regex", true) {
                    steps.push(Step::ByteLevel);
                }
            }
            "Digits" => steps.push(Step::Digits(flag(part, "individual_digits", false))),
            "Punctuation" => steps.push(Step::Punctuation(behavior(part, "Isolated")?)),
            // Where spaces have become marks, none is left to split at.
            "Split" if normalizer.unmark_spaces && part.pointer("/pattern/String") == Some(&Value::from(" ")) => {}
            "Split" => steps.push(Step::Split(regex(part)?, behavior(part, "")?, flag(part, "invert", false))),
            "Metaspace" if parts.len() == 1 && is_space_mark(part, "replacement") => {
                result.marks_spaces = true;
                result.prefix_space = match part.get("prepend_scheme").and_then(Value::as_str) {
                    Some("first") => PrefixSpace::First,
                    Some("never") => PrefixSpace::Never,
                    None if !flag(part, "add_prefix_space", true) => PrefixSpace::Never,
                    Some("always") | None => PrefixSpace::Always,
                    Some(_) => return Err(unsupported(PLACE, part, "prepend_scheme first, always or never")),
                };
                if flag(part, "split", true) {
                    result.segmentation = Segmentation::BeforeSpaces;
                }
            }
            _ => return Err(unsupported(PLACE, part, "ByteLevel, Digits, Punctuation, Split, or Metaspace alone")),
        }
    }
    if !steps.is_empty() {
        // Patterns are written for text with marks, and ours has spaces.
        if normalizer.unmark_spaces {
            return Err(unsupported(PLACE, value, "no cuts but at spaces where spaces become ▁"));
        }
        result.segmentation = Segmentation::of_steps(&steps)?;
    }
    Ok(result)
}

fn regex(part: &Value) -> Result<&str, TokenizerError> {
    let pattern = part.pointer("/pattern/Regex").and_then(Value::as_str);
    pattern.ok_or_else(|| unsupported("pre_tokenizer", part, "a Split by a Regex"))
}

fn behavior(part: &Value, default: &str) -> Result<Behavior, TokenizerError> {
    let name = part.get("behavior").and_then(Value::as_str).unwrap_or(default);
    let expected = "a behavior Isolated, Removed, Contiguous, MergedWithPrevious or MergedWithNext";
    Behavior::by_name(name).ok_or_else(|| unsupported("pre_tokenizer", part, expected))
}

/// Ids before and after a text.
pub fn post_processor(value: &Value) -> Result<(Vec<u32>, Vec<u32>), TokenizerError> {
    #[derive(Deserialize)]
    struct Template {
        single: Vec<Piece>,
        special_tokens: std::collections::HashMap<String, Special>,
    }
    #[derive(Deserialize)]
    enum Piece {
        SpecialToken { id: String },
        Sequence {},
    }
    #[derive(Deserialize)]
    struct Special {
        ids: Vec<u32>,
    }

    let mut parts = Vec::new();
    flatten(value, "processors", &mut parts);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for part in parts {
        match kind(part) {
            "ByteLevel" => {}
            "TemplateProcessing" => {
                let template = Template::deserialize(part)?;
                let mut text_seen = false;
                for piece in template.single {
                    match piece {
                        Piece::Sequence {} => text_seen = true,
                        Piece::SpecialToken { id } => {
                            let special = template.special_tokens.get(&id).ok_or_else(|| {
                                TokenizerError::invalid("post_processor", "a token of special_tokens", id.as_str())
                            })?;
                            if text_seen { &mut after } else { &mut before }.extend(&special.ids);
                        }
                    }
                }
            }
            _ => return Err(unsupported("post_processor", part, "ByteLevel or TemplateProcessing")),
        }
    }
    Ok((before, after))
}

/// What decoding does beyond joining the tokens' text. `marks_spaces` says whether tokens write spaces as `▁`.
pub fn decoder(value: &Value, marks_spaces: bool) -> Result<LeadingSpace, TokenizerError> {
    const PLACE: &str = "decoder";
    let mut parts = Vec::new();
    flatten(value, "decoders", &mut parts);
    let mut leading = LeadingSpace::Keep;
    let mut fused = false;
    for part in parts {
        match kind(part) {
            "ByteLevel" | "ByteFallback" => {}
            "Fuse" => fused = true,
            "Replace" if marks_spaces && replaces(part, "▁", " ") => {}
            "Metaspace" if marks_spaces => {
                if part.get("prepend_scheme").and_then(Value::as_str) != Some("never") {
                    leading = LeadingSpace::StripFirstToken;
                }
            }
            "Strip" if fused && strips_one_space(part) => leading = LeadingSpace::StripOne,
            _ => {
                let expected =
                    "ByteLevel, Metaspace, or Replace of ▁ by a space, ByteFallback, Fuse, Strip of one space";
                return Err(unsupported(PLACE, part, expected));
            }
        }
    }
    Ok(leading)
}

fn strips_one_space(part: &Value) -> bool {
    let number = |key| part.get(key).and_then(Value::as_u64);
    part.get("content").and_then(Value::as_str) == Some(" ") && number("start") == Some(1) && number("stop") == Some(0)
}
