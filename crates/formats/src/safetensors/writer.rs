//! Writing the weights of a Hugging Face folder, one tensor after the other: `model.safetensors`, or shards with an index.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{INDEX_FILE, SINGLE_FILE};
use crate::gguf::NewTensor;
use crate::{FormatError, NewFile};

/// The header is padded so that data starts at a multiple of it.
const ALIGNMENT: usize = 8;

/// Writes files as [`NewFile`]s: each appears when it is whole.
#[derive(Debug)]
pub struct SafetensorsWriter {
    folder: PathBuf,
    shards: Vec<Shard>,
    /// The shard being written.
    file: Option<NewFile>,
    /// The tensor whose turn it is: its shard, its place there, and how many of its bytes were written.
    at: (usize, usize, usize),
}

#[derive(Debug)]
struct Shard {
    name: String,
    tensors: Vec<(NewTensor, usize)>,
}

impl SafetensorsWriter {
    /// Plans files of at most `shard_bytes` of data in `folder`, which must exist; a tensor that is larger has a file of
    /// its own.
    ///
    /// # Errors
    /// A type that safetensors does not know, a shape whose bytes cannot be counted, a tensor name used twice.
    pub fn create(folder: &Path, tensors: &[NewTensor], shard_bytes: u64) -> Result<Self, FormatError> {
        let mut shards: Vec<Vec<(NewTensor, usize)>> = vec![Vec::new()];
        let mut names = std::collections::HashSet::new();
        let mut filled = 0u64;
        for tensor in tensors {
            let wrong = |expected: &str, found: String| FormatError::Tensor {
                path: folder.to_owned(),
                tensor: tensor.name.clone(),
                expected: expected.to_owned(),
                found,
            };
            if !names.insert(&tensor.name) {
                return Err(wrong("a name used once", "the same name again".to_owned()));
            }
            if !tensor.dtype.is_float() {
                return Err(wrong("F32, F16 or BF16", tensor.dtype.to_string()));
            }
            let bytes = tensor.shape.iter().try_fold(tensor.dtype.bytes, |n, &size| n.checked_mul(size));
            let bytes = bytes.ok_or_else(|| wrong("a shape that can be counted", format!("{:?}", tensor.shape)))?;
            if filled > 0 && filled.saturating_add(bytes as u64) > shard_bytes {
                shards.push(Vec::new());
                filled = 0;
            }
            filled += bytes as u64;
            shards.last_mut().expect("starts with one").push((tensor.clone(), bytes));
        }
        let count = shards.len();
        let name = |no: usize| match count {
            1 => SINGLE_FILE.to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", no + 1),
        };
        let shards = shards.into_iter().enumerate().map(|(no, tensors)| Shard { name: name(no), tensors }).collect();
        let mut writer = Self { folder: folder.to_owned(), shards, file: None, at: (0, 0, 0) };
        writer.open_shard()?;
        Ok(writer)
    }

    /// Creates the file of the current shard, with its header.
    fn open_shard(&mut self) -> Result<(), FormatError> {
        let Some(shard) = self.shards.get(self.at.0) else { return Ok(()) };
        let mut header = Map::new();
        // Loaders ask for the framework; `pt` is what all of them accept.
        header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
        let mut offset = 0;
        for (tensor, bytes) in &shard.tensors {
            let entry =
                json!({ "dtype": tensor.dtype.name, "shape": tensor.shape, "data_offsets": [offset, offset + bytes] });
            header.insert(tensor.name.clone(), entry);
            offset += bytes;
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
        let mut file = NewFile::create(&self.folder.join(&shard.name))?;
        file.write(&(header.len() as u64).to_le_bytes())?;
        file.write(&header)?;
        self.file = Some(file);
        Ok(())
    }

    /// Appends data of the tensor `name`: any number of bytes, all of one tensor before the next, in the order planned.
    ///
    /// # Errors
    /// It is another tensor's turn, there are more bytes than the tensor has, or the disk is full.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), FormatError> {
        let (shard, place, written) = self.at;
        let wrong = |expected: String, found: String| FormatError::Tensor {
            path: self.folder.clone(),
            tensor: name.to_owned(),
            expected,
            found,
        };
        let current = self.shards.get(shard).and_then(|shard| shard.tensors.get(place));
        let (Some((tensor, size)), Some(file)) = (current, &mut self.file) else {
            return Err(wrong("no more data".to_owned(), format!("{} bytes", bytes.len())));
        };
        if tensor.name != name {
            return Err(wrong(format!("data of {}", tensor.name), "another tensor".to_owned()));
        }
        if bytes.len() > size - written {
            return Err(wrong(format!("{} more bytes", size - written), bytes.len().to_string()));
        }
        file.write(bytes)?;
        self.at.2 += bytes.len();
        if self.at.2 < *size {
            return Ok(());
        }
        self.at = (shard, place + 1, 0);
        if self.at.1 == self.shards[shard].tensors.len() {
            if let Some(file) = self.file.take() {
                file.finish()?;
            }
            self.at = (shard + 1, 0, 0);
            self.open_shard()?;
        }
        Ok(())
    }

    /// Writes the index, where there are several files.
    ///
    /// # Errors
    /// Data is missing, or the disk is full.
    pub fn finish(self) -> Result<(), FormatError> {
        if let Some((tensor, size)) = self.shards.get(self.at.0).and_then(|shard| shard.tensors.get(self.at.1)) {
            return Err(FormatError::Tensor {
                path: self.folder.clone(),
                tensor: tensor.name.clone(),
                expected: format!("{size} bytes"),
                found: self.at.2.to_string(),
            });
        }
        if self.shards.len() == 1 {
            return Ok(());
        }
        let all = || self.shards.iter().flat_map(|shard| shard.tensors.iter().map(move |(t, bytes)| (shard, t, bytes)));
        let total: u64 = all().map(|(_, _, bytes)| *bytes as u64).sum();
        let map: Map<String, Value> = all().map(|(shard, t, _)| (t.name.clone(), json!(shard.name))).collect();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        let mut file = NewFile::create(&self.folder.join(INDEX_FILE))?;
        file.write(format!("{index:#}\n").as_bytes())?;
        file.finish()
    }
}
