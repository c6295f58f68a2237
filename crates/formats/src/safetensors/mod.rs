//! Safetensors: a u64 header length, the header as a JSON object, then the tensors' data.
//!
//! Each entry of the header names a tensor with its type, its row-major shape and the range of its data, counted from the
//! end of the header; `__metadata__` holds strings.

mod folder;
mod header;
mod writer;

pub use header::parse;
pub use writer::{Content, FolderTensor, SafetensorsWriter};

pub(crate) use folder::{INDEX_FILE, SINGLE_FILE, open, open_weights};
