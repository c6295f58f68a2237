//! `oci:host/repository:tag` and `ollama:name:tag`: models in registries that speak the OCI distribution protocol.
//!
//! The client is our own, on the HTTP layer of the other transports: blobs resume by ranges, an upload goes on where it
//! stopped, and Ctrl-C is heard. A manifest is kept byte for byte, so that its digest stays what the registry says.

mod auth;
mod reference;
mod registry;

use super::{Fetched, Source, Transport};
use crate::http::{ContentHash, Http, Wanted};
use crate::store::oci::{self, Manifest};
use crate::store::{LayerKind, NewLayer, NewManifest, Staging};
use crate::{HubError, Progress, Result, Scheme};
pub use reference::ImageReference;
pub use registry::Registry;

/// What a weights layer without a name is called.
const WEIGHTS_NAME: &str = "model.gguf";

pub struct Oci;

impl Transport for Oci {
    fn scheme(&self) -> Scheme {
        Scheme::Oci
    }

    fn describe(&self, location: &str) -> Result<Source> {
        Ok(ImageReference::parse(location)?.describe(location))
    }

    fn fetch(&self, location: &str, staging: &mut Staging, progress: &dyn Progress) -> Result<Fetched> {
        fetch(&ImageReference::parse(location)?, staging, progress)
    }
}

/// Ollama's library and registries like it: layers of GGUF, template, parameters and licence, all of which are kept.
pub struct Ollama;

impl Transport for Ollama {
    fn scheme(&self) -> Scheme {
        Scheme::Ollama
    }

    fn describe(&self, location: &str) -> Result<Source> {
        Ok(ImageReference::parse_ollama(location)?.describe(location))
    }

    fn fetch(&self, location: &str, staging: &mut Staging, progress: &dyn Progress) -> Result<Fetched> {
        fetch(&ImageReference::parse_ollama(location)?, staging, progress)
    }
}

fn fetch(reference: &ImageReference, staging: &mut Staging, progress: &dyn Progress) -> Result<Fetched> {
    let http = Http::new(progress)?;
    let registry = Registry::new(&http, reference)?;
    progress.start(&format!("looking up {reference}"), None);
    let (media_type, bytes) = registry.manifest()?;
    progress.finish();
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| HubError::content(reference, "an OCI image manifest", error))?;
    let wanted = |blob: &oci::Descriptor, name: &str| Wanted {
        name: name.to_owned(),
        hash: ContentHash::Sha256(blob.digest.clone()),
        size: blob.size,
    };
    // A model that cannot be used is refused before its gigabytes come.
    if !manifest.layers.iter().any(oci::Descriptor::is_weights) {
        let types: Vec<&str> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
        let expected = "a model with layers of raw weights";
        return Err(HubError::content(reference, expected, format!("layers of type {}", types.join(", "))));
    }
    let config = registry.download(&wanted(&manifest.config, "the model's configuration"), staging)?;
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        let kind = if layer.is_weights() { LayerKind::Weights } else { LayerKind::Doc };
        let file_name = layer.file_name().unwrap_or(WEIGHTS_NAME).to_owned();
        let file = registry.download(&wanted(layer, &file_name), staging)?;
        layers.push(NewLayer { kind, file_name, file });
    }
    let license = manifest.annotations.get(oci::LICENSES).cloned();
    Ok(Fetched { layers, license, manifest: Some(NewManifest { media_type, bytes, config }), ..Fetched::default() })
}
