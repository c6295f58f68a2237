//! The keys `tokenizer.ggml.*` of a tokenizer that `tokenizer.json` describes, as llama.cpp's converter writes them.

use std::collections::HashMap;

use formats::HfTokenizer;
use formats::gguf::MetadataBuilder;

use super::file::{AddedPart, TokenizerFile, Vocab};
use super::{check_model, parts};
use crate::tokenizer::byte_level;
use crate::tokenizer::error::TokenizerError;
use crate::tokenizer::pretokenize::{PRE_TOKENIZERS, PreTokenizer};
use crate::tokenizer::{PrefixSpace, normalize::Normalizer};

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;
/// The score of tokens that no merge makes.
const NO_SCORE: f32 = -1e6;

/// Roles of tokens: the key in `tokenizer_config.json` and `config.json`, and the one in GGUF files.
const ROLES: [(&str, &str); 8] = [
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("sep", "seperator"), // The format's spelling.
    ("pad", "padding"),
    ("cls", "cls"),
    ("mask", "mask"),
    ("eot", "eot"),
];

/// Adds the keys of a tokenizer with `vocab` ids. `config_id` gives the id that `config.json` has for a role, which counts
/// where the tokenizer's own files name none.
///
/// # Errors
/// The tokenizer is not supported, or GGUF cannot express it.
pub fn write_gguf(
    tokenizer: &HfTokenizer,
    vocab: usize,
    config_id: &dyn Fn(&str) -> Option<u32>,
    out: &mut MetadataBuilder,
) -> Result<(), TokenizerError> {
    let text = std::str::from_utf8(&tokenizer.json)
        .map_err(|error| TokenizerError::invalid("tokenizer.json", "UTF-8", error.to_string()))?;
    let file: TokenizerFile = serde_json::from_str(text)?;
    check_model(&file.model)?;
    let normalizer = parts::normalizer(&file.normalizer)?;
    let pre = parts::pre_tokenizer(&file.pre_tokenizer, &normalizer)?;
    let entries = Entries::new(&file, vocab)?;
    if pre.byte_level {
        let row = named_row(&pre, &normalizer, file.model.ignore_merges)?;
        out.set("tokenizer.ggml.model", "gpt2");
        out.set("tokenizer.ggml.pre", row.gguf.first().copied().unwrap_or_default());
        if row.nfc != normalizer.nfc {
            out.set("tokenizer.ggml.normalizer.nfc", &normalizer.nfc);
        }
        out.set("tokenizer.ggml.tokens", &entries.texts);
        out.set("tokenizer.ggml.token_type", &entries.types);
        // A space in a merge would read as the end of its left half; the byte alphabet writes it as Ġ.
        let merges = file.model.merges.iter();
        let merges: Vec<String> =
            merges.map(|(l, r)| format!("{} {}", l.replace(' ', "Ġ"), r.replace(' ', "Ġ"))).collect();
        out.set("tokenizer.ggml.merges", &merges);
    } else {
        sentencepiece(&file, &normalizer, &pre, entries, out)?;
    }
    write_roles(tokenizer, &file, vocab, config_id, out)
}

/// The row of a pre-tokenizer that a GGUF file can name: besides the cuts, the name stands for whether whole tokens skip the
/// merges and, where there is a choice, for composition.
fn named_row(
    pre: &parts::PreTokenization,
    normalizer: &Normalizer,
    ignore_merges: bool,
) -> Result<&'static PreTokenizer, TokenizerError> {
    let unsupported = |part: String| TokenizerError::Unsupported {
        place: "tokenizer.json",
        part,
        expected: "a pre-tokenizer that a GGUF file can name".to_owned(),
    };
    let Some(row) = pre.segmentation.row() else {
        return Err(unsupported("a byte-level tokenizer with a split of its own, or none".to_owned()));
    };
    let plain_text = Normalizer { nfc: normalizer.nfc, ..Normalizer::default() };
    if pre.prefix_space != PrefixSpace::Never || *normalizer != plain_text {
        return Err(unsupported("a byte-level tokenizer that adds or marks spaces".to_owned()));
    }
    let same = |other: &&PreTokenizer| other.cuts == row.cuts && other.ignore_merges == ignore_merges;
    let rows = || PRE_TOKENIZERS.iter().filter(same);
    rows().find(|other| other.nfc == normalizer.nfc).or_else(|| rows().next()).ok_or_else(|| {
        unsupported(format!("{} {} ignore_merges", row.name, if ignore_merges { "with" } else { "without" }))
    })
}

/// BPE over characters with byte fallback. The score of a token is its merge's rank, negative, so that the merges come in
/// the same order.
fn sentencepiece(
    file: &TokenizerFile,
    normalizer: &Normalizer,
    pre: &parts::PreTokenization,
    mut entries: Entries,
    out: &mut MetadataBuilder,
) -> Result<(), TokenizerError> {
    let unsupported = |part: &str, expected: &str| {
        let (part, expected) = (part.to_owned(), expected.to_owned());
        Err(TokenizerError::Unsupported { place: "tokenizer.json", part, expected })
    };
    if matches!(file.model.vocab, Vocab::Scores(..)) {
        return unsupported("a unigram model", "BPE, to write as GGUF");
    }
    if !file.model.byte_fallback || !(normalizer.unmark_spaces || pre.marks_spaces) || normalizer.nfc {
        return unsupported("BPE over characters without byte_fallback or marked spaces", "that of SentencePiece");
    }
    let prefix = match (normalizer.prepend_space, pre.prefix_space) {
        (true, PrefixSpace::Never) => true,
        (false, PrefixSpace::Never) => false,
        (false, PrefixSpace::First | PrefixSpace::Always) => true,
        (true, _) => return unsupported("two spaces before the text", "one"),
    };
    let mut ranks: HashMap<String, usize> = HashMap::with_capacity(file.model.merges.len());
    for (rank, (left, right)) in file.model.merges.iter().enumerate() {
        ranks.entry([left, right].concat()).or_insert(rank);
    }
    let mut scores = Vec::with_capacity(entries.texts.len());
    for (text, kind) in entries.texts.iter().zip(&mut entries.types) {
        scores.push(ranks.get(text).map_or(NO_SCORE, |rank| -(*rank as f32)));
        if *kind == NORMAL && byte_level::parse_byte_token(text.as_bytes()).is_some() {
            *kind = BYTE;
        }
        if file.model.unk_token.as_deref() == Some(text) {
            *kind = UNKNOWN;
        }
    }
    out.set("tokenizer.ggml.model", "llama");
    out.set("tokenizer.ggml.pre", "default");
    out.set("tokenizer.ggml.tokens", &entries.texts);
    out.set("tokenizer.ggml.scores", &scores);
    out.set("tokenizer.ggml.token_type", &entries.types);
    out.set("tokenizer.ggml.add_space_prefix", &prefix);
    Ok(())
}

/// Texts and types by id.
struct Entries {
    texts: Vec<String>,
    types: Vec<i32>,
}

impl Entries {
    /// Ids without a token are `[PADn]`, unused.
    fn new(file: &TokenizerFile, vocab: usize) -> Result<Self, TokenizerError> {
        let mut texts: Vec<Option<String>> = Vec::new();
        texts.resize_with(vocab, || None);
        let mut types = vec![UNUSED; vocab];
        let mut set = |id: usize, text: &str, kind: i32| match texts.get_mut(id) {
            Some(place) => {
                *place = Some(text.to_owned());
                types[id] = kind;
                Ok(())
            }
            None => Err(TokenizerError::invalid("tokenizer.json", format!("ids below {vocab}"), id.to_string())),
        };
        match &file.model.vocab {
            Vocab::Ids(list, ids) => {
                for (text, id) in list.iter().zip(ids) {
                    set(*id as usize, text, NORMAL)?;
                }
            }
            Vocab::Scores(list, _) => {
                for (id, text) in list.iter().enumerate() {
                    set(id, text, NORMAL)?;
                }
            }
        }
        for token in &file.added_tokens {
            let kind = if token.special || looks_special(&token.content) { CONTROL } else { USER_DEFINED };
            set(token.id as usize, &content(token, kind), kind)?;
        }
        let named = |(id, text): (usize, Option<String>)| text.unwrap_or_else(|| format!("[PAD{id}]"));
        Ok(Self { texts: texts.into_iter().enumerate().map(named).collect(), types })
    }
}

/// Tokens that users define stand in the text with plain spaces.
fn content(token: &AddedPart, kind: i32) -> String {
    if kind == USER_DEFINED { token.content.replace('▁', " ") } else { token.content.clone() }
}

/// Added tokens that files mark as text, though their looks say that they are structure.
fn looks_special(text: &str) -> bool {
    let between = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&text)
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}

/// The ids of special tokens, and which of them stand around a text.
fn write_roles(
    tokenizer: &HfTokenizer,
    file: &TokenizerFile,
    vocab: usize,
    config_id: &dyn Fn(&str) -> Option<u32>,
    out: &mut MetadataBuilder,
) -> Result<(), TokenizerError> {
    let mut ids = HashMap::new();
    for (role, key) in ROLES {
        let named = tokenizer.config.special_token(&format!("{role}_token"))?;
        let added = named.and_then(|text| file.added_tokens.iter().find(|t| t.content == text)).map(|t| t.id);
        if let Some(id) = added.or_else(|| config_id(role)).filter(|id| (*id as usize) < vocab) {
            ids.insert(role, id);
            out.set(&format!("tokenizer.ggml.{key}_token_id"), &id);
        }
    }
    let (before, after) = parts::post_processor(&file.post_processor)?;
    for (role, frame) in [("bos", before), ("eos", after)] {
        let adds = match frame[..] {
            [] => false,
            [id] if ids.get(role) == Some(&id) => true,
            _ => {
                return Err(TokenizerError::Unsupported {
                    place: "post_processor",
                    part: format!("tokens {frame:?} around a text"),
                    expected: format!("the {role} token alone, to write as GGUF"),
                });
            }
        };
        out.set(&format!("tokenizer.ggml.add_{role}_token"), &adds);
    }
    Ok(())
}
