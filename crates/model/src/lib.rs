//! Architectures, tokenizers, chat templates and sampling.

pub mod arch;
pub mod chat_format;
mod error;
mod loader;
mod model;
mod node_tensors;
pub mod sampler;
mod stop_strings;
pub mod template;
pub mod ternary;
mod text_stream;
pub mod tokenizer;

pub use error::ModelError;
pub use loader::{build_plan, shape_plan};
pub use model::Model;
pub use node_tensors::{NodeTensor, node_tensors};
pub use stop_strings::{EmptyStopString, StopStrings};
pub use text_stream::TextStream;
