//! `quantize`: a smaller file, and proof that it is still good.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use formats::imatrix::Imatrix;
use formats::{Checkpoint, Config};
use hub::Missing;
use kernels::DType;
use pipeline::card::Card;
use pipeline::evaluate::Evaluation;
use pipeline::gate::Gate;
use pipeline::quantize::{
    Effort, FILE_TYPES, FileType, QuantizeError, QuantizeOptions, QuantizedTensor, TypeOptions, quantize,
};
use regex::Regex;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::context::{Context, MODEL_HELP, Numbers};
use crate::evaluation::{self, WindowArg};
use crate::interrupt::Watch;
use crate::ui::error::{Hinted, Interrupted, Refused, Usage};
use crate::ui::human;
use crate::ui::table::fields;

/// Make a smaller file of a model
///
/// Writes the types and the bytes that llama-quantize writes, unless --effort high asks for better blocks of the same types,
/// or --target-bpw or --target-size for types by what they do to this model: tensors of one role in neighbouring layers are
/// quantized together, the divergence from the source is measured on windows of --text, and the bytes go where they take
/// away the most of it. With --text the result is compared with its source, and the
/// figures are kept in the file, where `inspect` shows them; with --gate a result that breaks a bound is refused: nothing
/// is written, and the status is 3.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling quantize model-f16.gguf Q4_K_M --out model-q4_k_m.gguf
  edgeling quantize model-f16.gguf Q8_0 --out model-q8_0.gguf --text wiki.txt --gate 'kl<0.02,top1>0.97'
  edgeling quantize model-f16.gguf Q2_K_S --out model-q2_k_s.gguf --imatrix imatrix.gguf
  edgeling quantize model-f16.gguf Q4_K_M --out model-q4_k_m.gguf --effort high --imatrix imatrix.gguf
  edgeling quantize model-f16.gguf --target-size 400MB --out model.gguf --text wiki.txt --table sensitivity.json
  edgeling quantize model-f16.gguf --target-bpw 4.5 --out model.gguf --text wiki.txt --effort high
  edgeling quantize model-f16.gguf Q4_0 --out model.gguf --tensor-type 'ffn_down=Q8_0' --embedding-type Q6_K

Types: F32, F16, BF16, Q8_0, Q6_K, Q5_0, Q5_1, Q5_K_S, Q5_K_M, Q4_0, Q4_1, Q4_K_S, Q4_K_M, IQ4_NL, IQ4_XS, MXFP4_MOE (for
mixtures of experts), Q3_K_S, Q3_K_M, Q3_K_L, IQ3_S, IQ3_M, Q2_K; with --imatrix Q2_K_S, IQ3_XS, IQ3_XXS, IQ2_M, IQ2_S, IQ2_XS,
IQ2_XXS, IQ1_M, IQ1_S; of ternary models TQ1_0, TQ2_0, Q2_0; of binary ones Q1_0.
Figures of a gate: kl, kl_p99, kl_max (divergence from the source, in nats), top1 (share of equal first choices), ppl.")]
pub struct Args {
    #[arg(value_name = "SRC", help = MODEL_HELP)]
    source: String,
    /// The type, or the mix of types
    #[arg(value_name = "TYPE", value_parser = file_type, required_unless_present = "target")]
    file_type: Option<&'static FileType>,
    #[command(flatten)]
    target: TargetArgs,
    /// The file to write
    #[arg(long, value_name = "F.gguf", value_hint = clap::ValueHint::FilePath)]
    out: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// One type for all tensors, no mix
    #[arg(long)]
    pure: bool,
    /// The type of tensors whose names match; may be given several times, the first match counts
    #[arg(long, value_name = "RE=TYPE", value_parser = tensor_type)]
    tensor_type: Vec<(Regex, DType)>,
    /// The type of the output matrix
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    output_type: Option<DType>,
    /// The type of the token embeddings
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    embedding_type: Option<DType>,
    /// Weigh columns by this importance matrix, a file of `calibrate` or of llama-imatrix
    #[arg(long, value_name = "F", value_hint = clap::ValueHint::FilePath)]
    imatrix: Option<PathBuf>,
    /// How much work goes into each block
    #[arg(long, value_enum, default_value_t)]
    effort: EffortArg,
    /// Take a source that is quantized already; its loss stays
    #[arg(long)]
    requantize: bool,
    /// Compare the result with its source on this text in UTF-8, and keep the figures in the file
    #[arg(long, value_name = "F", value_hint = clap::ValueHint::FilePath)]
    text: Option<PathBuf>,
    #[command(flatten)]
    window: WindowArg,
    /// Bounds that the result must keep, such as 'kl<0.02,top1>0.97'
    #[arg(long, value_name = "BOUNDS", requires = "text")]
    gate: Option<Gate>,
}

#[derive(Clone, Copy, Default, clap::ValueEnum)]
enum EffortArg {
    /// The bytes of llama-quantize
    #[default]
    Reference,
    /// Better blocks of the same types, by what --imatrix knows of products of columns, or else by a text that the model
    /// writes for this; takes longer
    High,
}

impl From<EffortArg> for Effort {
    fn from(arg: EffortArg) -> Self {
        match arg {
            EffortArg::Reference => Self::Reference,
            EffortArg::High => Self::High,
        }
    }
}

fn file_type(name: &str) -> Result<&'static FileType, String> {
    let found = FILE_TYPES.iter().find(|t| t.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("expected one of {}", FILE_TYPES.each_ref().map(|t| t.name).join(", ")))
}

fn dtype(name: &str) -> Result<DType, String> {
    let names = || DType::in_gguf().map(|t| t.name).collect::<Vec<_>>().join(", ");
    DType::from_name(name).ok_or_else(|| format!("expected one of {}", names()))
}

fn tensor_type(text: &str) -> Result<(Regex, DType), String> {
    let (pattern, name) = text.rsplit_once('=').ok_or("expected a regular expression, = and a type")?;
    Ok((Regex::new(pattern).map_err(|error| error.to_string())?, dtype(name)?))
}

mod own;
mod target;

use target::{Target, TargetArgs};

pub fn run(args: Args, context: &Context) -> Result<()> {
    if args.out.exists() && !args.force {
        let problem = format!("{} is there already", args.out.display());
        return Err(Hinted::new(problem, "--force replaces it").into());
    }
    let path = context.locate(&args.source, Missing::Fail)?.path;
    if same_file(&path, &args.out) {
        return Err(Usage("--out is the source itself".to_owned()).into());
    }
    let source = Checkpoint::open(&path)?;
    let text = args.text.as_deref().map(evaluation::read_text).transpose()?;
    let imatrix = args.imatrix.as_deref().map(Imatrix::open).transpose()?.map(Arc::new);
    let target = match (&text, args.file_type) {
        (Some(text), None) => Some(args.target.choose(context, &path, text, &args, imatrix.as_deref())?),
        _ => None,
    };
    let types = match (&target, args.file_type) {
        (Some(target), _) => target.allocation.types.clone(),
        (None, Some(file_type)) => TypeOptions {
            file_type,
            pure: args.pure,
            output: args.output_type,
            embedding: args.embedding_type,
            tensors: args.tensor_type.clone(),
            imatrix: imatrix.is_some(),
        },
        (None, None) => return Err(Usage("a TYPE or a target is needed".to_owned()).into()),
    };
    let mut options = QuantizeOptions {
        types,
        requantize: args.requantize,
        threads: context.threads,
        imatrix,
        effort: args.effort.into(),
        fallback: None,
    };
    options.fallback = own::measured(context, &source, &path, &args.out, &options)?;
    let Some(text) = text else {
        let tensors = make(context, &source, &args.out, &options)?;
        return say(context, &args, &tensors, None, None);
    };
    // Until it has been measured, the result has a name that goes with it.
    let folder = args.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let work = tempfile::Builder::new().prefix(".edgeling-").tempdir_in(folder);
    let work = work.with_context(|| format!("cannot write to {}", folder.display()))?;
    let unproven = work.path().join("unproven.gguf");
    let tensors = make(context, &source, &unproven, &options)?;
    let found = evaluation::of_path(context, &unproven, Some(&path), &text, args.window, Numbers::default())?;
    if let Some(gate) = &args.gate {
        let broken = gate.broken(&found);
        if !broken.is_empty() {
            return Err(Refused { gate: gate.to_string(), broken }.into());
        }
    }
    let digest = digest(text.as_bytes());
    let tool = concat!("edgeling ", env!("CARGO_PKG_VERSION"));
    let base = path.file_name().map(|name| name.to_string_lossy());
    let card = Card::new(tool, base.as_deref(), &digest, args.window.context, &found);
    let made = Checkpoint::open(&unproven)?;
    let Config::Gguf(metadata) = made.config() else { bail!("{} is not GGUF", unproven.display()) };
    card.attach(&made, metadata, &args.out)?;
    say(context, &args, &tensors, Some(&found), target.as_ref())
}

/// SHA-256 in hexadecimal digits.
fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether both paths lead to one file.
fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Quantizes, with a bar.
fn make(
    context: &Context,
    source: &Checkpoint,
    target: &Path,
    options: &QuantizeOptions,
) -> Result<Vec<QuantizedTensor>> {
    let watch = Watch::new();
    let mut bar = context.ui.slow_bytes("quantizing");
    let result = quantize(source, target, options, |p| {
        bar.set(p.done as u64, Some(p.total as u64));
        if watch.pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    drop(bar);
    result.map_err(told)
}

fn told(error: QuantizeError) -> anyhow::Error {
    match error {
        QuantizeError::Interrupted => Interrupted.into(),
        error => match error.hint().map(str::to_owned) {
            Some(hint) => Hinted::new(error.to_string(), hint).into(),
            None => error.into(),
        },
    }
}

fn say(
    context: &Context,
    args: &Args,
    tensors: &[QuantizedTensor],
    found: Option<&Evaluation>,
    target: Option<&Target>,
) -> Result<()> {
    let size = std::fs::metadata(&args.out).with_context(|| format!("cannot read {}", args.out.display()))?.len();
    let values: usize = tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum();
    let bits = size as f64 * 8.0 / values.max(1) as f64;
    if context.ui.json {
        let tensors: Vec<_> = tensors
            .iter()
            .map(|t| json!({ "name": t.name, "shape": t.shape, "from": t.from.name, "to": t.to.name, "weighed": t.weighed }))
            .collect();
        let name = args.file_type.map(|t| t.name);
        return context.ui.print_json(&json!({
            "out": args.out, "type": name, "bytes": size, "bits_per_weight": bits, "evaluation": found, "tensors": tensors,
            "target": target.map(Target::json),
        }));
    }
    let mut rows = vec![
        ("file", args.out.display().to_string()),
        ("size", format!("{}, {bits:.2} bits per weight", human::bytes(size))),
        ("types", types(tensors)),
    ];
    if args.imatrix.is_some() {
        let weighed = tensors.iter().filter(|t| t.weighed).count();
        rows.push(("importance", format!("of {weighed} tensors")));
    }
    rows.extend(found.map(evaluation::rows).unwrap_or_default());
    if let Some(target) = target {
        rows.push(("KL estimated", format!("{:.6}", target.allocation.kl)));
        context.ui.print(&target.rendered(context.ui.out))?;
    }
    Ok(context.ui.print(&fields(&rows, context.ui.out))?)
}

/// How many tensors have each type.
fn types(tensors: &[QuantizedTensor]) -> String {
    let count = |dtype: DType| tensors.iter().filter(|t| t.to == dtype).count();
    let used = DType::in_gguf().map(|dtype| (dtype, count(dtype))).filter(|(_, n)| *n > 0);
    used.map(|(dtype, n)| format!("{n} × {dtype}")).collect::<Vec<_>>().join(", ")
}
