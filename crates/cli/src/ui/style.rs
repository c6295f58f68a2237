//! Colours, where the stream shows them and the user wants them.

use anstream::{AutoStream, ColorChoice, stream::RawStream};
use anstyle::{AnsiColor, Style as Ansi};

/// Paints text for one stream, or leaves it plain.
#[derive(Clone, Copy)]
pub struct Style {
    on: bool,
}

impl Style {
    /// Colours for `stream`: off where it is no terminal, with `NO_COLOR`, `CLICOLOR=0` or `TERM=dumb`; on with
    /// `CLICOLOR_FORCE=1`.
    pub fn of<S: RawStream>(stream: &S) -> Self {
        Self { on: AutoStream::choice(stream) != ColorChoice::Never }
    }

    /// No colours.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { on: false }
    }

    fn paint(self, style: Ansi, text: &str) -> String {
        if self.on { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    pub fn heading(self, text: &str) -> String {
        self.paint(Ansi::new().bold(), text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint(Ansi::new().dimmed(), text)
    }

    pub fn accent(self, text: &str) -> String {
        self.paint(AnsiColor::Cyan.on_default(), text)
    }

    pub fn error(self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default().bold(), text)
    }

    pub fn warning(self, text: &str) -> String {
        self.paint(AnsiColor::Yellow.on_default().bold(), text)
    }

    pub fn note(self, text: &str) -> String {
        self.paint(AnsiColor::Cyan.on_default().bold(), text)
    }
}
