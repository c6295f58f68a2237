//! What a user hands over besides flags: text on standard input, lists of tokens.

use std::io::{self, IsTerminal, Read};
use std::str::FromStr;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::ui::error::Usage;

/// Token ids, separated by commas; spaces around them are no matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens(pub Vec<u32>);

impl FromStr for Tokens {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |part: &str| {
            let part = part.trim();
            part.parse().map_err(|_| format!("expected a token id from 0 to {}, found {part:?}", u32::MAX))
        };
        text.split(',').map(parse).collect::<Result<_, _>>().map(Self)
    }
}

/// Standard input, whole.
///
/// # Errors
/// It is a terminal (`instead` says what could be given), or not text in UTF-8.
pub fn required(instead: &str) -> Result<String> {
    if io::stdin().is_terminal() {
        return Err(Usage(format!("expected {instead}, or text piped to standard input; found neither")).into());
    }
    read()
}

/// Standard input that stands beside a prompt: `None` for a terminal, and where nothing came.
///
/// A process may inherit a pipe that nobody writes to. So the first byte must come within `patience`; a pipe that stays
/// silent is left unread, which `abandoned` reports.
pub fn beside(patience: Duration, abandoned: impl FnOnce()) -> Result<Option<String>> {
    if io::stdin().is_terminal() {
        return Ok(None);
    }
    let (first, arrived) = mpsc::channel();
    let (whole, text) = mpsc::channel();
    std::thread::spawn(move || {
        let mut start = [0];
        let began = io::stdin().read(&mut start);
        // The receivers are gone when the prompt was answered alone.
        let _ = first.send(());
        let rest = began.and_then(|n| {
            let mut bytes = start[..n].to_vec();
            io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        });
        let _ = whole.send(rest);
    });
    if arrived.recv_timeout(patience).is_err() {
        abandoned();
        return Ok(None);
    }
    let bytes = text.recv().context("standard input was not read")?;
    let text = as_text(bytes.context("cannot read standard input")?)?;
    Ok((!text.is_empty()).then_some(text))
}

fn read() -> Result<String> {
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    as_text(bytes)
}

fn as_text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("standard input: expected UTF-8 text, found other bytes at byte {at}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_lists_are_read_with_or_without_spaces() {
        assert_eq!("1,2,3".parse(), Ok(Tokens(vec![1, 2, 3])));
        assert_eq!(" 1 , 2 ".parse(), Ok(Tokens(vec![1, 2])));
    }

    #[test]
    fn what_is_no_token_is_named() {
        for (list, found) in [("", "\"\""), ("1,,2", "\"\""), ("1,-2", "\"-2\""), ("1,4294967296", "\"4294967296\"")] {
            assert!(list.parse::<Tokens>().unwrap_err().ends_with(found), "{list}");
        }
    }
}
