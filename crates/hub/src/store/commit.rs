//! Adding a model.

use super::oci::{self, Annotations, Descriptor, Manifest};
use super::{Digest, Staged, Staging, Store, files};
use crate::{Result, StoreName, time};

/// What a file is to its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    Weights,
    /// What the weights need to be used: settings, tokenizer, chat template.
    Config,
    /// A licence or another text for people.
    Doc,
}

impl LayerKind {
    fn media_type(self) -> &'static str {
        match self {
            Self::Weights => oci::WEIGHT,
            Self::Config => oci::WEIGHT_CONFIG,
            Self::Doc => oci::DOC,
        }
    }
}

/// A file that becomes a layer.
#[derive(Debug)]
pub struct NewLayer {
    pub kind: LayerKind,
    pub file_name: String,
    pub file: Staged,
}

/// A model whose files have all been staged and checked.
#[derive(Debug)]
pub struct NewModel {
    pub name: StoreName,
    /// The reference that the model was fetched from.
    pub source: String,
    /// The digest that the weights had to have, where one was demanded.
    pub pinned: Option<Digest>,
    pub title: Option<String>,
    pub version: Option<String>,
    /// The commit of the source that the files come from.
    pub revision: Option<String>,
    /// SPDX expression.
    pub license: Option<String>,
    pub layers: Vec<NewLayer>,
    /// The manifest, where the model came with one.
    pub manifest: Option<NewManifest>,
}

/// A manifest that is kept as it came, byte for byte, so that its digest and signatures stay valid.
#[derive(Debug)]
pub struct NewManifest {
    pub media_type: String,
    pub bytes: Vec<u8>,
    /// The blob that it names as configuration.
    pub config: Staged,
}

impl Store {
    /// Moves the staged files into the store and gives the model its name. Another model that had the name loses it,
    /// and its files go where no other model needs them.
    ///
    /// # Errors
    /// The store cannot be written or its index is damaged; the names are then as before.
    pub fn commit(&self, staging: Staging, model: NewModel) -> Result<()> {
        let _guard = self.lock()?;
        let mut index = self.index()?;
        let layers = model.layers.iter().map(|layer| self.place_layer(layer)).collect::<Result<Vec<_>>>()?;
        let about: Annotations = [
            (oci::TITLE, &model.title),
            (oci::VERSION, &model.version),
            (oci::REVISION, &model.revision),
            (oci::LICENSES, &model.license),
        ]
        .into_iter()
        .filter_map(|(key, text)| Some((key.to_owned(), text.clone()?)))
        .collect();
        let mut entry = match &model.manifest {
            Some(manifest) => {
                let config = &manifest.config;
                files::place(&config.path, &self.blob(&config.digest))?;
                self.place_bytes(&manifest.media_type, &manifest.bytes)?
            }
            None => {
                let config = oci::model_config(model.name.repository(), &about, &layers);
                let config = self.place_document(oci::CONFIG, &config)?;
                self.place_document(oci::MANIFEST, &Manifest::model(config, layers, about.clone()))?
            }
        };

        entry.artifact_type = Some(oci::MODEL.to_owned());
        entry.annotations = about;
        let name = model.name.to_string();
        for (key, text) in [
            (oci::REF_NAME, Some(name.clone())),
            (oci::CREATED, Some(time::now())),
            (oci::SOURCE, Some(model.source)),
            (oci::PINNED, model.pinned.map(String::from)),
        ] {
            entry.annotations.extend(text.map(|text| (key.to_owned(), text)));
        }
        let names = index.manifests.len();
        index.manifests.retain(|other| other.annotation(oci::REF_NAME) != Some(&name));
        let replaced = index.manifests.len() < names;
        index.manifests.push(entry);
        self.write_index(&index)?;
        staging.finish();
        if replaced {
            self.sweep_blobs(&index)?;
        }
        Ok(())
    }

    fn place_layer(&self, layer: &NewLayer) -> Result<Descriptor> {
        let Staged { path, digest, size } = &layer.file;
        // Also over a blob of this digest: the staged bytes have just been checked.
        files::place(path, &self.blob(digest))?;
        let mut descriptor = Descriptor::new(layer.kind.media_type(), digest.clone(), *size);
        descriptor.annotations.insert(oci::FILE_PATH.to_owned(), layer.file_name.clone());
        Ok(descriptor)
    }

    fn place_document(&self, media_type: &str, document: &impl serde::Serialize) -> Result<Descriptor> {
        self.place_bytes(media_type, &files::to_json(self.root(), document)?)
    }

    fn place_bytes(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let digest = Digest::of(bytes);
        files::write_atomic(&self.tmp(), &self.blob(&digest), bytes)?;
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }
}
