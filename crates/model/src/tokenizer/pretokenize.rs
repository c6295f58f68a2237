//! How text is cut into the pieces that are tokenized one by one.

use super::scan::{self, Emit};
use super::vocabulary::Vocabulary;

/// One step of a `pre_tokenizer` in tokenizer.json, as far as it cuts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// `Split` that isolates the matches of a pattern.
    Pattern(&'a str),
    /// `Digits` with `individual_digits`.
    Digits,
    /// `ByteLevel` with `use_regex`.
    ByteLevel,
}

/// A way of cutting, with its names in files.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    pub name: &'static str,
    /// Values of `tokenizer.ggml.pre`; the empty one stands for its absence.
    pub gguf: &'static [&'static str],
    /// What tokenizer.json writes for it.
    pub steps: &'static [&'static [Step<'static>]],
    pub scan: fn(&str, Emit),
    /// Name of the cuts: rows with the same `scan` have the same.
    pub cuts: &'static str,
    /// GGUF files do not say whether a piece that is a token skips the merges; it follows from the name.
    pub ignore_merges: bool,
    /// Nor whether text is canonically composed first.
    pub nfc: bool,
    /// Whether text begins with a BOS token where a GGUF file does not say.
    pub add_bos: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub(super) static PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
        name: "gpt2",
        gguf: &["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "modern-bert"],
        steps: &[&[Step::ByteLevel], &[Step::Pattern(GPT2)]],
        scan: scan::gpt2,
        cuts: "gpt2",
        ignore_merges: false,
        nfc: false,
        add_bos: false,
    },
    PreTokenizer {
        name: "llama3",
        gguf: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        steps: &[&[Step::Pattern(LLAMA3)]],
        scan: scan::llama3,
        cuts: "llama3",
        ignore_merges: true,
        nfc: false,
        add_bos: true,
    },
    PreTokenizer {
        name: "dbrx",
        gguf: &["dbrx", "smaug-bpe"],
        steps: &[],
        scan: scan::llama3,
        cuts: "llama3",
        ignore_merges: false,
        nfc: false,
        add_bos: false,
    },
    PreTokenizer {
        name: "qwen2",
        gguf: &["qwen2", "stablelm2"],
        steps: &[&[Step::Pattern(QWEN2)]],
        scan: scan::qwen2,
        cuts: "qwen2",
        ignore_merges: false,
        nfc: true,
        add_bos: false,
    },
    PreTokenizer {
        name: "qwen2 without composition",
        gguf: &["deepseek-r1-qwen", "megrez", "hunyuan", "solar-open", "kormo", "f2llmv2"],
        steps: &[],
        scan: scan::qwen2,
        cuts: "qwen2",
        ignore_merges: false,
        nfc: false,
        add_bos: false,
    },
    PreTokenizer {
        name: "smollm",
        gguf: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        steps: &[&[Step::Digits, Step::ByteLevel]],
        scan: scan::smollm,
        cuts: "smollm",
        ignore_merges: false,
        nfc: false,
        add_bos: false,
    },
    PreTokenizer {
        name: "default",
        gguf: &["default", ""],
        steps: &[],
        scan: scan::default,
        cuts: "default",
        ignore_merges: false,
        nfc: false,
        add_bos: false,
    },
];

/// The row that a GGUF file names.
pub(super) fn by_gguf_name(name: &str) -> Option<&'static PreTokenizer> {
    PRE_TOKENIZERS.iter().find(|row| row.gguf.contains(&name))
}

/// The row that cuts as these steps do.
pub(super) fn by_steps(steps: &[Step]) -> Option<&'static PreTokenizer> {
    PRE_TOKENIZERS.iter().find(|row| row.steps.contains(&steps))
}

/// How a tokenizer cuts.
#[derive(Debug, Clone)]
pub(super) enum Segmentation {
    Scan(&'static PreTokenizer),
    /// Not at all.
    Whole,
    /// Before each space.
    BeforeSpaces,
    /// Before each run of spaces, except where the byte before it is one of these. They are those that some token has
    /// before a space, so no merge crosses a cut, and the tokens are those of [`Self::Whole`] with less work.
    BeforeSpaceRuns(Box<[bool; 256]>),
}

impl Segmentation {
    /// The cuts before runs of spaces that leave the tokens of a vocabulary as they are.
    pub fn without_effect(vocabulary: &Vocabulary) -> Self {
        // An unknown space would be one unknown token with its neighbours.
        if vocabulary.get(b" ").is_none() {
            return Self::Whole;
        }
        Self::BeforeSpaceRuns(vocabulary.bytes_before_spaces())
    }

    pub fn split(&self, text: &str, emit: Emit) {
        match self {
            Self::Scan(row) => (row.scan)(text, emit),
            Self::Whole if text.is_empty() => {}
            Self::Whole => emit(text),
            Self::BeforeSpaces => split_before(text, emit, |_, byte| byte == b' '),
            Self::BeforeSpaceRuns(except) => {
                split_before(text, emit, |before, byte| byte == b' ' && before != b' ' && !except[usize::from(before)])
            }
        }
    }
}

/// Cuts before each byte, of ASCII, that `cuts(byte before, byte)` accepts.
fn split_before(text: &str, emit: Emit, cuts: impl Fn(u8, u8) -> bool) {
    let bytes = text.as_bytes();
    let mut start = 0;
    for at in 1..bytes.len() {
        if cuts(bytes[at - 1], bytes[at]) {
            emit(&text[start..at]);
            start = at;
        }
    }
    if start < bytes.len() {
        emit(&text[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_steps_are_unique() {
        let mut names = std::collections::HashSet::new();
        let mut steps = Vec::new();
        for row in PRE_TOKENIZERS {
            assert!(row.gguf.iter().all(|name| names.insert(*name)), "{}", row.name);
            for list in row.steps {
                assert!(!steps.contains(list), "{}", row.name);
                steps.push(list);
            }
        }
    }

    #[test]
    fn every_row_cuts_without_loss() {
        for row in PRE_TOKENIZERS {
            for text in ["", " ", "a b", "\r\n 漢字 12,345.6 \u{301}'s\u{3000}", "🙂‍↔️ '"] {
                let mut all = String::new();
                (row.scan)(text, &mut |piece| {
                    assert!(!piece.is_empty());
                    all.push_str(piece);
                });
                assert_eq!(all, text, "{}", row.name);
            }
        }
    }

    #[test]
    fn spaces_cut() {
        let pieces = |segmentation: Segmentation| {
            let mut pieces = Vec::new();
            segmentation.split("  a  b ", &mut |piece| pieces.push(piece.to_string()));
            pieces
        };
        assert_eq!(pieces(Segmentation::BeforeSpaces), [" ", " a", " ", " b", " "]);
        let mut except = Box::new([false; 256]);
        assert_eq!(pieces(Segmentation::BeforeSpaceRuns(except.clone())), ["  a", "  b", " "]);
        except[usize::from(b'a')] = true;
        assert_eq!(pieces(Segmentation::BeforeSpaceRuns(except)), ["  a  b", " "]);
        assert_eq!(pieces(Segmentation::Whole), ["  a  b "]);
    }
}
