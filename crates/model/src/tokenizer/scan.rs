//! The patterns of pre-tokenizers as hand-written scanners.
//!
//! Each scanner cuts the text as its pattern's leftmost-first matches do; every character belongs to some match. The
//! pattern's alternatives stand above the code that takes them, in their order.

use super::unicode::{self, Class};

/// Takes the pieces of a text in order.
pub(super) type Emit<'a> = &'a mut dyn FnMut(&str);

const WORD: Class = Class::LETTER.or(Class::NUMBER);
/// Its complement is what patterns call `[^\s\p{L}\p{N}]`.
const WORD_OR_SPACE: Class = WORD.or(Class::SPACE);

/// GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub(super) fn gpt2(text: &str, emit: Emit) {
    cut(text, emit, |text, at| {
        // 's|'t|'re|'ve|'m|'ll|'d
        if let Some(end) = contraction(text, at, |text, letters| text.starts_with(letters).then_some(letters.len())) {
            return end;
        }
        // ` ?` takes a space only when no space follows.
        let body = if text.as_bytes()[at] == b' ' { at + 1 } else { at };
        match classes_at(text, body) {
            // ` ?\p{L}+`
            Some(class) if class.intersects(Class::LETTER) => run(text, body, |class| class.intersects(Class::LETTER)),
            // ` ?\p{N}+`
            Some(class) if class.intersects(Class::NUMBER) => run(text, body, |class| class.intersects(Class::NUMBER)),
            // ` ?[^\s\p{L}\p{N}]+`
            Some(class) if !class.intersects(Class::SPACE) => run(text, body, |class| !class.intersects(WORD_OR_SPACE)),
            _ => white_space(text, at),
        }
    });
}

/// Llama 3: as [`qwen2`], with `\p{N}{1,3}`
pub(super) fn llama3(text: &str, emit: Emit) {
    cut(text, emit, |text, at| modern(text, at, Class::LETTER, 3));
}

/// Qwen 2: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn qwen2(text: &str, emit: Emit) {
    cut(text, emit, |text, at| modern(text, at, Class::LETTER, 1));
}

/// Qwen 3.5: as [`qwen2`], with `[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+` and ` ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*`
pub(super) fn qwen35(text: &str, emit: Emit) {
    cut(text, emit, |text, at| modern(text, at, Class::LETTER.or(Class::MARK), 1));
}

/// GPT-4o: [`cased_word`] with `(?i:'s|'t|'re|'ve|'m|'ll|'d)?` behind it, then
/// `\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn gpt4o(text: &str, emit: Emit) {
    cut(text, emit, |text, at| match cased_word(text, at) {
        Some(end) if end < text.len() => contraction(text, end, starts_with_ignoring_case).unwrap_or(end),
        Some(end) => end,
        None => rest_of_modern(text, at, 3),
    });
}

/// Tekken: [`cased_word`], then `\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn tekken(text: &str, emit: Emit) {
    cut(text, emit, |text, at| cased_word(text, at).unwrap_or_else(|| rest_of_modern(text, at, 1)));
}

/// SmolLM: each digit alone, and between the digits [`gpt2`].
pub(super) fn smollm(text: &str, emit: Emit) {
    let mut done = 0;
    for (at, digit) in text.char_indices().filter(|(_, character)| character.is_numeric()) {
        gpt2(&text[done..at], emit);
        done = at + digit.len_utf8();
        emit(&text[at..done]);
    }
    gpt2(&text[done..], emit);
}

/// GGUF files without a named pre-tokenizer: runs of `[\p{P}$+<=>^~|]` apart, between them [`gpt2`], in that runs of
/// `\p{N}` apart, and in those each `[0-9][0-9][0-9]` apart.
pub(super) fn default(text: &str, emit: Emit) {
    let is_symbol = |character: char| {
        matches!(character, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|')
            || unicode::classes(character).intersects(Class::PUNCTUATION)
    };
    let is_number = |character: char| unicode::classes(character).intersects(Class::NUMBER);
    runs(text, is_symbol, &mut |block, _| {
        gpt2(block, &mut |piece| {
            runs(piece, is_number, &mut |part, numeric| if numeric { ascii_triples(part, emit) } else { emit(part) });
        });
    });
}

/// Calls `next_end(text, start)` for the end of one piece after the other.
fn cut(text: &str, emit: Emit, next_end: impl Fn(&str, usize) -> usize) {
    let mut at = 0;
    while at < text.len() {
        let end = next_end(text, at);
        emit(&text[at..end]);
        at = end;
    }
}

/// The end of the piece at `at` for [`qwen2`] and its like. `letters` is what words are of.
#[inline(always)]
fn modern(text: &str, at: usize, letters: Class, digits: usize) -> usize {
    // (?i:'s|'t|'re|'ve|'m|'ll|'d)
    if let Some(end) = contraction(text, at, starts_with_ignoring_case) {
        return end;
    }
    let byte = text.as_bytes()[at];
    let Some(class) = classes_at(text, at) else { return text.len() };
    if class.intersects(Class::NUMBER) {
        return numbers(text, at, digits);
    }
    // [^\r\n\p{L}\p{N}]?LETTERS+
    let start = if class.intersects(Class::LETTER) || is_newline(byte) { at } else { after(text, at) };
    for start in [start, at] {
        if classes_at(text, start).is_some_and(|class| class.intersects(letters)) {
            return run(text, start, |class| class.intersects(letters));
        }
    }
    //  ?[^\sLETTERS\p{N}]+[\r\n]*
    match symbols(text, at, letters.or(Class::NUMBER).or(Class::SPACE)) {
        Some(end) => end + text.as_bytes()[end..].iter().take_while(|&&byte| is_newline(byte)).count(),
        None => lines(text, at),
    }
}

/// The end of the piece at `at` for [`gpt4o`] and [`tekken`] where no word begins.
#[inline(always)]
fn rest_of_modern(text: &str, at: usize, digits: usize) -> usize {
    if classes_at(text, at).is_some_and(|class| class.intersects(Class::NUMBER)) {
        return numbers(text, at, digits);
    }
    //  ?[^\s\p{L}\p{N}]+[\r\n/]*
    match symbols(text, at, WORD_OR_SPACE) {
        Some(end) => end + text.as_bytes()[end..].iter().take_while(|&&byte| is_newline(byte) || byte == b'/').count(),
        None => lines(text, at),
    }
}

/// `P?U*L+|P?U+L*`, where P is `[^\r\n\p{L}\p{N}]`, U `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, L `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`.
fn cased_word(text: &str, at: usize) -> Option<usize> {
    let is_upper = |class: Class| class.intersects(Class::LETTER.or(Class::MARK)) && !class.intersects(Class::LOWER);
    let is_lower = |class: Class| class.intersects(Class::LETTER.or(Class::MARK)) && !class.intersects(Class::UPPER);
    let class = classes_at(text, at)?;
    // A mark is both a P and a letter; the pattern tries it as P first.
    let start = if class.intersects(WORD) || is_newline(text.as_bytes()[at]) { at } else { after(text, at) };
    let starts = &[start, at][usize::from(start == at)..];
    for &start in starts {
        let upper = run(text, start, is_upper);
        let end = run(text, upper, is_lower);
        if end > upper {
            return Some(end);
        }
        // U* gives back characters until L+ finds one, which ends the piece: what follows it is upper case.
        let mut given_back = text[start..upper].char_indices().rev();
        if let Some((last, both)) = given_back.find(|&(_, character)| is_lower(unicode::classes(character))) {
            return Some(start + last + both.len_utf8());
        }
    }
    // No L follows, else the first form had matched.
    starts.iter().map(|&start| (start, run(text, start, is_upper))).find(|(start, end)| end > start).map(|(_, end)| end)
}

/// `\p{N}{1,MOST}` at a number.
#[inline(always)]
fn numbers(text: &str, at: usize, most: usize) -> usize {
    let digits = text[at..].chars().take(most);
    let digits = digits.take_while(|&digit| unicode::classes(digit).intersects(Class::NUMBER));
    at + digits.map(char::len_utf8).sum::<usize>()
}

/// ` ?[^OTHERS]+`
fn symbols(text: &str, at: usize, others: Class) -> Option<usize> {
    let start = if text.as_bytes()[at] == b' ' { at + 1 } else { at };
    let begins = classes_at(text, start).is_some_and(|class| !class.intersects(others));
    begins.then(|| run(text, start, |class| !class.intersects(others)))
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`
fn lines(text: &str, at: usize) -> usize {
    let end = run(text, at, |class| class.intersects(Class::SPACE));
    match text.as_bytes()[at..end].iter().rposition(|&byte| is_newline(byte)) {
        Some(last) => at + last + 1,
        None => white_space(text, at),
    }
}

/// `\s+(?!\S)|\s+`: the white space at `at`, without its last character where text follows and more than one is there.
fn white_space(text: &str, at: usize) -> usize {
    let end = run(text, at, |class| class.intersects(Class::SPACE));
    let last = text[at..end].chars().next_back().map_or(0, char::len_utf8);
    if end < text.len() && end - last > at { end - last } else { end }
}

/// The end of an apostrophe and one of the English endings, as `matches(text, ending)` finds its length.
fn contraction(text: &str, at: usize, matches: impl Fn(&str, &str) -> Option<usize>) -> Option<usize> {
    if text.as_bytes()[at] != b'\'' {
        return None;
    }
    ["s", "t", "re", "ve", "m", "ll", "d"].iter().find_map(|ending| Some(at + 1 + matches(&text[at + 1..], ending)?))
}

/// The length of `letters`, lower-case ASCII, at the start of `text` in any case. The long s is an s, too.
fn starts_with_ignoring_case(text: &str, letters: &str) -> Option<usize> {
    let mut found = text.chars();
    let fold = |character: char| if character == 'ſ' { 's' } else { character.to_ascii_lowercase() };
    letters.chars().all(|letter| found.next().map(fold) == Some(letter)).then(|| text.len() - found.as_str().len())
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// The end of the run of characters from `at` on whose classes satisfy `wanted`.
fn run(text: &str, at: usize, wanted: impl Fn(Class) -> bool) -> usize {
    let bytes = text.as_bytes();
    let mut end = at;
    while end < bytes.len() {
        let step = if bytes[end].is_ascii() {
            if !wanted(unicode::ascii_classes(bytes[end])) {
                break;
            }
            1
        } else {
            let Some(character) = text[end..].chars().next().filter(|&other| wanted(unicode::classes(other))) else {
                break;
            };
            character.len_utf8()
        };
        end += step;
    }
    end
}

fn classes_at(text: &str, at: usize) -> Option<Class> {
    match text.as_bytes().get(at) {
        Some(&byte) if byte.is_ascii() => Some(unicode::ascii_classes(byte)),
        _ => text[at..].chars().next().map(unicode::classes),
    }
}

/// The byte after the character at `at`.
fn after(text: &str, at: usize) -> usize {
    at + text[at..].chars().next().map_or(0, char::len_utf8)
}

/// Emits the longest runs of characters that all satisfy `wanted`, or all do not, and which of both.
fn runs(text: &str, wanted: impl Fn(char) -> bool, emit: &mut dyn FnMut(&str, bool)) {
    let mut rest = text;
    while let Some(kind) = rest.chars().next().map(&wanted) {
        let end = rest.find(|character| wanted(character) != kind).unwrap_or(rest.len());
        emit(&rest[..end], kind);
        rest = &rest[end..];
    }
}

/// Emits each three ASCII digits in a row, and what lies between.
fn ascii_triples(text: &str, emit: Emit) {
    let bytes = text.as_bytes();
    let (mut done, mut at) = (0, 0);
    while at + 3 <= bytes.len() {
        if bytes[at..at + 3].iter().all(u8::is_ascii_digit) {
            if done < at {
                emit(&text[done..at]);
            }
            emit(&text[at..at + 3]);
            at += 3;
            done = at;
        } else {
            at += 1;
        }
    }
    if done < bytes.len() {
        emit(&text[done..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(scan: fn(&str, Emit), text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        scan(text, &mut |piece| pieces.push(piece.to_string()));
        assert_eq!(pieces.concat(), text);
        pieces
    }

    #[test]
    fn gpt2_keeps_the_last_space_for_the_next_word() {
        assert_eq!(pieces(gpt2, "I'm  ok 12a!! \n"), ["I", "'m", " ", " ok", " 12", "a", "!!", " \n"]);
        assert_eq!(pieces(gpt2, "'S 's"), ["'", "S", " '", "s"]);
    }

    #[test]
    fn modern_patterns_take_newlines_and_one_leading_character() {
        assert_eq!(pieces(llama3, "a'LLb 12345\t\tx"), ["a", "'LL", "b", " ", "123", "45", "\t", "\tx"]);
        assert_eq!(pieces(qwen2, "12 !?\r\n\n  \n x  "), ["1", "2", " !?\r\n\n", "  \n", " x", "  "]);
        assert_eq!(pieces(qwen2, "'ſ(y\u{301}z"), ["'ſ", "(y", "\u{301}z"]);
    }

    #[test]
    fn words_end_where_lower_case_ends() {
        assert_eq!(pieces(gpt4o, "camelCaseHTTPServer's it'S"), ["camel", "Case", "HTTPServer's", " it'S"]);
        assert_eq!(pieces(gpt4o, "ABC漢DEf 1234//\n/x"), ["ABC漢DEf", " ", "123", "4", "//\n/", "x"]);
        assert_eq!(
            pieces(tekken, "don't 12 AB\u{301}CD \u{301}\u{301}X"),
            ["don", "'t", " ", "1", "2", " AB\u{301}", "CD", " \u{301}\u{301}", "X"]
        );
        assert_eq!(pieces(qwen35, "(\u{301}a \u{301}! \u{301}"), ["(\u{301}a", " \u{301}", "!", " \u{301}"]);
    }

    #[test]
    fn smollm_sees_the_end_of_text_before_a_digit() {
        assert_eq!(pieces(smollm, "a  1² b"), ["a", "  ", "1", "²", " b"]);
    }

    #[test]
    fn default_cuts_symbols_numbers_and_triples() {
        assert_eq!(pieces(default, "x=1234 $5٣678"), ["x", "=", "123", "4", " ", "$", "5٣", "678"]);
    }
}
