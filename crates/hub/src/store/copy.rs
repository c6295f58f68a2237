//! Another name for a model.

use super::oci::{self, Descriptor};
use super::{Store, files};
use crate::{HubError, Result, StoreName, time};

impl Store {
    /// Gives a model a second name. No file is copied.
    ///
    /// # Errors
    /// An unknown name; a new name that another model has; a store that cannot be written.
    pub fn copy(&self, from: &StoreName, to: &StoreName) -> Result<()> {
        // Nothing is created in a store that does not have the name.
        self.known(from)?;
        let _guard = self.lock()?;
        let mut entry = self.known(from)?;
        entry.annotations.insert(oci::CREATED.to_owned(), time::now());
        self.add_entry(entry, to)
    }

    /// Adds an entry for a manifest that is in the store under a name that is free or its own. The store's lock is held.
    pub(super) fn add_entry(&self, mut entry: Descriptor, name: &StoreName) -> Result<()> {
        let mut index = self.index()?;
        let text = name.to_string();
        let named = |other: &Descriptor| other.annotation(oci::REF_NAME) == Some(&text);
        match index.manifests.iter().find(|other| named(other)) {
            Some(other) if other.digest == entry.digest => return Ok(()),
            Some(other) => {
                return Err(HubError::Taken {
                    name: name.short(),
                    held: other.annotation(oci::SOURCE).unwrap_or("an unknown source").to_owned(),
                    wanted: entry.digest.to_string(),
                });
            }
            None => {}
        }
        entry.annotations.insert(oci::REF_NAME.to_owned(), text);
        index.manifests.push(entry);
        self.write_index(&index)
    }

    /// Puts a manifest's bytes into the store. The store's lock is held.
    pub(super) fn place_manifest(&self, entry: &Descriptor, bytes: &[u8]) -> Result<()> {
        files::write_atomic(&self.tmp(), &self.blob(&entry.digest), bytes)
    }
}
