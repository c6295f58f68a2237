//! What follows `hf:`.

use super::base_name;
use super::glob::is_glob;
use crate::shard::Shard;
use crate::{HubError, Result, StoreName};

/// The revision where none is given.
const MAIN: &str = "main";

/// A location, parsed:
///
/// ```text
/// location   = repository [ "@" revision ] [ "/" file ]
/// repository = word "/" word
/// revision   = a branch, a tag or a commit; a "/" in it is written "%2F"
/// file       = a path in the repository, a folder in it, or a glob over the paths of its GGUF files ("*" and "?")
/// word       = alnum { alnum | "." | "_" | "-" }
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Location<'a> {
    /// `org/name`.
    pub repository: &'a str,
    pub revision: &'a str,
    pub file: Option<&'a str>,
}

impl<'a> Location<'a> {
    /// # Errors
    /// Text of another form.
    pub fn parse(location: &'a str) -> Result<Self> {
        let refuse = |found: String| {
            Err(HubError::content(format!("hf:{location}"), "org/name[@revision][/file or glob]", found))
        };
        let Some((org, rest)) = location.split_once('/') else {
            return refuse("no `/` after the organization".to_owned());
        };
        let (name, file) = rest.split_once('/').map_or((rest, None), |(name, file)| (name, Some(file)));
        let (name, revision) = name.split_once('@').map_or((name, None), |(name, revision)| (name, Some(revision)));
        for word in [org, name] {
            if !is_word(word) {
                return refuse(format!("`{word}`"));
            }
        }
        let is_revision = |c: char| c.is_ascii_alphanumeric() || "._-%+".contains(c);
        if revision.is_some_and(|text| text.is_empty() || text.contains("..") || !text.chars().all(is_revision)) {
            return refuse(format!("revision `{}`", revision.unwrap_or_default()));
        }
        if file.is_some_and(|file| file.split('/').any(|part| matches!(part, "" | "." | "..")) || file.contains('\\')) {
            return refuse(format!("path `{}`", file.unwrap_or_default()));
        }
        let repository = &location[..org.len() + 1 + name.len()];
        Ok(Self { repository, revision: revision.unwrap_or(MAIN), file })
    }

    /// Whether the revision is a commit, which never changes.
    pub fn is_commit(&self) -> bool {
        self.revision.len() == 40 && self.revision.bytes().all(|b| b.is_ascii_hexdigit())
    }

    /// What the store calls the model: a GGUF file's own name; else the repository's without `-GGUF` at its end, with the
    /// storage type that a glob asks for as tag.
    pub fn name(&self) -> StoreName {
        let repository = base_name(self.repository);
        let plain = repository.to_ascii_lowercase();
        let plain = plain.strip_suffix("-gguf").filter(|rest| !rest.is_empty()).unwrap_or(&plain);
        match self.file {
            Some(file) if is_glob(file) => {
                let kind = base_name(file).to_ascii_lowercase();
                let kind = kind.trim_end_matches(".gguf").trim_matches(['*', '?', '-', '.']);
                let typed = StoreName::of_file(&format!("{plain}-{}", kind.rsplit(['*', '?']).next().unwrap_or(kind)));
                if typed.is_tagged() { typed } else { StoreName::of_file(plain) }
            }
            Some(file) if file.to_ascii_lowercase().ends_with(".gguf") => {
                let file = base_name(file);
                StoreName::of_file(Shard::parse(file).map_or(file, |shard| shard.stem))
            }
            Some(folder) => StoreName::of_file(&format!("{plain}-{}", base_name(folder))),
            None => StoreName::of_file(plain),
        }
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        let parse = |text| Location::parse(text).unwrap();
        let plain = parse("Qwen/Qwen3-0.6B");
        assert_eq!((plain.repository, plain.revision, plain.file), ("Qwen/Qwen3-0.6B", "main", None));
        let full = parse("a/b@v1.0/sub/m.gguf");
        assert_eq!((full.repository, full.revision, full.file), ("a/b", "v1.0", Some("sub/m.gguf")));
        let commit = format!("a/b@{}", "0a".repeat(20));
        assert!(parse(&commit).is_commit() && !full.is_commit());
    }

    #[test]
    fn what_is_no_location_is_refused() {
        for text in
            ["a", "a/", "/b", "a/b@", "a/b@..", "a/b@x y", "a/b/", "a/b/../c", "a/b//c", "a b/c", "-a/b", "a/b/c\\d"]
        {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.contains("expected org/name[@revision][/file or glob]"), "{text}: {error}");
        }
    }

    #[test]
    fn names() {
        for (location, expected) in [
            ("Qwen/Qwen3-0.6B", "qwen3-0.6b:latest"),
            ("Qwen/Qwen3-0.6B-GGUF", "qwen3-0.6b:latest"),
            ("Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf", "qwen3-0.6b:q8_0"),
            ("Qwen/Qwen3-8B-GGUF/*Q4_K_M*", "qwen3-8b:q4_k_m"),
            ("Qwen/Qwen3-8B-GGUF/*-Q4_K_M.gguf", "qwen3-8b:q4_k_m"),
            ("Qwen/Qwen3-8B-GGUF/*", "qwen3-8b:latest"),
            ("a/b-GGUF/sub/m-Q8_0-00001-of-00002.gguf", "m:q8_0"),
            ("a/b/onnx", "b-onnx:latest"),
        ] {
            assert_eq!(Location::parse(location).unwrap().name().to_string(), expected, "{location}");
        }
    }
}
