//! Converting between GGUF files and folders of Hugging Face and of MLX.
//!
//! Tensors stream: beside the mapped source, a few million values are held at a time. Data of the same type goes through
//! bit for bit. What was written is opened again, and tokenizes a probe as the source does, before it gets its name.

mod error;
mod exact;
mod folder_settings;
mod folder_tensors;
mod older_keys;
mod plan;
mod probe;
mod stream;
mod ternary;
#[cfg(test)]
mod tests;
mod to_gguf;
mod to_hf;

use formats::mlx::Layout;
use kernels::DType;

pub use error::ConvertError;
pub use to_gguf::to_gguf;
pub use to_hf::{to_hf, to_mlx};

#[derive(Clone, Copy, Debug, Default)]
pub struct ConvertOptions {
    /// The type of all matrices that are not quantized anew: F32, F16 or BF16. `None` keeps that of the source, which then must
    /// be one that the result can have.
    pub dtype: Option<DType>,
    /// How matrices are quantized anew, in an MLX folder.
    pub layout: Option<Layout>,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes of the source's tensors.
    pub done: u64,
    pub total: u64,
}

/// Hears of progress, and says whether to go on.
pub type Observer<'a> = dyn FnMut(Progress) -> bool + 'a;

/// What was written.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Converted {
    pub tensors: usize,
    /// Bytes of all tensors' data.
    pub bytes: u64,
    /// Tensors of the source that are no part of its language model: what sees or hears, and layers that guess further tokens.
    pub left_out: Vec<String>,
}
