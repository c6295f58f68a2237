//! Block types, the SIMD vocabulary, the kernels over it, and the CPU backend.
//!
//! `quant` knows how values are stored in blocks, `simd` what a CPU can do with sixteen lanes, `ops` the algorithms
//! (one body each), `plan` and `backend` what a model asks of any backend, `cpu` how this crate answers.

pub mod backend;
pub mod buffer;
pub mod cpu;
pub mod ops;
pub mod plan;
pub mod quant;
pub mod roof;
pub mod simd;
mod team;

pub use quant::DType;
