//! What the store holds.

use std::io::ErrorKind;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::oci::{self, Descriptor, Manifest};
use super::{Digest, Store, files};
use crate::near::near;
use crate::{HubError, Result, StoreName};

/// A name of the store and what stands behind it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// `repository:tag`.
    pub name: String,
    /// Of the manifest.
    pub digest: Digest,
    /// Bytes of all layers.
    pub size: u64,
    /// When the name was given, RFC 3339.
    pub modified: Option<String>,
    /// The reference that the model was fetched from.
    pub source: Option<String>,
    /// The digest that the alias table demanded of the weights.
    pub pinned: Option<Digest>,
    /// SPDX expression.
    pub license: Option<String>,
    pub title: Option<String>,
    /// Why the model cannot be used, where it cannot.
    pub damage: Option<String>,
}

/// A model with all that its manifest says.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    #[serde(flatten)]
    pub entry: Entry,
    /// The model configuration, as the CNCF model specification has it.
    pub config: Value,
    pub layers: Vec<Layer>,
    /// The manifest's annotations.
    pub annotations: oci::Annotations,
}

/// A file of a model.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    pub media_type: String,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// What the file is called outside the store.
    pub file_name: Option<String>,
    /// Where it is in the store.
    pub path: PathBuf,
}

/// The weights of a model, ready to be opened.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Of a model in one file the blob, whose name is its digest: its format shows in its content only. Of a model in
    /// several files the first part, or the folder, that links to them.
    pub path: PathBuf,
    /// Of the file, or of the manifest of several.
    pub digest: Digest,
    /// Bytes of all weights files.
    pub size: u64,
}

impl Store {
    /// Every named model, by name. One that is damaged is listed, and says so.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let index = self.index()?;
        let mut entries: Vec<Entry> = index.manifests.iter().filter_map(|descriptor| self.entry(descriptor)).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The entry of one name; `None` where the store has no such name.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn find(&self, name: &StoreName) -> Result<Option<Entry>> {
        Ok(self.descriptor(name)?.and_then(|descriptor| self.entry(&descriptor)))
    }

    /// Everything about one model.
    ///
    /// # Errors
    /// An unknown name; a manifest or configuration that is missing or damaged.
    pub fn show(&self, name: &StoreName) -> Result<Model> {
        let descriptor = self.known(name)?;
        let manifest = self.manifest(&descriptor)?;
        let bytes = self.document(&manifest.config, "the model's configuration")?;
        let config = files::parse(&self.blob(&manifest.config.digest), &bytes, "a model configuration")?;
        let entry = self.entry(&descriptor).ok_or_else(|| self.unknown(name))?;
        let layers = manifest.layers.iter().map(|layer| self.layer(layer)).collect();
        Ok(Model { entry, config, layers, annotations: manifest.annotations })
    }

    /// The manifest of one model: what the index says of it, its bytes, and what they say.
    ///
    /// # Errors
    /// An unknown name; a manifest that is missing or damaged.
    pub(crate) fn manifest_of(&self, name: &StoreName) -> Result<(Descriptor, Vec<u8>, Manifest)> {
        let descriptor = self.known(name)?;
        let manifest = self.manifest(&descriptor)?;
        let bytes = self.document(&descriptor, "the model's manifest")?;
        Ok((descriptor, bytes, manifest))
    }

    /// The weights of one model.
    ///
    /// # Errors
    /// An unknown name; a model of which a file is missing or incomplete, or that is neither one GGUF file, nor the parts
    /// of one, nor a folder in Hugging Face layout.
    pub fn resolve(&self, name: &StoreName) -> Result<Weights> {
        self.weights(&self.known(name)?).map_err(|error| match error {
            HubError::Store { path, expected, found, .. } => HubError::Store {
                path,
                expected,
                found,
                hint: Some(format!("`edgeling pull {}` gets it again", name.short())),
            },
            other => other,
        })
    }

    /// Checks that a model is whole and of a form that can be used. Nothing is written.
    fn check(&self, descriptor: &Descriptor) -> Result<Manifest> {
        let manifest = self.manifest(descriptor)?;
        for layer in &manifest.layers {
            self.check_size(layer)?;
        }
        self.check_form(descriptor, &manifest)?;
        Ok(manifest)
    }

    fn weights(&self, descriptor: &Descriptor) -> Result<Weights> {
        let manifest = self.check(descriptor)?;
        match self.file_of(&manifest) {
            Some(layer) => {
                Ok(Weights { path: self.blob(&layer.digest), digest: layer.digest.clone(), size: layer.size })
            }
            None => self.folder_of(descriptor, &manifest),
        }
    }

    fn entry(&self, descriptor: &Descriptor) -> Option<Entry> {
        let text = |key| descriptor.annotation(key).map(str::to_owned);
        let name = text(oci::REF_NAME)?;
        let manifest = self.manifest(descriptor).ok();
        let about = |key| manifest.as_ref().and_then(|m| m.annotations.get(key)).cloned().or_else(|| text(key));
        Some(Entry {
            name,
            digest: descriptor.digest.clone(),
            size: manifest.iter().flat_map(|m| &m.layers).fold(0, |sum: u64, layer| sum.saturating_add(layer.size)),
            modified: text(oci::CREATED),
            source: text(oci::SOURCE),
            pinned: text(oci::PINNED).and_then(|digest| Digest::try_from(digest).ok()),
            license: about(oci::LICENSES),
            title: about(oci::TITLE),
            damage: self.check(descriptor).err().map(|error| error.to_string()),
        })
    }

    fn layer(&self, layer: &Descriptor) -> Layer {
        Layer {
            media_type: layer.media_type.clone(),
            digest: layer.digest.clone(),
            size: layer.size,
            file_name: layer.file_name().map(str::to_owned),
            path: self.blob(&layer.digest),
        }
    }

    fn descriptor(&self, name: &StoreName) -> Result<Option<Descriptor>> {
        let name = name.to_string();
        Ok(self.index()?.manifests.into_iter().find(|entry| entry.annotation(oci::REF_NAME) == Some(&name)))
    }

    pub(super) fn known(&self, name: &StoreName) -> Result<Descriptor> {
        self.descriptor(name)?.ok_or_else(|| self.unknown(name))
    }

    /// The error for a name that the store does not have.
    pub(super) fn unknown(&self, name: &StoreName) -> HubError {
        let entries = self.list().unwrap_or_default();
        let names = entries.iter().map(|entry| entry.name.strip_suffix(":latest").unwrap_or(&entry.name));
        let model = name.short();
        HubError::Unknown { near: near(&model, names), model, expected: "a name in the store" }
    }

    /// The manifest behind an entry of the index.
    pub(super) fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        let path = self.blob(&descriptor.digest);
        if ![oci::MANIFEST, oci::DOCKER_MANIFEST].contains(&descriptor.media_type.as_str()) {
            return Err(HubError::store(&path, format!("media type {}", oci::MANIFEST), &descriptor.media_type));
        }
        let bytes = self.document(descriptor, "the model's manifest")?;
        files::parse(&path, &bytes, "an OCI image manifest")
    }

    /// A small blob, whole and unchanged.
    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>> {
        let path = self.blob(&descriptor.digest);
        let bytes = files::read_document(&path)?.ok_or_else(|| HubError::store(&path, what, "no such file"))?;
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            return Err(HubError::store(&path, format!("{what} with {}", descriptor.digest), found));
        }
        Ok(bytes)
    }

    /// Whether a blob is there with all its bytes. Blobs are placed whole and never changed, so the size tells.
    fn check_size(&self, layer: &Descriptor) -> Result<()> {
        let path = self.blob(&layer.digest);
        let expected = format!("{} bytes", layer.size);
        match std::fs::metadata(&path) {
            Ok(file) if file.len() == layer.size => Ok(()),
            Ok(file) => Err(HubError::store(&path, expected, format!("{} bytes", file.len()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(HubError::store(&path, expected, "no such file")),
            Err(cause) => Err(HubError::Io { action: "read", path, cause }),
        }
    }
}
