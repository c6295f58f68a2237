//! Character classes as the patterns of pre-tokenizers use them.

use super::unicode_ranges::RANGES;

/// A set of character classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class(u8);

impl Class {
    /// `\p{L}`
    pub const LETTER: Self = Self(1);
    /// `\p{N}`
    pub const NUMBER: Self = Self(2);
    /// `\s`
    pub const SPACE: Self = Self(4);
    /// `\p{M}`
    pub const MARK: Self = Self(8);
    /// `\p{P}`
    pub const PUNCTUATION: Self = Self(16);
    /// `[\p{Lu}\p{Lt}]`
    pub const UPPER: Self = Self(32);
    /// `\p{Ll}`
    pub const LOWER: Self = Self(64);

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the two sets have a class in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// First code point past all that have a class.
const END: usize = {
    let mut end = 0;
    let mut at = 0;
    while at < RANGES.len() {
        if RANGES[at].1 as usize >= end {
            end = RANGES[at].1 as usize + 1;
        }
        at += 1;
    }
    end
};

/// Classes by code point.
static CLASSES: [u8; END] = {
    let mut classes = [0; END];
    let mut at = 0;
    while at < RANGES.len() {
        let (first, last, class) = RANGES[at];
        let mut code = first;
        while code <= last {
            classes[code as usize] |= 1 << class;
            code += 1;
        }
        at += 1;
    }
    classes
};

/// The classes of a character.
pub(super) fn classes(character: char) -> Class {
    Class(CLASSES.get(character as usize).copied().unwrap_or(0))
}

/// The classes of an ASCII byte.
pub(super) fn ascii_classes(byte: u8) -> Class {
    Class(CLASSES[usize::from(byte & 0x7F)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_have_the_classes_of_unicode_16() {
        let has = |character: char, class: Class| classes(character).intersects(class);
        let count = |class: Class| ('\0'..=char::MAX).filter(|&character| has(character, class)).count();
        assert_eq!(count(Class::LETTER), 141_028);
        assert_eq!(count(Class::NUMBER), 1_911);
        assert_eq!(count(Class::SPACE), 25);
        assert_eq!(count(Class::MARK), 2_501);
        assert_eq!(count(Class::PUNCTUATION), 855);
        assert_eq!(count(Class::UPPER), 1_889);
        assert_eq!(count(Class::LOWER), 2_258);
        assert!(('\0'..=char::MAX).all(|character| has(character, Class::SPACE) == character.is_whitespace()));
        assert!(has('é', Class::LETTER) && has('漢', Class::LETTER) && has('\u{1C89}', Class::LETTER));
        assert!(has('²', Class::NUMBER) && has('Ⅷ', Class::NUMBER) && has('٣', Class::NUMBER));
        assert!(has('\u{301}', Class::MARK) && !has('\u{301}', Class::LETTER));
        assert!(has('«', Class::PUNCTUATION) && !has('$', Class::PUNCTUATION));
    }
}
