//! Ternary weights (BitNet b1.58) as blocks that the int8 matmul takes.
//!
//! A block of type Q4_0 with scale 1 holds -1, 0 and 1 exactly, and so do its products with int8.

use std::sync::Arc;

use kernels::DType;
use kernels::plan::{Bytes, Weight};

/// Values of a block.
const BLOCK: usize = 32;
/// 1 as a half.
const ONE: [u8; 2] = [0x00, 0x3C];
/// The smallest mean that a factor is taken of.
const LEAST: f32 = 1e-5;

/// A matrix of which byte `[r, c]` holds, in two bits each, rows `r`, `r + n`, `r + 2n` and `r + 3n` of column `c`, plus 1;
/// n is a quarter of the rows, rounded up.
pub fn packed(name: &str, bytes: &[u8], rows: usize, cols: usize) -> Weight {
    let quarter = rows.div_ceil(4);
    let row = |row: usize| &bytes[row % quarter * cols..][..cols];
    let value = |r: usize, c: usize| (row(r)[c] >> (2 * (r / quarter)) & 3) as i8 - 1;
    blocks(name, rows, cols, value)
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
    Weight { name: name.to_owned(), dtype: dtype(), rows, cols, data }
}

fn dtype() -> DType {
    DType::from_name("Q4_0").unwrap_or(DType::F32)
}

/// Columns beyond whole blocks are left out: the backend refuses such a matrix by its size.
fn blocks(name: &str, rows: usize, cols: usize, value: impl Fn(usize, usize) -> i8) -> Weight {
    let dtype = dtype();
    let mut bytes = Vec::with_capacity(rows * cols / BLOCK * dtype.bytes);
    for row in 0..rows {
        for first in (0..cols / BLOCK * BLOCK).step_by(BLOCK) {
            bytes.extend(ONE);
            let nibble = |col: usize| (value(row, first + col) + 8) as u8;
            bytes.extend((0..BLOCK / 2).map(|i| nibble(i) | nibble(i + BLOCK / 2) << 4));
        }
    }
    let len = bytes.len();
    let data = Bytes::new(Arc::new(bytes), 0..len).expect("the whole range of a source");
    Weight { name: name.to_owned(), dtype, rows, cols, data }
}
