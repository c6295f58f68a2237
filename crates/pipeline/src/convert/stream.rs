//! The data of tensors on their way from the source to the result.

use std::borrow::Cow;
use std::ops::Range;

use formats::{Checkpoint, FormatError, Tensor};
use kernels::DType;
use kernels::plan::{Bytes, Weight};
use kernels::simd::Tier;

use super::plan::{Part, Step};
use super::ternary::{Form, copy, pack, scale_bytes};
use super::{ConvertError, Observer, Progress, exact};

/// Values that are held at a time: a few megabytes in f32.
const BATCH: usize = 1 << 20;

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    None,
    Add(f32),
    /// Times the factor of the ternary matrix.
    Factor,
    /// `-e^x`.
    NegativeExp,
    /// `ln(-x)`, the inverse.
    Logarithm,
}

impl Change {
    fn of(self, value: f32, factor: f32) -> f32 {
        match self {
            Self::None => value,
            Self::Add(shift) => value + shift,
            Self::Factor => value * factor,
            Self::NegativeExp => -f64::from(value).exp() as f32,
            Self::Logarithm => f64::from(-value).ln() as f32,
        }
    }
}

/// In which order the rows of each head, or the heads themselves, are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowOrder {
    /// From halves, `0 … d/2, d/2 … d`, to pairs of what rotates together: `0, d/2, 1, d/2 + 1, …`.
    Interleave { head_dim: usize },
    /// The inverse.
    Halves { head_dim: usize },
    /// From row `first` on, heads of `rows` rows: from groups of `each` heads to the first of every group, then the second of
    /// every group, …. The inverse has the two numbers exchanged.
    Tile { first: usize, rows: usize, groups: usize, each: usize },
}

impl RowOrder {
    /// The row of the source that becomes row `row` of the result. Heads are whole: their rows are even in number.
    pub fn source(self, row: usize) -> usize {
        match self {
            Self::Interleave { head_dim } => {
                let (head, at) = (row / head_dim, row % head_dim);
                head * head_dim + at % 2 * (head_dim / 2) + at / 2
            }
            Self::Halves { head_dim } => {
                let (head, at, half) = (row / head_dim, row % head_dim, head_dim / 2);
                head * head_dim + at % half * 2 + at / half
            }
            Self::Tile { first, .. } if row < first => row,
            Self::Tile { first, rows, groups, each } => {
                let (head, at) = ((row - first) / rows, (row - first) % rows);
                first + (head % groups * each + head / groups) * rows + at
            }
        }
    }
}

/// What is streamed: rows of a type, that of a tensor or computed of one.
struct Data {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    data: Bytes,
    /// Of a ternary matrix.
    factor: f32,
}

impl From<Tensor> for Data {
    fn from(Tensor { name, dtype, shape, data, .. }: Tensor) -> Self {
        Self { name, dtype, shape, data, factor: 1.0 }
    }
}

impl From<(Weight, f32)> for Data {
    fn from((Weight { name, dtype, rows, cols, data }, factor): (Weight, f32)) -> Self {
        Self { name, dtype, shape: vec![rows, cols], data, factor }
    }
}

/// Takes bytes of the tensor that has this name in the result.
pub(super) type Write<'a> = dyn FnMut(&str, &[u8]) -> Result<(), FormatError> + 'a;

/// Hands the data of all steps' results to `write`, with the tensor's name and in pieces, and gives the bytes of all of them.
///
/// # Errors
/// Those of `write`; values that a type cannot hold; the observer said to stop.
pub(super) fn stream_all(
    source: &Checkpoint,
    steps: &[Step],
    tier: Tier,
    write: &mut Write,
    observer: &mut Observer,
) -> Result<u64, ConvertError> {
    let mut progress = Progress { done: 0, total: source.total_bytes() as u64 };
    let mut written = 0;
    for step in steps {
        for part in &step.parts {
            let mut sink = |name: &str, bytes: &[u8]| {
                written += bytes.len() as u64;
                write(name, bytes)?;
                if observer(progress) { Ok(()) } else { Err(ConvertError::Interrupted) }
            };
            let mut to_target = |bytes: &[u8]| sink(&step.target.name, bytes);
            let (factor, read) = match (step.form, step.ternary) {
                (Form::Copied, _) => {
                    let bytes = source.raw(&part.tensor)?;
                    copy(&bytes, &mut to_target)?;
                    (1.0, bytes.len() as u64)
                }
                (Form::Packed { .. }, Some(matrix)) => {
                    let (weight, one, factor) = matrix.read(source, &part.tensor)?;
                    pack(&weight, one, step, &mut to_target)?;
                    (factor, weight.data.len() as u64)
                }
                _ => {
                    let (data, read) = open(source, step, part)?;
                    stream(&data, step, tier, &mut to_target)?;
                    (data.factor, read)
                }
            };
            if let Some(tensor) = &step.factor {
                sink(&tensor.name, &scale_bytes(factor, step.form, tensor.dtype, tier))?;
            }
            progress.done += read;
            if !observer(progress) {
                return Err(ConvertError::Interrupted);
            }
        }
    }
    Ok(written)
}

/// A part of the source, and its bytes there.
fn open(source: &Checkpoint, step: &Step, Part { tensor, rows }: &Part) -> Result<(Data, u64), ConvertError> {
    if let Some(matrix) = step.ternary {
        let read = source.tensor_info(tensor).map_or(0, |info| info.bytes as u64);
        let (weight, _, factor) = matrix.read(source, tensor)?;
        return Ok(((weight, factor).into(), read));
    }
    let whole = source.tensor(tensor)?;
    let part = match rows {
        None => whole,
        Some(rows) => whole.rows(rows.clone()).ok_or_else(|| outside(&whole.name, rows.end))?,
    };
    let read = part.data.len() as u64;
    Ok((part.into(), read))
}

/// Hands the tensor's data, changed and in order, to `sink` in pieces. The source's pages are let go behind it.
///
/// # Errors
/// Those of `sink`; values that the type cannot hold.
fn stream(
    tensor: &Data,
    step: &Step,
    tier: Tier,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    let (target, order) = (step.target.dtype, step.rows);
    // A vector is one row, unless its values are what is reordered.
    let cols = match (&tensor.shape[..], order) {
        ([_], Some(_)) | ([], _) => 1,
        // A convolution as mlx-lm has transformed it: a row is a channel.
        ([_, taps, 1], Some(_)) => *taps,
        (shape, _) => shape.last().copied().unwrap_or(1),
    };
    let rows = tensor.shape.iter().product::<usize>().checked_div(cols).unwrap_or(0);
    let row_bytes = tensor.dtype.row_bytes(cols);
    let batch = (BATCH / cols.max(1)).max(1);
    let (mut bytes, mut values, mut encoded, mut reordered) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for start in (0..rows).step_by(batch) {
        let end = (start + batch).min(rows);
        let rows = |rows: Range<usize>| {
            let found = tensor.data.read(rows.start * row_bytes..rows.end * row_bytes);
            found.ok_or_else(|| outside(&tensor.name, rows.end))
        };
        let piece = match order {
            None => rows(start..end)?,
            Some(order) => {
                bytes.clear();
                for at in start..end {
                    let row = order.source(at);
                    bytes.extend_from_slice(&rows(row..row + 1)?);
                }
                Cow::Borrowed(&bytes[..])
            }
        };
        let same_values = step.change == Change::None && step.columns.is_none();
        if tensor.dtype == target && same_values {
            sink(&piece)?;
        } else if let Some(rewrite) =
            exact::rewrite(tensor.dtype, target).filter(|_| same_values && step.float.is_none())
        {
            encoded.clear();
            rewrite(tensor.dtype, target, &piece, &mut encoded);
            sink(&encoded)?;
        } else {
            let count = (end - start) * cols;
            values.resize(count, 0.0);
            (tensor.dtype.decode)(&piece, &mut values);
            if step.change != Change::None {
                values.iter_mut().for_each(|value| *value = step.change.of(*value, tensor.factor));
            }
            if let Some(order) = step.columns {
                for row in values.chunks_exact_mut(cols) {
                    reordered.clear();
                    reordered.extend((0..cols).map(|col| row[order.source(col)]));
                    row.copy_from_slice(&reordered);
                }
            }
            let unmade = |dtype: DType| ConvertError::NotMade { tensor: tensor.name.clone(), dtype };
            if let Some(float) = step.float.filter(|float| *float != tensor.dtype) {
                encoded.resize(float.row_bytes(count), 0);
                float.encode.ok_or_else(|| unmade(float))?(tier, &values, &mut encoded);
                (float.decode)(&encoded, &mut values);
            }
            encoded.resize(target.row_bytes(count), 0);
            match step.float.and_then(|float| target.mlx_encoder(float)) {
                Some(encode) => encode(&values, &mut encoded),
                None => target.encode.ok_or_else(|| unmade(target))?(tier, &values, &mut encoded),
            }
            if !(target.finite)(&encoded) && values.iter().all(|v| v.is_finite()) {
                return Err(ConvertError::TooLarge { tensor: tensor.name.clone(), dtype: target });
            }
            sink(&encoded)?;
        }
        if order.is_none()
            && let Some(part) = tensor.data.slice(start * row_bytes..end * row_bytes)
        {
            part.release();
        }
    }
    tensor.data.release();
    Ok(())
}

/// Whether all values, changed, are the same in `dtype`; of logarithms, whether they still are those of the values, but for
/// the last bit, in which exponentials by others differ.
pub(super) fn is_exact(tensor: &Tensor, change: Change, dtype: DType, tier: Tier) -> bool {
    let found = tensor.to_f32();
    let values: Vec<f32> = found.iter().map(|value| change.of(*value, 1.0)).collect();
    let Some(encode) = dtype.encode else { return false };
    let mut blocks = vec![0; dtype.row_bytes(values.len())];
    encode(tier, &values, &mut blocks);
    let mut back = vec![0.0; values.len()];
    (dtype.decode)(&blocks, &mut back);
    if change == Change::Logarithm {
        return found
            .iter()
            .zip(&back)
            .all(|(a, b)| a.to_bits().abs_diff(Change::NegativeExp.of(*b, 1.0).to_bits()) <= 1);
    }
    values.iter().zip(&back).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn outside(tensor: &str, row: usize) -> ConvertError {
    ConvertError::Format(FormatError::Tensor {
        path: Default::default(),
        tensor: tensor.to_owned(),
        expected: format!("row {row}"),
        found: "the end of the data".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_heads_are_tiled_and_grouped_again() {
        let to = RowOrder::Tile { first: 4, rows: 2, groups: 2, each: 3 };
        let from = RowOrder::Tile { first: 4, rows: 2, groups: 3, each: 2 };
        let expected = [0, 1, 2, 3, 4, 5, 10, 11, 6, 7, 12, 13, 8, 9, 14, 15];
        assert_eq!(std::array::from_fn(|row| to.source(row)), expected);
        assert!((0..16).all(|row| from.source(to.source(row)) == row && to.source(from.source(row)) == row));
    }

    #[test]
    fn the_two_orders_undo_each_other() {
        let (to, from) = (RowOrder::Interleave { head_dim: 6 }, RowOrder::Halves { head_dim: 6 });
        assert_eq!([0, 1, 2, 3, 4, 5].map(|row| to.source(row)), [0, 3, 1, 4, 2, 5]);
        for row in 0..18 {
            assert_eq!(from.source(to.source(row)), row);
            assert_eq!(to.source(from.source(row)), row);
        }
    }
}
