//! `measure`: the speed and the memory of one model, in a process of its own. `compare` starts it.

use anyhow::Result;
use pipeline::bench::{BenchOptions, Test, bench};

use super::bench::CHUNK;
use crate::context::{Context, Keep, Numbers};
use crate::memory;
use crate::speed::Speed;

/// Measure the speed and the memory of one model
#[derive(clap::Args)]
pub struct Args {
    model: String,
    #[arg(long, default_value_t = 512)]
    prompt: usize,
    #[arg(long, default_value_t = 128)]
    generate: usize,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let mut loaded = context.load(&args.model, Numbers::default(), Keep::Nothing)?;
    let options = BenchOptions { prompt: args.prompt, generate: args.generate, batch: 1, repeat: 1, chunk: CHUNK };
    let results = bench(&mut *loaded.program, &options, &mut |_, _, _| ())?;
    let rate = |is: fn(&Test) -> bool| results.iter().find(|m| is(&m.test)).map(|m| m.median());
    context.ui.print_json(&Speed {
        prefill_tps: rate(|test| matches!(test, Test::Prefill(_))),
        decode_tps: rate(|test| matches!(test, Test::Decode(_))),
        memory_bytes: memory::peak(),
    })
}
