//! `index.json` and `oci-layout`.

use super::oci::{self, Index, Layout};
use super::{Store, files};
use crate::{HubError, Result};

const REPAIR: &str = "move the file away to start with an empty store; blobs that are pulled again are found";

impl Store {
    /// The index; an empty one where the store does not exist yet.
    ///
    /// # Errors
    /// A layout of another version, or an index that is not one.
    pub(super) fn index(&self) -> Result<Index> {
        self.check_layout()?;
        let path = self.root().join("index.json");
        let Some(bytes) = files::read_document(&path)? else { return Ok(Index::default()) };
        let hinted = |expected: &str, found: String| HubError::Store {
            path: path.clone(),
            expected: expected.to_owned(),
            found,
            hint: Some(REPAIR.to_owned()),
        };
        let index: Index = serde_json::from_slice(&bytes).map_err(|e| hinted("an OCI image index", e.to_string()))?;
        match index.schema_version {
            2 => Ok(index),
            version => Err(hinted("an OCI image index of schema version 2", format!("version {version}"))),
        }
    }

    /// Replaces the index. The store's lock is held.
    pub(super) fn write_index(&self, index: &Index) -> Result<()> {
        let path = self.root().join("oci-layout");
        if !path.exists() {
            let layout = Layout { image_layout_version: oci::LAYOUT_VERSION.to_owned() };
            files::write_atomic(&self.tmp(), &path, &files::to_json(&path, &layout)?)?;
        }
        let path = self.root().join("index.json");
        files::write_atomic(&self.tmp(), &path, &files::to_json(&path, index)?)
    }

    fn check_layout(&self) -> Result<()> {
        let path = self.root().join("oci-layout");
        let Some(bytes) = files::read_document(&path)? else { return Ok(()) };
        let layout: Layout = files::parse(&path, &bytes, "an OCI image layout")?;
        if layout.image_layout_version == oci::LAYOUT_VERSION {
            return Ok(());
        }
        let expected = format!("an OCI image layout of version {}", oci::LAYOUT_VERSION);
        Err(HubError::store(&path, expected, format!("version {}", layout.image_layout_version)))
    }
}
