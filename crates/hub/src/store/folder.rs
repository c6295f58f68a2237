//! Models of several files: `models/HEX` of the store, a folder in which each file has its own name again.
//!
//! The folder holds links only and can be removed at any time; it is made again when the model is next asked for.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::oci::{Descriptor, Manifest};
use super::{Store, Weights};
use crate::error::At;
use crate::{HubError, Result, shard};

/// What a folder in Hugging Face layout has beside its weights.
const CONFIG: &str = "config.json";

const EXPECTED: &str = "a model of one GGUF file, of its numbered parts, or of config.json and safetensors";

impl Store {
    /// The one file that is the whole model.
    pub(super) fn file_of<'a>(&self, manifest: &'a Manifest) -> Option<&'a Descriptor> {
        let mut weights = manifest.layers.iter().filter(|layer| layer.is_weights());
        let safetensors = |layer: &Descriptor| layer.file_name().is_some_and(|name| name.ends_with(".safetensors"));
        weights.next().filter(|layer| weights.next().is_none() && !safetensors(layer))
    }

    /// Checks that a model is one file, or that its files make a folder that can be opened.
    ///
    /// # Errors
    /// Neither of them; names that lead out of the folder or stand for two files.
    pub(super) fn check_form(&self, descriptor: &Descriptor, manifest: &Manifest) -> Result<()> {
        if self.file_of(manifest).is_some() {
            return Ok(());
        }
        let path = self.blob(&descriptor.digest);
        let weights: Vec<&Descriptor> = manifest.layers.iter().filter(|layer| layer.is_weights()).collect();
        let names: Vec<&str> = weights.iter().filter_map(|layer| layer.file_name()).collect();
        let all = |end: &str| names.len() == weights.len() && names.iter().all(|name| name.ends_with(end));
        let has_config = manifest.layers.iter().any(|layer| layer.file_name() == Some(CONFIG));
        let is_parts = all(".gguf") && shard::complete(&names);
        if weights.is_empty() || !(is_parts || (all(".safetensors") && has_config)) {
            return Err(HubError::store(&path, EXPECTED, format!("{} weights files", weights.len())));
        }
        let mut seen = HashSet::new();
        for name in manifest.layers.iter().filter_map(Descriptor::file_name) {
            let parts = Path::new(name).components();
            let inside =
                parts.clone().count() > 0 && parts.into_iter().all(|part| matches!(part, Component::Normal(_)));
            if !inside || name.contains('\\') || !seen.insert(name) {
                return Err(HubError::store(&path, "file names of their own inside the model's folder", name));
            }
        }
        Ok(())
    }

    /// The folder of a model that has passed [`Self::check_form`], made where it is missing or incomplete.
    pub(super) fn folder_of(&self, descriptor: &Descriptor, manifest: &Manifest) -> Result<Weights> {
        let folder = self.models().join(descriptor.digest.hex());
        let named = || manifest.layers.iter().filter_map(|layer| Some((layer, layer.file_name()?)));
        let complete = |folder: &Path| {
            named().all(|(layer, name)| fs::metadata(folder.join(name)).is_ok_and(|file| file.len() == layer.size))
        };
        if !complete(&folder) {
            let _guard = self.lock()?;
            fs::create_dir_all(self.models()).at("create", &self.models())?;
            let parent = self.tmp();
            let made =
                tempfile::Builder::new().prefix("folder-").tempdir_in(&parent).at("create a folder in", &parent)?;
            for (layer, name) in named() {
                let link = made.path().join(name);
                if let Some(parent) = link.parent() {
                    fs::create_dir_all(parent).at("create", parent)?;
                }
                // From `models/HEX/NAME`, with as many steps up as NAME goes down.
                let up: PathBuf = std::iter::repeat_n("..", Path::new(name).components().count() + 1).collect();
                make_link(&up.join("blobs/sha256").join(layer.digest.hex()), &self.blob(&layer.digest), &link)?;
            }
            if folder.exists() {
                fs::remove_dir_all(&folder).at("remove", &folder)?;
            }
            fs::rename(made.path(), &folder).at("write", &folder)?;
        }
        let weights = || named().filter(|(layer, _)| layer.is_weights());
        let first = weights().map(|(_, name)| name).filter(|name| name.ends_with(".gguf")).min();
        Ok(Weights {
            path: first.map_or_else(|| folder.clone(), |name| folder.join(name)),
            digest: descriptor.digest.clone(),
            size: weights().fold(0, |sum: u64, (layer, _)| sum.saturating_add(layer.size)),
        })
    }

    /// Removes the folders of models that are gone. The store's lock is held; what stays is only links.
    pub(super) fn sweep_folders(&self, needed: &HashSet<&str>) {
        for folder in fs::read_dir(self.models()).into_iter().flatten().flatten() {
            if !folder.file_name().to_str().is_some_and(|name| needed.contains(name)) {
                let _ = fs::remove_dir_all(folder.path());
            }
        }
    }

    fn models(&self) -> PathBuf {
        self.root().join("models")
    }
}

/// A relative link, so that the store can be moved.
#[cfg(unix)]
fn make_link(relative: &Path, _blob: &Path, link: &Path) -> Result<()> {
    std::os::unix::fs::symlink(relative, link).at("create", link)
}

/// Symbolic links need a privilege on other systems.
#[cfg(not(unix))]
fn make_link(_relative: &Path, blob: &Path, link: &Path) -> Result<()> {
    fs::hard_link(blob, link).at("create", link)
}
