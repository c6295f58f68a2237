//! A whole random decoder in the shape of a known model: tokens per second and the share of the machine's roof, without
//! a file.
//!
//! `cargo run --release -p edgeling-kernels --example decoder_speed [0.6b|3.8b] TYPE HEAD_TYPE THREADS KV TEST…`, where a
//! KV type may end in `+bf16` for BF16 arithmetic, and a test is `pp512` (a prompt), `tg128` (tokens one after another),
//! `tg128x16` (16 sequences side by side), each with `@8192` behind it for the positions that are in the cache already.

use std::sync::Arc;
use std::time::Instant;

use kernels::DType;
use kernels::backend::{self, Backend, KvType, Logits, Program, ProgramOptions, Span, States};
use kernels::cpu::CpuBackend;
use kernels::plan::{
    Attention, Bytes, DecoderPlan, FeedForward, HeadNorm, Layer, Linear, NormKind, Rope, RopeStyle, Scales, Weight,
};
use kernels::roof::{self, Roof};
use kernels::simd::Tier;

type Failure = Box<dyn std::error::Error>;

/// The sizes of a model.
struct Shape {
    hidden: usize,
    ffn: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    layers: usize,
    vocab: usize,
    head_norm: bool,
}

/// Qwen3-0.6B.
const SMALL: Shape = Shape {
    hidden: 1024,
    ffn: 3072,
    heads: 16,
    kv_heads: 8,
    head_dim: 128,
    layers: 28,
    vocab: 151_936,
    head_norm: true,
};

/// Phi-4-mini.
const LARGE: Shape = Shape {
    hidden: 3072,
    ffn: 8192,
    heads: 24,
    kv_heads: 8,
    head_dim: 128,
    layers: 32,
    vocab: 200_064,
    head_norm: false,
};

fn plan(shape: &Shape, dtype: DType, head: DType) -> Result<DecoderPlan, Failure> {
    let linear = |dtype: DType, rows: usize, cols: usize| -> Result<Linear, Failure> {
        let data = vec![0x11u8; rows * dtype.row_bytes(cols)];
        let len = data.len();
        let data = Bytes::new(Arc::new(data), 0..len).ok_or("range")?;
        Ok(Linear::new(Weight { name: format!("{rows}x{cols}"), dtype, rows, cols, data }, None))
    };
    let (h, q, kv) = (shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let norm = shape.head_norm.then(|| HeadNorm::Each(vec![1.0; shape.head_dim]));
    let layer = || -> Result<Layer, Failure> {
        let projections = [linear(dtype, q, h)?, linear(dtype, kv, h)?, linear(dtype, kv, h)?, linear(dtype, h, q)?];
        let attention = Attention {
            q_norm: norm.clone(),
            k_norm: norm.clone(),
            ..Attention::plain(shape.heads, shape.kv_heads, shape.head_dim, projections)
        };
        let ffn = [linear(dtype, shape.ffn, h)?, linear(dtype, shape.ffn, h)?, linear(dtype, h, shape.ffn)?];
        Ok(Layer::plain(vec![1.0; h], attention, vec![1.0; h], FeedForward::plain(ffn)))
    };
    let head = linear(head, shape.vocab, h)?;
    Ok(DecoderPlan {
        hidden: h,
        vocab: shape.vocab,
        context: 1 << 17,
        norm: NormKind::Rms,
        norm_eps: 1e-6,
        scales: Scales::default(),
        ropes: vec![Rope {
            style: RopeStyle::Half,
            inv_freq: (0..shape.head_dim / 2).map(|i| 1e6f32.powf(-2.0 * i as f32 / shape.head_dim as f32)).collect(),
            attention_factor: 1.0,
            long: None,
        }],
        embedding: head.weight.clone(),
        inputs: None,
        layers: (0..shape.layers).map(|_| layer()).collect::<Result<_, _>>()?,
        output_norm: vec![1.0; h],
        head,
    })
}

/// A test of the command line.
struct Test {
    prefill: bool,
    tokens: usize,
    batch: usize,
    depth: usize,
}

impl Test {
    fn parse(text: &str) -> Result<Self, Failure> {
        let (kind, rest) = text.split_at_checked(2).ok_or("a test is pp512 or tg128x4@8192")?;
        let (rest, depth) = rest.split_once('@').unwrap_or((rest, "0"));
        let (tokens, batch) = rest.split_once('x').unwrap_or((rest, "1"));
        Ok(Self { prefill: kind == "pp", tokens: tokens.parse()?, batch: batch.parse()?, depth: depth.parse()? })
    }

    fn run(&self, program: &mut dyn Program, tokens: usize) -> Result<(), Failure> {
        let pages = (self.depth + self.tokens).div_ceil(program.page_positions());
        let (before, all) = (program.pages(), self.batch * pages);
        program.reserve(all)?;
        // Memory that was never written is one page of zeros in every cache.
        (before.max(1)..all).for_each(|page| program.copy_page(0, page as u32));
        let tables: Vec<Vec<u32>> =
            (0..self.batch).map(|b| (0..pages).map(|p| (b * pages + p) as u32).collect()).collect();
        let ids: Vec<u32> = (0..tokens as u32).map(|i| i * 7919 % program.vocab() as u32).collect();
        let (steps, each) = if self.prefill { (1, tokens) } else { (tokens, 1) };
        for step in 0..steps {
            let span = |pages| Span {
                tokens: &ids[step * each..(step + 1) * each],
                position: self.depth + step * each,
                reserved: self.depth + self.tokens,
                pages,
                states: States::default(),
                logits: Logits::Last,
            };
            let spans: Vec<Span> = tables.iter().map(|t| span(t)).collect();
            backend::run(program, &spans)?;
        }
        Ok(())
    }
}

/// Seconds that the calling thread has run on a CPU: on a busy machine less than the clock says. Infinite where the
/// system does not tell.
fn on_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(f64::INFINITY, |ns| ns / 1e9)
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [shape, dtype, head, threads, kv, tests @ ..] = args.as_slice() else {
        return Err("expected: [0.6b|3.8b] TYPE HEAD_TYPE THREADS KV TEST…".into());
    };
    let shape = if shape == "3.8b" { LARGE } else { SMALL };
    let named = |name: &str| DType::from_name(name).ok_or("no such type");
    let bf16 = kv.ends_with("+bf16");
    let kv = match kv.trim_end_matches("+bf16") {
        "f32" => KvType::F32,
        "q8_0" => KvType::Q8_0,
        _ => KvType::F16,
    };
    let threads: usize = threads.parse()?;
    let tier = Tier::detect()?;
    let plan = plan(&shape, named(dtype)?, named(head)?)?;
    let bytes = plan.bytes_per_token() as f64;
    let head_ops = 2.0 * (shape.vocab * shape.hidden) as f64;
    let layer_ops = 2.0 * plan.macs_per_token() as f64 - head_ops;
    let backend = CpuBackend::new(tier).ok_or("no such tier")?;
    let mut program = backend.compile(plan, &ProgramOptions { kv, threads, bf16 }, &mut |_, _| {})?;
    for test in tests {
        let name = test;
        let test = Test::parse(test)?;
        test.run(&mut *program, if test.prefill { test.tokens } else { 2 })?;
        let before = roof::measure(tier, &[threads])?[0];
        let (mut times, mut cpu) = (Vec::new(), f64::INFINITY);
        for _ in 0..5 {
            let (begin, running) = (Instant::now(), on_cpu());
            test.run(&mut *program, test.tokens)?;
            times.push(begin.elapsed().as_secs_f64());
            cpu = f64::min(cpu, on_cpu() - running);
        }
        times.sort_by(f64::total_cmp);
        let after = roof::measure(tier, &[threads])?[0];
        let peak = |f: fn(&Roof) -> f64| (f(&before) + f(&after)) / 2.0;
        let (read, int8) = (peak(|r| r.read), peak(|r| r.int8));
        let tokens = (test.tokens * test.batch) as f64;
        let with_logits = if test.prefill { test.batch as f64 } else { tokens };
        let compute = (layer_ops * tokens + head_ops * with_logits) / int8;
        let reading = bytes / read * if test.prefill { 1.0 } else { test.tokens as f64 };
        println!(
            "{dtype} {name}: median {:.1} best {:.1} on CPU {:.1} tokens/s; {:.3} of int8, {:.3} of read; roofs {:.1} GB/s {:.0} Gop/s",
            tokens / times[2],
            tokens / times[0],
            tokens / cpu,
            compute / cpu.min(times[0]),
            reading / cpu.min(times[0]),
            read / 1e9,
            int8 / 1e9,
        );
    }
    Ok(())
}
