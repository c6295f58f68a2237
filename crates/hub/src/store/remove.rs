//! Removing a model.

use std::collections::HashSet;
use std::fs;

use serde::Serialize;

use super::oci::{self, Index};
use super::{Digest, Store};
use crate::error::At;
use crate::{Result, StoreName};

/// What a removal did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// `repository:tag`.
    pub name: String,
    /// Bytes that no model needed any more.
    pub freed: u64,
}

impl Store {
    /// Takes a name out of the store, and every blob that no other model needs.
    ///
    /// # Errors
    /// An unknown name, or a store that cannot be written.
    pub fn remove(&self, name: &StoreName) -> Result<Removed> {
        let text = name.to_string();
        let named = |index: &Index| index.manifests.iter().any(|entry| entry.annotation(oci::REF_NAME) == Some(&text));
        // Nothing is created in a store that does not have the name.
        if !named(&self.index()?) {
            return Err(self.unknown(name));
        }
        let _guard = self.lock()?;
        let mut index = self.index()?;
        if !named(&index) {
            return Err(self.unknown(name));
        }
        index.manifests.retain(|entry| entry.annotation(oci::REF_NAME) != Some(&text));
        self.write_index(&index)?;
        Ok(Removed { freed: self.sweep_blobs(&index)?, name: text })
    }

    /// Deletes the blobs that nothing in `index` refers to, and gives their bytes. Nothing is deleted while a manifest
    /// cannot be read, since what it refers to is not known. The store's lock is held.
    pub(super) fn sweep_blobs(&self, index: &Index) -> Result<u64> {
        let mut needed: HashSet<Digest> = index.manifests.iter().map(|entry| entry.digest.clone()).collect();
        for entry in &index.manifests {
            let Ok(manifest) = self.manifest(entry) else { return Ok(0) };
            needed.extend(manifest.blobs().map(|blob| blob.digest.clone()));
        }
        let needed: HashSet<&str> = needed.iter().map(Digest::hex).collect();
        self.sweep_folders(&needed);
        let folder = self.root().join("blobs").join("sha256");
        let mut freed = 0;
        for file in fs::read_dir(&folder).at("read", &folder)? {
            let file = file.at("read", &folder)?;
            if !file.file_name().to_str().is_some_and(|name| needed.contains(name)) {
                let path = file.path();
                freed += file.metadata().at("read", &path)?.len();
                fs::remove_file(&path).at("remove", &path)?;
            }
        }
        Ok(freed)
    }
}
