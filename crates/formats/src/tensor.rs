//! Tensors of a checkpoint, whatever files they lie in.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use kernels::DType;
use kernels::plan::{Bytes, Weight};

use crate::mlx::Matrix;
use crate::{FormatError, MappedFile};

/// A storage type as its file names it; [`Self::dtype`] says whether it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawType {
    /// The type's number in GGUF files.
    Ggml(u32),
    /// The type's name in safetensors files; those of PyTorch are given the same names.
    Safetensors(String),
    /// Of a quantized matrix of MLX, whose parts have types of their own.
    Known(DType),
}

impl RawType {
    /// The type, where it is one that can be read.
    pub fn dtype(&self) -> Option<DType> {
        match self {
            Self::Ggml(id) => DType::from_ggml(*id),
            Self::Safetensors(name) => match name.as_str() {
                "F32" => Some(DType::F32),
                "F16" => Some(DType::F16),
                "BF16" => Some(DType::BF16),
                _ => None,
            },
            Self::Known(dtype) => Some(*dtype),
        }
    }
}

/// Types of GGUF files that are not read: their number, their name, and why.
const NOT_READ: &[(u32, &str, &str)] = &[
    (4, "Q4_2", REMOVED),
    (5, "Q4_3", REMOVED),
    (9, "Q8_1", OF_ACTIVATIONS),
    (15, "Q8_K", OF_ACTIVATIONS),
    (24, "I8", INTEGERS),
    (25, "I16", INTEGERS),
    (26, "I32", INTEGERS),
    (27, "I64", INTEGERS),
    (28, "F64", "a type of double precision, which no weights have"),
    (31, "Q4_0_4_4", REMOVED),
    (32, "Q4_0_4_8", REMOVED),
    (33, "Q4_0_8_8", REMOVED),
    (36, "I2_S", "a type of bitnet.cpp's own, whose layout depends on the CPU that the file was made for"),
    (37, "IQ4_NL_4_8", REMOVED),
    (38, "IQ4_NL_8_8", REMOVED),
];
const REMOVED: &str = "a type that the format has given up";
const OF_ACTIVATIONS: &str = "a type of activations, not of weights";
const INTEGERS: &str = "a type of integers, not of weights";

impl RawType {
    /// What stands in an error where the type cannot be read.
    fn refused(&self) -> String {
        let why = match self {
            Self::Ggml(id) => NOT_READ.iter().find(|(known, ..)| known == id).map(|(.., why)| why),
            Self::Safetensors(_) | Self::Known(_) => None,
        };
        why.map_or_else(|| self.to_string(), |why| format!("{self}, {why}"))
    }
}

impl std::fmt::Display for RawType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self, self.dtype()) {
            (_, Some(dtype)) => dtype.fmt(f),
            (Self::Ggml(id), None) => match NOT_READ.iter().find(|(known, ..)| known == id) {
                Some((_, name, _)) => f.pad(&format!("{name} (ggml type {id})")),
                None => f.pad(&format!("ggml type {id}")),
            },
            (Self::Safetensors(name), None) => f.pad(name),
            (Self::Known(dtype), None) => dtype.fmt(f),
        }
    }
}

/// What a file's header says of one tensor.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    pub name: String,
    pub raw_type: RawType,
    /// Row-major, outermost first; empty for a single number.
    pub shape: Vec<usize>,
    /// Bytes that the tensor takes in its file. Of a GGUF type that cannot be read, the bytes up to the next tensor.
    pub bytes: usize,
    /// Which of the checkpoint's files holds it.
    pub(crate) file: usize,
    /// Position of its first byte in that file.
    pub(crate) offset: usize,
}

impl TensorInfo {
    /// The type, where it is one that can be read.
    pub fn dtype(&self) -> Option<DType> {
        self.raw_type.dtype()
    }

    /// Number of values.
    pub fn elements(&self) -> usize {
        // Readers refuse a tensor whose values cannot be counted.
        self.shape.iter().product()
    }
}

/// A tensor with its data, borrowed from the mapped file.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: DType,
    /// Row-major, outermost first.
    pub shape: Vec<usize>,
    pub data: Bytes,
    file: Arc<MappedFile>,
}

impl Tensor {
    /// Decodes all values, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.shape.iter().product()];
        if let Some(blocks) = self.data.read(0..self.data.len()) {
            (self.dtype.decode)(&blocks, &mut values);
        }
        values
    }

    /// Some rows of the tensor, taken as a matrix with columns of its last dimension; `None` where it has fewer, or they are
    /// not whole blocks.
    pub fn rows(&self, rows: Range<usize>) -> Option<Self> {
        let cols = *self.shape.last()?;
        let bytes = self.dtype.row_bytes(cols);
        let data = self.data.slice(rows.start.checked_mul(bytes)?..rows.end.checked_mul(bytes)?)?;
        let whole = cols.is_multiple_of(self.dtype.block);
        whole.then(|| Self { shape: vec![rows.len(), cols], data, ..self.clone() })
    }

    /// The tensor as a matrix `[rows, cols]`.
    ///
    /// # Errors
    /// It has not two dimensions.
    pub fn into_weight(self) -> Result<Weight, FormatError> {
        match self.shape[..] {
            [rows, cols] => Ok(Weight { name: self.name, dtype: self.dtype, rows, cols, data: self.data }),
            _ => Err(FormatError::Tensor {
                path: self.file.path().to_owned(),
                found: format!("shape {:?}", self.shape),
                tensor: self.name,
                expected: "a matrix".to_owned(),
            }),
        }
    }
}

/// The tensors of all files of a checkpoint.
#[derive(Debug)]
pub(crate) struct TensorTable {
    /// Not empty.
    pub files: Vec<Arc<MappedFile>>,
    /// In file order.
    pub infos: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    /// What stands in for tensors' bytes.
    replaced: HashMap<String, Bytes>,
    /// Those that are put together from others, by name, and the others.
    matrices: HashMap<String, Matrix>,
    parts: HashMap<String, TensorInfo>,
}

impl TensorTable {
    /// Each info's `file` is an index of `files`, and its byte range was found to lie in that file.
    ///
    /// # Errors
    /// Two tensors have the same name.
    pub fn new(files: Vec<Arc<MappedFile>>, infos: Vec<TensorInfo>) -> Result<Self, FormatError> {
        let mut by_name = HashMap::with_capacity(infos.len());
        for (at, info) in infos.iter().enumerate() {
            if let Some(first) = by_name.insert(info.name.clone(), at) {
                let first: &TensorInfo = &infos[first];
                return Err(FormatError::Tensor {
                    path: files[info.file].path().to_owned(),
                    tensor: info.name.clone(),
                    expected: "a name used once".to_owned(),
                    found: format!("another tensor of that name in {}", files[first.file].path().display()),
                });
            }
        }
        let (replaced, matrices, parts) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { files, infos, by_name, replaced, matrices, parts })
    }

    /// Puts tensors that are made of others in the place of the first of these.
    ///
    /// # Errors
    /// Two tensors have the same name.
    pub fn merge(&mut self, merged: Vec<(TensorInfo, Matrix)>) -> Result<(), FormatError> {
        let mut made = HashMap::new();
        for (info, matrix) in merged {
            made.extend(matrix.parts().iter().map(|part| (part.clone(), None)));
            self.matrices.insert(info.name.clone(), matrix);
            made.insert(info.name.clone(), Some(info));
        }
        let (mut infos, mut parts) = (Vec::new(), HashMap::new());
        for info in std::mem::take(&mut self.infos) {
            match made.remove(&info.name) {
                None => infos.push(info),
                Some(whole) => {
                    infos.extend(whole);
                    parts.insert(info.name.clone(), info);
                }
            }
        }
        let table = Self::new(std::mem::take(&mut self.files), infos)?;
        *self = Self { matrices: std::mem::take(&mut self.matrices), parts, ..table };
        Ok(())
    }

    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&at| &self.infos[at])
    }

    fn require(&self, name: &str) -> Result<&TensorInfo, FormatError> {
        self.info(name).ok_or_else(|| FormatError::MissingTensor {
            path: self.path().to_owned(),
            tensor: name.to_owned(),
            count: self.infos.len(),
        })
    }

    /// # Errors
    /// There is no such tensor, or it lies outside its file.
    pub fn raw(&self, name: &str) -> Result<Bytes, FormatError> {
        if let Some(replaced) = self.replaced.get(name) {
            return Ok(replaced.clone());
        }
        let place = |info: &TensorInfo| self.place(info);
        match self.matrices.get(name) {
            Some(matrix) => matrix.blocks(|part| self.parts.get(part).map_or_else(|| self.raw(part), place)),
            None => place(self.require(name)?),
        }
    }

    /// The bytes of a tensor in its file.
    fn place(&self, info: &TensorInfo) -> Result<Bytes, FormatError> {
        let file = &self.files[info.file];
        let data = info.offset.checked_add(info.bytes).and_then(|end| file.bytes().slice(info.offset..end));
        data.ok_or_else(|| FormatError::Tensor {
            path: file.path().to_owned(),
            tensor: info.name.clone(),
            expected: "data inside the file".to_owned(),
            found: format!("offset {}", info.offset),
        })
    }

    /// # Errors
    /// There is no such tensor, its type cannot be read, or it lies outside its file.
    pub fn tensor(&self, name: &str) -> Result<Tensor, FormatError> {
        let info = self.require(name)?;
        let file = &self.files[info.file];
        let dtype = info.dtype().ok_or_else(|| {
            let readable: Vec<_> = DType::in_gguf().map(|t| t.name).collect();
            FormatError::Tensor {
                path: file.path().to_owned(),
                tensor: name.to_owned(),
                expected: format!("one of the types {}", readable.join(", ")),
                found: info.raw_type.refused(),
            }
        })?;
        let data = self.raw(name)?;
        Ok(Tensor { name: info.name.clone(), dtype, shape: info.shape.clone(), data, file: file.clone() })
    }

    /// # Errors
    /// There is no such tensor, or it has another number of bytes.
    pub fn replace(&mut self, name: &str, data: Vec<u8>) -> Result<(), FormatError> {
        let (expected, found) = (self.require(name)?.bytes, data.len());
        match Bytes::new(Arc::new(data), 0..expected) {
            Some(bytes) if found == expected => self.replaced.insert(name.to_owned(), bytes),
            _ => {
                return Err(FormatError::Tensor {
                    path: self.path().to_owned(),
                    tensor: name.to_owned(),
                    expected: format!("{expected} bytes to stand in for it"),
                    found: format!("{found}"),
                });
            }
        };
        Ok(())
    }

    pub fn restore(&mut self) {
        self.replaced.clear();
    }

    /// The first file.
    pub fn path(&self) -> &Path {
        self.files[0].path()
    }
}
