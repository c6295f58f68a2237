//! Writing the weights of a Hugging Face or MLX folder, one tensor after the other: `model.safetensors`, or shards with an
//! index.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use kernels::DType;
use serde_json::{Map, Value, json};

use super::{INDEX_FILE, SINGLE_FILE};
use crate::gguf::NewTensor;
use crate::mlx::Parts;
use crate::{FormatError, NewFile};

/// The header is padded so that data starts at a multiple of it.
const ALIGNMENT: usize = 8;
/// The type of bytes.
const BYTES: &str = "U8";

/// Writes files as [`NewFile`]s: each appears when it is whole. Quantized matrices of MLX are three tensors each.
#[derive(Debug)]
pub struct SafetensorsWriter {
    folder: PathBuf,
    framework: &'static str,
    tensors: Vec<Planned>,
    /// The tensor whose turn it is, and how many of its bytes were given.
    turn: (usize, usize),
    /// What was given of a quantized matrix and is not in its file yet: bytes of a block that is not whole, scales, biases.
    waiting: [Vec<u8>; 3],
    shards: Vec<Shard>,
    /// The shard being written, where there is anything left to write.
    file: Option<NewFile>,
    /// The entry whose turn it is: its shard, its place there, and how many of its bytes were written.
    at: (usize, usize, usize),
}

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderTensor {
    pub name: String,
    pub content: Content,
    /// Row-major, outermost first.
    pub shape: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Floats, or blocks of a type of MLX.
    Values(DType),
    /// Bytes that the settings tell how to read: type U8.
    Bytes,
}

impl From<NewTensor> for FolderTensor {
    fn from(NewTensor { name, dtype, shape }: NewTensor) -> Self {
        Self { name, content: Content::Values(dtype), shape }
    }
}

/// A tensor as it is given.
#[derive(Debug)]
struct Planned {
    name: String,
    bytes: usize,
    /// Of a quantized matrix, the parts of a block, and its size.
    block: Option<(Parts, usize)>,
}

/// What a file holds in a row.
#[derive(Debug)]
struct Entry {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: usize,
}

#[derive(Debug)]
struct Shard {
    name: String,
    entries: Vec<Entry>,
}

impl SafetensorsWriter {
    /// Plans files of at most `shard_bytes` of data in `folder`, which must exist; a tensor that is larger has a file of
    /// its own. `framework` is what loaders are told: `pt`, which all of them accept, or `mlx`.
    ///
    /// # Errors
    /// A type that neither safetensors nor MLX know, a shape whose bytes cannot be counted, a tensor name used twice.
    pub fn create(
        folder: &Path,
        tensors: &[FolderTensor],
        shard_bytes: u64,
        framework: &'static str,
    ) -> Result<Self, FormatError> {
        let mut shards: Vec<Vec<Entry>> = vec![Vec::new()];
        let (mut names, mut planned) = (HashSet::new(), Vec::new());
        let mut filled = 0u64;
        for tensor in tensors {
            let wrong = |expected: &str, found: String| FormatError::Tensor {
                path: folder.to_owned(),
                tensor: tensor.name.clone(),
                expected: expected.to_owned(),
                found,
            };
            let (values, bytes, block) = match tensor.content {
                Content::Bytes => (1, 1, None),
                Content::Values(dtype) => {
                    let block = Parts::new(dtype, dtype.block).map(|parts| (parts, dtype.bytes));
                    if !dtype.is_float() && block.is_none() {
                        return Err(wrong("F32, F16, BF16 or a type of MLX", dtype.to_string()));
                    }
                    (dtype.block, dtype.bytes, block)
                }
            };
            let count = tensor.shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
            let rows = tensor.shape.last().is_none_or(|cols| cols.is_multiple_of(values));
            let bytes = count.filter(|_| rows).and_then(|count| (count / values).checked_mul(bytes));
            let bytes = bytes.ok_or_else(|| {
                let found = format!("{:?} in blocks of {values}", tensor.shape);
                wrong("a shape of whole blocks that can be counted", found)
            })?;
            let entries = entries(tensor, bytes);
            if let Some(twice) = entries.iter().find(|entry| !names.insert(entry.name.clone())) {
                return Err(wrong("a name used once", format!("{} again", twice.name)));
            }
            if filled > 0 && filled.saturating_add(bytes as u64) > shard_bytes {
                shards.push(Vec::new());
                filled = 0;
            }
            filled += bytes as u64;
            shards.last_mut().expect("starts with one").extend(entries);
            planned.push(Planned { name: tensor.name.clone(), bytes, block });
        }
        let count = shards.len();
        let name = |no: usize| match count {
            1 => SINGLE_FILE.to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", no + 1),
        };
        let shards = shards.into_iter().enumerate().map(|(no, entries)| Shard { name: name(no), entries }).collect();
        let mut writer = Self {
            folder: folder.to_owned(),
            framework,
            tensors: planned,
            turn: (0, 0),
            waiting: Default::default(),
            shards,
            file: None,
            at: (0, 0, 0),
        };
        writer.open_shard()?;
        Ok(writer)
    }

    /// Creates the file of the current shard, with its header.
    fn open_shard(&mut self) -> Result<(), FormatError> {
        let Some(shard) = self.shards.get(self.at.0) else { return Ok(()) };
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({ "format": self.framework }));
        let mut offset = 0;
        for Entry { name, dtype, shape, bytes } in &shard.entries {
            let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [offset, offset + bytes] });
            header.insert(name.clone(), entry);
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
        let (tensor, given) = self.turn;
        let wrong = |expected: String, found: String| FormatError::Tensor {
            path: self.folder.clone(),
            tensor: name.to_owned(),
            expected,
            found,
        };
        let Some(Planned { name: current, bytes: size, block }) = self.tensors.get(tensor) else {
            return Err(wrong("no more data".to_owned(), format!("{} bytes", bytes.len())));
        };
        if current != name {
            return Err(wrong(format!("data of {current}"), "another tensor".to_owned()));
        }
        if bytes.len() > size - given {
            return Err(wrong(format!("{} more bytes", size - given), bytes.len().to_string()));
        }
        let whole = given + bytes.len() == *size;
        self.turn = if whole { (tensor + 1, 0) } else { (tensor, given + bytes.len()) };
        match block {
            None => self.append(bytes),
            Some((parts, block)) => {
                let (parts, mut values) = (*parts, Vec::with_capacity(bytes.len()));
                let [begun, scales, biases] = &mut self.waiting;
                begun.extend(bytes);
                let ready = begun.len() / block * block;
                parts.split(&begun[..ready], [&mut values, scales, biases]);
                begun.drain(..ready);
                self.append(&values)?;
                if whole {
                    let [_, scales, biases] = std::mem::take(&mut self.waiting);
                    self.append(&scales)?;
                    self.append(&biases)?;
                }
                Ok(())
            }
        }
    }

    /// Appends bytes to the files, which have room for them.
    fn append(&mut self, mut bytes: &[u8]) -> Result<(), FormatError> {
        loop {
            let (shard, place, written) = self.at;
            let Some(entry) = self.shards.get(shard).and_then(|shard| shard.entries.get(place)) else { return Ok(()) };
            let (now, later) = bytes.split_at(bytes.len().min(entry.bytes - written));
            if let Some(file) = &mut self.file {
                file.write(now)?;
            }
            self.at.2 += now.len();
            if self.at.2 < entry.bytes {
                return Ok(());
            }
            self.at = (shard, place + 1, 0);
            if self.at.1 == self.shards[shard].entries.len() {
                if let Some(file) = self.file.take() {
                    file.finish()?;
                }
                self.at = (shard + 1, 0, 0);
                self.open_shard()?;
            }
            if later.is_empty() {
                return Ok(());
            }
            bytes = later;
        }
    }

    /// Writes the index, where there are several files.
    ///
    /// # Errors
    /// Data is missing, or the disk is full.
    pub fn finish(self) -> Result<(), FormatError> {
        if let Some(Planned { name, bytes, .. }) = self.tensors.get(self.turn.0) {
            return Err(FormatError::Tensor {
                path: self.folder.clone(),
                tensor: name.clone(),
                expected: format!("{bytes} bytes"),
                found: self.turn.1.to_string(),
            });
        }
        if self.shards.len() == 1 {
            return Ok(());
        }
        let all = || self.shards.iter().flat_map(|shard| shard.entries.iter().map(move |entry| (shard, entry)));
        let total: u64 = all().map(|(_, entry)| entry.bytes as u64).sum();
        let map: Map<String, Value> = all().map(|(shard, entry)| (entry.name.clone(), json!(shard.name))).collect();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        let mut file = NewFile::create(&self.folder.join(INDEX_FILE))?;
        file.write(format!("{index:#}\n").as_bytes())?;
        file.finish()
    }
}

/// What a file holds of a tensor of so many bytes: itself, or the parts of a quantized matrix.
fn entries(tensor: &FolderTensor, bytes: usize) -> Vec<Entry> {
    let FolderTensor { name, content, shape } = tensor;
    let whole = |dtype| vec![Entry { name: name.clone(), dtype, shape: shape.clone(), bytes }];
    let Content::Values(dtype) = content else { return whole(BYTES) };
    let cols = shape.last().copied().unwrap_or(1);
    let Some(parts) = Parts::new(*dtype, cols) else { return whole(dtype.name) };
    let stem = name.strip_suffix(".weight").unwrap_or(name);
    let (rows, groups) = (bytes / dtype.row_bytes(cols).max(1), parts.groups());
    let each = parts.bytes();
    let scales = parts.scales();
    let of = |part: &str, dtype: &'static str, cols: usize, bytes: usize| Entry {
        name: format!("{stem}.{part}"),
        dtype,
        shape: shape[..shape.len() - 1].iter().copied().chain([cols]).collect(),
        bytes: rows * bytes,
    };
    let all = [
        of("weight", "U32", each[0] / 4, each[0]),
        of("scales", scales, groups, each[1]),
        of("biases", scales, groups, each[2]),
    ];
    all.into_iter().take(if each[2] > 0 { 3 } else { 2 }).collect()
}
