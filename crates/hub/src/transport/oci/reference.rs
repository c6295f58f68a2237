//! What follows `oci:` and `ollama:`.

use std::fmt;

use crate::store::Digest;
use crate::transport::Source;
use crate::{HubError, Result, StoreName};

const OLLAMA: &str = "registry.ollama.ai";

/// Docker's library goes by a name at which no registry answers.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A manifest in a registry:
///
/// ```text
/// oci        = host "/" repository [ ":" tag | "@" digest ]          tag is "latest" where none is given
/// ollama     = [ [ host "/" ] namespace "/" ] name [ ":" tag ]       "registry.ollama.ai" and "library" unless given
/// host       = name or address [ ":" port ]
/// repository = word { "/" word }
/// word       = lower-case letters and digits, with ".", "_" and "-" between them
/// digest     = "sha256:" and 64 lower-case hexadecimal digits
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    /// With the port, where one is given.
    pub host: String,
    pub repository: String,
    /// A tag or a digest.
    pub version: String,
}

impl ImageReference {
    /// # Errors
    /// Text of another form.
    pub fn parse(location: &str) -> Result<Self> {
        let form = "host/repository[:tag]";
        let (host, path) = location.split_once('/').ok_or_else(|| refusal("oci", location, form))?;
        Self::new(host, path).ok_or_else(|| refusal("oci", location, form))
    }

    /// # Errors
    /// Text of another form.
    pub fn parse_ollama(location: &str) -> Result<Self> {
        let parsed = match location.split('/').count() {
            1 => Self::new(OLLAMA, &format!("library/{location}")),
            2 => Self::new(OLLAMA, location),
            _ => location.split_once('/').and_then(|(host, path)| Self::new(host, path)),
        };
        parsed.ok_or_else(|| refusal("ollama", location, "[namespace/]name[:tag]"))
    }

    fn new(host: &str, path: &str) -> Option<Self> {
        let (repository, version) = match path.split_once('@') {
            Some((repository, digest)) => (repository, String::from(Digest::try_from(digest.to_owned()).ok()?)),
            None => path.split_once(':').map_or((path, "latest".to_owned()), |(path, tag)| (path, tag.to_owned())),
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_alphanumeric())
                && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
        };
        let is_tag = version.contains(':')
            || (version.len() <= 128
                && version.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && version.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)));
        let valid = !host.is_empty()
            && host.chars().all(is_host)
            && host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
            && repository.to_ascii_lowercase().split('/').all(is_word)
            && is_tag;
        valid.then(|| Self { host: host.to_owned(), repository: repository.to_owned(), version })
    }

    pub(super) fn describe(&self, location: &str) -> Source {
        let name = self.repository.rsplit('/').next().unwrap_or(&self.repository);
        let tag = if self.is_digest() { "latest" } else { &self.version };
        let name = StoreName::parse(&format!("{name}:{tag}")).unwrap_or_else(|_| StoreName::of_file(name));
        Source { location: location.to_owned(), name, immutable: self.is_digest(), local: None }
    }

    pub fn is_digest(&self) -> bool {
        self.version.contains(':')
    }

    /// Where the registry answers.
    pub fn address(&self) -> String {
        let host = if self.host == DOCKER.0 { DOCKER.1 } else { &self.host };
        format!("{}://{host}", if self.is_loopback() { "http" } else { "https" })
    }

    /// Whether the registry is on this machine, where plain http is usual and safe.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.host.rsplit_once(':').map_or(&self.host, |(host, _)| host))
    }
}

/// Whether a host name is this machine.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.starts_with("127.") && host.parse::<std::net::Ipv4Addr>().is_ok() || host == "[::1]"
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_digest() { '@' } else { ':' };
        write!(f, "{}/{}{mark}{}", self.host, self.repository, self.version)
    }
}

fn refusal(scheme: &str, location: &str, form: &str) -> HubError {
    HubError::content(format!("{scheme}:{location}"), form, "another form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let digest = Digest::of(b"x");
        for (location, expected, name) in [
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "b:c"),
            ("ghcr.io/a/b", "ghcr.io/a/b:latest", "b:latest"),
            (&format!("host/a@{digest}"), &format!("host/a@{digest}"), "a:latest"),
        ] {
            let parsed = ImageReference::parse(location).unwrap();
            assert_eq!(
                (parsed.to_string().as_str(), parsed.describe(location).name.to_string().as_str()),
                (expected, name)
            );
        }
        for (location, expected) in [
            ("qwen3:0.6b", "registry.ollama.ai/library/qwen3:0.6b"),
            ("user/m", "registry.ollama.ai/user/m:latest"),
            ("127.0.0.1:9/library/m:t", "127.0.0.1:9/library/m:t"),
        ] {
            assert_eq!(ImageReference::parse_ollama(location).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for location in
            ["a", "/a", "h/", "h/../a", "h/a:", "h/a:b/c", "h/a@sha256:00", "h h/a", "h/a:b c", "h/a//b", "u@h/a"]
        {
            assert!(ImageReference::parse(location).is_err(), "{location}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for (location, expected) in [
            ("localhost:5000/a", "http://localhost:5000"),
            ("127.0.0.1:5000/a", "http://127.0.0.1:5000"),
            ("[::1]:5000/a", "http://[::1]:5000"),
            ("127.0.0.1.evil.org/a", "https://127.0.0.1.evil.org"),
            ("localhost.evil.org/a", "https://localhost.evil.org"),
            ("docker.io/a/b", "https://registry-1.docker.io"),
        ] {
            assert_eq!(ImageReference::parse(location).unwrap().address(), expected);
        }
    }
}
