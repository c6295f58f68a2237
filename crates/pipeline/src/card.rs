//! The evaluation card: what was measured of a file, kept in the file's own metadata.

use std::path::Path;

use formats::gguf::{GgufWriter, Metadata, MetadataBuilder, NewTensor};
use formats::{Checkpoint, FormatError};
use kernels::DType;
use serde::Serialize;

use crate::evaluate::Evaluation;

/// Bytes that are copied at a time.
const COPY: usize = 16 << 20;

/// An evaluation with what it was measured on. Figures that need a base model are absent without one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Card {
    /// The program that measured, with its version.
    pub tool: String,
    /// The model that the divergences are from.
    pub base: Option<String>,
    /// Digest of the text, in hexadecimal.
    pub text_sha256: String,
    /// Tokens of a window.
    pub context: u32,
    /// Scored tokens.
    pub tokens: u64,
    pub perplexity: f64,
    pub perplexity_error: f64,
    pub kl_mean: Option<f64>,
    pub kl_p99: Option<f64>,
    pub kl_max: Option<f64>,
    pub top1_agreement: Option<f64>,
}

/// The key of a card's field.
macro_rules! key {
    ($field:literal) => {
        concat!("edgeling.evaluation.", $field)
    };
}

impl Card {
    /// The card of `evaluation`.
    pub fn new(tool: &str, base: Option<&str>, text_sha256: &str, context: u32, evaluation: &Evaluation) -> Self {
        Self {
            tool: tool.to_owned(),
            base: base.map(str::to_owned),
            text_sha256: text_sha256.to_owned(),
            context,
            tokens: evaluation.tokens as u64,
            perplexity: evaluation.perplexity,
            perplexity_error: evaluation.perplexity_error,
            kl_mean: evaluation.kl_mean,
            kl_p99: evaluation.kl_p99,
            kl_max: evaluation.kl_max,
            top1_agreement: evaluation.top1_agreement,
        }
    }

    /// The card in a file's metadata, if it has one.
    ///
    /// # Errors
    /// A field has another type than a card's, or is missing.
    pub fn read(metadata: &Metadata) -> Result<Option<Self>, FormatError> {
        if metadata.get::<&str>(key!("tool"))?.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            tool: metadata.require::<&str>(key!("tool"))?.to_owned(),
            base: metadata.get::<&str>(key!("base"))?.map(str::to_owned),
            text_sha256: metadata.require::<&str>(key!("text_sha256"))?.to_owned(),
            context: metadata.require(key!("context"))?,
            tokens: metadata.require(key!("tokens"))?,
            perplexity: metadata.require(key!("perplexity"))?,
            perplexity_error: metadata.require(key!("perplexity_error"))?,
            kl_mean: metadata.get(key!("kl_mean"))?,
            kl_p99: metadata.get(key!("kl_p99"))?,
            kl_max: metadata.get(key!("kl_max"))?,
            top1_agreement: metadata.get(key!("top1_agreement"))?,
        }))
    }

    fn write(&self, metadata: &mut MetadataBuilder) {
        metadata.set(key!("tool"), self.tool.as_str());
        if let Some(base) = &self.base {
            metadata.set(key!("base"), base.as_str());
        }
        metadata.set(key!("text_sha256"), self.text_sha256.as_str());
        metadata.set(key!("context"), &self.context);
        metadata.set(key!("tokens"), &self.tokens);
        metadata.set(key!("perplexity"), &self.perplexity);
        metadata.set(key!("perplexity_error"), &self.perplexity_error);
        let figures = [
            (key!("kl_mean"), self.kl_mean),
            (key!("kl_p99"), self.kl_p99),
            (key!("kl_max"), self.kl_max),
            (key!("top1_agreement"), self.top1_agreement),
        ];
        for (key, figure) in figures {
            if let Some(figure) = figure {
                metadata.set(key, &figure);
            }
        }
    }

    /// Copies the GGUF file `source`, whose metadata is given, to `target` with this card, replacing one that it had. The target appears when it is
    /// whole.
    ///
    /// # Errors
    /// The source has tensors of unknown types, or the target cannot be written.
    pub fn attach(&self, source: &Checkpoint, metadata: &Metadata, target: &Path) -> Result<(), FormatError> {
        let mut metadata = MetadataBuilder::from(metadata);
        self.write(&mut metadata);
        let known = |info: &formats::TensorInfo| -> Result<DType, FormatError> { Ok(source.tensor(&info.name)?.dtype) };
        let tensors = source
            .tensors()
            .map(|info| Ok(NewTensor { name: info.name.clone(), dtype: known(info)?, shape: info.shape.clone() }))
            .collect::<Result<Vec<_>, FormatError>>()?;
        let mut writer = GgufWriter::create(target, &metadata, &tensors)?;
        for tensor in &tensors {
            let data = source.tensor(&tensor.name)?.data;
            for bytes in data.chunks(COPY) {
                writer.write(&tensor.name, bytes)?;
            }
            data.release();
        }
        writer.finish()
    }
}
