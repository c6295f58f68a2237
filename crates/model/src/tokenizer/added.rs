//! Tokens that are found in the text before the model sees it: control tokens and those a user added.

use super::unicode::{self, Class};

/// A token to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AddedToken {
    pub id: u32,
    /// The text to find.
    pub content: String,
    /// Whether it is structure, found only where the text may hold structure.
    pub control: bool,
    /// Whether it must stand apart from letters, digits and underscores.
    pub single_word: bool,
    /// Whether it takes the white space before it.
    pub lstrip: bool,
    /// Whether it takes the white space after it.
    pub rstrip: bool,
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Token(u32),
    /// Text between tokens, never empty, and the byte of the whole text where it starts.
    Text(&'a str, usize),
}

/// Finds added tokens: at each place the longest, from left to right.
#[derive(Debug)]
pub(super) struct Matcher {
    /// Sorted by content, without duplicates.
    tokens: Vec<AddedToken>,
    /// `tokens[buckets[b]..buckets[b + 1]]` start with byte `b`.
    buckets: Box<[u32; 257]>,
}

impl Matcher {
    /// Of two tokens with the same content the later one counts.
    pub fn new(mut tokens: Vec<AddedToken>) -> Self {
        tokens.retain(|token| !token.content.is_empty());
        tokens.reverse();
        tokens.sort_by(|a, b| a.content.cmp(&b.content));
        tokens.dedup_by(|a, b| a.content == b.content);
        let mut buckets = Box::new([0; 257]);
        for token in &tokens {
            buckets[usize::from(token.content.as_bytes()[0]) + 1] += 1;
        }
        for byte in 0..256 {
            buckets[byte + 1] += buckets[byte];
        }
        Self { tokens, buckets }
    }

    /// The tokens in order of their text.
    pub fn tokens(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// Cuts `text` at the tokens in it. Without `control`, control tokens stay text.
    pub fn split<'a>(&self, text: &'a str, control: bool, mut emit: impl FnMut(Part<'a>)) {
        let mut done = 0;
        let mut from = 0;
        while let Some((at, token)) = self.find(text, from) {
            let mut start = at;
            let mut end = at + token.content.len();
            from = end;
            if (token.control && !control) || (token.single_word && touches_word(text, start, end)) {
                continue;
            }
            if token.lstrip {
                start = done + text[done..start].trim_end().len();
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
                from = end;
            }
            if done < start {
                emit(Part::Text(&text[done..start], done));
            }
            emit(Part::Token(token.id));
            done = end;
        }
        if done < text.len() {
            emit(Part::Text(&text[done..], done));
        }
    }

    /// The first token at or after byte `from`.
    fn find(&self, text: &str, from: usize) -> Option<(usize, &AddedToken)> {
        if self.tokens.is_empty() {
            return None;
        }
        let candidates = text.as_bytes()[from..].iter().enumerate();
        candidates
            .filter(|&(_, &byte)| self.buckets[usize::from(byte)] < self.buckets[usize::from(byte) + 1])
            .find_map(|(at, _)| Some((from + at, self.longest(&text.as_bytes()[from + at..])?)))
    }

    /// The longest token that `text` starts with. Tokens that share their first bytes are neighbours, the shortest
    /// first, so each further byte narrows a range.
    fn longest(&self, text: &[u8]) -> Option<&AddedToken> {
        let first = usize::from(text[0]);
        let mut range = &self.tokens[self.buckets[first] as usize..self.buckets[first + 1] as usize];
        let mut longest = None;
        let mut depth = 1;
        while let Some(shortest) = range.first() {
            if shortest.content.len() == depth {
                longest = Some(shortest);
                range = &range[1..];
            }
            let Some(&byte) = text.get(depth) else { break };
            let start = range.partition_point(|token| token.content.as_bytes()[depth] < byte);
            let end = range.partition_point(|token| token.content.as_bytes()[depth] <= byte);
            range = &range[start..end];
            depth += 1;
        }
        longest
    }
}

fn touches_word(text: &str, start: usize, end: usize) -> bool {
    let is_word = |character: char| {
        character.is_alphanumeric()
            || unicode::classes(character).intersects(Class::MARK)
            || matches!(character, '_' | '\u{200C}' | '\u{200D}')
    };
    text[..start].chars().next_back().is_some_and(is_word) || text[end..].chars().next().is_some_and(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: u32, content: &str) -> AddedToken {
        AddedToken { id, content: content.into(), control: false, single_word: false, lstrip: false, rstrip: false }
    }

    fn split(matcher: &Matcher, text: &str, control: bool) -> Vec<String> {
        let mut parts = Vec::new();
        matcher.split(text, control, |part| {
            parts.push(match part {
                Part::Token(id) => format!("#{id}"),
                Part::Text(text, at) => format!("{at}:{text}"),
            });
        });
        parts
    }

    #[test]
    fn the_longest_token_wins_and_search_goes_on_behind_it() {
        let matcher = Matcher::new(vec![token(1, "<a>"), token(2, "<a>b"), token(3, "<"), token(4, "é")]);
        assert_eq!(split(&matcher, "x<a>b<a><é!", true), ["0:x", "#2", "#1", "#3", "#4", "11:!"]);
        assert_eq!(split(&matcher, "", true), [""; 0]);
    }

    #[test]
    fn control_tokens_stay_text_where_structure_is_not_read() {
        let matcher = Matcher::new(vec![AddedToken { control: true, ..token(1, "<s>") }, token(2, "<t>")]);
        assert_eq!(split(&matcher, "<s>a<t>", false), ["0:<s>a", "#2"]);
        assert_eq!(split(&matcher, "<s>a<t>", true), ["#1", "3:a", "#2"]);
    }

    #[test]
    fn stripping_and_whole_words() {
        let strip = AddedToken { lstrip: true, rstrip: true, ..token(1, "<m>") };
        let word = AddedToken { single_word: true, ..token(2, "cat") };
        let matcher = Matcher::new(vec![strip, word]);
        assert_eq!(split(&matcher, "a \u{3000}<m>\t\n <m>b", true), ["0:a", "#1", "#1", "14:b"]);
        assert_eq!(split(&matcher, "cat cats (cat)", true), ["#2", "3: cats (", "#2", "13:)"]);
    }

    #[test]
    fn the_later_of_two_equal_tokens_counts() {
        assert_eq!(split(&Matcher::new(vec![token(1, "<a>"), token(2, "<a>")]), "<a>", true), ["#2"]);
    }
}
