//! `calibrate`: the importance matrix of a text.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use formats::Checkpoint;
use hub::Missing;
use kernels::backend::KvType;
use model::node_tensors;
use model::tokenizer::EncodeOptions;
use pipeline::calibrate::{CalibrateError, CalibrateOptions, Calibration, partial};
use serde_json::json;

use crate::context::{Context, Keep, MODEL_HELP, Numbers};
use crate::evaluation::{added_bos, read_text};
use crate::interrupt::Watch;
use crate::ui::error::{Hinted, Interrupted};
use crate::ui::human;
use crate::ui::table::fields;

/// How much work a crash may cost.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Measure which columns of a model's matrices matter, for `quantize --imatrix`
///
/// Runs a text through the model and sums the squares of what each matrix is given, as llama-imatrix does; llama-quantize
/// reads the file too. The text should be like what the model will be used for. After Ctrl-C, or a crash, the same command
/// goes on where it was.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling calibrate model-f16.gguf --text wiki.txt --out imatrix.gguf
  edgeling quantize model-f16.gguf Q2_K_S --imatrix imatrix.gguf --out model-q2_k_s.gguf
  edgeling calibrate model-f16.gguf --text wiki.txt --out products.gguf --products
  edgeling quantize model-f16.gguf Q4_K_M --imatrix products.gguf --effort high --out model-q4_k_m.gguf
  edgeling calibrate smollm2 --text code.txt --context 2048 --out imatrix-code.gguf --json")]
pub struct Args {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// A text file in UTF-8
    #[arg(long, value_name = "F", value_hint = clap::ValueHint::FilePath)]
    text: PathBuf,
    /// The file to write
    #[arg(long, value_name = "F.gguf", value_hint = clap::ValueHint::FilePath)]
    out: PathBuf,
    /// Tokens of a window
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(8..))]
    context: u32,
    /// Also measure how columns go together, for `quantize --effort high`: a larger file, and much better blocks
    #[arg(long)]
    products: bool,
    /// Replace a file that is there, and begin anew where what is there was begun with something else
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    if args.out.exists() && !args.force {
        let problem = format!("{} is there already", args.out.display());
        return Err(Hinted::new(problem, "--force replaces it").into());
    }
    let text = read_text(&args.text)?;
    let path = context.locate(&args.model, Missing::Fail)?.path;
    let checkpoint = Checkpoint::open(&path)?;
    let nodes = node_tensors(&checkpoint)?;
    let watch = Watch::new();
    // A window's keys and values are few: they need not be rounded.
    let numbers = Numbers { kv: KvType::F32, bf16: false };
    let mut loaded = context.load_from(&path, numbers, Keep::Nothing)?;
    let tokens = loaded.tokenizer.encode(&text, EncodeOptions::TEXT);
    let bos = added_bos(&loaded.tokenizer);
    let options = CalibrateOptions { context: args.context as usize, bos, products: args.products };
    let mut calibration = Calibration::new(&nodes, &options);

    let partial =
        Partial { path: partial::path(&args.out), identity: partial::identity(&checkpoint, &tokens, &options)? };
    partial.resume(&mut calibration, context, args.force)?;
    let start = Instant::now();
    // When it was saved last; at once after the first step, so that a place that cannot be written to shows early.
    let mut saved: Option<Instant> = None;
    let mut failed = Ok(());
    let mut bar = context.ui.count("calibrating", "windows");
    let result = calibration.run(&mut *loaded.program, &tokens, &options, &mut |calibration, all| {
        let done = calibration.windows();
        bar.set(done as u64, Some(all as u64));
        if done == all {
            return ControlFlow::Continue(());
        }
        let stop = watch.pressed();
        if stop || saved.is_none_or(|at| at.elapsed() > SAVE_EVERY) {
            failed = partial.save(calibration);
            saved = Some(Instant::now());
        }
        if stop || failed.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(bar);
    failed?;
    match result {
        Ok(()) => {}
        Err(CalibrateError::Interrupted) => {
            let (done, left) = (calibration.windows(), partial.path.display());
            context.ui.note(&format!("{done} windows are kept in {left}: the same command goes on"));
            return Err(Interrupted.into());
        }
        Err(error @ CalibrateError::ShortText { .. }) => {
            return Err(Hinted::new(error.to_string(), "give a longer text, or a smaller --context").into());
        }
        Err(error) => return Err(error.into()),
    }
    let dataset = args.text.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    calibration.write(&args.out, &dataset, options.context)?;
    partial.remove();
    say(context, &args.out, &calibration, options.context, start.elapsed())
}

/// What an interrupted run leaves.
struct Partial {
    path: PathBuf,
    identity: String,
}

impl Partial {
    /// Takes up what is there of this calibration.
    fn resume(&self, calibration: &mut Calibration, context: &Context, force: bool) -> Result<()> {
        match partial::resume(calibration, &self.path, &self.identity) {
            Ok(()) if calibration.windows() > 0 => {
                context.ui.note(&format!("going on after {} windows", calibration.windows()));
                Ok(())
            }
            Ok(()) => Ok(()),
            Err(_) if force => Ok(()),
            Err(error) => Err(Hinted::new(error.to_string(), "--force begins anew and replaces it").into()),
        }
    }

    fn save(&self, calibration: &Calibration) -> Result<()> {
        Ok(partial::save(calibration, &self.path, &self.identity)?)
    }

    /// The result is there: what was kept of it is of no use.
    fn remove(&self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}

fn say(context: &Context, out: &Path, calibration: &Calibration, window: usize, took: Duration) -> Result<()> {
    let size = std::fs::metadata(out).with_context(|| format!("cannot read {}", out.display()))?.len();
    let (windows, tensors, (unseen, experts)) =
        (calibration.windows(), calibration.tensors(), calibration.unseen_experts());
    if context.ui.json {
        return context.ui.print_json(&json!({
            "out": out, "bytes": size, "tensors": tensors, "windows": windows, "context": window,
            "experts": experts, "unseen_experts": unseen, "seconds": took.as_secs_f64(),
        }));
    }
    let mut rows = vec![
        ("file", format!("{}, {}", out.display(), human::bytes(size))),
        ("text", format!("{windows} windows of {window} tokens")),
        ("tensors", tensors.to_string()),
    ];
    if experts > 0 {
        rows.push(("experts", format!("{unseen} of {experts} were given no token")));
    }
    rows.push(("time", format!("{:.1} s", took.as_secs_f64())));
    Ok(context.ui.print(&fields(&rows, context.ui.out))?)
}
