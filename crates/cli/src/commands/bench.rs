//! `bench`: speed, and how much of what the machine allows it is.

use anyhow::Result;
use formats::Checkpoint;
use hub::Missing;
use kernels::backend::KvType;
use kernels::roof::{Roof, measure};
use kernels::simd::Tier;
use pipeline::bench::{BenchOptions, BenchRow, Cost, bench};
use serde_json::json;

use crate::context::{Context, Keep, MODEL_HELP, Numbers, NumbersArg};
use crate::speed::Lengths;
use crate::speed::peer::Peer;
use crate::speed::round::{Rates, paired};
use crate::ui::error::Usage;
use crate::ui::table::{Align, Table};

/// Positions computed at once in the prompt test, as `run` does.
pub const CHUNK: usize = 512;

/// Measure speed, beside the most that this machine allows
///
/// Tests are named as llama-bench does: pp512 computes a prompt of 512 tokens, tg128 generates 128. The roof of a test is
/// the rate at which the machine would read the weights, or multiply with them, without ever waiting; it counts the bytes
/// that the file has. With --against, rounds of this program and its peers in turn, each in a process of its own, with the
/// roofs measured in between.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling bench smollm2
  edgeling bench model.gguf --prompt 128 --generate 32 --batch 4 --threads 2 --json
  edgeling bench model.gguf --against llama-bench --against '/opt/ik/llama-bench -rtr 1'
  edgeling bench --roof")]
pub struct Args {
    #[arg(help = MODEL_HELP, required_unless_present = "roof", conflicts_with = "roof")]
    model: Option<String>,
    /// Measure the machine alone: read bandwidth, int8, f32 and bf16 peaks
    #[arg(long, conflicts_with_all = ["prompt", "generate", "batch", "repeat", "kv", "bf16", "against"])]
    roof: bool,
    /// Tokens of the prompt; 0 leaves the test out
    #[arg(long, value_name = "N", default_value_t = 512)]
    prompt: u32,
    /// Tokens to generate; 0 leaves the test out
    #[arg(long, value_name = "N", default_value_t = 128)]
    generate: u32,
    /// Sequences side by side
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Measured runs of each test
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    #[command(flatten)]
    numbers: NumbersArg,
    /// A peer's bench: a command that takes llama-bench's arguments and prints its JSON; may be given several times
    #[arg(long, value_name = "CMD", value_hint = clap::ValueHint::CommandString)]
    against: Vec<Peer>,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    match &args.model {
        Some(model) if args.against.is_empty() => bench_model(model, &args, context),
        Some(model) => bench_against(model, &args, context),
        None => roofs(context),
    }
}

fn bench_model(model: &str, args: &Args, context: &Context) -> Result<()> {
    let mut loaded = context.load(model, args.numbers.into(), Keep::Nothing)?;
    let roof = measure(Tier::detect()?, &[context.threads])?;
    let options = BenchOptions {
        prompt: args.prompt as usize,
        generate: args.generate as usize,
        batch: args.batch as usize,
        repeat: args.repeat as usize,
        chunk: CHUNK,
    };
    let mut bar = context.ui.count("measuring", "runs");
    let mut progress = |test: &str, done: usize, all: usize| {
        bar.set(done as u64, Some(all as u64));
        bar.message(test.to_owned());
    };
    let measured = bench(&mut *loaded.program, &options, &mut progress)?;
    drop(bar);
    let rows: Vec<_> = measured.iter().map(|m| m.row(&loaded.cost, &roof[0])).collect();
    match context.ui.json {
        true => context.ui.print_json(&rows),
        false => Ok(context.ui.print(&table(&rows).render(context.ui.out))?),
    }
}

/// This program and its peers in turn.
fn bench_against(model: &str, args: &Args, context: &Context) -> Result<()> {
    let numbers = Numbers::from(args.numbers);
    if args.batch != 1 || numbers.bf16 || numbers.kv != KvType::default() {
        let problem = "--against measures one sequence at a time, as programs run unless told: leave --batch, --kv and --bf16 out";
        return Err(Usage(problem.to_owned()).into());
    }
    let path = context.locate(model, Missing::Fail)?.path;
    let cost = Cost::of(&model::build_plan(&Checkpoint::open(&path)?)?, false);
    let lengths = Lengths { prompt: args.prompt, generate: args.generate };
    let rows = paired(context, &path, &args.against, &cost, lengths, args.repeat)?;
    if context.ui.json {
        return context.ui.print_json(&rows);
    }
    let mut table = Table::new(&[
        ("test", Align::Left),
        ("program", Align::Left),
        ("tokens/s", Align::Right),
        ("min", Align::Right),
        ("max", Align::Right),
        ("share of roof", Align::Right),
        ("edgeling is", Align::Right),
    ]);
    for row in &rows {
        let mut line = |test: &str, program: &str, rates: Rates, share: f64, ratio: String| {
            let rates = [rates.tps_median, rates.tps_min, rates.tps_max].map(|rate| format!("{rate:.1}"));
            let cells = [test.to_owned(), program.to_owned()].into_iter().chain(rates);
            table.row(cells.chain([format!("{:.1} %", share * 100.0), ratio]));
        };
        line(&row.test, "edgeling", row.rates, row.share, String::new());
        for peer in &row.against {
            line("", &peer.command, peer.rates, peer.share, format!("{:.2} × as fast", peer.ratio));
        }
    }
    Ok(context.ui.print(&table.render(context.ui.out))?)
}

fn table(rows: &[BenchRow]) -> Table {
    let mut table = Table::new(&[
        ("test", Align::Left),
        ("threads", Align::Right),
        ("batch", Align::Right),
        ("tokens/s", Align::Right),
        ("min", Align::Right),
        ("max", Align::Right),
        ("roof", Align::Right),
        ("share", Align::Right),
    ]);
    for row in rows {
        table.row([
            row.test.clone(),
            row.threads.to_string(),
            row.batch.to_string(),
            format!("{:.1}", row.tps_median),
            format!("{:.1}", row.tps_min),
            format!("{:.1}", row.tps_max),
            format!("{:.1}", row.roof),
            format!("{:.1} %", row.share * 100.0),
        ]);
    }
    table
}

/// The roofs for one thread and for all.
fn roofs(context: &Context) -> Result<()> {
    let tier = Tier::detect()?;
    let threads: &[usize] = if context.threads > 1 { &[1, context.threads] } else { &[1] };
    let roofs = measure(tier, threads)?;
    if context.ui.json {
        let rows = roofs.iter().map(|roof| roof_json(tier, roof)).collect::<Vec<_>>();
        return context.ui.print_json(&rows);
    }
    let mut table = Table::new(&[
        ("threads", Align::Right),
        ("read GB/s", Align::Right),
        ("int8 Gop/s", Align::Right),
        ("f32 Gflop/s", Align::Right),
        ("bf16 Gflop/s", Align::Right),
    ]);
    for roof in &roofs {
        let giga = |value: f64| format!("{:.1}", value / 1e9);
        let bf16 = roof.bf16.map_or_else(|| "–".to_owned(), giga);
        table.row([roof.threads.to_string(), giga(roof.read), giga(roof.int8), giga(roof.f32), bf16]);
    }
    context.ui.print(&table.render(context.ui.out))?;
    context.ui.note(&format!("instructions: {}; a multiply-add is two operations", tier.name()));
    Ok(())
}

fn roof_json(tier: Tier, roof: &Roof) -> serde_json::Value {
    json!({
        "threads": roof.threads,
        "tier": tier.name(),
        "read_bytes_per_s": roof.read,
        "int8_ops_per_s": roof.int8,
        "f32_ops_per_s": roof.f32,
        "bf16_ops_per_s": roof.bf16,
    })
}
