//! Tokenizers from the `tokenizer.json` of the Hugging Face `tokenizers` library.

mod file;
mod parts;
pub(super) mod to_gguf;

use std::borrow::Cow;

use file::{AddedPart, Merges, ModelPart, TokenizerFile, Vocab};

use super::added::{AddedToken, Matcher};
use super::bpe::{Bpe, Rule, Seeds};
use super::error::TokenizerError;
use super::fallback::Fallback;
use super::normalize::{Normalizer, unmark_spaces};
use super::pairs::PairsBuilder;
use super::pretokenize::Segmentation;
use super::special::{SpecialNames, SpecialTokens};
use super::table::{NO_ID, PairMap};
use super::unigram::Unigram;
use super::vocabulary::{TokenKind, Vocabulary};
use super::{Model, Tokenizer, byte_level};

impl Tokenizer {
    /// Builds the tokenizer that `tokenizer.json` describes. Which tokens begin and end a text stands in other files,
    /// so `names` gives them.
    ///
    /// Truncation and padding in the file are not applied: a caller sees every token of its text.
    ///
    /// # Errors
    /// When the file is no such JSON, contradicts itself, or has a part that is not supported; the error names it.
    pub fn from_tokenizer_json(json: &[u8], names: SpecialNames) -> Result<Self, TokenizerError> {
        let text = std::str::from_utf8(json)
            .map_err(|error| TokenizerError::invalid("tokenizer.json", "UTF-8", error.to_string()))?;
        let file: TokenizerFile = serde_json::from_str(text)?;
        check_model(&file.model)?;

        let mut normalizer = parts::normalizer(&file.normalizer)?;
        let mut pre = parts::pre_tokenizer(&file.pre_tokenizer, &normalizer)?;
        normalizer.unmark_spaces |= pre.marks_spaces;
        let spelling = match (pre.byte_level, normalizer.unmark_spaces) {
            (true, _) => Spelling::ByteLevel,
            (false, marked) => Spelling::Text { marked },
        };
        let leading_space = parts::decoder(&file.decoder, normalizer.unmark_spaces)?;
        let frame = parts::post_processor(&file.post_processor)?;

        let mut entries = Entries::new(&file, spelling, &normalizer)?;
        let model = build_model(&file.model, spelling, &mut entries)?;
        if matches!((&model, &pre.segmentation), (Model::Bpe(_), Segmentation::Whole)) && normalizer.unmark_spaces {
            pre.segmentation = Segmentation::without_effect(&entries.vocabulary);
        }

        let added = |normalized: bool| {
            let wanted = file.added_tokens.iter().filter(move |token| token.normalized == normalized);
            wanted.map(move |token| AddedToken {
                id: token.id,
                content: text_to_find(token, &normalizer).into_owned(),
                control: token.special,
                single_word: token.single_word,
                lstrip: token.lstrip,
                rstrip: token.rstrip,
            })
        };
        let (raw, normalized) = (added(false).collect(), added(true).collect());
        let role = |name: Option<&str>| {
            let added = file.added_tokens.iter().find(|token| Some(token.content.as_str()) == name);
            added.map(|token| token.id).or_else(|| entries.vocabulary.get(name?.as_bytes()))
        };
        let (bos, eos, eot) = (role(names.bos), role(names.eos), role(names.eot));
        let added_names = file.added_tokens.iter().map(|token| (token.content.as_str(), token.id));
        let special = SpecialTokens::new(&mut entries.vocabulary, bos, eos, eot, added_names);
        if let Some(id) = frame.0.iter().chain(&frame.1).find(|&&id| id as usize >= entries.vocabulary.len()) {
            let expected = format!("ids below {}", entries.vocabulary.len());
            return Err(TokenizerError::invalid("post_processor", expected, id.to_string()));
        }
        Ok(Self {
            charsmap: None,
            vocabulary: entries.vocabulary,
            added: Matcher::new(raw),
            added_normalized: Matcher::new(normalized),
            normalizer,
            prefix_space: pre.prefix_space,
            segmentation: pre.segmentation,
            model,
            frame,
            leading_space,
            special,
        })
    }
}

/// How the file writes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// In the alphabet of `byte_level`.
    ByteLevel,
    /// As text; `marked`, with `▁` for a space.
    Text { marked: bool },
}

impl Spelling {
    /// Appends the bytes of a token to `out` and returns whether text can become it.
    fn decode(self, written: &str, out: &mut Vec<u8>) -> bool {
        match self {
            Self::ByteLevel => {
                let decodes = byte_level::decode(written.as_bytes(), out);
                if !decodes {
                    out.extend_from_slice(written.as_bytes());
                }
                decodes
            }
            Self::Text { marked: true } => {
                unmark_spaces(written.as_bytes(), out);
                !written.contains(' ')
            }
            Self::Text { marked: false } => {
                out.extend_from_slice(written.as_bytes());
                true
            }
        }
    }
}

/// An added token as the text holds it where it is looked for.
fn text_to_find<'a>(token: &'a AddedPart, normalizer: &Normalizer) -> Cow<'a, str> {
    if token.normalized { normalizer.apply(&token.content) } else { Cow::Borrowed(&token.content) }
}

fn check_model(model: &ModelPart) -> Result<(), TokenizerError> {
    let unsupported = |part: String, expected: &str| {
        Err(TokenizerError::Unsupported { place: "model", part, expected: expected.to_owned() })
    };
    if let Some(kind) = model.kind.as_deref().filter(|kind| !["BPE", "Unigram"].contains(kind)) {
        return unsupported(format!("type {kind}"), "BPE or Unigram");
    }
    if let Some(dropout) = model.dropout.filter(|&dropout| dropout != 0.0) {
        return unsupported(format!("dropout {dropout}"), "none, as it makes ids random");
    }
    let affixes = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
    if let Some(affix) = affixes.into_iter().flatten().find(|affix| !affix.is_empty()) {
        return unsupported(format!("affix {affix:?}"), "no continuing_subword_prefix and no end_of_word_suffix");
    }
    Ok(())
}

/// The vocabulary and what belongs to it by id.
struct Entries {
    vocabulary: Vocabulary,
    /// Tokens of single bytes, written `<0x00>` to `<0xFF>`.
    byte_tokens: Box<[u32; 256]>,
    /// For unigram models, by id.
    scores: Vec<f64>,
    unknown: Option<u32>,
}

impl Entries {
    fn new(file: &TokenizerFile, spelling: Spelling, normalizer: &Normalizer) -> Result<Self, TokenizerError> {
        let (texts, mut scores) = match &file.model.vocab {
            Vocab::Ids(texts, _) => (texts, Vec::new()),
            Vocab::Scores(texts, scores) => (texts, scores.clone()),
        };
        let id_at = |at: usize| match &file.model.vocab {
            Vocab::Ids(_, ids) => ids[at],
            Vocab::Scores(..) => at as u32,
        };
        let ids = (0..texts.len()).map(id_at).chain(file.added_tokens.iter().map(|token| token.id));
        let size = ids.max().map_or(0, |id| id as usize + 1);
        // Room for reserved ids without text, but none for a file of few tokens that claims billions.
        let most = 4 * (texts.len() + file.added_tokens.len()) + (1 << 16);
        if size > most {
            return Err(TokenizerError::invalid("vocab", format!("ids below {most}"), format!("id {}", size - 1)));
        }
        if !scores.is_empty() {
            scores.resize(size, f64::NEG_INFINITY);
        }

        // Places in the list by id.
        let mut places = vec![usize::MAX; size];
        for at in 0..texts.len() {
            places[id_at(at) as usize] = at;
        }
        let mut added: Vec<&AddedPart> = file.added_tokens.iter().collect();
        added.sort_by_key(|token| token.id);
        let mut added = added.into_iter().peekable();
        let mut vocabulary = Vocabulary::with_capacity(size, texts.bytes());
        let mut byte_tokens = Box::new([NO_ID; 256]);
        let mut unknown = None;
        let mut buffer = Vec::new();
        for (id, place) in (0..).zip(places) {
            let listed = (place < texts.len()).then(|| texts.get(place));
            let mut added_here = None;
            while let Some(token) = added.next_if(|token| token.id == id) {
                added_here = Some(token);
            }
            buffer.clear();
            let is_unknown = listed.is_some()
                && (listed == file.model.unk_token.as_deref() || (file.model.unk_id == Some(id) && !scores.is_empty()));
            if is_unknown {
                unknown = Some(id);
            }
            let byte = listed
                .filter(|_| file.model.byte_fallback)
                .and_then(|text| byte_level::parse_byte_token(text.as_bytes()));
            let mut matchable = false;
            let kind = match (added_here, listed, byte) {
                (_, Some(_), Some(byte)) => {
                    byte_tokens[usize::from(byte)] = id;
                    buffer.push(byte);
                    TokenKind::Byte
                }
                (Some(token), listed, _) => {
                    match (listed, spelling) {
                        (Some(listed), _) => matchable = spelling.decode(listed, &mut buffer) && !token.special,
                        (None, Spelling::ByteLevel) => buffer.extend_from_slice(token.content.as_bytes()),
                        (None, _) => _ = spelling.decode(&text_to_find(token, normalizer), &mut buffer),
                    }
                    match token.special {
                        true if is_unknown => TokenKind::Unknown,
                        true => TokenKind::Control,
                        false => TokenKind::UserDefined,
                    }
                }
                (None, Some(listed), _) => {
                    matchable = spelling.decode(listed, &mut buffer);
                    TokenKind::Normal
                }
                (None, None, _) => TokenKind::Unused,
            };
            vocabulary.push(&buffer, kind, matchable)?;
        }
        Ok(Self { vocabulary, byte_tokens, scores, unknown })
    }
}

fn build_model(part: &ModelPart, spelling: Spelling, entries: &mut Entries) -> Result<Model, TokenizerError> {
    let vocabulary = &entries.vocabulary;
    let fallback = Fallback {
        bytes: part.byte_fallback.then(|| entries.byte_tokens.clone()),
        unknown: entries.unknown,
        fuse_unknown: part.fuse_unk || matches!(part.vocab, Vocab::Scores(..)),
    };
    if matches!(part.vocab, Vocab::Scores(..)) {
        return Ok(Model::Unigram(Unigram::new(vocabulary, std::mem::take(&mut entries.scores), fallback)));
    }
    let seeds = match spelling {
        Spelling::ByteLevel => {
            let byte_ids = std::array::from_fn(|byte| vocabulary.get(&[byte as u8]).unwrap_or(NO_ID));
            Seeds::Bytes(Box::new(byte_ids))
        }
        Spelling::Text { .. } => Seeds::Characters,
    };
    let rule = Rule::Pairs(pairs(&part.merges, spelling, vocabulary)?);
    Ok(Model::Bpe(Bpe::new(rule, seeds, fallback, part.ignore_merges, vocabulary.len())))
}

fn pairs(merges: &Merges, spelling: Spelling, vocabulary: &Vocabulary) -> Result<PairMap, TokenizerError> {
    let mut pairs = PairsBuilder::new(vocabulary, merges.len());
    let mut whole = Vec::new();
    for (rank, (left, right)) in (0..).zip(merges.iter()) {
        whole.clear();
        spelling.decode(left, &mut whole);
        let middle = whole.len();
        spelling.decode(right, &mut whole);
        if !pairs.push(rank, &whole, middle) {
            let found = format!("{left:?} and {right:?}");
            return Err(TokenizerError::invalid(format!("merge {rank}"), "two tokens that make a third", found));
        }
    }
    Ok(pairs.finish())
}
