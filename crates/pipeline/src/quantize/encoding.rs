//! How the rows of one tensor become blocks.

use kernels::DType;
use kernels::quant::search::{self, Moments};
use kernels::simd::Tier;
use serde::{Deserialize, Serialize};

use super::importance::Importance;

/// How much work goes into a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// The reference's: its bytes.
    #[default]
    Reference,
    /// A search from there for the scales with the smallest squared error, weighted by size and by importance where there is
    /// one; where products of columns are known, for values that make up for each other's errors.
    High,
}

impl Effort {
    /// Whether it makes other blocks of a type than the reference does.
    pub fn improves(self, dtype: DType) -> bool {
        self == Self::High && search::searchable(dtype)
    }
}

/// How rows of a tensor are encoded.
pub struct Encoding {
    to: DType,
    tier: Tier,
    cols: usize,
    importance: Option<Importance>,
    /// The importance as a search takes it.
    weights: Option<Importance>,
    searched: bool,
    /// What is known of how the columns go together.
    moments: Option<Moments>,
}

impl Encoding {
    /// Of rows of `cols` values, whole blocks.
    pub fn new(to: DType, tier: Tier, cols: usize, effort: Effort, importance: Option<Importance>) -> Self {
        let searched = effort.improves(to);
        let weights = importance.as_ref().filter(|_| searched).map(Importance::as_weights);
        Self { to, tier, cols, importance, weights, searched, moments: None }
    }

    /// The search takes these moments of the tensor's inputs.
    pub fn with_moments(self, moments: Option<Moments>) -> Self {
        Self { moments: moments.filter(|_| self.searched), ..self }
    }

    /// Encodes whole rows, of which the first is the tensor's row `first_row`; `false` if the type is
    /// made with an importance only, and there is none.
    pub fn encode(&self, values: &[f32], first_row: usize, out: &mut [u8]) -> bool {
        let Self { to, tier, cols, .. } = *self;
        match (&self.importance, to.encode_weighted, to.encode) {
            (Some(importance), Some(encode), _) => {
                importance.each(values, first_row, out, |values, columns, out| encode(tier, values, columns, out));
            }
            (_, _, Some(encode)) => encode(tier, values, out),
            _ => return false,
        }
        let improve = |values: &[f32], weights: &[f32], out: &mut [u8]| search::improve(to, tier, values, weights, out);
        match (&self.moments, &self.weights) {
            (Some(moments), Some(weights)) => {
                weights.each(values, first_row, out, improve);
                search::settle(to, tier, values, moments, out);
            }
            _ if self.searched => {
                let rows = values.chunks_exact(cols).zip(out.chunks_exact_mut(to.row_bytes(cols)));
                for (i, (row, out)) in rows.enumerate() {
                    let importance = self.weights.as_ref().map(|weights| weights.columns(first_row + i));
                    improve(row, &by_size(row, importance), out);
                }
            }
            _ => {}
        }
        true
    }
}

/// Weights of a row's values as the reference has them, also where no importance is known. Large values count for more:
/// errors of values that are alike add up.
fn by_size(row: &[f32], importance: Option<&[f32]>) -> Vec<f32> {
    let mean_square = row.iter().map(|v| v * v).sum::<f32>() / row.len() as f32;
    let mut weights: Vec<f32> = row.iter().map(|v| (v * v + mean_square).sqrt()).collect();
    if let Some(importance) = importance {
        weights.iter_mut().zip(importance).for_each(|(weight, importance)| *weight *= importance);
    }
    weights
}
