//! Adding a model that comes with its manifest and a name.

use super::oci::{self, Descriptor, Manifest};
use super::{Staged, Staging, Store, files};
use crate::{Result, StoreName, time};

impl Store {
    /// Moves staged files into the store and gives the model of `manifest`, whose bytes are `bytes`, a name that is free
    /// or already means it.
    ///
    /// # Errors
    /// A model that cannot be used, a name that another model has, a store that cannot be written; the names are then as
    /// before.
    pub(crate) fn adopt(
        &self,
        staging: Staging,
        entry: &Descriptor,
        manifest: &Manifest,
        bytes: &[u8],
        staged: &[Staged],
        name: &StoreName,
    ) -> Result<()> {
        self.check_form(entry, manifest)?;
        let _guard = self.lock()?;
        for file in staged {
            files::place(&file.path, &self.blob(&file.digest))?;
        }
        let mut entry = entry.clone();
        entry.size = bytes.len() as u64;
        entry.annotations.insert(oci::CREATED.to_owned(), time::now());
        self.place_manifest(&entry, bytes)?;
        let added = self.add_entry(entry, name);
        staging.finish();
        if added.is_err() {
            self.sweep_blobs(&self.index()?)?;
        }
        added
    }
}
