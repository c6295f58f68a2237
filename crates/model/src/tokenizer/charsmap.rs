//! SentencePiece's table of replaced characters, `precompiled_charsmap`: a double array over bytes (Aoe 1989, in the units of
//! Darts), whose values are places in a text of replacements, each ended by a zero.

use super::error::TokenizerError;

#[derive(Debug)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl Charsmap {
    /// Reads the bytes of the double array, in little endian behind their number, and the replacements behind them.
    ///
    /// # Errors
    /// The number is not that of whole units, or too large.
    pub fn new(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let invalid = |found: String| {
            let place = "tokenizer.ggml.precompiled_charsmap";
            TokenizerError::invalid(place, "4 bytes of length, so many bytes in units of 4, and replacements", found)
        };
        let (length, rest) = bytes.split_first_chunk().ok_or_else(|| invalid(format!("{} bytes", bytes.len())))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > rest.len() || !length.is_multiple_of(4) {
            return Err(invalid(format!("length {length} in {} bytes", bytes.len())));
        }
        let (units, replacements) = rest.split_at(length);
        let units = units.chunks_exact(4).map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]));
        Ok(Self { units: units.collect(), replacements: replacements.to_vec() })
    }

    /// The text with the longest listed beginning replaced, at each place from left to right.
    pub fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let taken = match self.longest(rest.as_bytes()) {
                // A table of whole characters gives whole characters.
                Some((length, replacement)) if rest.is_char_boundary(length) => {
                    out.push_str(replacement);
                    length
                }
                _ => {
                    out.push(character);
                    character.len_utf8()
                }
            };
            rest = &rest[taken..];
        }
        out
    }

    /// The bytes of the longest beginning of `text` that is listed, and what stands for it.
    fn longest(&self, text: &[u8]) -> Option<(usize, &str)> {
        // Bits of a unit: 0 to 7 the label, 8 whether a value hangs here, 9 whether the offset counts 256s, 10 to 30 the
        // offset; bit 31 marks a value, which is in the others.
        let offset = |unit: u32| ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize;
        let mut node = offset(*self.units.first()?);
        let mut found = None;
        for (at, &byte) in text.iter().enumerate() {
            node ^= usize::from(byte);
            let unit = *self.units.get(node)?;
            if byte == 0 || unit & (1 << 31 | 0xFF) != u32::from(byte) {
                break;
            }
            node ^= offset(unit);
            if unit & 1 << 8 != 0 {
                found = Some((at + 1, (*self.units.get(node)? & !(1 << 31)) as usize));
            }
        }
        let (length, start) = found?;
        let replacement = self.replacements.get(start..)?;
        let end = replacement.iter().position(|&byte| byte == 0)?;
        Some((length, std::str::from_utf8(&replacement[..end]).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
            if bytes.len() > 4 {
                let length = (bytes.len() as u32 - 4) / 8 * 4;
                bytes[..4].copy_from_slice(&length.to_le_bytes());
            }
            if let Ok(map) = Charsmap::new(&bytes) {
                let _ = map.apply(&text);
            }
        }
    }

    #[test]
    fn lengths_are_checked() {
        for bytes in [&[][..], &[1, 2, 3], &[8, 0, 0, 0, 1, 2, 3, 4], &[3, 0, 0, 0, 1, 2, 3]] {
            assert!(Charsmap::new(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(Charsmap::new(&[0; 4]).unwrap().apply("as it is"), "as it is");
    }
}
