//! What was measured, and what follows from it.

use std::path::Path;

use formats::Checkpoint;
use kernels::DType;
use serde::{Deserialize, Serialize};

use super::error::AllocationError;
use super::knapsack::{self, Choice};
use crate::quantize::Effort;

/// What a table's numbers depend on, beside the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// SHA-256 of the text, in hexadecimal digits.
    pub text: String,
    /// Of the importance matrix's file.
    pub imatrix: Option<String>,
    pub effort: Effort,
    /// Tokens of a window.
    pub context: usize,
}

/// The measured sensitivities of a model's tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    #[serde(flatten)]
    pub settings: Settings,
    pub windows: usize,
    pub tensors: Vec<Row>,
}

/// What is known of one tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub tensor: String,
    /// Row-major, outermost first.
    pub shape: Vec<usize>,
    /// Which tensors were quantized together.
    pub group: usize,
    /// The type that the group was measured with.
    pub measured: String,
    /// Divergence from the source with this type in the whole group, in nats.
    pub kl: f64,
    pub ways: Vec<Way>,
}

/// One type that a tensor can have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Way {
    #[serde(rename = "type")]
    pub dtype: String,
    pub bytes: usize,
    /// Squared error, weighted by importance where there is one, relative to the squares.
    pub error: f64,
    /// What it adds to the divergence by estimate, in nats.
    pub kl: f64,
}

impl Table {
    /// # Errors
    /// It cannot be read, is no such table, or one of another model or of other settings.
    pub fn read(path: &Path, source: &Checkpoint, settings: &Settings) -> Result<Self, AllocationError> {
        let wrong = |found: String| AllocationError::Table { path: path.to_owned(), found };
        let json = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let table: Self = serde_json::from_str(&json).map_err(|error| wrong(error.to_string()))?;
        let Settings { text, imatrix, effort, context } = &table.settings;
        let same = [
            ("text", *text == settings.text),
            ("importance matrix", *imatrix == settings.imatrix),
            ("effort", *effort == settings.effort),
            ("context", *context == settings.context),
        ];
        if let Some((other, _)) = same.iter().find(|(_, same)| !same) {
            return Err(wrong(format!("one of another {other}")));
        }
        for row in &table.tensors {
            let same = source.tensor_info(&row.tensor).is_some_and(|info| info.shape == row.shape);
            if !same {
                return Err(wrong(format!("tensor {} of shape {:?}", row.tensor, row.shape)));
            }
            for way in &row.ways {
                let fits = DType::from_name(&way.dtype).filter(|t| row.shape.last().is_some_and(|c| c % t.block == 0));
                if fits.is_none() || !way.kl.is_finite() {
                    return Err(wrong(format!("type {} for tensor {}", way.dtype, row.tensor)));
                }
            }
        }
        Ok(table)
    }

    /// The type of each tensor of the table, all of them together at most `budget` bytes, and the estimated divergence.
    ///
    /// # Errors
    /// The smallest types take more.
    pub fn choose(&self, budget: usize) -> Result<(Vec<DType>, f64), AllocationError> {
        let choices = |row: &Row| row.ways.iter().map(|way| Choice { bytes: way.bytes, loss: way.kl }).collect();
        let tensors: Vec<Vec<Choice>> = self.tensors.iter().map(choices).collect();
        let least = || tensors.iter().map(|c| c.iter().map(|c| c.bytes).min().unwrap_or(0)).sum();
        let too_small = || AllocationError::TooSmall { target: budget, least: least() };
        let chosen = knapsack::choose(&tensors, budget).ok_or_else(too_small)?;
        let ways: Vec<&Way> = chosen.iter().zip(&self.tensors).map(|(&c, row)| &row.ways[c]).collect();
        let types = ways.iter().filter_map(|way| DType::from_name(&way.dtype)).collect();
        Ok((types, ways.iter().map(|way| way.kl).sum()))
    }
}
