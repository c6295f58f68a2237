//! Chat templates as files hold them: source text, one by default and others by name.

use crate::FormatError;
use crate::gguf::Metadata;

/// In GGUF files, the default template; named ones have `.NAME` behind it.
const GGUF_KEY: &str = "tokenizer.chat_template";

/// The templates of a model; most have one, the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatTemplates {
    /// Name and text.
    templates: Vec<(String, String)>,
}

impl ChatTemplates {
    /// The name of the template that chats use unless they ask for another.
    pub const DEFAULT: &'static str = "default";

    /// # Errors
    /// A template is not a string in UTF-8.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, FormatError> {
        let mut templates = Self::default();
        if let Some(text) = metadata.get::<&str>(GGUF_KEY)? {
            templates.set_default(text.to_owned());
        }
        for (key, _) in metadata.iter() {
            if let Some(name) = key.strip_prefix(GGUF_KEY).and_then(|rest| rest.strip_prefix('.')) {
                templates.set(name, metadata.require::<&str>(key)?.to_owned());
            }
        }
        Ok(templates)
    }

    /// The template that chats use unless they ask for another.
    pub fn default_template(&self) -> Option<&str> {
        self.get(Self::DEFAULT)
    }

    /// The template of this name, such as `tool_use`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == name).map(|(_, text)| text)
    }

    /// Names and texts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.templates.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    pub(crate) fn set_default(&mut self, text: String) {
        self.set(Self::DEFAULT, text);
    }

    /// Adds a template, in place of one with the same name.
    pub(crate) fn set(&mut self, name: &str, text: String) {
        match self.templates.iter_mut().find(|(found, _)| found == name) {
            Some((_, old)) => *old = text,
            None => self.templates.push((name.to_owned(), text)),
        }
    }
}
