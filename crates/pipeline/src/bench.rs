//! Throughput, in the tests and terms of llama-bench, with the most that the machine allows beside it.
//!
//! `ppN` computes prompts of N random tokens with logits after the last; `tgN` computes N random tokens one after another
//! from an empty cache, with logits after each. With a batch of B, B sequences run side by side.

mod cost;

use std::time::Instant;

use kernels::backend::{BackendError, Logits, Program, Span, run};
use kernels::roof::Roof;
use model::sampler::uniform;
use serde::Serialize;

pub use cost::{Cost, Operations};

use crate::cache::{Cache, chunks};

#[derive(Clone, Copy, Debug)]
pub struct BenchOptions {
    /// Length of the prompts; 0 leaves the test out.
    pub prompt: usize,
    /// Tokens to generate; 0 leaves the test out.
    pub generate: usize,
    /// Sequences side by side; at least 1.
    pub batch: usize,
    /// Measured runs of each test, after one that is not; at least 1.
    pub repeat: usize,
    /// The most positions computed at once.
    pub chunk: usize,
}

/// One test's result; rates are tokens per second of all sequences together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchRow {
    /// `pp512`, `tg128`.
    pub test: String,
    pub threads: usize,
    pub batch: usize,
    pub tps_median: f64,
    pub tps_min: f64,
    pub tps_max: f64,
    /// The rate at which the memory or the arithmetic of the machine would be used in full.
    pub roof: f64,
    /// `tps_median / roof`.
    pub share: f64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// Prompts of so many tokens.
    Prefill(usize),
    /// So many tokens of an answer.
    Decode(usize),
}

impl Test {
    /// `pp512`, `tg128`.
    pub fn name(self) -> String {
        match self {
            Self::Prefill(tokens) => format!("pp{tokens}"),
            Self::Decode(tokens) => format!("tg{tokens}"),
        }
    }

    fn tokens(self) -> usize {
        match self {
            Self::Prefill(tokens) | Self::Decode(tokens) => tokens,
        }
    }

    /// Tokens of the run that is not measured: enough to touch everything.
    fn warm_up(self, chunk: usize) -> usize {
        match self {
            Self::Prefill(tokens) => tokens.min(chunk),
            Self::Decode(tokens) => tokens.min(4),
        }
    }

    /// The highest rate, in tokens per second of all sequences together.
    pub fn roof(self, cost: &Cost, batch: usize, roof: &Roof) -> f64 {
        match self {
            Self::Prefill(tokens) => cost.prefill_roof(tokens, batch, roof),
            Self::Decode(_) => cost.decode_roof(batch, roof),
        }
    }

    /// Computes sequences of one length, on their own pages, from the first position.
    fn run(
        self,
        program: &mut dyn Program,
        cache: &Cache,
        sequences: &[&[u32]],
        chunk: usize,
    ) -> Result<(), BackendError> {
        match self {
            Self::Prefill(_) => prefill(program, cache, sequences, chunk),
            Self::Decode(_) => generate(program, cache, sequences),
        }
    }
}

/// The middle of ascending values, or between the middle two; `None` of none.
pub fn median(ascending: &[f64]) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    Some((ascending[last / 2] + ascending[last.div_ceil(2)]) / 2.0)
}

/// The rates of a test's runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub test: Test,
    pub batch: usize,
    /// Tokens per second of all sequences together, ascending; at least one.
    rates: Vec<f64>,
}

impl Measured {
    fn new(test: Test, batch: usize, mut rates: Vec<f64>) -> Self {
        rates.sort_unstable_by(f64::total_cmp);
        Self { test, batch, rates }
    }

    pub fn median(&self) -> f64 {
        median(&self.rates).unwrap_or(f64::NAN)
    }

    /// The result beside what the machine allows.
    pub fn row(&self, cost: &Cost, roof: &Roof) -> BenchRow {
        let (tps_median, highest) = (self.median(), self.test.roof(cost, self.batch, roof));
        BenchRow {
            test: self.test.name(),
            threads: roof.threads,
            batch: self.batch,
            tps_median,
            tps_min: self.rates[0],
            tps_max: self.rates[self.rates.len() - 1],
            roof: highest,
            share: tps_median / highest,
        }
    }
}

/// Runs the tests; `progress` is told before each run: the test, the runs done, and all of the test.
///
/// # Errors
/// The backend's.
pub fn bench(
    program: &mut dyn Program,
    options: &BenchOptions,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Vec<Measured>, BackendError> {
    let (batch, chunk, repeat) = (options.batch.max(1), options.chunk.max(1), options.repeat.max(1));
    let longest = options.prompt.max(options.generate);
    let cache = Cache::new(program, batch, longest)?;
    let sequences = random_tokens(batch, longest, program.vocab());
    let mut results = Vec::new();
    let tests = [Test::Prefill(options.prompt), Test::Decode(options.generate)];
    for test in tests.into_iter().filter(|test| test.tokens() > 0) {
        let mut once = |tokens: usize| {
            let inputs: Vec<&[u32]> = sequences.iter().map(|s| &s[..tokens]).collect();
            let start = Instant::now();
            test.run(program, &cache, &inputs, chunk)?;
            Ok::<_, BackendError>((tokens * batch) as f64 / start.elapsed().as_secs_f64())
        };
        let name = test.name();
        progress(&name, 0, repeat + 1);
        once(test.warm_up(chunk))?;
        let mut rates = Vec::with_capacity(repeat);
        for round in 1..=repeat {
            progress(&name, round, repeat + 1);
            rates.push(once(test.tokens())?);
        }
        results.push(Measured::new(test, batch, rates));
    }
    Ok(results)
}

fn random_tokens(sequences: usize, length: usize, vocab: usize) -> Vec<Vec<u32>> {
    let token = |sequence, position| (uniform(0, sequence, position) * vocab as f64) as u32;
    let row = |sequence| (0..length as u64).map(|position| token(sequence, position)).collect();
    (0..sequences as u32).map(row).collect()
}

/// Each sequence after the other, in batches of `chunk` positions.
fn prefill(program: &mut dyn Program, cache: &Cache, sequences: &[&[u32]], chunk: usize) -> Result<(), BackendError> {
    for (sequence, tokens) in sequences.iter().enumerate() {
        for positions in chunks(0..tokens.len(), chunk) {
            let logits = if positions.end == tokens.len() { Logits::Last } else { Logits::None };
            let position = positions.start;
            let (reserved, pages, states) = (cache.positions, cache.pages(sequence), cache.states(sequence));
            run(program, &[Span { tokens: &tokens[positions], position, reserved, pages, states, logits }])?;
        }
    }
    Ok(())
}

/// All sequences together, one position at a time.
fn generate(program: &mut dyn Program, cache: &Cache, sequences: &[&[u32]]) -> Result<(), BackendError> {
    let length = sequences.first().map_or(0, |tokens| tokens.len());
    for position in 0..length {
        let span = |sequence: usize| Span {
            tokens: &sequences[sequence][position..=position],
            position,
            reserved: cache.positions,
            pages: cache.pages(sequence),
            states: cache.states(sequence),
            logits: Logits::Last,
        };
        let spans: Vec<_> = (0..sequences.len()).map(span).collect();
        run(program, &spans)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::HashProgram;

    const ROOF: Roof = Roof { threads: 2, read: 1e9, int8: 1e12, f32: 1e11, bf16: None };
    const OPTIONS: BenchOptions = BenchOptions { prompt: 9, generate: 6, batch: 2, repeat: 3, chunk: 4 };

    const COST: Cost = Cost {
        bytes: 1e6,
        layers: Operations { int8: 2e6, f32: 0.0, bf16: 0.0 },
        head: Operations { int8: 0.0, f32: 4e5, bf16: 0.0 },
    };

    #[test]
    fn tests_are_named_and_run_as_often_as_asked() {
        let mut program = HashProgram::default();
        let mut told = Vec::new();
        let results = bench(&mut program, &OPTIONS, &mut |test, done, all| told.push((test.to_owned(), done, all)));
        let rows: Vec<_> = results.unwrap().iter().map(|r| r.row(&COST, &ROOF)).collect();
        assert_eq!(rows.iter().map(|r| r.test.as_str()).collect::<Vec<_>>(), ["pp9", "tg6"]);
        for row in rows {
            assert_eq!((row.threads, row.batch), (2, 2));
            assert!(0.0 < row.tps_min && row.tps_min <= row.tps_median && row.tps_median <= row.tps_max);
            assert_eq!(row.share, row.tps_median / row.roof);
        }
        assert_eq!(told.len(), 8);
        assert_eq!(told[7], ("tg6".to_owned(), 3, 4));
        // A warm-up of one chunk and three runs of the prompt; a warm-up of four tokens and three generations.
        assert_eq!(program.computed, 2 * (4 + 3 * 9 + 4 + 3 * 6));
        let none = BenchOptions { prompt: 0, generate: 0, ..OPTIONS };
        assert_eq!(bench(&mut program, &none, &mut |_, _, _| ()).unwrap(), []);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let row = Measured::new(Test::Decode(4), 1, vec![4.0, 1.0, 2.0, 8.0]).row(&COST, &ROOF);
        assert_eq!((row.tps_min, row.tps_median, row.tps_max, row.share), (1.0, 3.0, 8.0, 0.003));
    }
}
