//! MLX folders: those of Hugging Face, whose matrices may be quantized.
//!
//! A quantized matrix is three tensors: `NAME.weight` with the values in U32 words, each in the lowest bits that those before
//! it leave, `NAME.scales`, and `NAME.biases` where it is affine. `quantization` in `config.json` says how, for all matrices
//! and for some by name. Here the three are one tensor, whose blocks are put together when they are read.

mod blocks;
mod matrices;
mod npz;
mod quantization;

pub use blocks::Parts;
pub use npz::parse as parse_npz;
pub use quantization::{Layout, Mode, Quantization};

pub(crate) use matrices::{Matrix, merge};
pub(crate) use npz::{NPZ_FILE, open as open_npz};
