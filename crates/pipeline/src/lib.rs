//! What is done with models besides running them: converting, calibrating and quantizing; measuring perplexity, divergence, logits and
//! throughput.
//!
//! What measures runs on a backend's program alone, one sequence of pages at a time; no engine is needed.

pub mod allocation;
pub mod bench;
mod cache;
pub mod calibrate;
pub mod card;
pub mod convert;
pub mod evaluate;
pub mod gate;
pub mod logits;
pub mod quantize;
mod scores;
#[cfg(test)]
mod testing;
