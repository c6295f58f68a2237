//! Which tensors the result has, and what becomes of each on the way.

use std::ops::Range;

use formats::gguf::NewTensor;
use formats::{Checkpoint, TensorInfo};
use kernels::DType;
use model::arch::{Architecture, DecoderConfig, Piece};

use super::stream::RowOrder;
use super::{ConvertError, ConvertOptions};

/// A tensor of the result and what becomes it.
pub(super) struct Step {
    /// Of the source, one after the other.
    pub parts: Vec<Part>,
    pub target: NewTensor,
    pub order: Option<RowOrder>,
    /// Added to each value.
    pub shift: f32,
}

/// A tensor of the source, or some of its rows.
pub(super) struct Part {
    pub tensor: String,
    pub rows: Option<Range<usize>>,
}

impl Part {
    pub fn whole(tensor: &str) -> Vec<Self> {
        vec![Self { tensor: tensor.to_owned(), rows: None }]
    }

    pub fn of(pieces: Vec<Piece>) -> Vec<Self> {
        pieces.into_iter().map(|piece| Self { tensor: piece.tensor, rows: Some(piece.rows) }).collect()
    }
}

/// Whether a tensor with this canonical name tells which experts a position takes: GGUF files have it in F32.
pub(super) fn is_router(canonical: &str) -> bool {
    canonical.ends_with(".ffn_gate_inp.weight") || is_shared_gate(canonical)
}

/// Whether it weighs the shared expert: a matrix of one row, and in older GGUF files a vector.
pub(super) fn is_shared_gate(canonical: &str) -> bool {
    canonical.ends_with(".ffn_gate_inp_shexp.weight")
}

/// What decides over the types of the result.
pub(super) struct Types {
    /// Of matrices; `None` keeps theirs.
    pub dtype: Option<DType>,
}

impl Types {
    /// # Errors
    /// The source is quantized, and no type was given.
    pub fn new(source: &Checkpoint, options: ConvertOptions) -> Result<Self, ConvertError> {
        let quantized = |info: &&TensorInfo| info.dtype().is_some_and(|dtype| !dtype.is_float());
        match (options.dtype, source.tensors().find(quantized)) {
            (None, Some(info)) => {
                let found = info.dtype().unwrap_or(DType::F32);
                Err(ConvertError::Quantized { tensor: info.name.clone(), found })
            }
            (dtype, _) => Ok(Self { dtype }),
        }
    }

    pub fn matrix(&self, found: DType) -> DType {
        self.dtype.unwrap_or(found)
    }
}

/// The type that most values of the source's matrices have, as they will be in the result.
pub(super) fn main_type(steps: &[Step]) -> DType {
    let of = |dtype: DType| -> usize {
        let matrices = steps.iter().filter(|s| s.target.shape.len() > 1 && s.target.dtype == dtype);
        matrices.map(|s| s.target.shape.iter().product::<usize>()).sum()
    };
    [DType::F32, DType::F16, DType::BF16].into_iter().max_by_key(|dtype| of(*dtype)).unwrap_or(DType::F32)
}

/// What is added to the weights of norms where one format's lack 1: `one` for them, 0 for all others.
pub(super) fn shift_of(plus_one: bool, canonical: &str, one: f32) -> f32 {
    if plus_one && canonical.ends_with("norm.weight") { one } else { 0.0 }
}

/// The order of rows that a tensor with this canonical name needs: only those of Q and K of families whose GGUF files
/// rotate neighbours.
pub(super) fn order_of(
    architecture: &Architecture,
    config: &DecoderConfig,
    canonical: &str,
    make: fn(usize) -> RowOrder,
) -> Option<RowOrder> {
    let part = canonical.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).map(|(_, part)| part);
    let rotates = matches!(part, Some("attn_q.weight" | "attn_k.weight" | "attn_q.bias" | "attn_k.bias"));
    (rotates && architecture.permutes_heads()).then(|| make(config.head_dim))
}
