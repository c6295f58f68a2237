//! `logits`: the logits after every token, as a NumPy file.

use std::path::PathBuf;

use anyhow::Result;
use formats::npy::NpyWriter;
use serde_json::json;

use crate::context::{Context, Keep, MODEL_HELP, NumbersArg};
use crate::input::Tokens;
use crate::interrupt::Watch;
use crate::ui::error::{Hinted, Interrupted};

/// Write the logits after every token of a sequence
///
/// The file is float32 [tokens, vocabulary] in NumPy's format. The values do not depend on --chunk or --threads.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling logits smollm2 --tokens 9494,314,260,6376 --out logits.npy
  edgeling logits model.gguf --tokens 1,2,3 --out exact.npy --kv f32 --chunk 1")]
pub struct Args {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// Token ids, separated by commas
    #[arg(long, value_name = "IDS")]
    tokens: Tokens,
    /// The file to write
    #[arg(long, value_name = "F.npy", value_hint = clap::ValueHint::FilePath)]
    out: PathBuf,
    #[command(flatten)]
    numbers: NumbersArg,
    /// Positions computed at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    chunk: u32,
    /// Refuse more tokens than this, and compute as in a context of that size; the model's context unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let tokens = args.tokens.0;
    let mut loaded = context.load(&args.model, args.numbers.into(), Keep::Nothing)?;
    let limit = args.context.map_or(loaded.config.context, |n| n as usize);
    if tokens.len() > limit {
        let problem = format!("there are {} tokens, the context holds {limit}", tokens.len());
        return Err(Hinted::new(problem, "give fewer tokens, or a larger --context").into());
    }
    // What a context was asked for decides, as it does when a model is run.
    let reserved = args.context.map_or(tokens.len(), |n| n as usize);
    let vocab = loaded.program.vocab();
    if let Some(position) = tokens.iter().position(|&token| token as usize >= vocab) {
        anyhow::bail!("token {} at position {position} is outside the vocabulary of {vocab}", tokens[position]);
    }

    let mut file = NpyWriter::create(&args.out, tokens.len(), vocab)?;
    let watch = Watch::new();
    let mut bar = context.ui.slow_count("computing", "tokens");
    let mut rows = 0;
    let sink = |logits: &[f32]| -> Result<()> {
        if watch.pressed() {
            return Err(Interrupted.into());
        }
        rows += logits.len() / vocab;
        bar.set(rows as u64, Some(tokens.len() as u64));
        Ok(file.write(logits)?)
    };
    pipeline::logits::stream(&mut *loaded.program, &tokens, args.chunk as usize, reserved, sink)?;
    drop(bar);
    file.finish()?;
    if context.ui.json {
        return context.ui.print_json(&json!({ "out": args.out, "shape": [tokens.len(), vocab], "dtype": "float32" }));
    }
    context.ui.note(&format!("wrote float32 [{}, {vocab}] to {}", tokens.len(), args.out.display()));
    Ok(())
}
