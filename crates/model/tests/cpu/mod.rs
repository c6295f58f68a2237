//! Logits by the CPU backend.

use kernels::backend::{Backend, KvType, Logits, ProgramOptions, Span, run};
use kernels::cpu::CpuBackend;
use kernels::plan::DecoderPlan;
use kernels::simd::Tier;

/// How a plan is run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub tier: Tier,
    pub threads: usize,
    pub kv: KvType,
    /// Positions of a batch.
    pub chunk: usize,
}

impl Run {
    /// The best tier, one thread, everything in one batch.
    pub fn best(kv: KvType) -> Self {
        Self { tier: Tier::all_available().last().unwrap(), threads: 1, kv, chunk: usize::MAX }
    }

    /// Logits `[tokens, vocab]`, row i after tokens `0..=i`. The pages are out of order, with one of another sequence between.
    pub fn logits(&self, plan: &DecoderPlan, tokens: &[u32]) -> Vec<f32> {
        let options = ProgramOptions { kv: self.kv, threads: self.threads, bf16: false };
        let backend = CpuBackend::new(self.tier).unwrap();
        let mut program = backend.compile(plan.clone(), &options, &mut |_, _| ()).unwrap();
        let pages = tokens.len().div_ceil(program.page_positions()) as u32;
        program.reserve(pages as usize + 1).unwrap();
        let table: Vec<u32> = (0..pages).map(|i| if i == 0 { pages } else { i - 1 }).collect();
        let mut rows = Vec::new();
        for (i, chunk) in tokens.chunks(self.chunk.min(tokens.len())).enumerate() {
            let span = Span { tokens: chunk, position: i * self.chunk, pages: &table, logits: Logits::All };
            rows.extend(run(&mut *program, &[span]).unwrap().logits);
        }
        rows
    }
}
