//! Tokenizers from `tekken.json`, which Mistral's folders have in place of `tokenizer.json`: bytes of tokens by rank, special
//! tokens before them, and the pattern that cuts text. Any two neighbours whose text together is a token merge, by its rank.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use formats::gguf::MetadataBuilder;
use serde::Deserialize;

use super::added::{AddedToken, Matcher};
use super::bpe::{Bpe, Rule, Seeds};
use super::error::TokenizerError;
use super::fallback::Fallback;
use super::normalize::Normalizer;
use super::pretokenize::Segmentation;
use super::special::SpecialTokens;
use super::steps::isolate;
use super::stream::LeadingSpace;
use super::table::NO_ID;
use super::vocabulary::{TokenKind, Vocabulary};
use super::{Model, PrefixSpace, Tokenizer, byte_level};

/// The special tokens of files that list none, in the order of their ids.
const SPECIAL: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];
const BOS: &str = "<s>";
const EOS: &str = "</s>";
/// Ids that a file may have. Those that are known have 131,072.
const MOST_IDS: usize = 1 << 22;

/// The file's shape.
#[derive(Deserialize)]
struct File {
    config: FileConfig,
    vocab: Vec<FileToken>,
    special_tokens: Option<Vec<FileSpecial>>,
}

#[derive(Deserialize)]
struct FileConfig {
    pattern: String,
    default_vocab_size: usize,
    default_num_special_tokens: usize,
}

#[derive(Deserialize)]
struct FileToken {
    rank: usize,
    token_bytes: String,
}

#[derive(Deserialize)]
struct FileSpecial {
    rank: usize,
    token_str: String,
    #[serde(default = "yes")]
    is_control: bool,
}

fn yes() -> bool {
    true
}

/// What a file says, by id.
struct Tekken {
    pattern: String,
    /// Text, and whether it is structure.
    special: Vec<(String, bool)>,
    /// Bytes by rank; the id is higher by the number of special tokens.
    tokens: Vec<Vec<u8>>,
}

impl Tekken {
    fn read(json: &[u8]) -> Result<Self, TokenizerError> {
        let file: File = serde_json::from_slice(json).map_err(TokenizerError::Tekken)?;
        let (total, reserved) = (file.config.default_vocab_size, file.config.default_num_special_tokens);
        let invalid = |place: &str, expected: String, found: usize| {
            TokenizerError::invalid(format!("tekken.json: {place}"), expected, found.to_string())
        };
        if total > MOST_IDS || reserved > total {
            return Err(invalid("default_vocab_size", format!("{reserved} special tokens to {MOST_IDS} ids"), total));
        }
        let mut special: Vec<(String, bool)> = (0..reserved).map(|id| (format!("<SPECIAL_{id}>"), true)).collect();
        let listed = file.special_tokens.unwrap_or_else(|| {
            let known = SPECIAL.iter().enumerate();
            known.map(|(rank, text)| FileSpecial { rank, token_str: (*text).to_owned(), is_control: true }).collect()
        });
        for token in listed {
            let place = special
                .get_mut(token.rank)
                .ok_or_else(|| invalid("special_tokens", format!("ranks below {reserved}"), token.rank))?;
            *place = (token.token_str, token.is_control);
        }
        let mut tokens = vec![Vec::new(); total - reserved];
        for token in file.vocab {
            // Files list more tokens than their models use.
            if let Some(place) = tokens.get_mut(token.rank) {
                *place = STANDARD.decode(&token.token_bytes).map_err(|_| {
                    let place = format!("tekken.json: token of rank {}", token.rank);
                    TokenizerError::invalid(place, "base64", token.token_bytes.as_str())
                })?;
            }
        }
        if let Some(rank) = tokens.iter().position(Vec::is_empty) {
            let expected = format!("a token of each rank below {}", tokens.len());
            return Err(TokenizerError::invalid("tekken.json: vocab", expected, format!("none of rank {rank}")));
        }
        Ok(Self { pattern: file.config.pattern, special, tokens })
    }

    fn special_id(&self, text: &str) -> Option<u32> {
        self.special.iter().position(|(special, _)| special == text).map(|id| id as u32)
    }

    fn segmentation(&self) -> Result<Segmentation, TokenizerError> {
        Segmentation::of_steps(&[isolate(&self.pattern)])
    }
}

impl Tokenizer {
    /// Builds the tokenizer that `tekken.json` describes.
    ///
    /// # Errors
    /// When the file is no such JSON or contradicts itself.
    pub fn from_tekken_json(json: &[u8]) -> Result<Self, TokenizerError> {
        let tekken = Tekken::read(json)?;
        let texts = tekken.special.iter().map(|(text, _)| text.len()).sum::<usize>();
        let bytes = tekken.tokens.iter().map(Vec::len).sum::<usize>();
        let mut vocabulary = Vocabulary::with_capacity(tekken.special.len() + tekken.tokens.len(), texts + bytes);
        for (text, control) in &tekken.special {
            let kind = if *control { TokenKind::Control } else { TokenKind::UserDefined };
            vocabulary.push(text.as_bytes(), kind, false)?;
        }
        for token in &tekken.tokens {
            vocabulary.push(token, TokenKind::Normal, true)?;
        }
        let byte_ids = std::array::from_fn(|byte| vocabulary.get(&[byte as u8]).unwrap_or(NO_ID));
        // Ids are in the order of the ranks.
        let rule = Rule::Scores((0..vocabulary.len() as u32).collect());
        let fallback = Fallback { bytes: None, unknown: tekken.special_id("<unk>"), fuse_unknown: false };
        let model = Model::Bpe(Bpe::new(rule, Seeds::Bytes(Box::new(byte_ids)), fallback, true, vocabulary.len()));
        let added = (0..).zip(&tekken.special).map(|(id, (text, control))| AddedToken {
            id,
            content: text.clone(),
            control: *control,
            single_word: false,
            lstrip: false,
            rstrip: false,
        });
        let added = Matcher::new(added.collect());
        let names = (0..).zip(&tekken.special).map(|(id, (text, _))| (text.as_str(), id));
        let (bos, eos) = (tekken.special_id(BOS), tekken.special_id(EOS));
        let special = SpecialTokens::new(&mut vocabulary, bos, eos, None, names);
        Ok(Self {
            charsmap: None,
            vocabulary,
            added,
            added_normalized: Matcher::new(Vec::new()),
            normalizer: Normalizer::default(),
            prefix_space: PrefixSpace::Never,
            segmentation: tekken.segmentation()?,
            model,
            frame: (Vec::from_iter(special.bos), Vec::new()),
            leading_space: LeadingSpace::Keep,
            special,
        })
    }
}

/// Adds the keys `tokenizer.ggml.*` of a `tekken.json` for a model with `vocab` ids.
///
/// # Errors
/// The file is not supported, or GGUF cannot express it.
pub fn write_tekken_gguf(json: &[u8], vocab: usize, out: &mut MetadataBuilder) -> Result<(), TokenizerError> {
    let tekken = Tekken::read(json)?;
    let segmentation = tekken.segmentation()?;
    let row = segmentation.row().filter(|row| row.ignore_merges).ok_or_else(|| TokenizerError::Unsupported {
        place: "tekken.json",
        part: format!("pattern {:?}", tekken.pattern),
        expected: "that of Tekken, to write as GGUF".to_owned(),
    })?;
    let ids = tekken.special.len() + tekken.tokens.len();
    if ids > vocab {
        return Err(TokenizerError::invalid("tekken.json", format!("at most {vocab} ids"), ids.to_string()));
    }
    let written: Vec<String> = tekken.tokens.iter().map(|token| byte_level::encode(token)).collect();
    let (mut texts, mut types) = (Vec::with_capacity(vocab), Vec::with_capacity(vocab));
    for (text, control) in &tekken.special {
        texts.push(text.clone());
        types.push(if *control { 3 } else { 4 });
    }
    texts.extend(written.iter().cloned());
    types.resize(texts.len(), 1);
    texts.extend((ids..vocab).map(|id| format!("[PAD{id}]")));
    types.resize(vocab, 5);
    out.set("tokenizer.ggml.model", "gpt2");
    out.set("tokenizer.ggml.pre", row.gguf.first().copied().unwrap_or_default());
    out.set("tokenizer.ggml.tokens", &texts);
    out.set("tokenizer.ggml.token_type", &types);
    out.set("tokenizer.ggml.merges", &merges(&tekken.tokens, &written));
    for (key, text) in [("bos", BOS), ("eos", EOS), ("unknown", "<unk>"), ("padding", "<pad>")] {
        if let Some(id) = tekken.special_id(text) {
            out.set(&format!("tokenizer.ggml.{key}_token_id"), &id);
        }
    }
    out.set("tokenizer.ggml.add_bos_token", &true);
    out.set("tokenizer.ggml.add_eos_token", &false);
    Ok(())
}

/// For each token, in order, the pairs of tokens that make it, those of low ranks first. `written` are the tokens in the
/// byte alphabet.
fn merges(tokens: &[Vec<u8>], written: &[String]) -> Vec<String> {
    let ranks: HashMap<&[u8], usize> =
        tokens.iter().enumerate().map(|(rank, token)| (token.as_slice(), rank)).collect();
    let mut merges = Vec::with_capacity(tokens.len());
    for token in tokens {
        let halves = |middle: usize| Some((*ranks.get(&token[..middle])?, *ranks.get(&token[middle..])?));
        let mut pairs: Vec<(usize, usize)> = (1..token.len()).filter_map(halves).collect();
        pairs.sort_unstable();
        merges.extend(pairs.into_iter().map(|(left, right)| format!("{} {}", written[left], written[right])));
    }
    merges
}
