//! Quantizing against llama-quantize: the type of every tensor, the bytes of every file, and what is refused.
//!
//! The data in `tests/data/quantize` comes from `scripts/oracle/quantize_hashes.py`, `quantize_imatrix.py` and
//! `quantize_types.py`.

mod files;
mod imatrices;
mod models;
mod refused;
mod types;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use pipeline::quantize::Progress;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/quantize").join(name)
}

fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(data(name)).unwrap()).unwrap()
}

/// Looks at no progress.
fn go_on(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
