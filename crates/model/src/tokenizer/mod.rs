//! Text to token ids and back.
//!
//! A [`Tokenizer`] comes from a GGUF file's metadata, a `tokenizer.json` or a `tekken.json`. Encoding runs in stages: added tokens are
//! found in the text, the stretches between them are normalized, cut into pieces, and each piece is tokenized by
//! byte-pair encoding, by unigram scores, or into the longest tokens. The ids equal those of the Hugging Face `tokenizers` library, with one
//! exception: text never becomes a control token unless the caller says that the text may hold structure.

mod added;
mod bert;
mod bpe;
mod byte_level;
mod charsmap;
mod error;
mod fallback;
mod gguf;
mod json;
mod merge;
mod normalize;
mod open;
mod pairs;
mod pretokenize;
mod pretokenizers;
mod scan;
mod special;
mod steps;
mod stream;
mod table;
mod tekken;
mod to_json;
mod unicode;
mod unicode_ranges;
mod unigram;
mod vocabulary;

use std::borrow::Cow;

use added::{Matcher, Part};
use bert::WordPiece;
use bpe::Bpe;
use charsmap::Charsmap;
pub use error::TokenizerError;
pub use gguf::GgufVocabulary;
pub use json::to_gguf::write_gguf;
use normalize::Normalizer;
use pretokenize::Segmentation;
pub use special::SpecialNames;
use special::SpecialTokens;
pub use stream::DetokenizeStream;
use stream::LeadingSpace;
pub use tekken::write_tekken_gguf;
use unigram::Unigram;
pub use vocabulary::TokenKind;
use vocabulary::Vocabulary;

/// How [`Tokenizer::encode`] treats special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Add what the model expects around a text, such as BOS.
    pub add_special: bool,
    /// Read control tokens that are written in the text. Off for text from users, who must not forge structure.
    pub parse_special: bool,
}

impl EncodeOptions {
    /// For plain text.
    pub const TEXT: Self = Self { add_special: true, parse_special: false };
    /// For the output of a chat template, which writes its control tokens itself.
    pub const TEMPLATE: Self = Self { add_special: false, parse_special: true };
}

/// Turns text into the ids that a model knows, and ids into text.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    /// Tokens found in the text as it came.
    added: Matcher,
    /// Tokens found in normalized text.
    added_normalized: Matcher,
    /// Characters that are replaced before all else.
    charsmap: Option<Charsmap>,
    normalizer: Normalizer,
    prefix_space: PrefixSpace,
    segmentation: Segmentation,
    model: Model,
    /// Ids before and after a text.
    frame: (Vec<u32>, Vec<u32>),
    leading_space: LeadingSpace,
    special: SpecialTokens,
}

#[derive(Debug)]
enum Model {
    Bpe(Bpe),
    Unigram(Unigram),
    WordPiece(WordPiece),
}

/// Where a space goes before text that does not begin with one, after normalization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum PrefixSpace {
    #[default]
    Never,
    /// Before the first text, if no token stands before it.
    First,
    /// Before each text between added tokens.
    Always,
}

/// Working memory of one call.
#[derive(Default)]
struct Scratch {
    merging: merge::Workspace,
    lattice: unigram::Lattice,
}

impl Tokenizer {
    /// The ids of `text`. Characters that the vocabulary can express neither as text, nor as bytes, nor as an unknown
    /// token leave no trace.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        self.encode_into(text, options, &mut ids);
        ids
    }

    /// Appends the ids of `text` to `out`.
    pub fn encode_into(&self, text: &str, options: EncodeOptions, out: &mut Vec<u32>) {
        let mut scratch = Scratch::default();
        if options.add_special {
            out.extend_from_slice(&self.frame.0);
        }
        self.added.split(text, options.parse_special, |part| match part {
            Part::Token(id) => out.push(id),
            Part::Text(text, start) => self.encode_text(text, start == 0, options, &mut scratch, out),
        });
        if options.add_special {
            out.extend_from_slice(&self.frame.1);
        }
    }

    fn encode_text(&self, text: &str, first: bool, options: EncodeOptions, scratch: &mut Scratch, out: &mut Vec<u32>) {
        let text = self.charsmap.as_ref().map_or(Cow::Borrowed(text), |map| Cow::Owned(map.apply(text)));
        let text = self.normalizer.apply(&text);
        self.added_normalized.split(&text, options.parse_special, |part| match part {
            Part::Token(id) => out.push(id),
            Part::Text(text, start) => self.encode_plain(text, first && start == 0, scratch, out),
        });
    }

    fn encode_plain(&self, text: &str, first: bool, scratch: &mut Scratch, out: &mut Vec<u32>) {
        let prefixed = match self.prefix_space {
            PrefixSpace::Never => false,
            PrefixSpace::First => first,
            PrefixSpace::Always => true,
        };
        let text =
            if prefixed && !text.starts_with(' ') { Cow::Owned(format!(" {text}")) } else { Cow::Borrowed(text) };
        self.segmentation.split(&text, &mut |piece| match &self.model {
            Model::Bpe(bpe) => bpe.encode(&self.vocabulary, piece, &mut scratch.merging, out),
            Model::WordPiece(word_piece) => word_piece.encode(&self.vocabulary, piece, out),
            Model::Unigram(unigram) => unigram.encode(piece, &mut scratch.lattice, out),
        });
    }

    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD. With `skip_special`, control tokens are left out. Ids
    /// outside the vocabulary stand for nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let bytes = self.decode_bytes(ids, skip_special);
        String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// As [`Self::decode`], with bytes as the tokens have them.
    pub fn decode_bytes(&self, ids: &[u32], skip_special: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        let mut decoding = stream::Decoding::new(skip_special);
        for &id in ids {
            decoding.append(self, id, &mut bytes);
        }
        bytes
    }

    /// Number of ids: one more than the highest.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The bytes that a token decodes to in the middle of a text; empty for an id outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocabulary.bytes(id)
    }

    /// `None` for an id outside the vocabulary.
    pub fn token_kind(&self, id: u32) -> Option<TokenKind> {
        self.vocabulary.kind(id)
    }

    /// The token that is exactly this text, control tokens included.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        let added = self.added.tokens().iter().chain(self.added_normalized.tokens());
        let mut added = added.filter(|token| self.vocabulary.bytes(token.id) == text.as_bytes());
        added.next().map(|token| token.id).or_else(|| self.vocabulary.get(text.as_bytes()))
    }

    /// The begin of a text, whether or not [`EncodeOptions::add_special`] adds it.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// The end of a text.
    pub fn eos(&self) -> Option<u32> {
        self.special.eos
    }

    /// The end of a turn, where the model has a token for it; it may be that of the end of a text.
    pub fn eot(&self) -> Option<u32> {
        self.special.eot
    }

    /// The tokens after which generation stops, in ascending order.
    pub fn end_of_generation(&self) -> &[u32] {
        &self.special.end_of_generation
    }

    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.special.end_of_generation.binary_search(&id).is_ok()
    }
}
