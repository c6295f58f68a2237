//! `convert`: a model from one format to another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use formats::mlx::{Layout, Mode};
use kernels::DType;
use pipeline::convert::{ConvertOptions, Progress, to_gguf, to_hf, to_mlx};
use serde_json::json;

use crate::context::{Context, MODEL_HELP};
use crate::interrupt::Watch;
use crate::ui::error::{Hinted, Interrupted};
use crate::ui::human;

/// Convert a model between GGUF, Hugging Face and MLX layout
///
/// Reads GGUF files and folders with safetensors (of Hugging Face or MLX), PyTorch or NumPy weights. Values keep their type, bit
/// for bit, or get one with the same values (Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 of GGUF are MLX's affine type with groups of 32;
/// both have MXFP4 and NVFP4), unless --dtype gives another; a quantized model is decoded only with --dtype. Ternary matrices of
/// BitNet keep -1, 0, 1 and their factors, in folders with four rows to a byte. With --mode, --bits or --group, MLX folders are
/// quantized as mlx-lm does, to the same bytes, what it takes 8 bits for in any case included. They have the names and settings
/// that mlx-lm reads. Tensors beside the language model, as of a part that sees, are left out of GGUF files and MLX folders,
/// and named. The output appears when it is whole.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling convert ./my-checkpoint --to gguf --out model.gguf
  edgeling convert model.gguf --to hf --out ./my-checkpoint
  edgeling convert smollm2 --to hf --dtype f16 --out ./smollm2-f16
  edgeling convert ./my-checkpoint --to mlx --bits 4 --group 64 --out ./my-checkpoint-4bit
  edgeling convert model-q4_0.gguf --to mlx --out ./model-mlx")]
pub struct Args {
    #[arg(help = MODEL_HELP, value_name = "SRC")]
    source: String,
    /// The format to write
    #[arg(long, value_name = "FORMAT", ignore_case = true)]
    to: Target,
    /// The file or folder to write
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    out: PathBuf,
    /// The type of all matrices, or of what --bits leaves and of scales; as they are unless given
    #[arg(long, value_name = "TYPE", ignore_case = true)]
    dtype: Option<FloatType>,
    /// With --to mlx: quantize matrices anew, to 2, 3, 4, 5, 6 or 8 bits [4 unless given, 8 of mxfp8]
    #[arg(long, value_name = "N")]
    bits: Option<usize>,
    /// With --to mlx: values that share a scale, 32, 64 or 128 [64 unless given; 32 of mxfp4 and mxfp8, 16 of nvfp4]
    #[arg(long, value_name = "N")]
    group: Option<usize>,
    /// With --to mlx: how a group is quantized [affine unless given]
    #[arg(long, value_name = "MODE", ignore_case = true)]
    mode: Option<QuantMode>,
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
    /// A folder for MLX
    Mlx,
}

#[derive(Clone, Copy, ValueEnum)]
enum QuantMode {
    /// A scale and a bias for each group
    Affine,
    /// Four bits with three of magnitude, a power of two for 32
    Mxfp4,
    /// Eight bits of E4M3, a power of two for 32
    Mxfp8,
    /// Four bits as those of mxfp4, a scale in E4M3 for 16
    Nvfp4,
}

impl From<QuantMode> for Mode {
    fn from(name: QuantMode) -> Self {
        match name {
            QuantMode::Affine => Self::Affine,
            QuantMode::Mxfp4 => Self::Mxfp4,
            QuantMode::Mxfp8 => Self::Mxfp8,
            QuantMode::Nvfp4 => Self::Nvfp4,
        }
    }
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
    let layout = layout(&args)?;
    let options = ConvertOptions { dtype: args.dtype.map(DType::from), layout };
    let watch = Watch::new();
    let mut bar = context.ui.bytes("converting");
    let mut observer = |progress: Progress| {
        bar.set(progress.done, Some(progress.total));
        !watch.pressed()
    };
    let result = match args.to {
        Target::Gguf => to_gguf(&source, &args.out, options, &mut observer),
        Target::Hf => to_hf(&source, &args.out, options, &mut observer),
        Target::Mlx => to_mlx(&source, &args.out, options, &mut observer),
    };
    drop(bar);
    if watch.pressed() && result.is_err() {
        return Err(Interrupted.into());
    }
    let converted = result?;
    if context.ui.json {
        let value = json!({
            "out": args.out,
            "tensors": converted.tensors,
            "bytes": converted.bytes,
            "left_out": converted.left_out,
        });
        return context.ui.print_json(&value);
    }
    let size = human::bytes(converted.bytes);
    context.ui.note(&format!("wrote {} tensors ({size}) to {}", converted.tensors, args.out.display()));
    if !converted.left_out.is_empty() {
        context.ui.note(&left_out(&converted.left_out));
    }
    Ok(())
}

/// How many tensors were left out, by the beginnings of their names.
fn left_out(names: &[String]) -> String {
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        // `model.visual`, `mtp.layers`, `blk.24`.
        let end = name.match_indices('.').nth(1).map_or(name.len(), |(at, _)| at);
        *groups.entry(&name[..end]).or_default() += 1;
    }
    let of = |(beginning, count): (&&str, &usize)| format!("{count} of {beginning}…");
    let groups: Vec<String> = groups.iter().map(of).collect();
    format!("left out what is no part of the language model: {}", groups.join(", "))
}

/// How matrices are to be quantized anew.
fn layout(args: &Args) -> Result<Option<Layout>> {
    if args.mode.is_none() && args.bits.is_none() && args.group.is_none() {
        return Ok(None);
    }
    if args.to != Target::Mlx {
        let hint = "`edgeling quantize` makes GGUF files of other types; folders of Hugging Face are not quantized";
        return Err(Hinted::new("--mode, --bits and --group are for --to mlx", hint).into());
    }
    let mode = args.mode.map_or(Mode::Affine, Mode::from);
    Ok(Some(Layout::new(mode, args.bits, args.group)))
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
        Ok(found) if args.to != Target::Gguf && !found.is_dir() => {
            let hint = "--to hf and --to mlx write a folder: give another --out";
            Err(Hinted::new(format!("{}: expected a folder, found a file", out.display()), hint).into())
        }
        Ok(_) if args.force => Ok(()),
        Ok(_) => {
            let problem = format!("{} exists", out.display());
            Err(Hinted::new(problem, "give another --out, or --force to replace it").into())
        }
    }
}
