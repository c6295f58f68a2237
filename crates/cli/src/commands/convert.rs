//! `convert`: a model from one format to another.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use kernels::DType;
use pipeline::convert::{ConvertOptions, Progress, to_gguf, to_hf};
use serde_json::json;

use crate::context::{Context, MODEL_HELP};
use crate::interrupt::Watch;
use crate::ui::error::{Hinted, Interrupted};
use crate::ui::human;

/// Convert a model between GGUF and Hugging Face layout
///
/// Reads GGUF files and folders with safetensors or PyTorch weights. Values keep their type, bit for bit, unless --dtype
/// gives another; a quantized model is decoded only with --dtype. The output appears when it is whole.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling convert ./my-checkpoint --to gguf --out model.gguf
  edgeling convert model.gguf --to hf --out ./my-checkpoint
  edgeling convert smollm2 --to hf --dtype f16 --out ./smollm2-f16")]
pub struct Args {
    #[arg(help = MODEL_HELP, value_name = "SRC")]
    source: String,
    /// The format to write
    #[arg(long, value_name = "FORMAT", ignore_case = true)]
    to: Target,
    /// The file or folder to write
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    out: PathBuf,
    /// The type of all matrices; as they are unless given
    #[arg(long, value_name = "TYPE", ignore_case = true)]
    dtype: Option<FloatType>,
    /// Replace what stands at PATH
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// One GGUF file
    Gguf,
    /// A folder in Hugging Face layout
    Hf,
}

#[derive(Clone, Copy, ValueEnum)]
enum FloatType {
    F32,
    F16,
    Bf16,
}

impl From<FloatType> for DType {
    fn from(name: FloatType) -> Self {
        match name {
            FloatType::F32 => Self::F32,
            FloatType::F16 => Self::F16,
            FloatType::Bf16 => Self::BF16,
        }
    }
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    check_target(&args)?;
    let source = context.open(&args.source)?;
    let options = ConvertOptions { dtype: args.dtype.map(DType::from) };
    let watch = Watch::new();
    let mut bar = context.ui.bytes("converting");
    let mut observer = |progress: Progress| {
        bar.set(progress.done, Some(progress.total));
        !watch.pressed()
    };
    let result = match args.to {
        Target::Gguf => to_gguf(&source, &args.out, options, &mut observer),
        Target::Hf => to_hf(&source, &args.out, options, &mut observer),
    };
    drop(bar);
    if watch.pressed() && result.is_err() {
        return Err(Interrupted.into());
    }
    let converted = result?;
    if context.ui.json {
        let value = json!({ "out": args.out, "tensors": converted.tensors, "bytes": converted.bytes });
        return context.ui.print_json(&value);
    }
    let size = human::bytes(converted.bytes);
    context.ui.note(&format!("wrote {} tensors ({size}) to {}", converted.tensors, args.out.display()));
    Ok(())
}

/// Refuses an output that would be in the way of something.
fn check_target(args: &Args) -> Result<()> {
    let out = &args.out;
    if out.file_name().is_none() {
        return Err(Hinted::new(format!("{}: expected a name to write to", out.display()), "give a new path").into());
    }
    let is_source = |path: &Path| path.canonicalize().is_ok_and(|path| out.canonicalize().is_ok_and(|out| out == path));
    if is_source(Path::new(&args.source)) {
        return Err(Hinted::new("the output is the source itself", "give another --out").into());
    }
    match out.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(found) if args.to == Target::Gguf && found.is_dir() => {
            let hint = format!("name the file in it: --out {}", out.join("model.gguf").display());
            Err(Hinted::new(format!("{}: expected a file, found a folder", out.display()), hint).into())
        }
        Ok(found) if args.to == Target::Hf && !found.is_dir() => {
            let hint = "--to hf writes a folder: give another --out";
            Err(Hinted::new(format!("{}: expected a folder, found a file", out.display()), hint).into())
        }
        Ok(_) if args.force => Ok(()),
        Ok(_) => {
            let problem = format!("{} exists", out.display());
            Err(Hinted::new(problem, "give another --out, or --force to replace it").into())
        }
    }
}
