//! What happens to text before it is cut into pieces.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The character that SentencePiece vocabularies write for a space.
pub(super) const SPACE_MARK: char = '▁';

/// Changes to each stretch of text between added tokens.
///
/// SentencePiece vocabularies write a space as `▁` and cannot tell the two apart. Here both are a space, in the
/// vocabulary and in the text, so that most text needs no change and tokens decode as they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Normalizer {
    /// Canonical composition.
    pub nfc: bool,
    /// Spaces at both ends go, and of several in a row one stays; a written `▁` is none of them.
    pub collapse_spaces: bool,
    /// `▁` becomes a space.
    pub unmark_spaces: bool,
    /// A space goes before the text.
    pub prepend_space: bool,
    /// Letters become small.
    pub lowercase: bool,
}

impl Normalizer {
    pub fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        if self.nfc && !text.is_ascii() && is_nfc_quick(text.chars()) != IsNormalized::Yes {
            text = Cow::Owned(text.nfc().collect());
        }
        if self.collapse_spaces && (text.starts_with(' ') || text.ends_with(' ') || text.contains("  ")) {
            let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
            text = Cow::Owned(words.join(" "));
        }
        if self.unmark_spaces && text.contains(SPACE_MARK) {
            text = Cow::Owned(text.replace(SPACE_MARK, " "));
        }
        if self.lowercase {
            text = Cow::Owned(lowercase(&text));
        }
        if self.prepend_space && !text.is_empty() {
            text.to_mut().insert(0, ' ');
        }
        text
    }
}

/// Each character in lower case by itself: a sigma that ends a word is as any other.
pub(super) fn lowercase(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Appends `written` to `out`, with a space for each `▁`.
pub(super) fn unmark_spaces(written: &[u8], out: &mut Vec<u8>) {
    let mark = "▁".as_bytes();
    let mut rest = written;
    while let Some((&byte, after)) = rest.split_first() {
        match rest.strip_prefix(mark) {
            Some(after) => {
                out.push(b' ');
                rest = after;
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_in_tokens_are_spaces() {
        let mut out = Vec::new();
        unmark_spaces("▁▁a▂▁".as_bytes(), &mut out);
        assert_eq!(out, "  a▂ ".as_bytes());
    }

    #[test]
    fn each_change_alone_and_all_together() {
        let all =
            Normalizer { nfc: true, collapse_spaces: true, unmark_spaces: true, prepend_space: true, lowercase: true };
        assert_eq!(all.apply(" E\u{301}▁▁x  Y "), " é  x y");
        assert_eq!(all.apply(""), "");
        assert_eq!(Normalizer::default().apply("e\u{301}▁x"), "e\u{301}▁x");
        assert!(matches!(Normalizer { nfc: true, ..Default::default() }.apply("é plain"), Cow::Borrowed(_)));
    }
}
