//! Checkpoints on disk.
//!
//! Everything that reads a model sees a [`Checkpoint`]: settings, tokenizer, chat template, and tensors as ranges of mapped
//! files. `gguf`, `safetensors` and `pytorch` parse headers, `hf` reads the JSON files of a Hugging Face folder, `mlx` makes one
//! tensor of the parts of a quantized matrix; `gguf`, `safetensors` and `npy` write files, which appear whole or not at all ([`NewFile`], [`NewFolder`]).
//!
//! Files are untrusted. Parsing is safe Rust; each count, length and offset is compared with the size of the file before
//! it is used, and nothing is allocated that the file's size does not justify.

mod chat_template;
mod checkpoint;
mod error;
mod generation;
pub mod gguf;
pub mod hf;
pub mod imatrix;
mod mapped;
pub mod mlx;
mod new_file;
mod new_folder;
pub mod npy;
pub mod pytorch;
pub mod safetensors;
mod sniff;
mod tensor;
mod tokenizer_files;
mod zip;

pub use chat_template::ChatTemplates;
pub use checkpoint::{Checkpoint, Config, Format};
pub use error::FormatError;
pub use generation::GenerationDefaults;
pub use mapped::MappedFile;
pub use new_file::NewFile;
pub use new_folder::NewFolder;
pub use tensor::{RawType, Tensor, TensorInfo};
pub use tokenizer_files::{HfTokenizer, TokenizerFiles};
