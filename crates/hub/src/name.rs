//! What MODEL on the command line may be.

use std::fmt;
use std::path::PathBuf;

use crate::{HubError, Result};

/// Longest repository and longest tag, as OCI registries bound a tag.
const LONGEST: usize = 128;

/// The tag of a name that gives none.
const DEFAULT_TAG: &str = "latest";

/// Where a reference with a scheme leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Hf,
    Ollama,
    Oci,
    Pypi,
    File,
}

impl Scheme {
    pub const ALL: [Self; 5] = [Self::Hf, Self::Ollama, Self::Oci, Self::Pypi, Self::File];

    fn of(prefix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str().eq_ignore_ascii_case(prefix))
    }

    /// As it is written before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hf => "hf",
            Self::Ollama => "ollama",
            Self::Oci => "oci",
            Self::Pypi => "pypi",
            Self::File => "file",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A model as its user names it. The form alone decides, no file is looked at:
///
/// ```text
/// MODEL      = remote | path | name                 the first that fits
/// remote     = scheme ":" location
/// scheme     = "hf" | "ollama" | "oci" | "pypi" | "file"            in any case
/// location   = hf:      org "/" name [ "@" revision ] [ "/" file ]
///              ollama:  name [ ":" tag ]
///              oci:     host "/" repository ":" tag
///              pypi:    package [ "==" version ] "/" path           path inside the wheel
///              file:    path
/// path       = text with a "/" (on Windows also a "\"), or ending in ".gguf" in any case, or "." or ".."
/// name       = repository [ ":" tag ]               tag is "latest" where none is given
/// repository = alnum { alnum | "." | "_" | "-" }    at most 128 characters
/// tag        = ( alnum | "_" ) { alnum | "." | "_" | "-" }          at most 128 characters
/// alnum      = ASCII letter or digit
/// ```
///
/// Names are lower case; upper case is accepted and lowered. A repository is no scheme. Text such as `s3:a/b`, with
/// what looks like a scheme but is none, is refused rather than taken for a path; `./s3:a/b` is the path. Each
/// transport parses its own locations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A file or a folder.
    Path(PathBuf),
    /// A model in the store, or an alias.
    Name(StoreName),
    Remote {
        scheme: Scheme,
        location: String,
    },
}

impl Reference {
    /// # Errors
    /// Text that fits no form of the grammar.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |problem: String| Err(HubError::Reference { text: text.to_owned(), problem });
        if text.chars().any(char::is_control) {
            return refuse("it holds control characters".to_owned());
        }
        if let Some((prefix, location)) = text.split_once(':') {
            if let Some(scheme) = Scheme::of(prefix) {
                return match location {
                    "" => refuse(format!("nothing follows `{scheme}:`")),
                    _ => Ok(Self::Remote { scheme, location: location.to_owned() }),
                };
            }
            // One letter is a drive of Windows.
            let schemelike = prefix.len() > 1 && prefix.chars().all(|c| c.is_ascii_alphanumeric());
            if schemelike && location.contains('/') {
                let known = Scheme::ALL.map(|s| format!("`{s}:`")).join(", ");
                return refuse(format!("`{prefix}:` is no scheme (those are {known}), and a tag holds no `/`"));
            }
        }
        if is_path(text) {
            return Ok(Self::Path(text.into()));
        }
        StoreName::parse(text).map(Self::Name)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Name(name) => name.fmt(f),
            Self::Remote { scheme, location } => write!(f, "{scheme}:{location}"),
        }
    }
}

fn is_path(text: &str) -> bool {
    let extension = text.len().checked_sub(".gguf".len()).and_then(|at| text.get(at..));
    text.contains(std::path::is_separator)
        || extension.is_some_and(|end| end.eq_ignore_ascii_case(".gguf"))
        || matches!(text, "." | "..")
}

/// A name in the store: `repository:tag`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreName {
    repository: String,
    tag: String,
}

impl StoreName {
    /// # Errors
    /// Text that is not `repository[:tag]` as [`Reference`] has it.
    pub fn parse(text: &str) -> Result<Self> {
        let lower = text.to_ascii_lowercase();
        let (repository, tag) = lower.split_once(':').unwrap_or((&lower, DEFAULT_TAG));
        let refuse = |problem: &str| Err(HubError::Reference { text: text.to_owned(), problem: problem.to_owned() });
        if Scheme::of(repository).is_some() {
            return refuse("a scheme cannot be a name");
        }
        if repository.ends_with(".gguf") || tag.ends_with(".gguf") {
            return refuse("`.gguf` at the end means a file");
        }
        if !is_word(repository) || repository.starts_with(['.', '_', '-']) {
            return refuse("a name is up to 128 letters, digits, `.`, `_` or `-`, the first a letter or digit");
        }
        if !is_word(tag) || tag.starts_with(['.', '-']) {
            return refuse("a tag is up to 128 letters, digits, `.`, `_` or `-`, the first a letter, digit or `_`");
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.to_owned() })
    }

    /// The name of a model that came as a file: its stem in lower case, with `-` for every character that a name cannot
    /// hold; a storage type at its end, after a `.` or `-`, becomes the tag.
    /// `Qwen3-0.6B-Q4_K_M.gguf` is `qwen3-0.6b:q4_k_m`.
    pub fn of_file(file_name: &str) -> Self {
        let lower = file_name.to_ascii_lowercase();
        let stem = lower.strip_suffix(".gguf").unwrap_or(&lower);
        let stem: String = stem.chars().map(|c| if is_letter(c) { c } else { '-' }).take(LONGEST).collect();
        let stem = stem.trim_start_matches(['.', '_', '-']).trim_end_matches(".gguf");
        let (repository, tag) = match stem.rsplit_once(['.', '-']) {
            Some((repository, kind)) if is_storage_type(kind) => (repository, kind),
            _ => (stem, DEFAULT_TAG),
        };
        let repository = match repository.trim_end_matches(".gguf") {
            "" => "model".to_owned(),
            scheme if Scheme::of(scheme).is_some() => format!("{scheme}-model"),
            repository => repository.to_owned(),
        };
        Self { repository, tag: tag.to_owned() }
    }

    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Whether the tag is another than the default.
    pub fn is_tagged(&self) -> bool {
        self.tag != DEFAULT_TAG
    }

    /// Without the tag where that is the default: the shortest text that means this name.
    pub fn short(&self) -> String {
        if self.tag == DEFAULT_TAG { self.repository.clone() } else { self.to_string() }
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn is_word(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.chars().all(is_letter)
}

/// Whether `text` is spelled as a tensor type or a mix of them is: `q4_1`, `iq2_xxs`, `bf16`.
fn is_storage_type(text: &str) -> bool {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let family = &text[..text.len() - digits.len()];
    matches!(family, "q" | "iq" | "tq" | "f" | "bf" | "mxfp" | "nvfp")
        && digits.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests;
