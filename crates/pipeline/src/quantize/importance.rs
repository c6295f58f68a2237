//! The importance of a tensor's columns, from an importance matrix.

use formats::gguf::MetadataBuilder;
use formats::imatrix::Imatrix;
use kernels::DType;
use kernels::quant::search::Moments;

use super::error::QuantizeError;
use super::tensors::{Category, TensorFacts};

/// The bytes of text that the reference keeps of what it writes about the matrix.
const TEXT: usize = 127;

/// The least weight of a column in a search, as a share of the mean: columns that the calibration text left alone still
/// count for something.
const LEAST: f32 = 1e-4;

/// The largest weight of a column where errors of tensors are compared, in medians of a tensor's. Inputs of a matrix may be very
/// large at one position of a text, and its column then outweighs all others by 10⁵: what an error does to that position says
/// nothing of the others. Columns that are large at every position have less: 4900 medians in SmolLM2.
const LARGEST: f32 = 5000.0;

/// What a tensor's columns matter.
#[derive(Clone, Debug)]
pub struct Importance {
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
    pub fn of(imatrix: &Imatrix, name: &str, shape: &[usize]) -> Result<Option<Self>, QuantizeError> {
        let Some(entry) = imatrix.entry(name) else { return Ok(None) };
        let (_, matrix) = split(shape);
        let &[rows_per_expert, cols] = matrix else { return Ok(None) };
        Ok(Some(Self { columns: entry.means()?, cols, rows_per_expert }))
    }

    /// All columns of all rows matter the same.
    pub fn equal(cols: usize) -> Self {
        Self { columns: vec![1.0; cols], cols, rows_per_expert: usize::MAX }
    }

    /// With a mean of one for each expert and none that is nothing: what a search weighs squares by.
    pub fn as_weights(&self) -> Self {
        let mut columns = self.columns.clone();
        for columns in columns.chunks_exact_mut(self.cols) {
            let mean = columns.iter().map(|v| f64::from(*v)).sum::<f64>() / self.cols as f64;
            let scale = if mean > 0.0 { (1.0 / mean) as f32 } else { 1.0 };
            columns.iter_mut().for_each(|v| *v = (*v * scale).max(LEAST));
        }
        Self { columns, ..*self }
    }

    /// By which errors of types and of tensors are compared: with a median of one for each expert, and bounded.
    pub fn as_measure(&self) -> Self {
        let mut columns = self.columns.clone();
        for columns in columns.chunks_exact_mut(self.cols) {
            let mut sorted = columns.to_vec();
            let (_, median, _) = sorted.select_nth_unstable_by(self.cols / 2, f32::total_cmp);
            // Of an expert that the text used little, more than half may be nothing.
            let scale = if *median > 0.0 { 1.0 / *median } else { 0.0 };
            columns.iter_mut().for_each(|v| *v = (*v * scale).clamp(LEAST, LARGEST));
        }
        Self { columns, ..*self }
    }

    /// Of a row of the tensor.
    pub fn columns(&self, row: usize) -> &[f32] {
        &self.columns[row / self.rows_per_expert * self.cols..][..self.cols]
    }

    /// Whether it is of a tensor of this shape.
    pub fn fits(&self, shape: &[usize]) -> bool {
        let (experts, matrix) = split(shape);
        self.columns.len() == experts.iter().product::<usize>() * matrix.last().copied().unwrap_or(1)
    }

    /// Gives whole rows of `values` to `encode`, of which the first is the tensor's row `first_row`: those of one expert at a
    /// time, with the importance of their columns and their place in `out`.
    pub fn each(&self, values: &[f32], first_row: usize, out: &mut [u8], encode: impl Fn(&[f32], &[f32], &mut [u8])) {
        let rows = values.len() / self.cols;
        let bytes = out.len() / rows.max(1);
        let mut row = 0;
        while row < rows {
            let within = (first_row + row) % self.rows_per_expert;
            let end = rows.min(row + self.rows_per_expert - within);
            let columns = self.columns(first_row + row);
            encode(&values[row * self.cols..end * self.cols], columns, &mut out[row * bytes..end * bytes]);
            row = end;
        }
    }
}

/// How the columns of a tensor go together, where the matrix says so.
///
/// # Errors
/// Sums of products that are not those of so many columns.
pub fn moments(imatrix: &Imatrix, name: &str, cols: usize) -> Result<Option<Moments>, QuantizeError> {
    let Some(sums) = imatrix.products(name) else { return Ok(None) };
    let found = sums.len();
    match Moments::new(cols, &sums) {
        Some(moments) => Ok(Some(moments)),
        None => Err(QuantizeError::Products { tensor: name.to_owned(), cols, found }),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_column_does_not_stand_for_all() {
        let mut columns = vec![2.0; 64];
        (columns[3], columns[5], columns[7]) = (1e6, 100.0, 0.0);
        let importance = Importance { columns, cols: 32, rows_per_expert: 7 };
        let measure = importance.as_measure();
        assert_eq!(measure.columns(6)[..8], [1.0, 1.0, 1.0, LARGEST, 1.0, 50.0, 1.0, LEAST]);
        assert!(measure.columns(7).iter().all(|weight| *weight == 1.0));
        // What a search weighs by knows no such bound.
        assert!(importance.as_weights().columns(0)[3] > 31.9);
    }

    #[test]
    fn an_expert_without_inputs_has_weights_all_the_same() {
        let importance = Importance { columns: vec![0.0; 32], cols: 32, rows_per_expert: 7 };
        assert!(importance.as_measure().columns(0).iter().all(|weight| *weight > 0.0));
    }
}
