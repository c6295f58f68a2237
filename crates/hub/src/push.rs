//! Sending a model to a registry.

use std::collections::HashSet;

use serde::Serialize;

use crate::http::Http;
use crate::store::{Digest, Store};
use crate::transport::{ImageReference, Registry};
use crate::{HubError, Progress, Reference, Result, Scheme, StoreName};

/// A model that is in a registry now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// `repository:tag` in the store.
    pub name: String,
    /// Where it is.
    pub reference: String,
    /// Of the manifest.
    pub digest: Digest,
    /// Bytes that the registry did not have.
    pub uploaded: u64,
}

/// Sends the model `name` of the store to the registry of `target`, an `oci:` reference with a tag. What the registry
/// has is not sent again.
///
/// # Errors
/// An unknown name, another kind of reference, a damaged model, a registry that cannot be reached or refuses.
pub fn push(name: &str, target: &str, store: &Store, progress: &dyn Progress) -> Result<Pushed> {
    let name = StoreName::parse(name)?;
    let reference = match Reference::parse(target) {
        Ok(Reference::Remote { scheme: Scheme::Oci, location }) => ImageReference::parse(&location)?,
        _ => return Err(HubError::content(target, "a place to push to, oci:host/repository:tag", "another form")),
    };
    if reference.is_digest() {
        return Err(HubError::content(target, "a tag to push to", "a digest"));
    }
    store.resolve(&name)?;
    let (descriptor, bytes, manifest) = store.manifest_of(&name)?;
    let http = Http::new(progress)?;
    let registry = Registry::new(&http, &reference)?;
    let (mut uploaded, mut seen) = (0, HashSet::new());
    for blob in manifest.blobs().filter(|blob| seen.insert(&blob.digest)) {
        if registry.has(&blob.digest)? {
            continue;
        }
        let what = blob.file_name().unwrap_or("the model's configuration");
        progress.start(&format!("uploading {what}"), Some(blob.size));
        registry.upload(&store.blob(&blob.digest), &blob.digest, blob.size, progress)?;
        progress.finish();
        uploaded += blob.size;
    }
    registry.put_manifest(&descriptor.media_type, bytes)?;
    Ok(Pushed { name: name.to_string(), reference: format!("oci:{reference}"), digest: descriptor.digest, uploaded })
}
