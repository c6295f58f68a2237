//! Evaluating a model on this machine, with a bar and a way out, for every command that does.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use kernels::backend::Program;
use model::tokenizer::{EncodeOptions, Tokenizer};
use pipeline::evaluate::{EvaluateError, EvaluateOptions, Evaluation, Kept, Tally, evaluate};

use crate::context::{Context, Keep, Numbers};
use crate::interrupt::Watch;
use crate::ui::error::{Hinted, Interrupted};
use crate::ui::progress::Progress;

/// Room for the logits of a base that several models are compared with: more windows at a time would save loading the
/// models again, which takes little beside evaluating so many.
const KEPT_BYTES: u64 = 4 << 30;

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

/// A text as a model's tokenizer cuts it.
#[derive(PartialEq, Eq)]
struct Tokens {
    ids: Vec<u32>,
    options: EvaluateOptions,
}

impl Tokens {
    fn new(context: &Context, tokenizer: &Tokenizer, text: &str, window: WindowArg) -> Self {
        let options =
            EvaluateOptions { context: window.context as usize, bos: added_bos(tokenizer), threads: context.threads };
        Self { ids: tokenizer.encode(text, EncodeOptions::TEXT), options }
    }
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
    let tokens = Tokens::new(context, &loaded.tokenizer, text, window);
    let mut bar = bar(context, model);
    let mut progress = |p: pipeline::evaluate::Progress| {
        bar.message(format!("perplexity {:.4}", p.perplexity));
        step(&mut bar, p.windows, &watch)
    };
    let base_program = match &mut base {
        Some(base) => Some(&mut *base.program as &mut dyn Program),
        None => None,
    };
    evaluate(&mut *loaded.program, base_program, &tokens.ids, &tokens.options, &mut progress).map_err(told)
}

/// Evaluates each of several models, as [`of_path`] does. The base computes each of its logits once, for all of them; one
/// model is in memory at a time.
///
/// # Errors
/// As [`of_path`], or there is no room for the base's logits.
pub fn of_paths(
    context: &Context,
    models: &[PathBuf],
    base: Option<&Path>,
    text: &str,
    window: WindowArg,
) -> Result<Vec<Evaluation>> {
    let named = |i: usize| format!("cannot evaluate {}", models[i].display());
    let numbers = Numbers::default();
    let Some(base) = base.filter(|_| models.len() > 1) else {
        let each = models.iter().enumerate();
        let each =
            each.map(|(i, model)| of_path(context, model, base, text, window, numbers).with_context(|| named(i)));
        return each.collect();
    };
    let mut groups = Vec::<(Tokens, Vec<usize>)>::new();
    let expected = Context::tokenizer_at(base)?;
    for (i, model) in models.iter().enumerate() {
        let tokenizer = Context::tokenizer_at(model)?;
        same_tokens(&tokenizer, &expected).with_context(|| named(i))?;
        let tokens = Tokens::new(context, &tokenizer, text, window);
        match groups.iter_mut().find(|(of, _)| *of == tokens) {
            Some((_, members)) => members.push(i),
            None => groups.push((tokens, vec![i])),
        }
    }
    let watch = Watch::new();
    let mut tallies = vec![Tally::default(); models.len()];
    for (Tokens { ids, options }, members) in &groups {
        let mut done = 0;
        loop {
            let kept = keep(context, base, ids, options, done, &watch)?;
            for &i in members {
                let mut loaded = context.load_from(&models[i], numbers, Keep::Nothing).with_context(|| named(i))?;
                let mut bar = bar(context, &models[i]);
                let mut progress = |p: pipeline::evaluate::Progress| {
                    bar.message(format!("perplexity {:.4}", p.perplexity));
                    step(&mut bar, p.windows, &watch)
                };
                let added = tallies[i].add(&mut *loaded.program, &kept, ids, options, &mut progress);
                added.map_err(told).with_context(|| named(i))?;
            }
            done = kept.windows().end;
            if done >= ids.len() / options.context {
                break;
            }
        }
    }
    Ok(tallies.iter().map(Tally::finish).collect())
}

/// The logits of the model at `base` from a window on.
fn keep(
    context: &Context,
    base: &Path,
    ids: &[u32],
    options: &EvaluateOptions,
    first: usize,
    watch: &Watch,
) -> Result<Kept> {
    let mut loaded = context.load_from(base, Numbers::default(), Keep::Nothing)?;
    let mut bar = bar(context, base);
    let mut progress = |windows| step(&mut bar, windows, watch);
    let kept = Kept::new(&mut *loaded.program, ids, options, first, KEPT_BYTES, &mut progress);
    kept.map_err(told).with_context(|| format!("cannot evaluate {}", base.display()))
}

fn bar(context: &Context, model: &Path) -> Progress {
    let name = model.file_name().map_or_else(String::new, |name| format!(" {}", name.to_string_lossy()));
    context.ui.count(&format!("evaluating{name}"), "windows")
}

/// Shows the windows done, of all; breaks off after Ctrl-C.
fn step(bar: &mut Progress, (done, all): (usize, usize), watch: &Watch) -> ControlFlow<()> {
    bar.set(done as u64, Some(all as u64));
    if watch.pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// The error as the user is told it.
fn told(error: EvaluateError) -> anyhow::Error {
    match error {
        EvaluateError::ShortText { .. } => {
            Hinted::new(error.to_string(), "give a longer text, or a smaller --context").into()
        }
        EvaluateError::Keep { .. } => Hinted::new(error.to_string(), "TMPDIR names another folder for them").into(),
        EvaluateError::Interrupted => Interrupted.into(),
        _ => anyhow::Error::from(error),
    }
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
