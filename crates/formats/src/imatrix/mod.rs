//! Importance matrices: how strongly a text moves each column of each matrix of a model, in both forms that llama.cpp has.
//!
//! The form of today is a GGUF file without a model: two tensors for each matrix, `NAME.in_sum2`, sums of
//! squares of its inputs `[experts, cols]`, and `NAME.counts`, how many inputs each expert saw. Ours may also have
//! `NAME.in_products`, sums of products of columns `[cols, span]`. The older form is a list of names with numbers.

mod gguf;
mod legacy;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kernels::DType;
use kernels::plan::Bytes;

use crate::{FormatError, MappedFile};

pub use write::{NewEntry, NewProducts, write, write_with_products};

const TYPE_KEY: &str = "general.type";
const TYPE: &str = "imatrix";
const DATASETS_KEY: &str = "imatrix.datasets";
const CHUNKS_KEY: &str = "imatrix.chunk_count";
const CHUNK_SIZE_KEY: &str = "imatrix.chunk_size";
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
/// Not in the reference's files.
const PRODUCTS: &str = ".in_products";
/// Tensors that are given the same as others, and, in the same order, the ones whose products stand for them.
const SHARING_KEY: &str = "imatrix.products.tensors";
const SAME_INPUTS_KEY: &str = "imatrix.products.same_as";

/// The forms that a file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Gguf,
    Legacy,
}

/// An importance matrix on disk. Sums stay in the mapped file.
#[derive(Debug)]
pub struct Imatrix {
    path: PathBuf,
    pub form: Form,
    /// What texts it was made from, as far as the file says.
    pub datasets: Vec<String>,
    /// Pieces of text that it was made from; 0 where the file does not say.
    pub chunks: u32,
    /// Tokens of a piece, where the file says.
    pub chunk_size: Option<u32>,
    entries: BTreeMap<String, Entry>,
    /// f32, little-endian: sums of products, by the tensor that they stand under.
    products: BTreeMap<String, Bytes>,
    /// The tensor whose products stand for another's.
    same_inputs: BTreeMap<String, String>,
}

/// The sums of one matrix, or of a stack of them.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
    tensor: String,
    /// f32, little-endian.
    sums: Bytes,
    /// Inputs of each expert, or one number for all.
    counts: Vec<f32>,
}

impl Imatrix {
    /// Opens a file of either form.
    ///
    /// # Errors
    /// A file that is no importance matrix, or breaks the rules of its form.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Self::parse(MappedFile::open(path)?.bytes(), path)
    }

    /// Reads the file `bytes` of either form. `path` is for messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn parse(bytes: Bytes, path: &Path) -> Result<Self, FormatError> {
        if bytes.starts_with(&crate::gguf::MAGIC) { gguf::parse(bytes, path) } else { legacy::parse(&bytes, path) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The sums of the tensor of this name.
    pub fn entry(&self, tensor: &str) -> Option<&Entry> {
        self.entries.get(tensor)
    }

    /// All entries with their tensors' names, in order of these.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Sums of products of the columns of a matrix, `[cols, span]`, where the file has them.
    pub fn products(&self, tensor: &str) -> Option<Vec<f32>> {
        let of = self.same_inputs.get(tensor).map_or(tensor, String::as_str);
        let bytes = self.products.get(of)?;
        let mut sums = vec![0.0; bytes.len() / DType::F32.bytes];
        (DType::F32.decode)(bytes, &mut sums);
        Some(sums)
    }

    /// Whether it has products of any matrix.
    pub fn has_products(&self) -> bool {
        !self.products.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry; a file has at least one.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry {
    /// `sums` has whole numbers, as many for each of the `counts`.
    ///
    /// # Errors
    /// It has not, or counts that are no numbers.
    fn new(path: &Path, tensor: &str, sums: Bytes, counts: Vec<f32>) -> Result<Self, FormatError> {
        let values = sums.len() / DType::F32.bytes;
        if counts.is_empty() || values == 0 || !values.is_multiple_of(counts.len()) {
            let expected = format!("as many sums for each of {} counts", counts.len());
            return Err(wrong(path, tensor, &expected, format!("{values} sums")));
        }
        if let Some(count) = counts.iter().find(|count| !count.is_finite()) {
            return Err(wrong(path, tensor, "counts of inputs", count.to_string()));
        }
        Ok(Self { path: path.to_owned(), tensor: tensor.to_owned(), sums, counts })
    }

    /// How many sums there are, of all experts.
    pub fn values(&self) -> usize {
        self.sums.len() / DType::F32.bytes
    }

    /// Inputs of each expert, or one number for all.
    pub fn counts(&self) -> &[f32] {
        &self.counts
    }

    /// The sums as they stand in the file, `[experts, cols]`.
    pub fn sums(&self) -> Vec<f32> {
        let mut sums = vec![0.0; self.values()];
        (DType::F32.decode)(&self.sums, &mut sums);
        sums
    }

    /// The mean square of each column, `[experts, cols]`. Columns of an expert that saw nothing matter alike.
    ///
    /// # Errors
    /// Numbers that are no sums of squares.
    pub fn means(&self) -> Result<Vec<f32>, FormatError> {
        let mut means = self.sums();
        if let Some(sum) = means.iter().find(|sum| !(sum.is_finite() && **sum >= 0.0)) {
            return Err(wrong(&self.path, &self.tensor, "sums of squares", sum.to_string()));
        }
        let cols = means.len() / self.counts.len();
        for (means, &count) in means.chunks_exact_mut(cols).zip(&self.counts) {
            means.iter_mut().for_each(|x| *x = if count > 0.0 { *x / count } else { 1.0 });
        }
        Ok(means)
    }
}

fn wrong(path: &Path, tensor: &str, expected: &str, found: String) -> FormatError {
    FormatError::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), expected: expected.to_owned(), found }
}
