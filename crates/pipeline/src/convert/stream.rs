//! The data of tensors on their way from the source to the result.

use formats::{Checkpoint, FormatError, Tensor};
use kernels::DType;
use kernels::simd::Tier;

use super::plan::{Part, Step};
use super::{ConvertError, Observer, Progress};

/// Values that are held at a time: a few megabytes in f32.
const BATCH: usize = 1 << 20;

/// In which order the rows of each head are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowOrder {
    /// From halves, `0 … d/2, d/2 … d`, to pairs of what rotates together: `0, d/2, 1, d/2 + 1, …`.
    Interleave { head_dim: usize },
    /// The inverse.
    Halves { head_dim: usize },
}

impl RowOrder {
    /// The row of the source that becomes row `row` of the result. Heads are whole: their rows are even in number.
    fn source(self, row: usize) -> usize {
        match self {
            Self::Interleave { head_dim } => {
                let (head, at) = (row / head_dim, row % head_dim);
                head * head_dim + at % 2 * (head_dim / 2) + at / 2
            }
            Self::Halves { head_dim } => {
                let (head, at, half) = (row / head_dim, row % head_dim, head_dim / 2);
                head * head_dim + at % half * 2 + at / half
            }
        }
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
        for Part { tensor, rows } in &step.parts {
            let whole = source.tensor(tensor)?;
            let part = match rows {
                None => whole,
                Some(rows) => whole.rows(rows.clone()).ok_or_else(|| outside(&whole, rows.end))?,
            };
            stream(&part, step.target.dtype, step.order, step.shift, tier, &mut |bytes| {
                written += bytes.len() as u64;
                write(&step.target.name, bytes)?;
                if observer(progress) { Ok(()) } else { Err(ConvertError::Interrupted) }
            })?;
            progress.done += part.data.len() as u64;
            if !observer(progress) {
                return Err(ConvertError::Interrupted);
            }
        }
    }
    Ok(written)
}

/// Hands the tensor's data, with `shift` added and as `target`, to `sink` in pieces. The source's pages are let go behind
/// it.
///
/// # Errors
/// Those of `sink`; values that the type cannot hold.
fn stream(
    tensor: &Tensor,
    target: DType,
    order: Option<RowOrder>,
    shift: f32,
    tier: Tier,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), ConvertError>,
) -> Result<(), ConvertError> {
    // A vector is one row, unless its values are what is reordered.
    let cols = match (&tensor.shape[..], order) {
        ([_], Some(_)) | ([], _) => 1,
        (shape, _) => shape.last().copied().unwrap_or(1),
    };
    let rows = tensor.shape.iter().product::<usize>().checked_div(cols).unwrap_or(0);
    let row_bytes = tensor.dtype.row_bytes(cols);
    let batch = (BATCH / cols.max(1)).max(1);
    let (mut bytes, mut values, mut encoded) = (Vec::new(), Vec::new(), Vec::new());
    for start in (0..rows).step_by(batch) {
        let end = (start + batch).min(rows);
        let row = |row: usize| -> Result<&[u8], ConvertError> {
            let at = row * row_bytes;
            tensor.data.get(at..at + row_bytes).ok_or_else(|| outside(tensor, row))
        };
        let piece = match order {
            None => {
                let whole = tensor.data.get(start * row_bytes..end * row_bytes);
                whole.ok_or_else(|| outside(tensor, end))?
            }
            Some(order) => {
                bytes.clear();
                for at in start..end {
                    bytes.extend_from_slice(row(order.source(at))?);
                }
                &bytes
            }
        };
        if tensor.dtype == target && shift == 0.0 {
            sink(piece)?;
        } else {
            let count = (end - start) * cols;
            values.resize(count, 0.0);
            (tensor.dtype.decode)(piece, &mut values);
            if shift != 0.0 {
                values.iter_mut().for_each(|value| *value += shift);
            }
            encoded.resize(target.row_bytes(count), 0);
            let unmade = || ConvertError::NotMade { tensor: tensor.name.clone(), dtype: target };
            target.encode.ok_or_else(unmade)?(tier, &values, &mut encoded);
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

/// Whether all values, with `shift` added, are the same in `dtype`.
pub(super) fn is_exact(tensor: &Tensor, shift: f32, dtype: DType, tier: Tier) -> bool {
    let values: Vec<f32> = tensor.to_f32().into_iter().map(|value| value + shift).collect();
    let Some(encode) = dtype.encode else { return false };
    let mut blocks = vec![0; dtype.row_bytes(values.len())];
    encode(tier, &values, &mut blocks);
    let mut back = vec![0.0; values.len()];
    (dtype.decode)(&blocks, &mut back);
    values.iter().zip(&back).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn outside(tensor: &Tensor, row: usize) -> ConvertError {
    ConvertError::Format(FormatError::Tensor {
        path: Default::default(),
        tensor: tensor.name.clone(),
        expected: format!("row {row}"),
        found: "the end of the data".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
