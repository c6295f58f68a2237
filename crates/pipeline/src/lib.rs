//! Measuring models and making smaller ones: perplexity and divergence, logits, throughput, quantizing.
//!
//! What measures runs on a backend's program alone, one sequence of pages at a time; no engine is needed.

pub mod bench;
mod cache;
pub mod card;
pub mod evaluate;
pub mod gate;
pub mod logits;
pub mod quantize;
mod scores;
#[cfg(test)]
mod testing;
