//! Quantized matrices whose parts are tensors of a folder.

use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use kernels::DType;
use kernels::plan::{Bytes, Source};

use super::{Mode, Parts, Quantization};
use crate::FormatError;
use crate::tensor::{RawType, TensorInfo, TensorTable};

/// A quantized matrix, or a stack of matrices.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    row: Parts,
    rows: usize,
    /// Bytes of a row of blocks.
    row_bytes: usize,
    /// The names that values, scales and biases have as tensors.
    parts: [String; 3],
}

/// Makes one tensor of the three parts of each quantized matrix.
///
/// # Errors
/// Parts that do not fit one another, or what `quantization` says.
pub(crate) fn merge(table: &mut TensorTable, quantization: &Quantization) -> Result<(), FormatError> {
    let stems: Vec<String> =
        table.infos.iter().filter_map(|info| Some(info.name.strip_suffix(".scales")?.to_owned())).collect();
    let mut merged = Vec::new();
    for stem in stems {
        merged.push(describe(table, &stem, quantization)?);
    }
    table.merge(merged)
}

/// The matrix `{stem}.weight`, and what is said of it as of a tensor.
fn describe(table: &TensorTable, stem: &str, quantization: &Quantization) -> Result<(TensorInfo, Matrix), FormatError> {
    let parts = ["weight", "scales", "biases"].map(|part| format!("{stem}.{part}"));
    let [weight, scales, biases] = parts.each_ref().map(|name| table.info(name));
    let wrong = |tensor: &str, expected: String, found: String| FormatError::Tensor {
        path: table.path().to_owned(),
        tensor: tensor.to_owned(),
        expected,
        found,
    };
    let described = |info: Option<&TensorInfo>| {
        info.map_or("none".to_owned(), |info| format!("shape {:?} of type {}", info.shape, info.raw_type))
    };
    let raw = |name: &str| RawType::Safetensors(name.to_owned());
    let layout = quantization.layout(stem);
    let settings = format!("{} with {} bits in groups of {}", layout.mode.name(), layout.bits, layout.group);

    let (Some(weight), Some(scales)) = (weight.filter(|info| info.raw_type == raw("U32")), scales) else {
        return Err(wrong(&parts[0], "a matrix of type U32 beside its scales".to_owned(), described(weight)));
    };
    let scale_type = scales.dtype().filter(|dtype| dtype.is_float()).unwrap_or(DType::F32);
    let Some(dtype) = layout.dtype(scale_type) else {
        let expected = "affine with 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128, mxfp4 with 4 bits in groups of 32, \
                        mxfp8 with 8 in groups of 32 or nvfp4 with 4 in groups of 16";
        return Err(wrong(&parts[0], expected.to_owned(), settings));
    };
    let ([before @ .., words], [before_scales @ .., groups]) = (&weight.shape[..], &scales.shape[..]) else {
        return Err(wrong(&parts[0], "a matrix".to_owned(), described(Some(weight))));
    };
    let bits = groups.checked_mul(layout.group * layout.bits);
    if before != before_scales || before.is_empty() || bits.is_none() || bits != words.checked_mul(32) {
        let expected = format!("scales for the values in shape {:?}, {settings}", weight.shape);
        return Err(wrong(&parts[1], expected, described(Some(scales))));
    }
    let affine = layout.mode == Mode::Affine;
    let expected_type = if affine { raw(scale_type.name) } else { raw("U8") };
    if scales.raw_type != expected_type {
        let expected = if affine { "scales of type F16, BF16 or F32" } else { "scales of type U8" };
        return Err(wrong(&parts[1], format!("{expected} for {settings}"), described(Some(scales))));
    }
    if affine != biases.is_some_and(|b| b.shape == scales.shape && b.raw_type == scales.raw_type) {
        let expected = if affine { format!("biases of {}", described(Some(scales))) } else { "no biases".to_owned() };
        return Err(wrong(&parts[2], expected, described(biases)));
    }
    let cols = groups * layout.group;
    let dtype = layout.dtype_of_rows(cols, scale_type).unwrap_or(dtype);
    let (Some(row), true) = (Parts::new(dtype, cols), cols > 0 && cols.is_multiple_of(dtype.block)) else {
        let expected = format!("rows of a multiple of {} values in {}", dtype.block, layout.mode.name());
        return Err(wrong(&parts[0], expected, format!("{cols} values")));
    };
    let shape: Vec<usize> = before.iter().copied().chain([cols]).collect();
    // Fewer than the bits of the data, but for the count of rows without any.
    let Some(rows) = before.iter().try_fold(1usize, |n, size| n.checked_mul(*size)) else {
        return Err(wrong(&parts[0], "a shape that can be counted".to_owned(), described(Some(weight))));
    };
    let bytes = weight.bytes + scales.bytes + biases.map_or(0, |biases| biases.bytes);
    let info = TensorInfo { name: parts[0].clone(), raw_type: RawType::Known(dtype), shape, bytes, ..weight.clone() };
    Ok((info, Matrix { row, rows, row_bytes: dtype.row_bytes(cols), parts }))
}

impl Matrix {
    /// The names of the tensors that are parts of it.
    pub fn parts(&self) -> &[String; 3] {
        &self.parts
    }

    /// Its blocks, made of the bytes of its parts.
    ///
    /// # Errors
    /// A part lies outside its file.
    pub fn blocks(&self, part: impl Fn(&str) -> Result<Bytes, FormatError>) -> Result<Bytes, FormatError> {
        let [values, scales, biases] = &self.parts;
        let (values, scales) = (part(values)?, part(scales)?);
        let biases = if self.row.bytes()[2] > 0 { part(biases)? } else { scales.clone() };
        let (parts, len) = ([values, scales, biases], self.rows * self.row_bytes);
        let joined =
            Joined { row: self.row, rows: self.rows, row_bytes: self.row_bytes, parts, whole: OnceLock::new() };
        Bytes::new(Arc::new(joined), 0..len).ok_or_else(|| FormatError::Tensor {
            path: PathBuf::new(),
            tensor: self.parts[0].clone(),
            expected: format!("{len} bytes of blocks"),
            found: "fewer".to_owned(),
        })
    }
}

/// The blocks of a matrix, put together from its parts.
struct Joined {
    row: Parts,
    rows: usize,
    /// Bytes of a row of blocks.
    row_bytes: usize,
    parts: [Bytes; 3],
    /// All blocks, once someone asks for them at once.
    whole: OnceLock<Vec<u8>>,
}

impl Joined {
    /// The rows that have some of the bytes in `range`.
    fn rows(&self, range: &Range<usize>) -> Range<usize> {
        let each = self.row_bytes.max(1);
        range.start / each..range.end.div_ceil(each).max(range.start / each)
    }

    fn join(&self, rows: Range<usize>) -> Vec<u8> {
        let each = self.row.bytes();
        let mut blocks = Vec::with_capacity(rows.len() * self.row_bytes);
        for row in rows {
            let part = |i: usize| &self.parts[i][row * each[i]..(row + 1) * each[i]];
            self.row.join([part(0), part(1), part(2)], &mut blocks);
        }
        blocks
    }
}

impl Source for Joined {
    fn bytes(&self) -> &[u8] {
        self.whole.get_or_init(|| self.join(0..self.rows))
    }

    fn len(&self) -> usize {
        self.rows * self.row_bytes
    }

    fn read(&self, range: Range<usize>) -> Cow<'_, [u8]> {
        let rows = self.rows(&range);
        let first = rows.start * self.row_bytes;
        let mut blocks = self.join(rows);
        blocks.truncate(range.end - first);
        blocks.drain(..range.start - first);
        Cow::Owned(blocks)
    }

    fn release(&self, range: Range<usize>) {
        let rows = self.rows(&range);
        for (part, each) in self.parts.iter().zip(self.row.bytes()) {
            if let Some(part) = part.slice(rows.start * each..rows.end * each) {
                part.release();
            }
        }
    }
}
