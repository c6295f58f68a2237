//! How text is cut into the pieces that are tokenized one by one.

use super::bert::Words;
use super::byte_level;
use super::error::TokenizerError;
use super::normalize::unmark_spaces;
use super::scan::Emit;
use super::steps::{Behavior, Step, Steps};
use super::vocabulary::Vocabulary;

pub(super) use super::pretokenizers::PRE_TOKENIZERS;

/// A way of cutting, with its names in files.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    pub name: &'static str,
    /// Values of `tokenizer.ggml.pre`; the empty one stands for its absence.
    pub gguf: &'static [&'static str],
    /// What tokenizer.json writes for it; every way of writing cuts alike.
    pub steps: &'static [&'static [Step<'static>]],
    /// The same by hand; without it, the first of `steps` runs.
    pub scan: Option<fn(&str, Emit)>,
    /// Name of the cuts: rows that cut alike have the same.
    pub cuts: &'static str,
    /// How files write the text of tokens.
    pub letters: Letters,
    /// GGUF files do not say whether a piece that is a token skips the merges; it follows from the name.
    pub ignore_merges: bool,
    /// Nor, as a rule, whether text is canonically composed first.
    pub nfc: bool,
    /// Whether text begins with a BOS token where a GGUF file does not say.
    pub add_bos: bool,
}

/// How the text of a token is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Letters {
    /// Each byte as a printable character.
    Bytes,
    /// As text with `▁` for a space, and single bytes as `<0x00>` to `<0xFF>`. Such text is cut only where no token is cut.
    Marked,
    /// As text, and single bytes as above.
    Plain,
}

impl Letters {
    /// Appends the bytes that `written` stands for. Returns whether it stands for any; if not, `out` is left as it was.
    pub fn decode(self, written: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Self::Bytes => return byte_level::decode(written, out),
            Self::Marked => unmark_spaces(written, out),
            Self::Plain => out.extend_from_slice(written),
        }
        true
    }
}

/// The row that a GGUF file names.
pub(super) fn by_gguf_name(name: &str) -> Option<&'static PreTokenizer> {
    PRE_TOKENIZERS.iter().find(|row| row.gguf.contains(&name))
}

/// The row that cuts as these steps do.
fn by_steps(steps: &[Step]) -> Option<&'static PreTokenizer> {
    if let Some(row) = PRE_TOKENIZERS.iter().find(|row| row.steps.contains(&steps)) {
        return Some(row);
    }
    // Where the matches of one pattern are the whole text, nothing lies between them to be removed; a scanner is for such.
    let [Step::Split(pattern, Behavior::Removed, true)] = steps else { return None };
    let isolated = [Step::Split(pattern, Behavior::Isolated, false)];
    PRE_TOKENIZERS.iter().find(|row| row.scan.is_some() && row.steps.contains(&&isolated[..]))
}

/// How a tokenizer cuts.
#[derive(Debug, Clone)]
pub(super) enum Segmentation {
    Scan(fn(&str, Emit), &'static PreTokenizer),
    /// By steps, and the row that has them.
    Steps(Steps, Option<&'static PreTokenizer>),
    /// Into words as BERT has them, which are no part of the text any more.
    Bert(Box<Words>),
    /// Not at all.
    Whole,
    /// Before each space.
    BeforeSpaces,
    /// Before each run of spaces, except where the byte before it is one of these. They are those that some token has
    /// before a space, so no merge crosses a cut, and the tokens are those of [`Self::Whole`] with less work.
    BeforeSpaceRuns(Box<[bool; 256]>),
}

impl Segmentation {
    /// The cuts of a row.
    ///
    /// # Errors
    /// A pattern is none.
    pub fn of_row(row: &'static PreTokenizer) -> Result<Self, TokenizerError> {
        match (row.scan, row.steps) {
            (Some(scan), _) => Ok(Self::Scan(scan, row)),
            (None, [steps, ..]) => Ok(Self::Steps(Steps::new(steps)?, Some(row))),
            (None, []) => Ok(Self::Whole),
        }
    }

    /// The cuts of the steps in a file.
    ///
    /// # Errors
    /// A pattern is none.
    pub fn of_steps(steps: &[Step]) -> Result<Self, TokenizerError> {
        match by_steps(steps) {
            Some(row) => Self::of_row(row),
            None => Ok(Self::Steps(Steps::new(steps)?, None)),
        }
    }

    /// The row that cuts so, if one does.
    pub fn row(&self) -> Option<&'static PreTokenizer> {
        match self {
            Self::Scan(_, row) => Some(row),
            Self::Steps(_, row) => *row,
            _ => None,
        }
    }

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
            Self::Scan(scan, _) => scan(text, emit),
            Self::Steps(steps, _) => steps.split(text, emit),
            Self::Bert(words) => words.split(text, emit),
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

    /// Digests of the pieces of the corpus, ten lines each, as `scripts/oracle/tokenizer_ids.py pre` makes them of the
    /// `tokenizers` library.
    #[test]
    fn every_row_and_way_of_writing_cuts_as_the_library_does() {
        let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizer");
        let corpus = std::fs::read_to_string(data.join("corpus.jsonl")).unwrap();
        let lines: Vec<String> = corpus.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = std::fs::read_to_string(data.join("pre_tokenizers.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
        let mut names = std::collections::HashSet::new();
        for row in PRE_TOKENIZERS {
            let scan = row.scan.map(|scan| Segmentation::Scan(scan, row));
            let steps = row.steps.iter().map(|steps| Segmentation::Steps(Steps::new(steps).unwrap(), Some(row)));
            for (way, segmentation) in scan.into_iter().chain(steps).enumerate() {
                let digests: Vec<String> = lines.chunks(10).map(|lines| digest(&segmentation, lines)).collect();
                for (at, digest) in digests.iter().enumerate() {
                    let lines = &lines[at * 10..lines.len().min(at * 10 + 10)];
                    let found = || lines.iter().map(|line| pieces(&segmentation, line)).collect::<Vec<_>>();
                    let expected = expected[row.cuts].as_str().unwrap().get(at * 8..at * 8 + 8).unwrap();
                    assert!(expected == digest, "{}, way {way}, lines {}0 to {}9: {:?}", row.name, at, at, found());
                }
            }
            names.insert(row.cuts);
        }
        assert!(expected.as_object().unwrap().keys().all(|name| names.contains(name.as_str())));
    }

    fn pieces(segmentation: &Segmentation, text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        segmentation.split(text, &mut |piece| pieces.push(piece.to_owned()));
        pieces
    }

    /// FNV-1a of the pieces' bytes, each piece and each line with an end mark that no text has.
    fn digest(segmentation: &Segmentation, lines: &[String]) -> String {
        let mut hash = 0x811c_9dc5_u32;
        let mut take = |bytes: &[u8]| {
            bytes.iter().for_each(|&byte| hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        };
        for line in lines {
            for piece in pieces(segmentation, line) {
                take(piece.as_bytes());
                take(&[0xFE]);
            }
            take(&[0xFF]);
        }
        format!("{hash:08x}")
    }

    #[test]
    fn spaces_cut() {
        let pieces = |segmentation: Segmentation| pieces(&segmentation, "  a  b ");
        assert_eq!(pieces(Segmentation::BeforeSpaces), [" ", " a", " ", " b", " "]);
        let mut except = Box::new([false; 256]);
        assert_eq!(pieces(Segmentation::BeforeSpaceRuns(except.clone())), ["  a", "  b", " "]);
        except[usize::from(b'a')] = true;
        assert_eq!(pieces(Segmentation::BeforeSpaceRuns(except)), ["  a  b", " "]);
        assert_eq!(pieces(Segmentation::Whole), ["  a  b "]);
    }
}
