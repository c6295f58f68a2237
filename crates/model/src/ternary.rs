//! Ternary weights (BitNet b1.58) as blocks that the int8 matmul takes.
//!
//! A block of a ternary type holds -1, 0 and 1 exactly, and so do its products with int8; and so does one of type Q4_0 with
//! scale 1, which takes rows that are no multiple of larger blocks.

use std::sync::Arc;

use formats::{Checkpoint, RawType};
use kernels::DType;
use kernels::plan::{Bytes, Weight};
use kernels::simd::Tier;

use crate::ModelError;
use crate::arch::Ternary;

/// Values of a block of Q4_0.
const BLOCK: usize = 32;
/// 1 as a half.
const ONE: [u8; 2] = [0x00, 0x3C];
/// The smallest mean that a factor is taken of.
const LEAST: f32 = 1e-5;

/// Rows of a matrix that share a byte where they are packed.
pub const ROWS_OF_BYTE: usize = 4;

/// The tensor with the factor of the ternary matrix that has this name in its file.
pub fn factor_of(kind: Ternary, name: &str) -> Option<String> {
    match kind {
        Ternary::Online => None,
        Ternary::Packed { .. } => Some(format!("{name}_scale")),
        Ternary::Blocks => name.strip_suffix("weight").map(|stem| format!("{stem}scale")),
    }
}

/// The ternary matrix with this name in a checkpoint, in blocks that hold -1, 0 and 1, and its factor.
///
/// # Errors
/// The matrix or its factor is missing, or has another shape or type.
pub fn read(
    checkpoint: &Checkpoint,
    kind: Ternary,
    name: &str,
    rows: usize,
    cols: usize,
) -> Result<(Weight, f32), ModelError> {
    let wrong = |expected: String, found: String| ModelError::tensor(checkpoint.path(), name, expected, found);
    let found = |shape: &[usize], of: &dyn std::fmt::Display| format!("shape {shape:?} of type {of}");
    if let (Ternary::Packed { .. }, Some(info)) = (kind, checkpoint.tensor_info(name)) {
        let quarter = rows.div_ceil(ROWS_OF_BYTE);
        if info.raw_type != RawType::Safetensors("U8".to_owned()) || info.shape != [quarter, cols] {
            let expected = format!("shape [{quarter}, {cols}] of type U8");
            return Err(wrong(expected, found(&info.shape, &info.raw_type)));
        }
    }
    let weight = match kind {
        Ternary::Packed { .. } => packed(name, &checkpoint.raw(name)?, rows, cols),
        Ternary::Online | Ternary::Blocks => {
            let tensor = checkpoint.tensor(name)?;
            if tensor.shape != [rows, cols] || tensor.dtype.is_float() && kind == Ternary::Blocks {
                let expected = format!("shape [{rows}, {cols}] of a ternary type");
                return Err(wrong(expected, found(&tensor.shape, &tensor.dtype)));
            }
            tensor.into_weight()?
        }
    };
    match factor(checkpoint, kind, name)? {
        Some(factor) => Ok((weight, factor)),
        None => Ok(online(&weight)),
    }
}

/// The factor of the ternary matrix with this name; none where it is computed.
///
/// # Errors
/// It is missing, or no positive number.
pub fn factor(checkpoint: &Checkpoint, kind: Ternary, name: &str) -> Result<Option<f32>, ModelError> {
    let Some(scale) = factor_of(kind, name) else { return Ok(None) };
    let tensor = checkpoint.tensor(&scale)?;
    match tensor.to_f32()[..] {
        [factor] if factor.is_finite() && factor > 0.0 => {
            Ok(Some(if kind == (Ternary::Packed { divides: true }) { 1.0 / factor } else { factor }))
        }
        _ => {
            let found = format!("{:?}", tensor.shape);
            Err(ModelError::tensor(checkpoint.path(), &scale, "one positive number", found))
        }
    }
}

/// A matrix of which byte `[r, c]` holds, in two bits each, rows `r`, `r + n`, `r + 2n` and `r + 3n` of column `c`, plus 1;
/// n is a quarter of the rows, rounded up.
fn packed(name: &str, bytes: &[u8], rows: usize, cols: usize) -> Weight {
    let quarter = rows.div_ceil(ROWS_OF_BYTE);
    let row = |row: usize| &bytes[row % quarter * cols..][..cols];
    let value = |r: usize, c: usize| (row(r)[c] >> (2 * (r / quarter)) & 3) as i8 - 1;
    blocks(name, rows, cols, value)
}

/// Packs four rows of a matrix as they lie in the bytes that [`read`] takes: two bits each, the first row's lowest. `one` is
/// what stands for 1 in its blocks.
///
/// # Errors
/// The first value that is neither -1, 0 nor 1.
pub fn pack(weight: &Weight, one: f32, rows: [usize; ROWS_OF_BYTE], packed: &mut [u8]) -> Result<(), f32> {
    let (bytes, mut values) = (weight.dtype.row_bytes(weight.cols), vec![0.0; weight.cols]);
    packed.fill(0);
    for (i, row) in rows.into_iter().enumerate() {
        (weight.dtype.decode)(&weight.data[row * bytes..][..bytes], &mut values);
        for (packed, &value) in packed.iter_mut().zip(&values) {
            let bits = match value {
                0.0 => 1,
                value if value == one => 2,
                value if value == -one => 0,
                other => return Err(other),
            };
            *packed |= bits << (2 * i);
        }
    }
    Ok(())
}

/// The magnitude that all values of a quantized matrix have which are not zero: none of other matrices.
pub fn one_scale(weight: &Weight) -> Option<f32> {
    if weight.dtype.is_float() {
        return None;
    }
    let (mut values, mut scale) = (vec![0.0; weight.cols], 0.0);
    for row in weight.data.chunks_exact(weight.dtype.row_bytes(weight.cols).max(1)) {
        (weight.dtype.decode)(row, &mut values);
        for value in values.iter().map(|value| value.abs()).filter(|value| *value != 0.0) {
            if scale == 0.0 {
                scale = value;
            }
            if value != scale {
                return None;
            }
        }
    }
    // A matrix of zeros has any scale.
    Some(if scale == 0.0 { 1.0 } else { scale }).filter(|scale| scale.is_finite())
}

/// A matrix rounded to its mean magnitude, which becomes the factor.
pub fn online(weight: &Weight) -> (Weight, f32) {
    let (rows, cols) = (weight.rows, weight.cols);
    let mut values = vec![0.0; rows * cols];
    (weight.dtype.decode)(&weight.data, &mut values);
    let sum: f64 = values.iter().map(|v| f64::from(v.abs())).sum();
    let scale = 1.0 / ((sum / values.len().max(1) as f64) as f32).max(LEAST);
    let value = |r: usize, c: usize| (values[r * cols + c] * scale).round_ties_even().clamp(-1.0, 1.0) as i8;
    (blocks(&weight.name, rows, cols, value), 1.0 / scale)
}

/// A matrix as the others, without its bytes.
pub fn shape(name: &str, rows: usize, cols: usize) -> Weight {
    let data = Bytes::new(Arc::new(Vec::new()), 0..0).expect("the whole range of a source");
    Weight { name: name.to_owned(), dtype: dtype(cols), rows, cols, data }
}

/// The narrowest type whose blocks fill a row.
pub fn dtype(cols: usize) -> DType {
    [DType::TQ1_0, DType::Q2_0].into_iter().find(|dtype| cols.is_multiple_of(dtype.block)).unwrap_or(DType::Q4_0)
}

/// Columns beyond whole blocks are left out: the backend refuses such a matrix by its size.
fn blocks(name: &str, rows: usize, cols: usize, value: impl Fn(usize, usize) -> i8) -> Weight {
    let dtype = dtype(cols);
    let bytes = match dtype.encode.filter(|_| dtype != DType::Q4_0) {
        Some(encode) => {
            let tier = Tier::detect().unwrap_or(Tier::Scalar);
            let mut bytes = vec![0; rows * dtype.row_bytes(cols)];
            for (row, bytes) in bytes.chunks_exact_mut(dtype.row_bytes(cols)).enumerate() {
                let values: Vec<f32> = (0..cols).map(|col| value(row, col).into()).collect();
                encode(tier, &values, bytes);
            }
            bytes
        }
        None => narrow_blocks(rows, cols, value),
    };
    let len = bytes.len();
    let data = Bytes::new(Arc::new(bytes), 0..len).expect("the whole range of a source");
    Weight { name: name.to_owned(), dtype, rows, cols, data }
}

/// Blocks of type Q4_0.
fn narrow_blocks(rows: usize, cols: usize, value: impl Fn(usize, usize) -> i8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows * DType::Q4_0.row_bytes(cols));
    for row in 0..rows {
        for first in (0..cols / BLOCK * BLOCK).step_by(BLOCK) {
            bytes.extend(ONE);
            let nibble = |col: usize| (value(row, first + col) + 8) as u8;
            bytes.extend((0..BLOCK / 2).map(|i| nibble(i) | nibble(i + BLOCK / 2) << 4));
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the reader of such bytes, which transformers' files test.
    #[test]
    fn rows_are_packed_as_they_are_read() {
        let value = |row: usize, col: usize| ((row * 5 + col * col + col) % 3) as i8 - 1;
        for cols in [256, 64, 96] {
            let weight = blocks("w", 12, cols, value);
            let mut bytes = vec![0; 3 * cols];
            for (first, packed_row) in bytes.chunks_exact_mut(cols).enumerate() {
                pack(&weight, 1.0, std::array::from_fn(|i| first + 3 * i), packed_row).unwrap();
            }
            assert_eq!(packed("w", &bytes, 12, cols).data[..], weight.data[..], "{cols} columns");
            assert_eq!(pack(&weight, 0.5, [0, 1, 2, 3], &mut bytes[..cols]).map_err(f32::abs), Err(1.0));
        }
    }

    #[test]
    fn a_scale_is_one_where_no_block_has_another() {
        let mut weight = blocks("w", 4, 256, |row, _| if row == 1 { 0 } else { 1 });
        assert_eq!(one_scale(&weight), Some(1.0));
        let mut bytes = weight.data.to_vec();
        let scale = bytes.len() - 1;
        bytes[scale] ^= 4;
        let len = bytes.len();
        weight.data = Bytes::new(Arc::new(bytes), 0..len).unwrap();
        assert_eq!(one_scale(&weight), None);
        assert_eq!(one_scale(&blocks("w", 4, 96, |_, _| 0)), Some(1.0));
    }

    #[test]
    fn values_stay_exact_in_blocks_of_any_size() {
        for (cols, expected) in [(512, "TQ1_0"), (192, "Q2_0"), (96, "Q4_0")] {
            // A block of nothing but zeros is among them.
            let value = |row: usize, col: usize| if row == 1 { 0 } else { ((row * 7 + col * col) % 3) as i8 - 1 };
            let weight = blocks("w", 3, cols, value);
            let mut values = vec![9.0; 3 * cols];
            (weight.dtype.decode)(&weight.data, &mut values);
            assert_eq!(weight.dtype.name, expected);
            for (i, found) in values.iter().enumerate() {
                assert_eq!(*found, f32::from(value(i / cols, i % cols)), "{cols} columns: value {i}");
            }
        }
    }
}
