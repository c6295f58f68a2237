//! Cutting text by the steps of a `pre_tokenizer` in tokenizer.json, whatever their patterns: the general way, for what no
//! scanner knows.

use std::ops::Range;

use fancy_regex::{Regex, RegexBuilder};

use super::error::TokenizerError;
use super::scan::{self, Emit};
use super::unicode::{self, Class};

/// Bytes that a pattern may have. The longest that is known has 900.
const MAX_PATTERN: usize = 1 << 14;
/// Steps back that one match may take. Known patterns take none on most text, and two for each character of a run at worst.
const MAX_BACKTRACKS: usize = 1 << 20;

/// One step of a `pre_tokenizer`, as far as it cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// `Split` by the matches of a pattern. With the flag, `invert`, what lies between them counts as the matches.
    Split(&'a str, Behavior, bool),
    /// `Digits`: each number alone where the flag, `individual_digits`, is set, else runs of them.
    Digits(bool),
    /// `Punctuation`
    Punctuation(Behavior),
    /// `ByteLevel` with `use_regex`.
    ByteLevel,
}

/// What becomes of matches and of the text between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behavior {
    /// Each is a piece.
    Isolated,
    /// The matches go.
    Removed,
    /// Neighbouring matches are one piece.
    Contiguous,
    /// A match belongs to the text before it.
    MergedWithPrevious,
    /// A match belongs to the text after it.
    MergedWithNext,
}

impl Behavior {
    const ALL: [Self; 5] =
        [Self::Isolated, Self::Removed, Self::Contiguous, Self::MergedWithPrevious, Self::MergedWithNext];

    /// In tokenizer.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Isolated => "Isolated",
            Self::Removed => "Removed",
            Self::Contiguous => "Contiguous",
            Self::MergedWithPrevious => "MergedWithPrevious",
            Self::MergedWithNext => "MergedWithNext",
        }
    }

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|behavior| behavior.name() == name)
    }
}

/// A step that isolates the matches of a pattern.
pub(super) const fn isolate(pattern: &str) -> Step<'_> {
    Step::Split(pattern, Behavior::Isolated, false)
}

/// Steps that can be run.
#[derive(Debug, Clone)]
pub(super) struct Steps(Vec<Ready>);

#[derive(Debug, Clone)]
enum Ready {
    Pattern(Box<Regex>, Behavior, bool),
    Characters(fn(char) -> bool, Behavior),
    ByteLevel,
}

/// A part of a piece, and whether it is a match.
type Part = (Range<usize>, bool);

impl Steps {
    /// # Errors
    /// A pattern is none, or too long.
    pub fn new(steps: &[Step]) -> Result<Self, TokenizerError> {
        steps.iter().map(Ready::new).collect::<Result<_, _>>().map(Self)
    }

    /// Emits the pieces that all steps, one after the other, leave of `text`.
    pub fn split(&self, text: &str, emit: Emit) {
        apply(&self.0, text, emit, &mut Vec::new());
    }
}

fn apply(steps: &[Ready], text: &str, emit: Emit, parts: &mut Vec<Part>) {
    let Some((step, rest)) = steps.split_first() else {
        if !text.is_empty() {
            emit(text);
        }
        return;
    };
    let behavior = match step {
        Ready::ByteLevel => return scan::gpt2(text, &mut |piece| apply(rest, piece, emit, parts)),
        Ready::Pattern(pattern, behavior, invert) => {
            find(pattern, text, parts);
            if *invert {
                parts.iter_mut().for_each(|(_, is_match)| *is_match = !*is_match);
            }
            *behavior
        }
        Ready::Characters(wanted, behavior) => {
            characters(*wanted, text, parts);
            *behavior
        }
    };
    arrange(parts, behavior);
    // Each step has its own list; one that is done hands its memory on.
    let own = std::mem::take(parts);
    for (range, _) in &own {
        apply(rest, &text[range.clone()], emit, parts);
    }
    *parts = own;
}

impl Ready {
    fn new(step: &Step) -> Result<Self, TokenizerError> {
        Ok(match step {
            Step::Split(pattern, behavior, invert) => Self::Pattern(Box::new(compile(pattern)?), *behavior, *invert),
            Step::Digits(true) => Self::Characters(char::is_numeric, Behavior::Isolated),
            Step::Digits(false) => Self::Characters(char::is_numeric, Behavior::Contiguous),
            Step::Punctuation(behavior) => Self::Characters(is_punctuation, *behavior),
            Step::ByteLevel => Self::ByteLevel,
        })
    }
}

fn is_punctuation(character: char) -> bool {
    character.is_ascii_punctuation() || unicode::classes(character).intersects(Class::PUNCTUATION)
}

fn compile(pattern: &str) -> Result<Regex, TokenizerError> {
    if pattern.len() > MAX_PATTERN {
        let expected = format!("a pattern of at most {MAX_PATTERN} bytes");
        return Err(TokenizerError::invalid("pre_tokenizer", expected, pattern.len().to_string()));
    }
    RegexBuilder::new(&translate(pattern)).backtrack_limit(MAX_BACKTRACKS).build().map_err(|error| {
        TokenizerError::invalid("pre_tokenizer", "a regular expression", format!("{pattern:?}: {error}"))
    })
}

/// The pattern of the library's engine in the syntax of ours: `^` and `$` stand at lines there, and its word characters are
/// others in six places.
fn translate(pattern: &str) -> String {
    const WORD: &str = r"[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}²³¹¼½¾]";
    const OTHER: &str = r"[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}²³¹¼½¾]";
    let mut out = String::from("(?m)");
    // Brackets that are open: `\b` in a class is a backspace.
    let mut depth = 0usize;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if character != '\\' {
            out.push(character);
            continue;
        }
        match (characters.next(), depth) {
            (Some('w'), _) => out.push_str(WORD),
            (Some('W'), _) => out.push_str(OTHER),
            (Some('b'), 0) => out.push_str(&format!("(?:(?<={WORD})(?!{WORD})|(?<!{WORD})(?={WORD}))")),
            (Some('B'), 0) => out.push_str(&format!("(?:(?<={WORD})(?={WORD})|(?<!{WORD})(?!{WORD}))")),
            (other, _) => {
                out.push('\\');
                out.extend(other);
            }
        }
    }
    out
}

/// The matches of `pattern` and what lies between them, empty matches included. Where a search takes too many steps, the
/// rest counts as text between matches.
fn find(pattern: &Regex, text: &str, parts: &mut Vec<Part>) {
    parts.clear();
    let mut done = 0;
    for found in pattern.find_iter(text).map_while(Result::ok) {
        if done < found.start() {
            parts.push((done..found.start(), false));
        }
        parts.push((found.start()..found.end(), true));
        done = found.end();
    }
    if done < text.len() {
        parts.push((done..text.len(), false));
    }
}

fn characters(wanted: fn(char) -> bool, text: &str, parts: &mut Vec<Part>) {
    parts.clear();
    let mut done = 0;
    for (at, found) in text.char_indices().filter(|&(_, character)| wanted(character)) {
        if done < at {
            parts.push((done..at, false));
        }
        done = at + found.len_utf8();
        parts.push((at..done, true));
    }
    if done < text.len() {
        parts.push((done..text.len(), false));
    }
}

/// Joins or drops parts.
fn arrange(parts: &mut Vec<Part>, behavior: Behavior) {
    let mut previous = false;
    match behavior {
        Behavior::Isolated => {}
        Behavior::Removed => parts.retain(|(_, is_match)| !is_match),
        Behavior::Contiguous => join(parts, |before, after| before == after),
        Behavior::MergedWithPrevious => join(parts, |_, after| {
            let joins = after && !previous;
            previous = after;
            joins
        }),
        Behavior::MergedWithNext => {
            // The same from the end: a match joins what follows it, unless that is a match.
            parts.reverse();
            join(parts, |_, after| {
                let joins = after && !previous;
                previous = after;
                joins
            });
            parts.reverse();
        }
    }
}

/// Joins neighbours where `joins(kind of the last part, kind of this one)` says so. It is asked of every part, with its own
/// kind twice for the first.
fn join(parts: &mut Vec<Part>, mut joins: impl FnMut(bool, bool) -> bool) {
    let mut kept: Vec<Part> = Vec::with_capacity(parts.len());
    for (range, is_match) in parts.drain(..) {
        let before = kept.last().map_or(is_match, |(_, kind)| *kind);
        let joins = joins(before, is_match);
        match kept.last_mut() {
            Some((last, kind)) if joins => {
                *last = last.start.min(range.start)..last.end.max(range.end);
                *kind = is_match;
            }
            _ => kept.push((range, is_match)),
        }
    }
    *parts = kept;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(steps: &[Step], text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        Steps::new(steps).unwrap().split(text, &mut |piece| pieces.push(piece.to_owned()));
        pieces
    }

    /// What the `tokenizers` library gives for `Split` with each behavior.
    #[test]
    fn behaviors() {
        let split = |behavior, invert| pieces(&[Step::Split("-", behavior, invert)], "the-final--countdown");
        let cases = [
            (Behavior::Removed, &["the", "final", "countdown"][..], &["-", "-", "-"][..]),
            (
                Behavior::Isolated,
                &["the", "-", "final", "-", "-", "countdown"],
                &["the", "-", "final", "-", "-", "countdown"],
            ),
            (
                Behavior::MergedWithPrevious,
                &["the-", "final-", "-", "countdown"],
                &["the", "-final", "-", "-countdown"],
            ),
            (Behavior::MergedWithNext, &["the", "-final", "-", "-countdown"], &["the-", "final-", "-", "countdown"]),
            (
                Behavior::Contiguous,
                &["the", "-", "final", "--", "countdown"],
                &["the", "-", "final", "--", "countdown"],
            ),
        ];
        for (behavior, plain, inverted) in cases {
            assert_eq!(split(behavior, false), plain, "{behavior:?}");
            assert_eq!(split(behavior, true), inverted, "{behavior:?} inverted");
        }
    }

    #[test]
    fn steps_follow_each_other() {
        let steps =
            [Step::Punctuation(Behavior::Contiguous), Step::ByteLevel, Step::Digits(false), isolate("[0-9]{3}")];
        assert_eq!(pieces(&steps, "a 1234, «b»!"), ["a", " ", "123", "4", ",", " ", "«", "b", "»!"]);
    }

    /// As the library's engine has them.
    #[test]
    fn words_and_lines() {
        assert_eq!(pieces(&[isolate(r"\w+")], "a_é\u{301}1²\u{200d}b"), ["a_é\u{301}1²", "\u{200d}", "b"]);
        assert_eq!(pieces(&[isolate(r"[\W\b]")], "a-b"), ["a", "-", "b"]);
        assert_eq!(pieces(&[isolate(r"\d(?=\b)")], "1\u{200d}2a3 4"), ["1", "\u{200d}2a", "3", " ", "4"]);
        assert_eq!(pieces(&[isolate(r"\s+$")], "a \nb "), ["a", " ", "\nb", " "]);
    }

    #[test]
    fn empty_matches_cut() {
        assert_eq!(
            pieces(&[isolate(r"\p{N}+"), isolate(r"(?=(\d{3})+(?!\d))")], "x1234567y"),
            ["x", "1", "234", "567", "y"]
        );
    }

    #[test]
    fn hostile_patterns_end() {
        let text = "a".repeat(40) + "b";
        assert_eq!(pieces(&[isolate(r"(?=(a|aa)+$)x")], &text), [text.as_str()]);
        assert!(Steps::new(&[isolate("(")]).is_err());
        assert!(Steps::new(&[isolate(&"(".repeat(MAX_PATTERN))]).is_err());
        assert!(Steps::new(&[isolate(&"a".repeat(MAX_PATTERN + 1))]).is_err());
        assert!(Steps::new(&[isolate("((a{1000}){1000}){1000}")]).is_err());
    }

    proptest! {
        /// No pattern does harm, and what isolates leaves all of the text.
        #[test]
        fn any_pattern_leaves_the_text(
            parts in proptest::collection::vec(proptest::sample::select(PARTS.to_vec()), 0..10), text in "[a-c1 \n-é]{0,20}",
        ) {
            let Ok(steps) = Steps::new(&[isolate(&parts.concat())]) else { return Ok(()) };
            let mut all = String::new();
            steps.split(&text, &mut |piece| all.push_str(piece));
            prop_assert_eq!(all, text);
        }
    }

    const PARTS: [&str; 32] = [
        "a", "b", "é", "1", "-", ".", "*", "+", "?", "|", "(", ")", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:",
        "[", "]", "[^", "&&", "{2,}", "{1,3}", "\\p{L}", "\\p{N}", "\\s", "\\w", "\\b", "\\1", "$",
    ];
}
