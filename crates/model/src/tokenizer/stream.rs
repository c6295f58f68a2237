//! Ids to text, all at once or one by one.

use super::Tokenizer;
use super::vocabulary::TokenKind;

/// What becomes of the space that encoding put before a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LeadingSpace {
    #[default]
    Keep,
    /// One space at the start of the text goes.
    StripOne,
    /// All spaces of the first token go.
    StripFirstToken,
}

/// The state between two tokens.
#[derive(Debug, Clone)]
pub(super) struct Decoding {
    skip_special: bool,
    /// Whether no token has been written yet.
    at_start: bool,
}

impl Decoding {
    pub fn new(skip_special: bool) -> Self {
        Self { skip_special, at_start: true }
    }

    /// Appends what the token adds to the text.
    pub fn append(&mut self, tokenizer: &Tokenizer, id: u32, out: &mut Vec<u8>) {
        let Some(kind) = tokenizer.token_kind(id) else { return };
        if self.skip_special && matches!(kind, TokenKind::Control | TokenKind::Unknown) {
            return;
        }
        let bytes = tokenizer.token_bytes(id);
        let strips = if self.at_start { tokenizer.leading_space } else { LeadingSpace::Keep };
        match strips {
            LeadingSpace::Keep => out.extend_from_slice(bytes),
            LeadingSpace::StripOne => out.extend_from_slice(bytes.strip_prefix(b" ").unwrap_or(bytes)),
            LeadingSpace::StripFirstToken => out.extend(bytes.iter().filter(|&&byte| byte != b' ')),
        }
        self.at_start &= bytes.is_empty();
    }
}

/// Decodes a growing sequence, giving out only whole characters.
///
/// All outputs together, with that of [`Self::finish`], equal [`Tokenizer::decode`] of all ids.
#[derive(Debug, Clone)]
pub struct DetokenizeStream {
    decoding: Decoding,
    /// The begin of a character whose rest has not come yet.
    pending: Vec<u8>,
}

impl DetokenizeStream {
    /// A stream at the start of a text. With `skip_special`, control tokens are left out.
    pub fn new(skip_special: bool) -> Self {
        Self { decoding: Decoding::new(skip_special), pending: Vec::new() }
    }

    /// The text that is complete with this token, which is often empty. Bytes that cannot become a character are U+FFFD.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        self.decoding.append(tokenizer, id, &mut self.pending);
        let mut text = String::new();
        let mut done = 0;
        loop {
            match std::str::from_utf8(&self.pending[done..]) {
                Ok(rest) => {
                    text.push_str(rest);
                    done = self.pending.len();
                    break;
                }
                Err(error) => {
                    let valid_end = done + error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[done..valid_end]));
                    done = valid_end;
                    let Some(invalid) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    done += invalid;
                }
            }
        }
        self.pending.drain(..done);
        text
    }

    /// What is left at the end: U+FFFD for an incomplete character.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}
