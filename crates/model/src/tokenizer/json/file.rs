//! The shape of `tokenizer.json`. Small parts stay JSON values; the vocabulary and the merges, which are nearly all of
//! the file, are read without a tree and without an allocation per token.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

#[derive(Deserialize)]
pub struct TokenizerFile {
    pub model: ModelPart,
    #[serde(default)]
    pub added_tokens: Vec<AddedPart>,
    #[serde(default)]
    pub normalizer: Value,
    #[serde(default)]
    pub pre_tokenizer: Value,
    #[serde(default)]
    pub post_processor: Value,
    #[serde(default)]
    pub decoder: Value,
}

#[derive(Deserialize)]
pub struct AddedPart {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub normalized: bool,
    #[serde(default)]
    pub special: bool,
}

#[derive(Deserialize)]
pub struct ModelPart {
    /// Absent in old files.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub vocab: Vocab,
    #[serde(default)]
    pub merges: Merges,
    pub dropout: Option<f32>,
    pub unk_token: Option<String>,
    pub unk_id: Option<u32>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub fuse_unk: bool,
    #[serde(default)]
    pub byte_fallback: bool,
    #[serde(default)]
    pub ignore_merges: bool,
}

/// Strings, one after the other in one.
#[derive(Default)]
pub struct TextList {
    text: String,
    /// Where each string ends; it starts at the end of the one before.
    ends: Vec<usize>,
}

impl TextList {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Panics where there are not so many.
    pub fn get(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start..self.ends[at]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Bytes of all strings.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }
}

/// Reads one string to the end of the list.
impl<'de> DeserializeSeed<'de> for &mut TextList {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for &mut TextList {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.push(text);
        Ok(())
    }
}

/// Tokens with their ids, or in the order of their ids with their scores.
pub enum Vocab {
    Ids(TextList, Vec<u32>),
    Scores(TextList, Vec<f64>),
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VocabVisitor;
        impl<'de> Visitor<'de> for VocabVisitor {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of ids or a list of [token, score]")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let (mut tokens, mut ids) = (TextList::default(), Vec::new());
                while map.next_key_seed(&mut tokens)?.is_some() {
                    ids.push(map.next_value()?);
                }
                Ok(Vocab::Ids(tokens, ids))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocab, A::Error> {
                let (mut tokens, mut scores) = (TextList::default(), Vec::new());
                while let Some((token, score)) = list.next_element::<(String, f64)>()? {
                    tokens.push(&token);
                    scores.push(score);
                }
                Ok(Vocab::Scores(tokens, scores))
            }
        }
        deserializer.deserialize_any(VocabVisitor)
    }
}

/// Merges, written `"left right"` or `["left", "right"]`, as the halves one after the other.
#[derive(Default)]
pub struct Merges(TextList);

impl Merges {
    pub fn len(&self) -> usize {
        self.0.len() / 2
    }

    /// The halves of each merge.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.len()).map(|at| (self.0.get(2 * at), self.0.get(2 * at + 1)))
    }
}

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergesVisitor;
        impl<'de> Visitor<'de> for MergesVisitor {
            type Value = Merges;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of merges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merges, A::Error> {
                let mut halves = TextList::default();
                while list.next_element_seed(MergeSeed(&mut halves))?.is_some() {}
                Ok(Merges(halves))
            }
        }
        deserializer.deserialize_seq(MergesVisitor)
    }
}

/// Reads the two halves of one merge to the end of the list.
struct MergeSeed<'a>(&'a mut TextList);

impl<'de> DeserializeSeed<'de> for MergeSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MergeSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a merge, as \"left right\" or [\"left\", \"right\"]")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match text.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => {
                self.0.push(left);
                self.0.push(right);
                Ok(())
            }
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut halves = 0;
        while list.next_element_seed(&mut *self.0)?.is_some() {
            halves += 1;
        }
        if halves == 2 { Ok(()) } else { Err(A::Error::invalid_length(halves, &self)) }
    }
}
