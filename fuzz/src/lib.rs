//! What each fuzz target does with its input. The tests of the crates include these files and replay the corpora with them.

mod archive;
pub mod bundle;
pub mod chat_template;
pub mod gguf;
pub mod imatrix;
pub mod npz;
pub mod pytorch;
pub mod quant_blocks;
pub mod safetensors;
pub mod tokenizer_json;
