//! One place to fetch a model from.

use std::fs::File;
use std::io::Read;

use crate::error::At;
use crate::store::{Digest, LayerKind, NewLayer, NewModel, Staged, Staging};
use crate::transport::{self, Source, Transport};
use crate::{HubError, Progress, Reference, Result, Scheme, StoreName};

/// The first bytes of a GGUF file.
const GGUF: [u8; 4] = *b"GGUF";

/// Bytes of the length that a safetensors file begins with.
const SAFETENSORS: usize = 8;

/// A reference with a scheme, as its transport understands it.
pub(crate) struct Origin {
    /// In its canonical spelling.
    pub reference: String,
    pub source: Source,
    transport: &'static dyn Transport,
}

/// What is known of a model beside what its source says.
#[derive(Default)]
pub(super) struct About {
    pub title: Option<String>,
    pub license: Option<String>,
    pub pin: Option<Pin>,
}

/// What the weights must be.
pub(super) struct Pin {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

impl Origin {
    /// # Errors
    /// A location that is none of its scheme.
    pub fn new(scheme: Scheme, location: &str) -> Result<Self> {
        let transport = transport::of(scheme);
        let source = transport.describe(location)?;
        Ok(Self { reference: format!("{scheme}:{}", source.location), source, transport })
    }

    /// # Errors
    /// Text that is no reference with a scheme, and as [`Origin::new`].
    pub fn parse(text: &str) -> Result<Self> {
        match Reference::parse(text)? {
            Reference::Remote { scheme, location } => Self::new(scheme, &location),
            _ => Err(HubError::content(text, "a reference with a scheme", "none")),
        }
    }

    /// Stages the model's files and checks that they are what they should be.
    pub(super) fn fetch(
        &self,
        name: &StoreName,
        about: About,
        staging: &mut Staging,
        progress: &dyn Progress,
    ) -> Result<NewModel> {
        let fetched = self.transport.fetch(&self.source.location, staging, progress)?;
        let mut weights = fetched.layers.iter().filter(|layer| layer.kind == LayerKind::Weights);
        let Some(first) = weights.next() else {
            return Err(HubError::content(&self.reference, "a weights file", "none"));
        };
        self.check_pin(&first.file, about.pin.as_ref())?;
        for layer in std::iter::once(first).chain(weights) {
            self.check_format(layer)?;
        }
        Ok(NewModel {
            name: name.clone(),
            source: self.reference.clone(),
            pinned: about.pin.map(|pin| pin.digest),
            title: about.title,
            version: fetched.version,
            revision: fetched.revision,
            license: about.license.or(fetched.license),
            layers: fetched.layers,
            manifest: fetched.manifest,
        })
    }

    fn check_pin(&self, weights: &Staged, pin: Option<&Pin>) -> Result<()> {
        match pin {
            Some(pin) if weights.digest != pin.digest || weights.size != pin.size => Err(HubError::Pin {
                origin: self.reference.clone(),
                expected: pin.digest.clone(),
                expected_size: pin.size,
                found: weights.digest.clone(),
                found_size: weights.size,
            }),
            _ => Ok(()),
        }
    }

    /// Checks how a weights file begins.
    fn check_format(&self, layer: &NewLayer) -> Result<()> {
        let weights = &layer.file;
        let mut start = Vec::new();
        let file = File::open(&weights.path).at("open", &weights.path)?;
        file.take(SAFETENSORS as u64 + 1).read_to_end(&mut start).at("read", &weights.path)?;
        let (expected, right) = if layer.file_name.ends_with(".safetensors") {
            ("a safetensors file", is_safetensors(&start, weights.size))
        } else {
            ("a GGUF file", start.starts_with(&GGUF))
        };
        if right {
            return Ok(());
        }
        let begin = start[..start.len().min(GGUF.len())].escape_ascii();
        let found = format!("a file of {} bytes that begins with `{begin}`", weights.size);
        Err(HubError::content(&self.reference, expected, found))
    }
}

/// A safetensors file begins with the length of its header, 64 bits little-endian, and the header's `{`.
fn is_safetensors(start: &[u8], size: u64) -> bool {
    let Some((length, [b'{'])) = start.split_first_chunk::<SAFETENSORS>() else { return false };
    u64::from_le_bytes(*length).checked_add(SAFETENSORS as u64).is_some_and(|end| end <= size)
}
