//! Writing the form of today.

use std::path::Path;

use kernels::DType;

use super::{
    CHUNK_SIZE_KEY, CHUNKS_KEY, COUNTS, DATASETS_KEY, PRODUCTS, SAME_INPUTS_KEY, SHARING_KEY, SUMS, TYPE, TYPE_KEY,
};
use crate::FormatError;
use crate::gguf::{GgufWriter, MetadataBuilder, NewTensor};

/// Numbers whose bytes are made at a time.
const WRITTEN_AT_ONCE: usize = 1 << 16;

/// The sums of a matrix, or of a stack of them.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEntry {
    /// The tensor's name in GGUF.
    pub tensor: String,
    /// `[counts, cols]`
    pub sums: Vec<f32>,
    /// Inputs of each expert, or one number for all.
    pub counts: Vec<f32>,
}

/// Sums of products of columns, of matrices that are given the same.
#[derive(Clone, Debug, PartialEq)]
pub struct NewProducts<'a> {
    /// The tensors' names.
    pub tensors: Vec<&'a str>,
    pub cols: usize,
    /// `[cols, span]`: with the columns of a column's group.
    pub sums: &'a [f32],
}

/// Writes an importance matrix made from `chunks` pieces of `chunk_size` tokens of the `datasets`. Each expert has as many
/// sums. The file has the layout of the reference's: entries by name, each with sums and counts.
///
/// # Errors
/// The file cannot be written, or names are used twice.
pub fn write(target: &Path, datasets: &[String], chunks: (u32, u32), entries: &[NewEntry]) -> Result<(), FormatError> {
    write_with_products(target, datasets, chunks, entries, &[])
}

/// Likewise, with products of columns behind the sums, which other readers leave alone.
///
/// # Errors
/// As [`write`].
pub fn write_with_products(
    target: &Path,
    datasets: &[String],
    (chunks, chunk_size): (u32, u32),
    entries: &[NewEntry],
    products: &[NewProducts],
) -> Result<(), FormatError> {
    let mut metadata = MetadataBuilder::new();
    metadata.set(TYPE_KEY, TYPE);
    metadata.set(DATASETS_KEY, datasets);
    metadata.set(CHUNKS_KEY, &chunks);
    metadata.set(CHUNK_SIZE_KEY, &chunk_size);
    let shared =
        products.iter().flat_map(|p| p.tensors.iter().skip(1).map(|tensor| (tensor.to_string(), p.tensors[0])));
    let (sharing, same): (Vec<String>, Vec<String>) = shared.map(|(tensor, first)| (tensor, first.to_owned())).unzip();
    if !sharing.is_empty() {
        metadata.set(SHARING_KEY, sharing.as_slice());
        metadata.set(SAME_INPUTS_KEY, same.as_slice());
    }

    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by(|a, b| a.tensor.cmp(&b.tensor));
    let parts = || entries.iter().flat_map(|e| [(e, SUMS, &e.sums), (e, COUNTS, &e.counts)]);
    let name = |entry: &NewEntry, suffix: &str| format!("{}{suffix}", entry.tensor);
    let product_name = |products: &NewProducts| format!("{}{PRODUCTS}", products.tensors[0]);
    let mut tensors: Vec<_> = parts()
        .map(|(entry, suffix, values)| {
            let experts = entry.counts.len();
            let shape = if experts > 1 { vec![experts, values.len() / experts] } else { vec![values.len()] };
            NewTensor { name: name(entry, suffix), dtype: DType::F32, shape }
        })
        .collect();
    tensors.extend(products.iter().map(|p| {
        let shape = vec![p.cols, p.sums.len() / p.cols.max(1)];
        NewTensor { name: product_name(p), dtype: DType::F32, shape }
    }));
    let mut writer = GgufWriter::create(target, &metadata, &tensors)?;
    for (entry, suffix, values) in parts() {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.write(&name(entry, suffix), &bytes)?;
    }
    for p in products {
        for sums in p.sums.chunks(WRITTEN_AT_ONCE) {
            let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
            writer.write(&product_name(p), &bytes)?;
        }
    }
    writer.finish()
}
