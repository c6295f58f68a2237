//! Text that no token covers: byte tokens, else the unknown token, else nothing.

use super::table::NO_ID;

/// What stands for a character outside the vocabulary.
#[derive(Debug)]
pub(super) struct Fallback {
    /// The token of each byte, `NO_ID` where there is none.
    pub bytes: Option<Box<[u32; 256]>>,
    pub unknown: Option<u32>,
    /// Whether neighbouring unknown characters are one token.
    pub fuse_unknown: bool,
}

impl Fallback {
    /// Whether a character outside the vocabulary leaves no trace.
    pub fn drops(&self) -> bool {
        self.bytes.is_none() && self.unknown.is_none()
    }

    /// Appends the tokens of a character outside the vocabulary, given as its UTF-8 bytes. `fused` says whether an
    /// unknown token directly before covers this one too. Returns whether an unknown token now stands at the end.
    pub fn push(&self, character: &[u8], fused: bool, out: &mut Vec<u32>) -> bool {
        if let Some(bytes) = &self.bytes
            && character.iter().all(|&byte| bytes[usize::from(byte)] != NO_ID)
        {
            out.extend(character.iter().map(|&byte| bytes[usize::from(byte)]));
            return false;
        }
        match self.unknown {
            Some(unknown) => {
                if !(fused && self.fuse_unknown) {
                    out.push(unknown);
                }
                true
            }
            None => fused,
        }
    }
}
