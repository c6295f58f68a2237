//! What running a model takes, from the shapes of its tensors.

use anyhow::{Context as _, Result};
use formats::Checkpoint;
use kernels::backend::KvType;
use kernels::cpu::CpuBackend;
use kernels::simd::Tier;
use serde::Serialize;

/// Contexts that memory is told for, beside the model's own.
const CONTEXTS: [usize; 2] = [2048, 8192];
/// The program itself with its libraries and stacks.
const PROGRAM: u64 = 16 << 20;
/// Of a vocabulary, for each token: its text, merges and tables, and what building them leaves behind.
const TOKEN: u64 = 160;

/// Bytes of memory, with keys and values in f16.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// Packed weights.
    pub weights: u64,
    /// Buffers that the layers work in.
    pub activations: u64,
    /// The program and the tokenizer; an estimate.
    pub program: u64,
    /// What layers without keys and values keep of a sequence, whatever its length.
    pub state: u64,
    /// With one sequence of so many tokens; the last is the model's full context.
    pub at: Vec<AtContext>,
}

#[derive(Debug, Serialize)]
pub struct AtContext {
    pub context: usize,
    /// Keys and values, and the state.
    pub cache: u64,
    /// All together.
    pub total: u64,
}

/// Bytes of one position's keys and values in all layers that store them.
#[derive(Debug, Serialize)]
pub struct KvBytes {
    pub f16: usize,
    pub f32: usize,
    pub q8_0: usize,
}

/// Reads shapes and norms, no matrices.
///
/// # Errors
/// The plan cannot be made: a tensor is missing, or has another shape than the settings say.
pub fn of(checkpoint: &Checkpoint) -> Result<(KvBytes, Memory)> {
    let plan = model::shape_plan(checkpoint)?;
    // All tiers share one layout.
    let backend = CpuBackend::new(Tier::Scalar).context("plain code runs everywhere")?;
    let footprint = |kv: KvType| backend.footprint(&plan, kv);
    let per_token = |kv: KvType| Ok::<_, anyhow::Error>(footprint(kv)?.page / footprint(kv)?.page_positions);
    let kv = KvBytes { f16: per_token(KvType::F16)?, f32: per_token(KvType::F32)?, q8_0: per_token(KvType::Q8_0)? };
    let footprint = footprint(KvType::F16)?;
    let (weights, activations) = (footprint.weights as u64, footprint.activations as u64);
    let program = PROGRAM + TOKEN * plan.vocab as u64;
    let shorter = CONTEXTS.into_iter().filter(|context| *context < plan.context);
    let at = shorter.chain([plan.context]).map(|context| {
        let cache = footprint.cache(context) as u64;
        AtContext { context, cache, total: weights + activations + program + cache }
    });
    let state = footprint.state as u64;
    Ok((kv, Memory { weights, activations, program, state, at: at.collect() }))
}
