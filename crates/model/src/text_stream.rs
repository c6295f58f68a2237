//! From generated tokens to the text that a reader sees.

use crate::stop_strings::{EmptyStopString, StopStrings};
use crate::tokenizer::{DetokenizeStream, Tokenizer};

/// Turns tokens into text one by one: whole characters only, and nothing from a stop string on.
#[derive(Clone, Debug)]
pub struct TextStream {
    detokenizer: DetokenizeStream,
    stops: StopStrings,
}

impl TextStream {
    /// A stream at the start of a text. With `skip_special`, control tokens are left out.
    ///
    /// # Errors
    /// A stop string is empty.
    pub fn new(stops: Vec<String>, skip_special: bool) -> Result<Self, EmptyStopString> {
        Ok(Self { detokenizer: DetokenizeStream::new(skip_special), stops: StopStrings::new(stops)? })
    }

    /// The text that is certain with this token, which is often empty.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> String {
        let text = self.detokenizer.push(tokenizer, token);
        self.stops.push(&text)
    }

    /// Whether a stop string was found: the text has ended, and the sequence should be cancelled.
    pub fn stopped(&self) -> bool {
        self.stops.stopped()
    }

    /// What is left at the end.
    pub fn finish(mut self) -> String {
        let text = self.detokenizer.finish();
        let mut text = self.stops.push(&text);
        text.push_str(&self.stops.finish());
        text
    }
}
