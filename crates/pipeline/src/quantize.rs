//! Quantizing a GGUF checkpoint to a GGUF file: the same types and the same bytes as the reference, llama-quantize.
//!
//! [`choose_types`] says which type each tensor gets, from names and shapes alone; [`quantize`] does the work, in
//! parallel and as a stream: beside the mapped source it holds a few million values at a time, whatever the model's size.

mod choice;
mod error;
mod facts;
mod file_type;
mod importance;
mod run;
mod tensors;

pub use choice::{TypeOptions, choose_types};
pub use error::QuantizeError;
pub use facts::ModelFacts;
pub use file_type::{FILE_TYPES, FileType};
pub use run::{Progress, QuantizeOptions, QuantizedTensor, planned, quantize};
pub use tensors::{TensorFacts, file_order};
