//! Measuring models: perplexity and divergence, logits, throughput.
//!
//! Everything here runs on a backend's program alone, one sequence of pages at a time; no engine is needed.

pub mod bench;
mod cache;
pub mod evaluate;
pub mod logits;
mod scores;
#[cfg(test)]
mod testing;
