//! Architectures, tokenizers, chat templates and sampling.

pub mod arch;
pub mod chat_format;
mod error;
mod loader;
mod model;
pub mod sampler;
mod stop_strings;
pub mod template;
pub mod ternary;
mod text_stream;
pub mod tokenizer;

pub use error::ModelError;
pub use loader::{build_plan, shape_plan};
pub use model::Model;
pub use stop_strings::{EmptyStopString, StopStrings};
pub use text_stream::TextStream;
