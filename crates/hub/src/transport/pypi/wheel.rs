//! Reading files out of a wheel: a zip archive (PEP 427). A wheel comes from outside and may be hostile; a member is
//! read up to the size that its header declares, and that size must be one that deflate can reach.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::error::At;
use crate::near::near;
use crate::store::{Staged, Staging};
use crate::{HubError, Progress, Result};

/// Deflate makes at most 1032 bytes of one (258 bytes from a two-bit code pair); its headers come on top.
const LARGEST_RATIO: u64 = 1032;

/// Largest metadata and licence file: both are text for people.
const LARGEST_TEXT: u64 = 1 << 20;

pub struct Wheel {
    /// For messages: the wheel's file name.
    name: String,
    archive: ZipArchive<BufReader<File>>,
}

/// What a wheel says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub version: Option<String>,
    /// SPDX expression, or what stands in its place.
    pub license: Option<String>,
}

impl Wheel {
    /// # Errors
    /// A file that cannot be read or is no zip archive.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let file = BufReader::new(File::open(path).at("open", path)?);
        match ZipArchive::new(file) {
            Ok(archive) => Ok(Self { name, archive }),
            Err(error) => Err(damaged(&name, "a wheel (a zip archive)", error)),
        }
    }

    /// Stages one member.
    ///
    /// # Errors
    /// No such member; one whose bytes are damaged, too many or too few.
    pub fn extract(&mut self, member: &str, staging: &mut Staging, progress: &dyn Progress) -> Result<Staged> {
        let Some(index) = self.archive.index_for_name(member) else { return Err(self.missing(member)) };
        let origin = format!("{}: {member}", self.name);
        let mut file = self.archive.by_index(index).map_err(|error| damaged(&origin, "a readable file", error))?;
        let (declared, packed) = (file.size(), file.compressed_size());
        let largest = packed.saturating_mul(LARGEST_RATIO);
        if declared > largest {
            let expected = format!("at most {largest} bytes from {packed} compressed ones");
            return Err(HubError::content(origin, expected, format!("{declared}")));
        }
        let what = member.rsplit('/').next().unwrap_or(member);
        progress.start(&format!("extracting {what}"), Some(declared));
        // One byte more than declared shows that there are more.
        let mut bounded = (&mut file).take(declared.saturating_add(1));
        let staged = staging.copy(&mut bounded, progress, |error| {
            damaged(&origin, "a file of the size and checksum that its header has", error.into())
        })?;
        if staged.size != declared {
            let found = if staged.size > declared { "more".to_owned() } else { staged.size.to_string() };
            return Err(HubError::content(origin, format!("{declared} bytes"), found));
        }
        progress.finish();
        Ok(staged)
    }

    /// The facts in the wheel's `METADATA` (PyPA core metadata); none where it has no such file.
    ///
    /// # Errors
    /// The file is damaged or too large.
    pub fn facts(&mut self) -> Result<Facts> {
        let Some(member) = self.info_files().find(|(_, file)| *file == "METADATA").map(|(member, _)| member) else {
            return Ok(Facts::default());
        };
        let origin = format!("{}: {member}", self.name);
        let unreadable = |error: ZipError| damaged(&origin, "readable metadata", error);
        let mut file = self.archive.by_name(&member).map_err(unreadable)?.take(LARGEST_TEXT + 1);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| unreadable(error.into()))?;
        if bytes.len() as u64 > LARGEST_TEXT {
            return Err(HubError::content(origin, format!("at most {LARGEST_TEXT} bytes"), "more"));
        }
        Ok(facts(&String::from_utf8_lossy(&bytes)))
    }

    /// The member that holds the licence's text.
    pub fn license_file(&self) -> Option<String> {
        let is_license = |file: &str| {
            let upper = file.rsplit('/').next().unwrap_or(file).to_ascii_uppercase();
            ["LICENSE", "LICENCE", "COPYING"].iter().any(|word| upper.starts_with(word))
        };
        self.info_files().filter(|(_, file)| is_license(file)).map(|(member, _)| member).min()
    }

    /// Each member of the wheel's `.dist-info` folder: its name in the archive, and in that folder.
    fn info_files(&self) -> impl Iterator<Item = (String, &str)> {
        self.archive.file_names_raw().filter_map(|name| {
            let name = std::str::from_utf8(name).ok()?;
            let (folder, file) = name.split_once('/')?;
            (folder.ends_with(".dist-info") && !file.is_empty() && !file.ends_with('/'))
                .then(|| (name.to_owned(), file))
        })
    }

    fn missing(&self, member: &str) -> HubError {
        let names: Vec<&str> =
            self.archive.file_names_raw().filter_map(|name| std::str::from_utf8(name).ok()).collect();
        let mut like = near(member, names.iter().copied());
        if like.is_empty() {
            like = names.iter().filter(|name| name.ends_with(".gguf")).map(|name| (*name).to_owned()).collect();
        }
        let found = format!("none among its {} files", names.len());
        let hint = (!like.is_empty()).then(|| format!("the wheel has {}", like.join(", ")));
        HubError::Content { origin: self.name.clone(), expected: format!("a file `{member}`"), found, hint }
    }
}

/// Reads the headers that stand before the first empty line.
fn facts(metadata: &str) -> Facts {
    let header = |key: &str| {
        let lines = metadata.lines().take_while(|line| !line.is_empty());
        let mut values = lines.filter_map(|line| line.split_once(": ")).filter(|(k, _)| k.eq_ignore_ascii_case(key));
        values.next().map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty() && value != "UNKNOWN")
    };
    Facts { version: header("Version"), license: header("License-Expression").or_else(|| header("License")) }
}

fn damaged(origin: &str, expected: &str, error: ZipError) -> HubError {
    HubError::Content {
        origin: origin.to_owned(),
        expected: expected.to_owned(),
        found: error.to_string(),
        hint: Some("the download may be incomplete: pull again".to_owned()),
    }
}

#[cfg(test)]
mod tests;
