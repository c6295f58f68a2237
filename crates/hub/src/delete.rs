//! Taking a model out of a registry.

use serde::Serialize;

use crate::http::Http;
use crate::store::Digest;
use crate::transport::{ImageReference, Registry};
use crate::{HubError, Progress, Reference, Result, Scheme};

/// A model that is in a registry no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// Where it was.
    pub reference: String,
    /// Of the manifest.
    pub digest: Digest,
}

/// Takes the manifest of `target`, an `oci:` reference, out of its registry, which frees the blobs when it next collects
/// garbage.
///
/// # Errors
/// Another kind of reference, a manifest that other tags have too, a registry that cannot be reached or refuses.
pub fn delete(target: &str, progress: &dyn Progress) -> Result<Deleted> {
    let reference = match Reference::parse(target) {
        Ok(Reference::Remote { scheme: Scheme::Oci, location }) => ImageReference::parse(&location)?,
        _ => return Err(HubError::content(target, "a model in a registry, oci:host/repository:tag", "another form")),
    };
    let http = Http::new(progress)?;
    let registry = Registry::new(&http, &reference)?;
    let digest = registry.digest(&reference.version)?;
    // A registry deletes by digest, and with a manifest go all its tags.
    if !reference.is_digest() {
        let mut others = Vec::new();
        for tag in registry.tags()?.into_iter().filter(|tag| *tag != reference.version) {
            if registry.digest(&tag).is_ok_and(|other| other == digest) {
                others.push(tag);
            }
        }
        if !others.is_empty() {
            let (host, repository) = (&reference.host, &reference.repository);
            return Err(HubError::Content {
                origin: reference.to_string(),
                expected: "a manifest that no other tag has".to_owned(),
                found: format!("the same one under {}", others.join(", ")),
                hint: Some(format!("`edgeling rm oci:{host}/{repository}@{digest}` removes it with all its tags")),
            });
        }
    }
    registry.delete_manifest(&digest)?;
    Ok(Deleted { reference: format!("oci:{reference}"), digest })
}
