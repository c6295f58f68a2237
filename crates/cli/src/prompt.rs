//! From a conversation to the text that a model was trained to see.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use formats::ChatTemplates;
use model::template::{ChatInput, ChatTemplate};
use model::tokenizer::Tokenizer;

use crate::chat::Message;

/// A model's chat template with the tokens that it may write.
pub struct ChatPrompt {
    template: ChatTemplate,
    bos: Option<String>,
    eos: Option<String>,
}

impl ChatPrompt {
    /// `None` for a model without a template.
    ///
    /// # Errors
    /// The template is no valid Jinja.
    pub fn new(templates: &ChatTemplates, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let Some(source) = templates.default_template() else { return Ok(None) };
        let text = |id: u32| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned();
        Ok(Some(Self {
            template: ChatTemplate::new("default", source)?,
            bos: tokenizer.bos().map(text),
            eos: tokenizer.eos().map(text),
        }))
    }

    /// The conversation up to where the assistant's next words begin.
    ///
    /// # Errors
    /// The template fails on the conversation or refuses it.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        // A clock before 1970 is one that was never set.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(self.template.render(&ChatInput {
            messages: &serde_json::to_value(messages)?,
            tools: None,
            add_generation_prompt: true,
            bos_token: self.bos.as_deref(),
            eos_token: self.eos.as_deref(),
            extra: None,
            // UTC, as the standard library knows no time zones.
            now: now as i64,
        })?)
    }
}
