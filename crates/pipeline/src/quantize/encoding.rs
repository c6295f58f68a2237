//! How the rows of one tensor become blocks.

use kernels::DType;
use kernels::quant::search;
use kernels::simd::Tier;

use super::importance::Importance;

/// How much work goes into a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// The reference's: its bytes.
    #[default]
    Reference,
    /// A search from there for the scales with the smallest squared error, weighted by importance where there is one.
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
    importance: Option<Importance>,
    /// What a search weighs by, where there is to be one.
    weights: Option<Importance>,
}

impl Encoding {
    /// Of rows of `cols` values, whole blocks.
    pub fn new(to: DType, tier: Tier, cols: usize, effort: Effort, importance: Option<Importance>) -> Self {
        let weights = || importance.as_ref().map_or_else(|| Importance::equal(cols), Importance::as_weights);
        Self { to, tier, weights: effort.improves(to).then(weights), importance }
    }

    /// Encodes whole rows, of which the first is the tensor's row `first_row`; `false` if the type cannot be made.
    pub fn encode(&self, values: &[f32], first_row: usize, out: &mut [u8]) -> bool {
        let Self { to, tier, .. } = *self;
        let Some(encode) = to.encode else { return false };
        match (&self.importance, to.encode_weighted) {
            (Some(importance), Some(encode)) => {
                importance.each(values, first_row, out, |values, columns, out| encode(tier, values, columns, out));
            }
            _ => encode(tier, values, out),
        }
        if let Some(weights) = &self.weights {
            let improve =
                |values: &[f32], columns: &[f32], out: &mut [u8]| search::improve(to, tier, values, columns, out);
            weights.each(values, first_row, out, improve);
        }
        true
    }
}
