//! `compare`: files side by side, size and quality and speed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use formats::{Checkpoint, Config, NewFile};
use hub::Missing;

use crate::comparison::{Compared, plot, table};
use crate::context::{Context, MODEL_HELP};
use crate::evaluation::{self, WindowArg};
use crate::facts::Facts;
use crate::interrupt::winding_up;
use crate::speed::{Lengths, Speed, measure, medians};

/// Compare models: size, quality, speed and memory
///
/// With --text the perplexity, and with --base the divergence from the model that the files were made from, both scored as
/// `eval` does. Speeds are medians of --repeat rounds; each round runs every file in turn, in a process of its own, so that
/// a machine whose speed changes is unfair to none of them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling compare model-q4_0.gguf model-q4_k_m.gguf model-q8_0.gguf
  edgeling compare model-*.gguf --base model-f16.gguf --text wiki.txt --svg table.svg
  edgeling compare smollm2 model.gguf --text wiki.txt --prompt 0 --generate 0 --json")]
pub struct Args {
    #[arg(value_name = "FILE", required = true, help = MODEL_HELP)]
    models: Vec<String>,
    /// Measure quality on this text in UTF-8
    #[arg(long, value_name = "F", value_hint = clap::ValueHint::FilePath)]
    text: Option<PathBuf>,
    /// The model that the others were made from
    #[arg(long, value_name = "MODEL", requires = "text")]
    base: Option<String>,
    /// Plot the table
    #[arg(long, value_name = "F.svg", value_hint = clap::ValueHint::FilePath)]
    svg: Option<PathBuf>,
    #[command(flatten)]
    window: WindowArg,
    /// Tokens of the prompt; 0 leaves the test out
    #[arg(long, value_name = "N", default_value_t = 512)]
    prompt: u32,
    /// Tokens to generate; 0 leaves the test out
    #[arg(long, value_name = "N", default_value_t = 128)]
    generate: u32,
    /// Rounds of the speed tests
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let locate = |model: &String| Ok(context.locate(model, Missing::Fail)?.path);
    let paths = args.models.iter().map(locate).collect::<Result<Vec<_>>>()?;
    let base = args.base.as_ref().map(locate).transpose()?;
    let text = args.text.as_deref().map(evaluation::read_text).transpose()?;
    // A folder that cannot be written to is told before the work.
    let svg = args.svg.as_deref().map(NewFile::create).transpose()?;
    let mut files =
        args.models.iter().zip(&paths).map(|(model, path)| described(model, path)).collect::<Result<Vec<_>>>()?;

    if let Some(text) = &text {
        let found = evaluation::of_paths(context, &paths, base.as_deref(), text, args.window)?;
        for (file, found) in files.iter_mut().zip(&found) {
            file.evaluated(found);
        }
    }
    let lengths = Lengths { prompt: args.prompt, generate: args.generate };
    if args.prompt + args.generate > 0 {
        for (file, speed) in files.iter_mut().zip(speeds(context, &paths, lengths, args.repeat)?) {
            file.speed = speed;
        }
    }

    let names = short_names(&args.models);
    if let Some(mut svg) = svg {
        svg.write(plot::svg(&files, &names).as_bytes())?;
        svg.finish()?;
    }
    match context.ui.json {
        true => context.ui.print_json(&files),
        false => Ok(context.ui.print(&table::table(&files, &names).render(context.ui.out))?),
    }
}

/// What a file's header says.
fn described(model: &str, path: &Path) -> Result<Compared> {
    let checkpoint = Checkpoint::open(path)?;
    let facts = Facts::of(&checkpoint)?;
    if let Some(problem) = facts.unsupported {
        return Err(anyhow!(problem));
    }
    Ok(Compared {
        model: model.to_owned(),
        dtype: facts.types.iter().max_by_key(|(_, n)| **n).map(|(name, _)| name.clone()).unwrap_or_default(),
        bytes: facts.bytes,
        bits_per_weight: facts.bits_per_weight,
        imatrix: match checkpoint.config() {
            Config::Gguf(metadata) => metadata.value("quantize.imatrix.file").is_some(),
            Config::HuggingFace(_) => false,
        },
        perplexity: None,
        perplexity_error: None,
        kl_mean: None,
        kl_p99: None,
        kl_max: None,
        top1_agreement: None,
        speed: Speed::default(),
    })
}

/// The speed of each model: rounds over all of them.
fn speeds(context: &Context, paths: &[PathBuf], lengths: Lengths, repeat: u32) -> Result<Vec<Speed>> {
    let mut rounds = vec![Vec::new(); paths.len()];
    let all = u64::from(repeat) * paths.len() as u64;
    let mut bar = context.ui.count("measuring speed", "runs");
    for round in 0..u64::from(repeat) {
        for (i, path) in paths.iter().enumerate() {
            bar.set(round * paths.len() as u64 + i as u64, Some(all));
            bar.message(path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()));
            rounds[i].push(winding_up(|| measure(context, path, lengths))?);
        }
    }
    Ok(rounds.iter().map(|speeds| medians(speeds)).collect())
}

/// The models' names without the folders, unless that makes two of them one.
fn short_names(models: &[String]) -> Vec<String> {
    let short: Vec<String> = models
        .iter()
        .map(|model| {
            Path::new(model).file_name().map_or_else(|| model.clone(), |name| name.to_string_lossy().into_owned())
        })
        .collect();
    let unique = short.iter().collect::<HashSet<_>>().len() == short.len();
    if unique { short } else { models.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::short_names;

    #[test]
    fn names_are_short_while_they_differ() {
        let names = |models: &[&str]| short_names(&models.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(names(&["a/x.gguf", "b/y.gguf", "smollm2"]), ["x.gguf", "y.gguf", "smollm2"]);
        assert_eq!(names(&["a/x.gguf", "b/x.gguf"]), ["a/x.gguf", "b/x.gguf"]);
    }
}
