//! The documents of the store: OCI image layout, index and manifest (OCI image specification 1.1), and the model
//! configuration of the CNCF model specification.
//!
//! What another tool has put into a document and this one does not know is kept when the document is written again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Digest;

pub const LAYOUT_VERSION: &str = "1.0.0";

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The artifact type of a manifest that describes a model.
pub const MODEL: &str = "application/vnd.cncf.model.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.cncf.model.config.v1+json";
pub const WEIGHT: &str = "application/vnd.cncf.model.weight.v1.raw";
pub const WEIGHT_CONFIG: &str = "application/vnd.cncf.model.weight.config.v1.raw";
pub const DOC: &str = "application/vnd.cncf.model.doc.v1.raw";

/// The manifest type before OCI, which Ollama's registry still uses; its fields are the same.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Layers of one GGUF file each, as Ollama and Docker publish models.
const GGUF_LAYERS: [&str; 2] = ["application/vnd.ollama.image.model", "application/vnd.docker.ai.gguf.v3"];

/// Layers of other publishers that stand for a file, with the name that it gets where the layer gives none.
const FILE_NAMES: [(&str, &str); 6] = [
    ("application/vnd.ollama.image.template", "template"),
    ("application/vnd.ollama.image.system", "system"),
    ("application/vnd.ollama.image.params", "params.json"),
    ("application/vnd.ollama.image.messages", "messages.json"),
    ("application/vnd.ollama.image.license", "LICENSE"),
    ("application/vnd.docker.ai.license", "LICENSE"),
];

/// `repository:tag`, on an entry of the index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// RFC 3339, on an entry of the index.
pub const CREATED: &str = "org.opencontainers.image.created";
pub const TITLE: &str = "org.opencontainers.image.title";
/// The commit of the source repository.
pub const REVISION: &str = "org.opencontainers.image.revision";
pub const VERSION: &str = "org.opencontainers.image.version";
/// An SPDX licence expression.
pub const LICENSES: &str = "org.opencontainers.image.licenses";
/// The reference that the model was fetched from. Only on an entry of the index: a path of this machine stays here when
/// the manifest is pushed.
pub const SOURCE: &str = "edgeling.source";
/// The digest that the alias table demanded of the weights. Only on an entry of the index.
pub const PINNED: &str = "edgeling.pinned-digest";
/// The file's name, on a layer.
pub const FILE_PATH: &str = "org.cncf.model.filepath";

pub type Annotations = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let (annotations, other) = (Annotations::new(), Map::new());
        Self { media_type: media_type.to_owned(), digest, size, artifact_type: None, annotations, other }
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Whether this layer holds weights.
    pub fn is_weights(&self) -> bool {
        self.media_type == WEIGHT || GGUF_LAYERS.contains(&self.media_type.as_str())
    }

    /// What the file of this layer is called outside the store.
    pub fn file_name(&self) -> Option<&str> {
        let by_type = || FILE_NAMES.iter().find(|(kind, _)| *kind == self.media_type).map(|(_, name)| *name);
        self.annotation(FILE_PATH).or_else(|| self.annotation(TITLE)).or_else(by_type)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: Annotations,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Manifest {
    pub fn model(config: Descriptor, layers: Vec<Descriptor>, annotations: Annotations) -> Self {
        let (media_type, artifact_type) = (MANIFEST.to_owned(), Some(MODEL.to_owned()));
        Self { schema_version: 2, media_type, artifact_type, config, layers, annotations, other: Map::new() }
    }

    /// Everything that the manifest needs beside itself.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub manifests: Vec<Descriptor>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for Index {
    fn default() -> Self {
        Self { schema_version: 2, media_type: INDEX.to_owned(), manifests: Vec::new(), other: Map::new() }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layout {
    pub image_layout_version: String,
}

/// The configuration blob of a model (model specification, `config.md`). Layers are stored raw, so that the digest of
/// each is its diff id. No date is in it: the same files give the same blob.
pub fn model_config(name: &str, annotations: &Annotations, layers: &[Descriptor]) -> Value {
    let mut descriptor = json!({ "name": name });
    for (key, annotation) in [("title", TITLE), ("version", VERSION)] {
        if let Some(text) = annotations.get(annotation) {
            descriptor[key] = json!(text);
        }
    }
    if let Some(license) = annotations.get(LICENSES) {
        descriptor["licenses"] = json!([license]);
    }
    let is_safetensors = |layer: &Descriptor| layer.annotation(FILE_PATH).is_some_and(|f| f.ends_with(".safetensors"));
    let format = if layers.iter().any(is_safetensors) { "safetensors" } else { "gguf" };
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
    json!({
        "descriptor": descriptor,
        "config": { "format": format },
        "modelfs": { "type": "layers", "diffIds": diff_ids },
    })
}
