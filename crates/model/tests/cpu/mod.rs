//! Logits by the CPU backend.

use kernels::backend::{Backend, KvType, Logits, Program, ProgramOptions, Span, States, run};
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

    /// Logits `[tokens, vocab]`, row i after tokens `0..=i`, with `reserved` positions reserved. The pages are out of order, with one of another sequence between.
    pub fn logits(&self, plan: &DecoderPlan, tokens: &[u32], reserved: usize) -> Vec<f32> {
        let mut program = self.compile(plan);
        let pages = tokens.len().div_ceil(program.page_positions()) as u32;
        program.reserve(pages as usize + 1).unwrap();
        program.reserve_states(1).unwrap();
        let table: Vec<u32> = (0..pages).map(|i| if i == 0 { pages } else { i - 1 }).collect();
        let mut rows = Vec::new();
        for (i, chunk) in tokens.chunks(self.chunk.min(tokens.len())).enumerate() {
            let position = i * self.chunk;
            let span = Span {
                tokens: chunk,
                position,
                reserved,
                pages: &table,
                states: States::default(),
                logits: Logits::All,
            };
            rows.extend(run(&mut *program, &[span]).unwrap().logits);
        }
        rows
    }

    pub fn compile(&self, plan: &DecoderPlan) -> Box<dyn Program> {
        let options = ProgramOptions { kv: self.kv, threads: self.threads, bf16: false };
        let backend = CpuBackend::new(self.tier).unwrap();
        backend.compile(plan.clone(), &options, &mut |_, _| ()).unwrap()
    }

    /// The same of several sequences that begin together and advance side by side, each by `chunk` positions in a batch.
    #[allow(dead_code)] // Not by every test that has this module.
    pub fn side_by_side(&self, plan: &DecoderPlan, sequences: &[&[u32]], reserved: usize) -> Vec<Vec<f32>> {
        let mut program = self.compile(plan);
        let longest = sequences.iter().map(|s| s.len()).max().unwrap();
        let pages = longest.div_ceil(program.page_positions()) as u32;
        program.reserve(pages as usize * sequences.len()).unwrap();
        program.reserve_states(sequences.len()).unwrap();
        let tables: Vec<Vec<u32>> =
            (0..sequences.len() as u32).map(|i| (i * pages..(i + 1) * pages).rev().collect()).collect();
        let mut rows = vec![Vec::new(); sequences.len()];
        for position in (0..longest).step_by(self.chunk) {
            let under_way: Vec<usize> = (0..sequences.len()).filter(|i| position < sequences[*i].len()).collect();
            let span = |i: &usize| {
                let end = sequences[*i].len().min(position + self.chunk);
                let (tokens, pages) = (&sequences[*i][position..end], &tables[*i]);
                let states = States { own: *i as u32, copies: &[] };
                Span { tokens, position, reserved, pages, states, logits: Logits::All }
            };
            let spans: Vec<Span> = under_way.iter().map(span).collect();
            let logits = run(&mut *program, &spans).unwrap().logits;
            let mut rest = &logits[..];
            for (i, span) in under_way.iter().zip(&spans) {
                let (own, others) = rest.split_at(span.tokens.len() * plan.vocab);
                rows[*i].extend(own);
                rest = others;
            }
        }
        rows
    }
}
