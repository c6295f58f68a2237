//! Writing the form of today.

use std::path::Path;

use kernels::DType;

use super::{CHUNK_SIZE_KEY, CHUNKS_KEY, COUNTS, DATASETS_KEY, SUMS, TYPE, TYPE_KEY};
use crate::FormatError;
use crate::gguf::{GgufWriter, MetadataBuilder, NewTensor};

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

/// Writes an importance matrix made from `chunks` pieces of `chunk_size` tokens of the `datasets`. Each expert has as many
/// sums. The file has the layout of the reference's: entries by name, each with sums and counts.
///
/// # Errors
/// The file cannot be written, or names are used twice.
pub fn write(
    target: &Path,
    datasets: &[String],
    (chunks, chunk_size): (u32, u32),
    entries: &[NewEntry],
) -> Result<(), FormatError> {
    let mut metadata = MetadataBuilder::new();
    metadata.set(TYPE_KEY, TYPE);
    metadata.set(DATASETS_KEY, datasets);
    metadata.set(CHUNKS_KEY, &chunks);
    metadata.set(CHUNK_SIZE_KEY, &chunk_size);

    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by(|a, b| a.tensor.cmp(&b.tensor));
    let parts = || entries.iter().flat_map(|e| [(e, SUMS, &e.sums), (e, COUNTS, &e.counts)]);
    let name = |entry: &NewEntry, suffix: &str| format!("{}{suffix}", entry.tensor);
    let tensors: Vec<_> = parts()
        .map(|(entry, suffix, values)| {
            let experts = entry.counts.len();
            let shape = if experts > 1 { vec![experts, values.len() / experts] } else { vec![values.len()] };
            NewTensor { name: name(entry, suffix), dtype: DType::F32, shape }
        })
        .collect();
    let mut writer = GgufWriter::create(target, &metadata, &tensors)?;
    for (entry, suffix, values) in parts() {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        writer.write(&name(entry, suffix), &bytes)?;
    }
    writer.finish()
}
