//! How the bytes behind a reference come here. A transport is one file (or folder) here and one row of [`TRANSPORTS`].

mod file;
mod hf;
mod oci;
mod pypi;

use std::path::PathBuf;

use crate::shard::Shard;
use crate::store::{NewLayer, NewManifest, Staging};
use crate::{HubError, Progress, Result, Scheme, StoreName};

pub(crate) use oci::{ImageReference, Registry};

pub trait Transport: Sync {
    fn scheme(&self) -> Scheme;

    /// What a location says by itself. Nothing is fetched.
    ///
    /// # Errors
    /// A location that is none of this scheme.
    fn describe(&self, location: &str) -> Result<Source>;

    /// Fetches the files of a model. `location` is the canonical one of [`Source`].
    ///
    /// # Errors
    /// The source cannot be reached, or does not hold what the location says.
    fn fetch(&self, location: &str, staging: &mut Staging, progress: &dyn Progress) -> Result<Fetched>;
}

/// What is known of a model before it is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The location in the one spelling that all equal ones share.
    pub location: String,
    /// What the store calls the model.
    pub name: StoreName,
    /// Whether the location means the same bytes for ever, so that a copy of them need not be fetched again.
    pub immutable: bool,
    /// Where the model is, if it is on this machine and can be used there.
    pub local: Option<PathBuf>,
}

/// A model on its way into the store.
#[derive(Debug, Default)]
pub struct Fetched {
    /// At least one of them holds weights.
    pub layers: Vec<NewLayer>,
    pub version: Option<String>,
    /// The commit that the files are of.
    pub revision: Option<String>,
    /// The manifest, where the source has one.
    pub manifest: Option<NewManifest>,
    /// SPDX expression, as the source states it.
    pub license: Option<String>,
}

/// Every transport of this build.
pub static TRANSPORTS: &[&dyn Transport] = &[&hf::Hub, &oci::Ollama, &oci::Oci, &pypi::Pypi, &file::LocalFile];

/// The transport of a scheme.
pub fn of(scheme: Scheme) -> &'static dyn Transport {
    let found = TRANSPORTS.iter().copied().find(|transport| transport.scheme() == scheme);
    // A test walks all schemes.
    found.expect("every scheme has a transport")
}

/// Refuses one part of a sharded model where only that file would be fetched.
///
/// # Errors
/// The file is one.
fn refuse_shard(origin: &str, file: &str) -> Result<()> {
    match Shard::parse(file) {
        Some(Shard { part, of, .. }) => {
            Err(HubError::content(origin, "a model in one file", format!("part {part} of {of}")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_is_served_once() {
        for scheme in Scheme::ALL {
            assert_eq!(TRANSPORTS.iter().filter(|transport| transport.scheme() == scheme).count(), 1);
            assert_eq!(of(scheme).scheme(), scheme);
        }
    }

    #[test]
    fn canonical_locations_stay_as_they_are() {
        for (scheme, location) in [
            (Scheme::Pypi, "My_Package==1.0/a/b.gguf"),
            (Scheme::File, "a/../b.gguf"),
            (Scheme::Oci, "h/a"),
            (Scheme::Ollama, "a"),
            (Scheme::Hf, "a/b"),
        ] {
            let transport = of(scheme);
            let once = transport.describe(location).unwrap();
            assert_eq!(transport.describe(&once.location).unwrap(), once);
        }
    }
}
