//! Throughput, in the tests and terms of llama-bench, with the most that the machine allows beside it.
//!
//! `ppN` computes prompts of N random tokens with logits after the last; `tgN` computes N random tokens one after another
//! from an empty cache, with logits after each. With a batch of B, B sequences run side by side.

use std::time::Instant;

use kernels::backend::{BackendError, Logits, Program, Span, run};
use kernels::plan::{DecoderPlan, Linear};
use kernels::roof::Roof;
use model::sampler::uniform;
use serde::Serialize;

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

/// What a plan costs to compute, the reading and multiplying of its weights; attention and all else is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Bytes of file weights that a step reads, however many positions it computes.
    pub bytes: f64,
    /// Of the layers, per position.
    pub layers: Operations,
    /// Of the output matrix, per position with logits.
    pub head: Operations,
}

/// Arithmetic operations; a multiply-add is two.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Operations {
    /// With quantized weights.
    pub int8: f64,
    /// With floating-point weights.
    pub f32: f64,
}

impl Operations {
    fn add(&mut self, linear: &Linear) {
        let operations = 2.0 * linear.shard.len() as f64 * linear.weight.cols as f64;
        let total = if linear.weight.dtype.is_float() { &mut self.f32 } else { &mut self.int8 };
        *total += operations;
    }

    fn seconds(&self, roof: &Roof) -> f64 {
        self.int8 / roof.int8 + self.f32 / roof.f32
    }
}

impl Cost {
    pub fn of(plan: &DecoderPlan) -> Self {
        let (mut layers, mut head) = (Operations::default(), Operations::default());
        plan.linears().take(7 * plan.layers.len()).for_each(|linear| layers.add(linear));
        head.add(&plan.head);
        Self { bytes: plan.bytes_per_token() as f64, layers, head }
    }

    /// The least seconds of a step: reading happens beside computing, so the longer of the two.
    fn step(&self, positions: usize, with_logits: usize, roof: &Roof) -> f64 {
        let compute = self.layers.seconds(roof) * positions as f64 + self.head.seconds(roof) * with_logits as f64;
        compute.max(self.bytes / roof.read)
    }

    /// The highest rate of prompts of `length` tokens.
    pub fn prefill_roof(&self, length: usize, batch: usize, roof: &Roof) -> f64 {
        (length * batch) as f64 / self.step(length * batch, batch, roof)
    }

    /// The highest rate of `batch` sequences that generate side by side.
    pub fn decode_roof(&self, batch: usize, roof: &Roof) -> f64 {
        batch as f64 / self.step(batch, batch, roof)
    }
}

/// Computes sequences of one length, on their own pages, from the first position; the number bounds the positions of a batch.
type Run = fn(&mut dyn Program, &Cache, &[&[u32]], usize) -> Result<(), BackendError>;

/// One kind of run.
struct Test {
    name: String,
    tokens: usize,
    /// Tokens of the run that is not measured: enough to touch everything.
    warm_up: usize,
    roof: f64,
    run: Run,
}

/// Runs the tests; `progress` is told before each run: the test, the runs done, and all of the test.
///
/// # Errors
/// The backend's.
pub fn bench(
    program: &mut dyn Program,
    cost: &Cost,
    roof: &Roof,
    options: &BenchOptions,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Vec<BenchRow>, BackendError> {
    let (prompt, tokens, batch, chunk) = (options.prompt, options.generate, options.batch.max(1), options.chunk.max(1));
    let tests = [
        Test {
            name: format!("pp{prompt}"),
            tokens: prompt,
            warm_up: prompt.min(chunk),
            roof: cost.prefill_roof(prompt, batch, roof),
            run: prefill,
        },
        Test {
            name: format!("tg{tokens}"),
            tokens,
            warm_up: tokens.min(4),
            roof: cost.decode_roof(batch, roof),
            run: generate,
        },
    ];
    let longest = prompt.max(tokens);
    let cache = Cache::new(program, batch, longest)?;
    let sequences = random_tokens(batch, longest, program.vocab());
    let repeat = options.repeat.max(1);
    let mut rows = Vec::new();
    for test in tests.into_iter().filter(|test| test.tokens > 0) {
        let mut once = |tokens: usize| {
            let inputs: Vec<&[u32]> = sequences.iter().map(|s| &s[..tokens]).collect();
            let start = Instant::now();
            (test.run)(program, &cache, &inputs, chunk)?;
            Ok::<_, BackendError>((tokens * batch) as f64 / start.elapsed().as_secs_f64())
        };
        progress(&test.name, 0, repeat + 1);
        once(test.warm_up)?;
        let mut rates = Vec::with_capacity(repeat);
        for round in 1..=repeat {
            progress(&test.name, round, repeat + 1);
            rates.push(once(test.tokens)?);
        }
        rows.push(row(test.name, roof.threads, batch, rates, test.roof));
    }
    Ok(rows)
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
            run(program, &[Span { tokens: &tokens[positions], position, pages: cache.pages(sequence), logits }])?;
        }
    }
    Ok(())
}

/// All sequences together, one position at a time.
fn generate(program: &mut dyn Program, cache: &Cache, sequences: &[&[u32]], _chunk: usize) -> Result<(), BackendError> {
    let length = sequences.first().map_or(0, |tokens| tokens.len());
    for position in 0..length {
        let span = |sequence: usize| Span {
            tokens: &sequences[sequence][position..=position],
            position,
            pages: cache.pages(sequence),
            logits: Logits::Last,
        };
        let spans: Vec<_> = (0..sequences.len()).map(span).collect();
        run(program, &spans)?;
    }
    Ok(())
}

/// `rates` is not empty.
fn row(test: String, threads: usize, batch: usize, mut rates: Vec<f64>, roof: f64) -> BenchRow {
    rates.sort_unstable_by(f64::total_cmp);
    let last = rates.len() - 1;
    let tps_median = (rates[last / 2] + rates[last.div_ceil(2)]) / 2.0;
    BenchRow {
        test,
        threads,
        batch,
        tps_median,
        tps_min: rates[0],
        tps_max: rates[last],
        roof,
        share: tps_median / roof,
    }
}

#[cfg(test)]
mod tests {
    use kernels::DType;
    use kernels::plan::{Bytes, Weight};

    use super::*;
    use crate::testing::HashProgram;

    const ROOF: Roof = Roof { threads: 2, read: 1e9, int8: 1e12, f32: 1e11 };
    const OPTIONS: BenchOptions = BenchOptions { prompt: 9, generate: 6, batch: 2, repeat: 3, chunk: 4 };

    fn cost() -> Cost {
        let operations = |int8, f32| Operations { int8, f32 };
        Cost { bytes: 1e6, layers: operations(2e6, 0.0), head: operations(0.0, 4e5) }
    }

    #[test]
    fn tests_are_named_and_run_as_often_as_asked() {
        let mut program = HashProgram::default();
        let mut told = Vec::new();
        let rows = bench(&mut program, &cost(), &ROOF, &OPTIONS, &mut |test, done, all| {
            told.push((test.to_owned(), done, all))
        });
        let rows = rows.unwrap();
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
        assert_eq!(bench(&mut program, &cost(), &ROOF, &none, &mut |_, _, _| ()).unwrap(), []);
    }

    #[test]
    fn roofs_are_those_of_the_scarcer_resource() {
        // One token reads 1 MB at 1 GB/s, which takes far longer than its arithmetic.
        assert_eq!(cost().decode_roof(1, &ROOF), 1e3);
        assert_eq!(cost().decode_roof(2, &ROOF), 2e3);
        // 10,000 positions take 20 ms of int8 and, for one row of logits, 4 µs of f32.
        assert_eq!(cost().prefill_roof(10_000, 1, &ROOF), 1e4 / (0.02 + 4e-6));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let row = row("pp1".into(), 1, 1, vec![4.0, 1.0, 2.0, 8.0], 6.0);
        assert_eq!((row.tps_min, row.tps_median, row.tps_max, row.share), (1.0, 3.0, 8.0, 0.5));
    }

    #[test]
    fn operations_count_by_the_type_of_the_weights() {
        let linear = |dtype: DType, rows: usize, cols: usize| {
            let bytes = vec![0u8; rows * dtype.row_bytes(cols)];
            let data = Bytes::new(std::sync::Arc::new(bytes.clone()), 0..bytes.len()).unwrap();
            Linear::new(Weight { name: String::new(), dtype, rows, cols, data }, None)
        };
        let mut operations = Operations::default();
        operations.add(&linear(DType::F16, 3, 5));
        operations.add(&linear(DType::from_name("q8_0").unwrap(), 3, 32));
        assert_eq!(operations, Operations { int8: 192.0, f32: 30.0 });
    }
}
