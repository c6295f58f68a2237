//! The algorithms of a decoder, one body each over [`crate::simd::Simd`].

pub mod attention;
mod bf16;
pub mod cache;
pub mod cache_q8;
pub mod conv;
pub mod delta;
pub(crate) mod float;
pub mod glu;
pub mod heads;
pub mod matmul;
pub mod norm;
pub mod products;
pub mod quantize;
pub mod rope;
pub mod router;
mod weights;
