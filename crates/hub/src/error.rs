//! What can go wrong between a model's name and its bytes.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::Digest;

pub type Result<T, E = HubError> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Text that is no reference to a model.
    #[error("`{text}` is no model: {problem}")]
    Reference { text: String, problem: String },

    /// Nothing anywhere goes by this name.
    #[error("no model `{model}`: expected {expected}")]
    Unknown { model: String, expected: &'static str, near: Vec<String> },

    /// A model that could be had, in a command that does not fetch.
    #[error("`{model}` is not in the store")]
    NotPulled { model: String },

    #[error("`{model}` is not in the store, and fetching it needs the network, which this command was told not to use")]
    Offline { model: String },

    /// A store name that stands for a model from elsewhere.
    #[error("the store has a model `{name}` from {held}; expected one from {wanted}, or none")]
    Taken { name: String, held: String, wanted: String },

    /// What a transport delivered, or what it was pointed at, is not what it should be.
    #[error("{origin}: expected {expected}, found {found}")]
    Content { origin: String, expected: String, found: String, hint: Option<String> },

    #[error("{origin}: expected {}, found {}", pin(expected, *expected_size), pin(found, *found_size))]
    Pin { origin: String, expected: Digest, expected_size: u64, found: Digest, found_size: u64 },

    /// A server's refusal.
    #[error("{url}: expected the file or answer, found status {status}{}{}", after(" ", *reason), after(": ", said.as_deref()))]
    Http { url: String, status: u16, reason: Option<&'static str>, said: Option<String>, hint: Option<String> },

    /// No answer, or one that broke off.
    #[error("cannot fetch {url}: {cause}")]
    Network {
        url: String,
        cause: String,
        /// There was no connection at all.
        unreachable: bool,
    },

    /// A server that does not prove who it is.
    #[error("cannot trust {url}: {cause}")]
    Untrusted { url: String, cause: String, hint: Option<&'static str> },

    /// A server that has another file than it said before.
    #[error("{url}: the file changed while it was being fetched")]
    Changed { url: String },

    /// The caller asked to stop.
    #[error("stopped; what has arrived is kept for the next attempt")]
    Stopped,

    /// None of a model's sources works.
    #[error("no source of `{model}` works:{}", failures.iter().map(|(source, error)| format!("\n  {source}: {error}")).collect::<String>())]
    Sources { model: String, failures: Vec<(String, HubError)> },

    /// A program that cannot be started.
    #[error("cannot run `{command}`: {cause}")]
    Start { command: String, cause: io::Error, hint: &'static str },

    /// A program that failed. `output` holds the last lines it wrote to standard error.
    #[error("`{command}` failed with {status}; its last words:\n{output}")]
    Command { command: String, status: String, output: String, hint: Option<&'static str> },

    /// A file of the store that is damaged.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Store { path: PathBuf, expected: String, found: String, hint: Option<String> },

    #[error("no folder to keep models in: neither --home nor EDGELING_HOME is given, and this user has no home folder")]
    NoHome,

    #[error("cannot {action} {}: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: io::Error },
}

impl HubError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { near, .. } if !near.is_empty() => Some(format!("did you mean {}?", near.join(", "))),
            Self::Unknown { .. } => Some("`edgeling list` shows what is in the store".to_owned()),
            Self::NotPulled { model } | Self::Offline { model } => Some(format!("run `edgeling pull {model}` first")),
            Self::Taken { name, .. } => Some(format!("`edgeling rm {name}` makes room")),
            Self::Content { hint, .. } | Self::Store { hint, .. } => hint.clone(),
            Self::Pin { .. } => {
                Some("the source holds other bytes than when it was pinned; nothing was kept".to_owned())
            }
            Self::Start { hint, .. } => Some((*hint).to_owned()),
            Self::Command { hint, .. } => hint.map(str::to_owned),
            Self::Http { hint, .. } => hint.clone(),
            Self::Network { unreachable: true, .. } => {
                Some("is the network up? A proxy can be set with HTTPS_PROXY".to_owned())
            }
            Self::Untrusted { hint, .. } => hint.map(str::to_owned),
            Self::Network { .. } | Self::Changed { .. } => Some("try again: what has arrived is kept".to_owned()),
            Self::Sources { failures, .. } => failures.iter().find_map(|(_, error)| error.hint()),
            Self::NoHome => Some("set EDGELING_HOME to a folder".to_owned()),
            Self::Io { cause, .. } => match cause.kind() {
                io::ErrorKind::StorageFull => {
                    Some("free some space, or set EDGELING_HOME to a folder on another disk".to_owned())
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some("set EDGELING_HOME to a folder that you may write to".to_owned())
                }
                _ => None,
            },
            Self::Reference { .. } | Self::Stopped => None,
        }
    }

    pub(crate) fn content(origin: impl ToString, expected: impl ToString, found: impl ToString) -> Self {
        let (origin, expected, found) = (origin.to_string(), expected.to_string(), found.to_string());
        Self::Content { origin, expected, found, hint: None }
    }

    pub(crate) fn store(path: &Path, expected: impl ToString, found: impl ToString) -> Self {
        Self::Store { path: path.to_owned(), expected: expected.to_string(), found: found.to_string(), hint: None }
    }
}

fn after(mark: &str, text: Option<&str>) -> String {
    text.map(|text| format!("{mark}{text}")).unwrap_or_default()
}

fn pin(digest: &Digest, size: u64) -> String {
    format!("{digest} ({size} bytes)")
}

/// Says what was being done to which file when it failed.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|cause| HubError::Io { action, path: path.to_owned(), cause })
    }
}
