//! The importance of a tensor's columns, from an importance matrix.

use formats::gguf::MetadataBuilder;
use formats::imatrix::Imatrix;
use kernels::DType;
use kernels::quant::WeightedEncoder;
use kernels::simd::Tier;

use super::error::QuantizeError;
use super::run::QuantizedTensor;
use super::tensors::{Category, TensorFacts};

/// The bytes of text that the reference keeps of what it writes about the matrix.
const TEXT: usize = 127;

/// What a tensor's columns matter, where its type asks for that.
pub struct Importance {
    encode: WeightedEncoder,
    /// `[experts, cols]`
    columns: Vec<f32>,
    cols: usize,
    rows_per_expert: usize,
}

impl Importance {
    /// Of a tensor that is to be weighed.
    ///
    /// # Errors
    /// Numbers that are no sums of squares.
    pub fn of(imatrix: &Imatrix, tensor: &QuantizedTensor) -> Result<Option<Self>, QuantizeError> {
        let Some(encode) = tensor.to.encode_weighted else { return Ok(None) };
        let Some(entry) = imatrix.entry(&tensor.name) else { return Ok(None) };
        let (_, matrix) = split(&tensor.shape);
        let &[rows_per_expert, cols] = matrix else { return Ok(None) };
        Ok(Some(Self { encode, columns: entry.means()?, cols, rows_per_expert }))
    }

    /// Encodes whole rows of `values`, of which the first is the tensor's row `first_row`.
    pub fn encode(&self, tier: Tier, values: &[f32], first_row: usize, out: &mut [u8]) {
        let rows = values.len() / self.cols;
        let bytes = out.len() / rows.max(1);
        let mut row = 0;
        while row < rows {
            let (expert, within) = ((first_row + row) / self.rows_per_expert, (first_row + row) % self.rows_per_expert);
            let end = rows.min(row + self.rows_per_expert - within);
            let columns = &self.columns[expert * self.cols..][..self.cols];
            let values = &values[row * self.cols..end * self.cols];
            (self.encode)(tier, values, columns, &mut out[row * bytes..end * bytes]);
            row = end;
        }
    }
}

/// Whether the matrix has the importance of the tensor, which is to become one of type `to`.
///
/// # Errors
/// It has that of another number of columns; of token embeddings, which no matmul takes, that counts for nothing.
pub fn covers(imatrix: &Imatrix, tensor: &TensorFacts, to: DType) -> Result<bool, QuantizeError> {
    let Some(entry) = imatrix.entry(tensor.name) else { return Ok(false) };
    let (experts, matrix) = split(tensor.shape);
    let expected = experts.iter().product::<usize>() * matrix.last().copied().unwrap_or(1);
    match entry.values() {
        found if found == expected => Ok(true),
        _ if tensor.dtype == to || Category::of(tensor.name) == Category::Embedding => Ok(false),
        found => Err(QuantizeError::Columns { tensor: tensor.name.to_owned(), expected, found }),
    }
}

/// The dimensions of experts, and those of a matrix, or of what is less than one.
fn split(shape: &[usize]) -> (&[usize], &[usize]) {
    shape.split_at(shape.len().saturating_sub(2))
}

/// Says in a file's metadata what its types were weighed by, under the reference's keys. Of the matrix's path, and of an
/// absolute one that it names, only the last part is kept: the file may be published.
pub fn describe(imatrix: &Imatrix, keys: &mut MetadataBuilder) {
    let file = imatrix.path().file_name().map(|name| name.to_string_lossy());
    keys.set("quantize.imatrix.file", short(&file.unwrap_or_default()));
    if let Some(dataset) = imatrix.datasets.first() {
        keys.set("quantize.imatrix.dataset", short(last_part(dataset)));
    }
    keys.set("quantize.imatrix.entries_count", &(imatrix.len() as u32));
    if imatrix.chunks > 0 {
        keys.set("quantize.imatrix.chunks_count", &imatrix.chunks);
    }
}

/// What stands behind the last separator of an absolute path, on any system; other text as it is.
fn last_part(text: &str) -> &str {
    let absolute = text.starts_with(['/', '\\']) || text.get(1..2) == Some(":");
    if absolute { text.rsplit(['/', '\\']).next().unwrap_or(text) } else { text }
}

/// As much of a text as the reference keeps.
fn short(text: &str) -> &str {
    let end = (0..=text.len().min(TEXT)).rev().find(|&at| text.is_char_boundary(at));
    &text[..end.unwrap_or(0)]
}
