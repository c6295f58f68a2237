//! `tokenizer_config.json`, with what `special_tokens_map.json` and the template files of the folder add.

use std::path::Path;

use serde_json::Value;

use super::json::{JsonFile, read_bytes};
use crate::{ChatTemplates, FormatError};

/// A folder's settings of its tokenizer; every file and key may be absent.
#[derive(Clone, Debug)]
pub struct TokenizerConfig {
    /// `tokenizer_config.json`, then `special_tokens_map.json`.
    files: Vec<JsonFile>,
    templates: ChatTemplates,
}

impl TokenizerConfig {
    /// # Errors
    /// A file is there but cannot be read, or is not a JSON object; a template is not text.
    pub fn open(folder: &Path) -> Result<Self, FormatError> {
        let mut files = Vec::new();
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            files.extend(JsonFile::open_optional(&folder.join(name))?);
        }
        let mut templates = ChatTemplates::default();
        for file in &files {
            add_templates(&mut templates, file)?;
        }
        let own_file = folder.join("chat_template.jinja");
        if own_file.exists() {
            let text = String::from_utf8(read_bytes(&own_file)?);
            let text = text.map_err(|e| FormatError::Kind {
                path: own_file,
                expected: "a template in UTF-8",
                found: e.to_string(),
                hint: None,
            })?;
            templates.set_default(text);
        }
        Ok(Self { files, templates })
    }

    /// The text of a special token by its key (`bos_token`, `eos_token`, `pad_token`, `unk_token`), which files give as a
    /// string or as an object with `content`.
    ///
    /// # Errors
    /// The value is something else.
    pub fn special_token(&self, key: &str) -> Result<Option<&str>, FormatError> {
        for file in &self.files {
            let text = match file.find(key) {
                Some(Value::String(text)) => Some(text.as_str()),
                Some(_) => Some(file.require(&format!("{key}.content"))?),
                None => None,
            };
            if text.is_some() {
                return Ok(text);
            }
        }
        Ok(None)
    }

    /// Any other key, from the first file that has it.
    ///
    /// # Errors
    /// The value is of another type.
    pub fn get<'a, T: serde::Deserialize<'a>>(&'a self, key: &str) -> Result<Option<T>, FormatError> {
        match self.files.iter().find(|file| file.find(key).is_some()) {
            Some(file) => file.get(key),
            None => Ok(None),
        }
    }

    pub fn chat_templates(&self) -> &ChatTemplates {
        &self.templates
    }
}

/// Adds the templates of the key `chat_template`: one as a string, or a list of objects with `name` and `template`.
fn add_templates(templates: &mut ChatTemplates, file: &JsonFile) -> Result<(), FormatError> {
    const KEY: &str = "chat_template";
    match file.find(KEY) {
        None => {}
        Some(Value::String(text)) => templates.set_default(text.clone()),
        Some(Value::Array(list)) => {
            for item in list {
                let text = |key: &str| item.get(key).and_then(Value::as_str);
                let (Some(name), Some(template)) = (text("name"), text("template")) else {
                    return Err(file.wrong(KEY, "expected objects with `name` and `template`".to_owned()));
                };
                templates.set(name, template.to_owned());
            }
        }
        Some(_) => return Err(file.wrong(KEY, "expected a string or a list of named templates".to_owned())),
    }
    Ok(())
}
