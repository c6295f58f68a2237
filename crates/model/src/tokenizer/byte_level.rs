//! How files write bytes: the printable alphabet of byte-level vocabularies, and the byte tokens of others.
//!
//! In the alphabet each of the 256 bytes is one printable character: the visible characters of Latin-1 as themselves, the
//! other 68 bytes as U+0100 and up, in order (GPT-2's `bytes_to_unicode`).

/// First code point past the alphabet: 256 + 68.
const ALPHABET_END: usize = 0x144;

/// Not a character of the alphabet.
const NONE: u16 = u16::MAX;

/// Code point to byte.
static BYTE_OF: [u16; ALPHABET_END] = {
    let mut table = [NONE; ALPHABET_END];
    let mut next = 0x100;
    let mut byte = 0;
    while byte < 256 {
        let visible = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        if visible {
            table[byte] = byte as u16;
        } else {
            table[next] = byte as u16;
            next += 1;
        }
        byte += 1;
    }
    table
};

/// Byte to letter; each has one.
static LETTERS: [Option<char>; 256] = {
    let mut letters = [None; 256];
    let mut code = 0;
    while code < ALPHABET_END {
        if BYTE_OF[code] != NONE {
            letters[BYTE_OF[code] as usize] = char::from_u32(code as u32);
        }
        code += 1;
    }
    letters
};

/// The letters of bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    bytes.iter().filter_map(|&byte| LETTERS[usize::from(byte)]).collect()
}

/// Appends the bytes that `written`, in UTF-8, stands for. Returns whether every character was of the alphabet; if not,
/// `out` is left as it was.
pub(super) fn decode(written: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    // Visible ASCII stands for itself, and the rest of the alphabet takes two bytes of UTF-8.
    let mut at = 0;
    while at < written.len() {
        let code = match written[at..] {
            [byte, ..] if byte.is_ascii() => usize::from(byte),
            [first @ 0xC2..=0xDF, second, ..] => usize::from(first & 0x1F) << 6 | usize::from(second & 0x3F),
            _ => ALPHABET_END,
        };
        match BYTE_OF.get(code) {
            Some(&byte) if byte != NONE => out.push(byte as u8),
            _ => {
                out.truncate(start);
                return false;
            }
        }
        at += if written[at].is_ascii() { 1 } else { 2 };
    }
    true
}

/// The byte of a token written `<0x0A>`.
pub(super) fn parse_byte_token(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text.strip_prefix(b"<0x")?.strip_suffix(b">")?).ok()?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_come_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        assert!(decode(encode(&bytes).as_bytes(), &mut out));
        assert_eq!(out, bytes);
    }

    #[test]
    fn the_alphabet_covers_every_byte_once() {
        let mut seen = [0; 256];
        BYTE_OF.iter().filter(|&&byte| byte != NONE).for_each(|&byte| seen[byte as usize] += 1);
        assert_eq!(seen, [1; 256]);
    }

    #[test]
    fn space_newline_and_utf8() {
        let mut out = Vec::new();
        assert!(decode("ĠHiĊÃ©".as_bytes(), &mut out));
        assert_eq!(out, " Hi\né".as_bytes());
        for foreign in ["a b", "漢", "ń", "\n"] {
            assert!(!decode(foreign.as_bytes(), &mut out), "{foreign:?}");
        }
        assert_eq!(out, " Hi\né".as_bytes());
    }
}
