//! What a person sees: data on standard output, everything else on standard error.

pub mod error;
pub mod human;
pub mod progress;
pub mod style;
pub mod table;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use self::progress::Progress;
use self::style::Style;

/// Standard output could not take the data.
#[derive(Debug)]
pub struct StdoutError(pub io::Error);

impl std::fmt::Display for StdoutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cannot write to standard output")
    }
}

impl std::error::Error for StdoutError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// How this process talks: decided once from the flags, the environment and the two streams.
#[derive(Clone)]
pub struct Ui {
    /// One JSON value on standard output instead of text for people.
    pub json: bool,
    /// Styles for text on standard output.
    pub out: Style,
    /// Styles for text on standard error.
    pub err: Style,
    progress: bool,
}

impl Ui {
    pub fn new(json: bool) -> Self {
        Self {
            json,
            out: Style::of(&io::stdout()),
            err: Style::of(&io::stderr()),
            progress: !json && io::stderr().is_terminal(),
        }
    }

    /// Writes `text` to standard output and flushes it, so that a reader sees it now.
    pub fn print(&self, text: &str) -> Result<(), StdoutError> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(StdoutError)
    }

    /// Writes text that comes from a model or a file. It goes out as it is, but to a terminal without control characters,
    /// which could change the title, the colours or what was shown before.
    pub fn print_foreign(&self, text: &str) -> Result<(), StdoutError> {
        if io::stdout().is_terminal() { self.print(&visible(text)) } else { self.print(text) }
    }

    /// Writes `value` as one line of JSON.
    pub fn print_json<T: Serialize>(&self, value: &T) -> anyhow::Result<()> {
        let line = serde_json::to_string(value)? + "\n";
        Ok(self.print(&line)?)
    }

    /// A remark on standard error.
    pub fn note(&self, text: &str) {
        eprintln!("{} {}", self.err.note("note:"), visible(text));
    }

    /// A remark on standard error about something that may not be what the user wants.
    pub fn warn(&self, text: &str) {
        eprintln!("{} {}", self.err.warning("warning:"), visible(text));
    }

    /// A bar over bytes: done, total, rate and time left.
    pub fn bytes(&self, label: &str) -> Progress {
        Progress::bytes(label, self.progress)
    }

    /// A bar over bytes that appears only when the work outlasts a second.
    pub fn slow_bytes(&self, label: &str) -> Progress {
        Progress::bytes(label, self.progress).delayed()
    }

    /// A bar over `unit`s: done, total, rate and time left.
    pub fn count(&self, label: &str, unit: &str) -> Progress {
        Progress::count(label, unit, self.progress)
    }

    /// A bar over `unit`s that appears only when the work outlasts a second.
    pub fn slow_count(&self, label: &str, unit: &str) -> Progress {
        Progress::count(label, unit, self.progress).delayed()
    }
}

/// `text` with every control character but line feeds and tabs written out, as `\u{1b}`.
fn visible(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(hidden) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if hidden(c) { out.extend(c.escape_debug()) } else { out.push(c) }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn control_characters_are_written_out() {
        assert_eq!(visible("plain 你好 👩‍👩‍👧\n\tnext"), "plain 你好 👩‍👩‍👧\n\tnext");
        assert_eq!(visible("\u{1b}]0;title\u{7}\r\u{9b}31m"), "\\u{1b}]0;title\\u{7}\\r\\u{9b}31m");
    }
}
