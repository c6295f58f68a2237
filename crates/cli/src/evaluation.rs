//! Evaluating a model on this machine, with a bar and a way out, for every command that does.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use kernels::backend::Program;
use model::tokenizer::{EncodeOptions, Tokenizer};
use pipeline::evaluate::{EvaluateError, EvaluateOptions, Evaluation, evaluate};

use crate::context::{Context, Keep, Numbers};
use crate::interrupt::Watch;
use crate::ui::error::{Hinted, Interrupted};

/// What to evaluate on.
#[derive(clap::Args)]
pub struct TextArgs {
    /// A text file in UTF-8
    #[arg(long, value_name = "F", value_hint = clap::ValueHint::FilePath)]
    pub text: PathBuf,
    #[command(flatten)]
    pub window: WindowArg,
}

#[derive(clap::Args, Clone, Copy)]
pub struct WindowArg {
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(8..))]
    pub context: u32,
}

/// Reads a text to evaluate on.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Evaluates the model at `model` on `text`, against the one at `base` where there is one.
///
/// # Errors
/// A model that cannot be run, vocabularies that differ, a text that is too short, or Ctrl-C.
pub fn of_path(
    context: &Context,
    model: &Path,
    base: Option<&Path>,
    text: &str,
    window: WindowArg,
    numbers: Numbers,
) -> Result<Evaluation> {
    let watch = Watch::new();
    let mut loaded = context.load_from(model, numbers, Keep::Nothing)?;
    let mut base = base.map(|base| context.load_from(base, numbers, Keep::Nothing)).transpose()?;
    if let Some(base) = &base {
        same_tokens(&loaded.tokenizer, &base.tokenizer)?;
    }
    let tokens = loaded.tokenizer.encode(text, EncodeOptions::TEXT);
    let options = EvaluateOptions {
        context: window.context as usize,
        bos: added_bos(&loaded.tokenizer),
        threads: context.threads,
    };
    let name = model.file_name().map_or_else(String::new, |name| format!(" {}", name.to_string_lossy()));
    let mut bar = context.ui.count(&format!("evaluating{name}"), "windows");
    let mut progress = |p: pipeline::evaluate::Progress| {
        bar.set(p.windows.0 as u64, Some(p.windows.1 as u64));
        bar.message(format!("perplexity {:.4}", p.perplexity));
        if watch.pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let base_program = match &mut base {
        Some(base) => Some(&mut *base.program as &mut dyn Program),
        None => None,
    };
    let result = evaluate(&mut *loaded.program, base_program, &tokens, &options, &mut progress);
    drop(bar);
    result.map_err(|error| match error {
        EvaluateError::ShortText { .. } => {
            Hinted::new(error.to_string(), "give a longer text, or a smaller --context").into()
        }
        EvaluateError::Interrupted => Interrupted.into(),
        _ => anyhow::Error::from(error),
    })
}

/// The token that the tokenizer sets before a text, if it is the begin of a text.
pub fn added_bos(tokenizer: &Tokenizer) -> Option<u32> {
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
            Err(Hinted::new(problem, "a base has the same tokenizer, such as the model that was quantized").into())
        }
    }
}

/// The rows of a table of figures.
pub fn rows(evaluation: &Evaluation) -> Vec<(&'static str, String)> {
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
