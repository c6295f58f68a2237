//! Tokenizers from the metadata of a GGUF file.

use super::added::{AddedToken, Matcher};
use super::bert::{WordPiece, Words};
use super::bpe::{Bpe, Rule, Seeds, ranks_of_scores};
use super::charsmap::Charsmap;
use super::error::TokenizerError;
use super::fallback::Fallback;
use super::normalize::{Normalizer, unmark_spaces};
use super::pairs::PairsBuilder;
use super::pretokenize::{self, Letters, PRE_TOKENIZERS, PreTokenizer, Segmentation};
use super::special::SpecialTokens;
use super::stream::LeadingSpace;
use super::table::NO_ID;
use super::unigram::Unigram;
use super::vocabulary::{TokenKind, Vocabulary};
use super::{Model, PrefixSpace, Tokenizer, byte_level};

/// The keys `tokenizer.ggml.*`, by their names there. What is absent follows from the model.
#[derive(Debug, Clone, Default)]
pub struct GgufVocabulary<'a> {
    /// `gpt2`, `gemma4`, `whitespace`, `llama`, `t5` or `bert`.
    pub model: &'a str,
    /// Name of the pre-tokenizer; for `gpt2` only, as the others have one each.
    pub pre: Option<&'a str>,
    /// In UTF-8, as far as files keep to it.
    pub tokens: Vec<&'a [u8]>,
    /// As long as `tokens`, or empty.
    pub token_type: Vec<i32>,
    /// As long as `tokens`, or empty for `gpt2`.
    pub scores: Vec<f32>,
    /// `left right`; for `gpt2`, `gemma4` and `whitespace`.
    pub merges: Vec<&'a [u8]>,
    pub bos_token_id: Option<u32>,
    pub eos_token_id: Option<u32>,
    pub eot_token_id: Option<u32>,
    pub unknown_token_id: Option<u32>,
    pub cls_token_id: Option<u32>,
    pub sep_token_id: Option<u32>,
    pub add_bos_token: Option<bool>,
    pub add_eos_token: Option<bool>,
    pub add_space_prefix: Option<bool>,
    pub remove_extra_whitespaces: Option<bool>,
    /// `normalizer.lowercase`
    pub lowercase: Option<bool>,
    /// `normalizer.nfc`, which only this program writes, where the name of the pre-tokenizer says otherwise.
    pub nfc: Option<bool>,
    /// `normalizer.strip_accents`
    pub strip_accents: Option<bool>,
    /// SentencePiece's table of replaced characters; empty where there is none.
    pub precompiled_charsmap: Vec<u8>,
}

/// What follows from the model where the file does not say.
#[derive(Default)]
struct Defaults {
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    space_prefix: bool,
}

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file's metadata describes.
    ///
    /// # Errors
    /// When the metadata contradicts itself or names a model or pre-tokenizer that is not supported.
    pub fn from_gguf(source: &GgufVocabulary) -> Result<Self, TokenizerError> {
        check_lengths(source)?;
        match source.model {
            "gpt2" => byte_pairs(source, row_of(source, source.pre.unwrap_or_default())?),
            "gemma4" | "whitespace" => byte_pairs(source, row_of(source, source.model)?),
            "llama" => sentencepiece(source, false),
            "t5" => sentencepiece(source, true),
            "bert" => word_pieces(source),
            other => Err(TokenizerError::Unsupported {
                place: "tokenizer.ggml.model",
                part: other.to_owned(),
                expected: "gpt2, gemma4, whitespace, llama, t5 or bert".to_owned(),
            }),
        }
    }
}

fn check_lengths(source: &GgufVocabulary) -> Result<(), TokenizerError> {
    let lengths = [
        ("token_type", source.token_type.len(), true),
        ("scores", source.scores.len(), !matches!(source.model, "llama" | "t5")),
    ];
    for (key, found, optional) in lengths {
        if found != source.tokens.len() && !(optional && found == 0) {
            let expected = format!("{} values, one for each token", source.tokens.len());
            return Err(TokenizerError::invalid(format!("tokenizer.ggml.{key}"), expected, found.to_string()));
        }
    }
    Ok(())
}

/// `token_type` 1 to 6. Others count as text.
fn kind_of(source: &GgufVocabulary, id: usize) -> TokenKind {
    match source.token_type.get(id) {
        Some(2) => TokenKind::Unknown,
        Some(3) => TokenKind::Control,
        Some(4) => TokenKind::UserDefined,
        Some(5) => TokenKind::Unused,
        Some(6) => TokenKind::Byte,
        _ => TokenKind::Normal,
    }
}

fn row_of(source: &GgufVocabulary, name: &str) -> Result<&'static PreTokenizer, TokenizerError> {
    let place = if source.model == "gpt2" { "tokenizer.ggml.pre" } else { "tokenizer.ggml.model" };
    pretokenize::by_gguf_name(name).ok_or_else(|| TokenizerError::Unsupported {
        place,
        part: name.to_owned(),
        expected: PRE_TOKENIZERS.iter().flat_map(|row| row.gguf).copied().collect::<Vec<_>>().join(", "),
    })
}

/// BPE by listed merges. Those whose halves or whole are no tokens cannot apply and are left out.
fn byte_pairs(source: &GgufVocabulary, row: &'static PreTokenizer) -> Result<Tokenizer, TokenizerError> {
    let mut vocabulary = empty_vocabulary(source);
    let mut byte_tokens = Box::new([NO_ID; 256]);
    let mut buffer = Vec::new();
    for (id, token) in (0..).zip(&source.tokens) {
        let mut kind = kind_of(source, id as usize);
        let is_plain = matches!(kind, TokenKind::Normal | TokenKind::Byte | TokenKind::Unused);
        let byte = if is_plain && row.letters != Letters::Bytes { byte_level::parse_byte_token(token) } else { None };
        if let Some(byte) = byte {
            byte_tokens[usize::from(byte)] = id;
            vocabulary.push(&[byte], TokenKind::Byte, false)?;
            continue;
        }
        if kind == TokenKind::Byte {
            kind = TokenKind::Normal;
        }
        buffer.clear();
        // Only text is written in letters of its own.
        let is_text = kind == TokenKind::Normal && row.letters.decode(token, &mut buffer);
        if !is_text {
            buffer.extend_from_slice(token);
        }
        vocabulary.push(&buffer, kind, is_text || kind == TokenKind::UserDefined)?;
    }

    let mut pairs = PairsBuilder::new(&vocabulary, source.merges.len());
    for (rank, merge) in (0..).zip(&source.merges) {
        buffer.clear();
        let middle = merge.iter().skip(1).position(|&byte| byte == b' ').and_then(|before| {
            let (left, right) = merge.split_at(before + 1);
            let middle = row.letters.decode(left, &mut buffer).then_some(buffer.len())?;
            row.letters.decode(&right[1..], &mut buffer).then_some(middle)
        });
        if let Some(middle) = middle {
            pairs.push(rank, &buffer, middle);
        }
    }
    let rule = Rule::Pairs(pairs.finish());
    let seeds = match row.letters {
        Letters::Bytes => {
            Seeds::Bytes(Box::new(std::array::from_fn(|byte| vocabulary.get(&[byte as u8]).unwrap_or(NO_ID))))
        }
        Letters::Marked | Letters::Plain => Seeds::Characters,
    };
    let bytes = byte_tokens.iter().any(|&id| id != NO_ID).then_some(byte_tokens);
    let fallback = Fallback { bytes, unknown: None, fuse_unknown: false };
    let segmentation = match row.letters {
        Letters::Marked => Segmentation::without_effect(&vocabulary),
        Letters::Bytes | Letters::Plain => Segmentation::of_row(row)?,
    };
    let model = Model::Bpe(Bpe::new(rule, seeds, fallback, row.ignore_merges, vocabulary.len()));
    let normalizer = Normalizer {
        nfc: source.nfc.unwrap_or(row.nfc),
        unmark_spaces: row.letters == Letters::Marked,
        lowercase: row.letters == Letters::Plain && source.lowercase == Some(true),
        ..Normalizer::default()
    };
    let defaults = Defaults { add_bos: row.add_bos, ..Defaults::default() };
    Ok(assemble(source, vocabulary, model, segmentation, normalizer, &defaults))
}

/// BERT's words; tokens that begin one are written with `▁`.
fn word_pieces(source: &GgufVocabulary) -> Result<Tokenizer, TokenizerError> {
    let mut vocabulary = empty_vocabulary(source);
    let mut buffer = Vec::new();
    for (id, token) in source.tokens.iter().enumerate() {
        let kind = kind_of(source, id);
        buffer.clear();
        unmark_spaces(token, &mut buffer);
        vocabulary.push(&buffer, kind, matches!(kind, TokenKind::Normal | TokenKind::Unused))?;
    }
    let unknown = source.unknown_token_id.or(Some(100)).filter(|&id| (id as usize) < vocabulary.len());
    let lowercase = source.lowercase.unwrap_or(true);
    let words = Words::new(lowercase, source.strip_accents.unwrap_or(lowercase));
    let defaults = Defaults {
        bos: source.cls_token_id.or(Some(101)),
        eos: source.sep_token_id.or(Some(102)),
        add_bos: true,
        add_eos: true,
        space_prefix: true,
    };
    let model = Model::WordPiece(WordPiece { unknown });
    let segmentation = Segmentation::Bert(Box::new(words));
    let mut tokenizer = assemble(source, vocabulary, model, segmentation, Normalizer::default(), &defaults);
    tokenizer.leading_space = LeadingSpace::StripOne;
    Ok(tokenizer)
}

/// SentencePiece: BPE by scores, or unigram.
fn sentencepiece(source: &GgufVocabulary, is_unigram: bool) -> Result<Tokenizer, TokenizerError> {
    let mut vocabulary = empty_vocabulary(source);
    let mut byte_tokens = Box::new([NO_ID; 256]);
    let mut buffer = Vec::new();
    for (id, token) in (0..).zip(&source.tokens) {
        let mut kind = kind_of(source, id as usize);
        let byte = if kind == TokenKind::Byte { byte_level::parse_byte_token(token) } else { None };
        match byte {
            Some(byte) => {
                byte_tokens[usize::from(byte)] = id;
                vocabulary.push(&[byte], kind, false)?;
            }
            None => {
                if kind == TokenKind::Byte {
                    kind = TokenKind::Unused;
                }
                let is_text = matches!(kind, TokenKind::Normal | TokenKind::Unused);
                buffer.clear();
                unmark_spaces(token, &mut buffer);
                vocabulary.push(&buffer, kind, is_text)?;
            }
        }
    }
    let defaults = if is_unigram {
        Defaults { bos: None, eos: Some(1), add_bos: false, add_eos: true, space_prefix: true }
    } else {
        Defaults { bos: Some(1), eos: Some(2), add_bos: true, add_eos: false, space_prefix: true }
    };
    let unknown = source.unknown_token_id.unwrap_or(if is_unigram { 2 } else { 0 });
    let unknown = Some(unknown).filter(|&id| (id as usize) < vocabulary.len());
    let bytes = byte_tokens.iter().any(|&id| id != NO_ID).then_some(byte_tokens);
    let fallback = Fallback { bytes, unknown, fuse_unknown: true };
    let segmentation = if is_unigram { Segmentation::Whole } else { Segmentation::without_effect(&vocabulary) };
    let model = if is_unigram {
        let scores = source.scores.iter().map(|&score| f64::from(score)).collect();
        Model::Unigram(Unigram::new(&vocabulary, scores, fallback))
    } else {
        let rule = Rule::Scores(ranks_of_scores(&source.scores));
        Model::Bpe(Bpe::new(rule, Seeds::Characters, fallback, false, vocabulary.len()))
    };
    let normalizer = Normalizer {
        unmark_spaces: true,
        collapse_spaces: is_unigram && source.remove_extra_whitespaces == Some(true),
        prepend_space: source.add_space_prefix.unwrap_or(defaults.space_prefix),
        ..Normalizer::default()
    };
    let mut tokenizer = assemble(source, vocabulary, model, segmentation, normalizer, &defaults);
    if !source.precompiled_charsmap.is_empty() {
        tokenizer.charsmap = Some(Charsmap::new(&source.precompiled_charsmap)?);
    }
    Ok(tokenizer)
}

fn empty_vocabulary(source: &GgufVocabulary) -> Vocabulary {
    Vocabulary::with_capacity(source.tokens.len(), source.tokens.iter().map(|token| token.len()).sum())
}

fn assemble(
    source: &GgufVocabulary,
    mut vocabulary: Vocabulary,
    model: Model,
    segmentation: Segmentation,
    normalizer: Normalizer,
    defaults: &Defaults,
) -> Tokenizer {
    let is_added = |id: u32| {
        matches!(kind_of(source, id as usize), TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown)
    };
    // No text holds a token that is not UTF-8.
    let named: Vec<(&str, u32)> = (0..)
        .zip(&source.tokens)
        .filter(|&(id, _)| is_added(id))
        .filter_map(|(id, token)| Some((std::str::from_utf8(token).ok()?, id)))
        .collect();
    let added = named.iter().map(|&(text, id)| AddedToken {
        id,
        content: text.to_owned(),
        control: kind_of(source, id as usize) != TokenKind::UserDefined,
        single_word: false,
        lstrip: false,
        rstrip: false,
    });
    let added = Matcher::new(added.collect());
    let bos = source.bos_token_id.or(defaults.bos);
    let eos = source.eos_token_id.or(defaults.eos);
    let special = SpecialTokens::new(&mut vocabulary, bos, eos, source.eot_token_id, named.iter().copied());
    let frame_of = |adds: bool, id: Option<u32>| if adds { Vec::from_iter(id) } else { Vec::new() };
    let frame = (
        frame_of(source.add_bos_token.unwrap_or(defaults.add_bos), special.bos),
        frame_of(source.add_eos_token.unwrap_or(defaults.add_eos), special.eos),
    );
    Tokenizer {
        charsmap: None,
        vocabulary,
        added,
        added_normalized: Matcher::new(Vec::new()),
        normalizer,
        prefix_space: PrefixSpace::Never,
        segmentation,
        model,
        frame,
        leading_space: if normalizer.prepend_space { LeadingSpace::StripOne } else { LeadingSpace::Keep },
        special,
    }
}
