//! `eval`: perplexity of a text, and the divergence from another model.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use kernels::backend::{KvType, Program};
use model::tokenizer::{EncodeOptions, Tokenizer};
use pipeline::evaluate::{EvaluateError, EvaluateOptions, Evaluation, evaluate};

use crate::context::{Context, KvArg, MODEL_HELP};
use crate::ui::error::Hinted;
use crate::ui::table::fields;

/// Measure perplexity on a text, and the divergence from a base model
///
/// Scored as llama-perplexity does: windows of --context tokens, the second half of each is scored. With --base, the
/// Kullback-Leibler divergence (in nats) and the top-1 agreement of both models on the same positions.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling eval smollm2 --text wiki.txt
  edgeling eval model-q4_0.gguf --base model-f16.gguf --text wiki.txt --json")]
pub struct Args {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// A text file in UTF-8
    #[arg(long, value_name = "F", value_hint = clap::ValueHint::FilePath)]
    text: PathBuf,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(8..))]
    context: u32,
    /// The model to compare with; it must have the same vocabulary
    #[arg(long, value_name = "MODEL")]
    base: Option<String>,
    #[command(flatten)]
    kv: KvArg,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let kv: KvType = args.kv.into();
    let text = std::fs::read_to_string(&args.text).with_context(|| format!("cannot read {}", args.text.display()))?;
    let mut loaded = context.load(&args.model, kv)?;
    let mut base = args.base.as_ref().map(|base| context.load(base, kv)).transpose()?;
    if let Some(base) = &base {
        same_tokens(&loaded.tokenizer, &base.tokenizer)?;
    }

    let tokens = loaded.tokenizer.encode(&text, EncodeOptions::TEXT);
    let options =
        EvaluateOptions { context: args.context as usize, bos: added_bos(&loaded.tokenizer), threads: context.threads };
    let mut bar = context.ui.count("evaluating", "windows");
    let mut progress = |p: pipeline::evaluate::Progress| {
        bar.set(p.windows.0 as u64, Some(p.windows.1 as u64));
        bar.message(format!("perplexity {:.4}", p.perplexity));
    };
    let base_program = match &mut base {
        Some(base) => Some(&mut *base.program as &mut dyn Program),
        None => None,
    };
    let result = evaluate(&mut *loaded.program, base_program, &tokens, &options, &mut progress);
    drop(bar);
    let evaluation = result.map_err(|error| match error {
        EvaluateError::ShortText { .. } => {
            Hinted::new(error.to_string(), "give a longer text, or a smaller --context").into()
        }
        _ => anyhow::Error::from(error),
    })?;
    match context.ui.json {
        true => context.ui.print_json(&evaluation),
        false => Ok(context.ui.print(&fields(&rows(&evaluation), context.ui.out))?),
    }
}

/// The token that the tokenizer sets before a text, if it is the begin of a text.
fn added_bos(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.encode("", EncodeOptions::TEXT).first().copied().filter(|&token| tokenizer.bos() == Some(token))
}

/// Comparing logits means something only where every id is the same token in both models.
fn same_tokens(a: &Tokenizer, b: &Tokenizer) -> Result<()> {
    let differs = |&id: &u32| a.token_bytes(id) != b.token_bytes(id);
    match (0..a.vocab_size().min(b.vocab_size()) as u32).find(differs) {
        None => Ok(()),
        Some(id) => {
            let text = |t: &Tokenizer| String::from_utf8_lossy(t.token_bytes(id)).into_owned();
            let problem = format!("token {id} is {:?} in the model and {:?} in its base", text(a), text(b));
            Err(Hinted::new(problem, "--base takes a model with the same tokenizer, such as the one quantized from")
                .into())
        }
    }
}

fn rows(evaluation: &Evaluation) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("perplexity", format!("{:.4} ± {:.4}", evaluation.perplexity, evaluation.perplexity_error)),
        ("tokens scored", evaluation.tokens.to_string()),
    ];
    let mut row = |name, value: Option<f64>, show: fn(f64) -> String| rows.extend(value.map(|v| (name, show(v))));
    row("KL mean", evaluation.kl_mean, |v| format!("{v:.6}"));
    row("KL 99 %", evaluation.kl_p99, |v| format!("{v:.6}"));
    row("KL max", evaluation.kl_max, |v| format!("{v:.6}"));
    row("top-1 agreement", evaluation.top1_agreement, |v| format!("{:.2} %", v * 100.0));
    rows.push(("time", format!("{:.1} s", evaluation.seconds)));
    rows
}
