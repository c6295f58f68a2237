//! Tokens by id, and ids by token bytes.

use super::error::TokenizerError;
use super::table::ByteMap;

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Text.
    Normal,
    /// Stands for text that the vocabulary cannot express.
    Unknown,
    /// Structure, such as the begin and the end of a turn; never made from plain text.
    Control,
    /// Text added to the vocabulary; it is found before the model sees the text.
    UserDefined,
    /// An id without use.
    Unused,
    /// One byte of text that no other token covers.
    Byte,
}

/// All tokens: their bytes as they decode, their kinds, and a lookup by bytes.
///
/// The lookup knows only tokens that a model may produce from text: those pushed with
/// `matchable`. Two such tokens with the same bytes: the later one is found.
#[derive(Debug)]
pub(super) struct Vocabulary {
    /// Bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// `ends[id]` is the end of the token's bytes; they start at the end of the one before.
    ends: Vec<u32>,
    kinds: Vec<TokenKind>,
    lookup: ByteMap,
    /// Whether the lookup gives this id, by id.
    found: Vec<bool>,
    /// Length in bytes of the longest token that the lookup knows.
    longest: usize,
}

impl Vocabulary {
    /// Room for `tokens` tokens of `bytes` bytes in all.
    pub fn with_capacity(tokens: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(tokens),
            kinds: Vec::with_capacity(tokens),
            lookup: ByteMap::with_capacity(tokens),
            found: Vec::with_capacity(tokens),
            longest: 0,
        }
    }

    /// Appends the token with the next id.
    ///
    /// # Errors
    /// When all tokens together pass 4 GiB.
    pub fn push(&mut self, bytes: &[u8], kind: TokenKind, matchable: bool) -> Result<(), TokenizerError> {
        self.bytes.extend_from_slice(bytes);
        let end = u32::try_from(self.bytes.len())
            .map_err(|_| TokenizerError::invalid("vocabulary", "at most 4 GiB of text", "more"))?;
        let id = self.ends.len() as u32;
        self.ends.push(end);
        self.kinds.push(kind);
        let found = matchable && !bytes.is_empty();
        self.found.push(found);
        if found {
            self.longest = self.longest.max(bytes.len());
            let (all, ends) = (&self.bytes, &self.ends);
            if let Some(earlier) = self.lookup.insert(bytes, id, |other| token(all, ends, other) == bytes) {
                self.found[earlier as usize] = false;
            }
        }
        Ok(())
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes that the token decodes to; empty for an id outside the vocabulary.
    pub fn bytes(&self, id: u32) -> &[u8] {
        if (id as usize) < self.ends.len() { token(&self.bytes, &self.ends, id) } else { &[] }
    }

    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }

    pub fn set_kind(&mut self, id: u32, kind: TokenKind) {
        if let Some(slot) = self.kinds.get_mut(id as usize) {
            *slot = kind;
        }
    }

    /// The token that is exactly `bytes`.
    pub fn get(&self, bytes: &[u8]) -> Option<u32> {
        if bytes.len() > self.longest {
            return None;
        }
        self.lookup.find(bytes, |id| token(&self.bytes, &self.ends, id) == bytes)
    }

    /// Whether [`Self::get`] gives this id for its bytes.
    pub fn finds(&self, id: u32) -> bool {
        self.found.get(id as usize) == Some(&true)
    }

    /// The bytes that some token has directly before a space that is not its first character, by byte; none for a space.
    pub fn bytes_before_spaces(&self) -> Box<[bool; 256]> {
        let mut found = Box::new([false; 256]);
        // The last byte of one token and the first of the next are no pair.
        let mut start = 0;
        for &end in &self.ends {
            for pair in self.bytes[start..end as usize].windows(2).filter(|pair| pair[1] == b' ') {
                found[usize::from(pair[0])] = true;
            }
            start = end as usize;
        }
        found[usize::from(b' ')] = false;
        found
    }
}

fn token<'a>(bytes: &'a [u8], ends: &[u32], id: u32) -> &'a [u8] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] as usize };
    &bytes[start..ends[id] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_finds_the_later_of_two_equal_tokens_and_skips_the_unmatchable() {
        let mut vocabulary = Vocabulary::with_capacity(4, 16);
        for (bytes, matchable) in [("a", true), ("bc", true), ("a", true), ("<s>", false)] {
            vocabulary.push(bytes.as_bytes(), TokenKind::Normal, matchable).unwrap();
        }
        assert_eq!(vocabulary.get(b"a"), Some(2));
        assert_eq!(vocabulary.get(b"bc"), Some(1));
        assert_eq!(vocabulary.get(b"<s>"), None);
        assert_eq!([0, 1, 2, 3, 4].map(|id| vocabulary.finds(id)), [false, true, true, false, false]);
        assert_eq!(vocabulary.bytes(3), b"<s>");
        assert_eq!(vocabulary.bytes(4), b"");
    }
}
