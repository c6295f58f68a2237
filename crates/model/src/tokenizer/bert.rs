//! BERT's tokenizer: text is cleaned and cut into words, and each word is cut into the longest tokens from left to right
//! (Devlin et al. 2018; Wu et al. 2016).

use fancy_regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::normalize::lowercase;
use super::scan::Emit;
use super::unicode::{self, Class};
use super::vocabulary::Vocabulary;

/// A word of more characters is unknown, as in the `tokenizers` library.
const LONGEST_WORD: usize = 100;

/// How text becomes words.
#[derive(Debug, Clone)]
pub(super) struct Words {
    pub lowercase: bool,
    pub strip_accents: bool,
    /// Characters that leave no trace.
    unwanted: Regex,
    accents: Regex,
}

impl Words {
    pub fn new(lowercase: bool, strip_accents: bool) -> Self {
        let class = |pattern: &str| Regex::new(pattern).expect("a pattern of this program");
        let unwanted = class(r"[\x{FFFD}[\p{Cc}\p{Cf}\p{Co}&&[^\t\n\r]]]+");
        Self { lowercase, strip_accents, unwanted, accents: class(r"\p{Mn}+") }
    }

    /// Emits each word, with a space before it as the vocabulary writes the begin of a word. White space separates words;
    /// punctuation marks and Chinese characters are words of their own.
    pub fn split(&self, text: &str, emit: Emit) {
        let mut text = self.unwanted.replace_all(text, "");
        if self.strip_accents {
            let decomposed: String = text.nfd().collect();
            text = self.accents.replace_all(&decomposed, "").into_owned().into();
        }
        if self.lowercase {
            text = lowercase(&text).into();
        }
        let mut word = String::from(" ");
        let mut end = |word: &mut String| {
            if word.len() > 1 {
                emit(word);
                word.truncate(1);
            }
        };
        for character in text.chars() {
            if character.is_whitespace() {
                end(&mut word);
                continue;
            }
            let alone = is_punctuation(character) || is_chinese(character);
            if alone {
                end(&mut word);
            }
            word.push(character);
            if alone {
                end(&mut word);
            }
        }
        end(&mut word);
    }
}

fn is_punctuation(character: char) -> bool {
    character.is_ascii_punctuation() || unicode::classes(character).intersects(Class::PUNCTUATION)
}

/// The blocks that BERT counts as Chinese. That of extension E begins 0x100 late in the `tokenizers` library.
fn is_chinese(character: char) -> bool {
    matches!(u32::from(character),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

/// Cuts words into tokens.
#[derive(Debug)]
pub(super) struct WordPiece {
    pub unknown: Option<u32>,
}

impl WordPiece {
    /// Appends the tokens of a word that begins with a space; one unknown token where no tokens make it up.
    pub fn encode(&self, vocabulary: &Vocabulary, word: &str, out: &mut Vec<u32>) {
        let before = out.len();
        let mut start = 0;
        if word.chars().count() > LONGEST_WORD + 1 {
            out.extend(self.unknown);
            return;
        }
        while start < word.len() {
            let ends = (start + 1..=word.len()).rev().filter(|&end| word.is_char_boundary(end));
            let mut found = ends.filter_map(|end| Some((end, vocabulary.get(&word.as_bytes()[start..end])?)));
            let Some((end, id)) = found.next() else {
                out.truncate(before);
                out.extend(self.unknown);
                return;
            };
            out.push(id);
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &Words, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        words.split(text, &mut |word| found.push(word.to_owned()));
        found
    }

    #[test]
    fn text_becomes_words() {
        let plain = words(&Words::new(true, true), "\u{feff}Ünï\tDON'T 漢字\u{0}x ²$");
        assert_eq!(plain, [" uni", " don", " '", " t", " 漢", " 字", " x", " ²", " $"]);
        assert_eq!(words(&Words::new(false, false), "Ünï A"), [" Ünï", " A"]);
    }
}
