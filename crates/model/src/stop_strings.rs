//! Cutting a growing text at stop strings.

/// Passes a text on piece by piece and ends it before the first stop string.
///
/// What could be the begin of a stop string is held back until the text decides. The result does not depend on how the
/// text is cut into pieces: the stop string that is complete first counts, and of several that end together the longest.
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    /// Text that was not passed on: a proper prefix of a stop string.
    held: String,
    stopped: bool,
}

/// A stop string that would stop everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stop string {0} is empty")]
pub struct EmptyStopString(pub usize);

impl StopStrings {
    /// # Errors
    /// A string is empty; the error has its index.
    pub fn new(stops: Vec<String>) -> Result<Self, EmptyStopString> {
        match stops.iter().position(String::is_empty) {
            Some(index) => Err(EmptyStopString(index)),
            None => Ok(Self { stops, held: String::new(), stopped: false }),
        }
    }

    /// The text that is certain with this piece; nothing more after a stop.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop).map(|at| (at + stop.len(), at)));
        if let Some((_, at)) = found.min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let held = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - held);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether a stop string was found.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// What was held back, at the end of a text that did not stop.
    pub fn finish(self) -> String {
        self.held
    }
}

/// Bytes of the longest end of `text` that is a proper prefix of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1); // No stop string is empty.
    let fits = |n: &usize| {
        text.is_char_boundary(text.len() - n) && stop.as_bytes().starts_with(&text.as_bytes()[text.len() - n..])
    };
    (1..=longest).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool, String) {
        let mut s = StopStrings::new(stops.iter().map(|s| (*s).to_owned()).collect()).unwrap();
        let out = pieces.iter().map(|p| s.push(p)).collect();
        (out, s.stopped(), s.finish())
    }

    #[test]
    fn holds_back_what_may_become_a_stop_string() {
        let (out, stopped, rest) = stream(&["###"], &["ab#", "#c#", "#", "# never"]);
        assert_eq!(out, ["ab", "##c", "", ""]);
        assert!(stopped && rest.is_empty());
        let (out, stopped, rest) = stream(&["###"], &["ab##"]);
        assert_eq!((out[0].as_str(), stopped, rest.as_str()), ("ab", false, "##"));
    }

    #[test]
    fn the_one_that_is_complete_first_counts() {
        assert_eq!(stream(&["abcd", "bc"], &["xabcd"]).0, ["xa"]);
        assert_eq!(stream(&["bc", "abc"], &["xabc"]).0, ["x"]);
    }

    #[test]
    fn an_empty_string_is_refused() {
        assert_eq!(StopStrings::new(vec!["a".into(), String::new()]).unwrap_err(), EmptyStopString(1));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            stops in prop::collection::vec("[abé]{1,4}", 0..4), text in "[abé]{0,24}", cuts in prop::collection::vec(0usize..24, 0..6),
        ) {
            let chars: Vec<String> = text.chars().map(String::from).collect();
            let one_by_one: Vec<&str> = chars.iter().map(String::as_str).collect();
            let mut pieces = Vec::new();
            let mut piece = String::new();
            for (i, c) in chars.iter().enumerate() {
                piece.push_str(c);
                if cuts.contains(&i) {
                    pieces.push(std::mem::take(&mut piece));
                }
            }
            pieces.push(piece);
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (a, a_stopped, a_rest) = stream(&stops, &one_by_one);
            let (b, b_stopped, b_rest) = stream(&stops, &pieces);
            prop_assert_eq!(a_stopped, b_stopped);
            let whole = a.concat() + &a_rest;
            prop_assert_eq!(&whole, &(b.concat() + &b_rest));
            prop_assert!(text.starts_with(&whole));
            prop_assert!(stops.iter().all(|s| !whole.contains(s)));
            prop_assert_eq!(a_stopped, stops.iter().any(|s| text.contains(s)));
        }
    }
}
