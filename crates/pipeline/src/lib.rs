//! Making smaller models: quantizing.

pub mod quantize;
