//! A conversation, in memory and as a file.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// What `/save` writes and `/load` reads: a JSON object with the messages in order, as chat APIs have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// The model that the conversation was with.
    #[serde(default)]
    pub model: String,
    pub messages: Vec<Message>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    /// As chat templates know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl Message {
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

impl Transcript {
    /// # Errors
    /// The file cannot be written; what it held before stays.
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)? + "\n";
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let written = fs::File::create(&part).and_then(|mut file| {
            file.write_all(json.as_bytes())?;
            file.sync_all()?;
            fs::rename(&part, path)
        });
        written
            .inspect_err(|_| drop(fs::remove_file(&part)))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// # Errors
    /// The file cannot be read or holds no conversation: after at most one system message, user and assistant in turn.
    pub fn load(path: &Path) -> Result<Self> {
        let json = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let transcript: Self = serde_json::from_str(&json)
            .with_context(|| format!("{}: expected a conversation as /save writes it", path.display()))?;
        let turns = match transcript.messages.split_first() {
            Some((first, rest)) if first.role == Role::System => rest,
            _ => &transcript.messages,
        };
        for (at, message) in turns.iter().enumerate() {
            let expected = if at % 2 == 0 { Role::User } else { Role::Assistant };
            if message.role != expected {
                bail!(
                    "{}: message {} of the conversation: expected role {}, found {}",
                    path.display(),
                    transcript.messages.len() - turns.len() + at + 1,
                    expected.name(),
                    message.role.name()
                );
            }
        }
        Ok(transcript)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(roles: &[Role]) -> Transcript {
        let messages = roles.iter().map(|&role| Message::new(role, "x\n\"é\"")).collect();
        Transcript { model: "m".into(), messages }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.json");
        for roles in [&[][..], &[Role::System, Role::User, Role::Assistant], &[Role::User]] {
            let saved = conversation(roles);
            saved.save(&path).unwrap();
            assert_eq!(Transcript::load(&path).unwrap(), saved);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_conversation_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.json");
        conversation(&[Role::System, Role::User, Role::User]).save(&path).unwrap();
        let error = Transcript::load(&path).unwrap_err().to_string();
        assert!(error.contains("message 3") && error.contains("expected role assistant, found user"), "{error}");
        fs::write(&path, "[]").unwrap();
        assert!(Transcript::load(&path).unwrap_err().to_string().contains("chat.json"));
        fs::write(&path, r#"{"messages":[{"role":"robot","content":""}]}"#).unwrap();
        assert!(Transcript::load(&path).is_err());
    }
}
