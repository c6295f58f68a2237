//! The local store: an OCI image layout at `HOME/store`.
//!
//! ```text
//! oci-layout            the version of the layout
//! index.json            one entry for each name, with the digest of its manifest
//! blobs/sha256/HEX      manifests, configurations, weights, licences
//! lock                  held while the index changes
//! tmp/                  pulls under way, and what interrupted ones have received
//! models/HEX/           a model of several files, named by its manifest: links to the blobs, made when asked for
//! ```
//!
//! A process may be killed at any moment and several may work at once: blobs and the index are renamed into place when
//! they are whole, and both change under the lock only.

mod adopt;
mod commit;
mod copy;
mod digest;
mod files;
mod folder;
mod index;
pub(crate) mod oci;
mod partial;
mod read;
mod remove;
mod staging;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub use commit::{LayerKind, NewLayer, NewManifest, NewModel};
pub use digest::Digest;
pub(crate) use digest::Hasher;
pub use partial::Partial;
pub use read::{Entry, Layer, Model, Weights};
pub use remove::Removed;
pub use staging::{Content, Staged, Staging};

use crate::error::At;
use crate::{HubError, Result};

/// The folder that holds the store unless a command line says otherwise: `EDGELING_HOME`, or `.edgeling` in the user's
/// home folder.
///
/// # Errors
/// The variable is not set and the user has no home folder.
pub fn default_home() -> Result<PathBuf> {
    match std::env::var_os("EDGELING_HOME") {
        Some(home) if !home.is_empty() => Ok(home.into()),
        _ => Ok(std::env::home_dir()
            .filter(|home| !home.as_os_str().is_empty())
            .ok_or(HubError::NoHome)?
            .join(".edgeling")),
    }
}

/// Models on this machine.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store of `home`. Nothing is created before the first write; what killed pulls left behind is removed.
    ///
    /// # Errors
    /// `home` is not a folder.
    pub fn open(home: &Path) -> Result<Self> {
        if home.exists() && !home.is_dir() {
            return Err(HubError::store(home, "a folder to keep models in", "a file"));
        }
        let store = Self { root: home.join("store") };
        if fs::read_dir(store.tmp()).is_ok_and(|mut entries| entries.next().is_some())
            && let Ok(_guard) = store.lock()
        {
            staging::sweep(&store.tmp());
        }
        Ok(store)
    }

    /// The folder of the OCI image layout.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder for files that are to become a model.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn stage(&self) -> Result<Staging> {
        Staging::new(self)
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join("sha256").join(digest.hex())
    }

    /// Makes the store's folders and waits until no other process changes it. Dropping the file lets others in.
    fn lock(&self) -> Result<File> {
        for folder in [self.root.join("blobs").join("sha256"), self.tmp()] {
            fs::create_dir_all(&folder).at("create", &folder)?;
        }
        let path = self.root.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).at("open", &path)?;
        file.lock().at("lock", &path)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests;
