//! One place to fetch a model from.

use std::fs::File;
use std::io::Read;

use crate::error::At;
use crate::store::{Digest, LayerKind, NewModel, Staged, Staging};
use crate::transport::{self, Source, Transport};
use crate::{HubError, Progress, Reference, Result, Scheme, StoreName};

/// The first bytes of a GGUF file.
const GGUF: [u8; 4] = *b"GGUF";

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
    /// A scheme that no transport serves, or a location that is none of its scheme.
    pub fn new(scheme: Scheme, location: &str) -> Result<Self> {
        let transport = transport::of(scheme)?;
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
        self.refuse_shard()?;
        let fetched = self.transport.fetch(&self.source.location, staging, progress)?;
        let Some(weights) = fetched.layers.iter().find(|layer| layer.kind == LayerKind::Weights) else {
            return Err(HubError::content(&self.reference, "a weights file", "none"));
        };
        self.check_pin(&weights.file, about.pin.as_ref())?;
        self.check_format(&weights.file)?;
        Ok(NewModel {
            name: name.clone(),
            source: self.reference.clone(),
            pinned: about.pin.map(|pin| pin.digest),
            title: about.title,
            version: fetched.version,
            license: about.license.or(fetched.license),
            layers: fetched.layers,
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

    fn check_format(&self, weights: &Staged) -> Result<()> {
        let mut start = Vec::new();
        let file = File::open(&weights.path).at("open", &weights.path)?;
        file.take(GGUF.len() as u64).read_to_end(&mut start).at("read", &weights.path)?;
        if start == GGUF {
            return Ok(());
        }
        let found = format!("a file of {} bytes that begins with `{}`", weights.size, start.escape_ascii());
        Err(HubError::content(&self.reference, "a GGUF file", found))
    }

    /// One file of a sharded model, `…-00001-of-00003.gguf`, is no model by itself.
    fn refuse_shard(&self) -> Result<()> {
        let file = &self.source.file_name;
        let number = |text: &str| (text.len() == 5).then(|| text.parse::<u32>().ok()).flatten();
        if let Some((rest, of)) = file.strip_suffix(".gguf").unwrap_or(file).rsplit_once("-of-")
            && let Some((_, part)) = rest.rsplit_once('-')
            && let (Some(part), Some(of)) = (number(part), number(of))
            && of > 1
        {
            return Err(HubError::content(&self.reference, "a model in one file", format!("part {part} of {of}")));
        }
        Ok(())
    }
}
