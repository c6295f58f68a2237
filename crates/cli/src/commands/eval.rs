//! `eval`: perplexity of a text, and the divergence from another model.

use anyhow::Result;
use hub::Missing;

use crate::context::{Context, MODEL_HELP, NumbersArg};
use crate::evaluation::{self, TextArgs};
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
    #[command(flatten)]
    on: TextArgs,
    /// The model to compare with; it must have the same vocabulary
    #[arg(long, value_name = "MODEL")]
    base: Option<String>,
    #[command(flatten)]
    numbers: NumbersArg,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let text = evaluation::read_text(&args.on.text)?;
    let model = context.locate(&args.model, Missing::Fail)?.path;
    let base = args.base.map(|base| context.locate(&base, Missing::Fail)).transpose()?.map(|base| base.path);
    let found = evaluation::of_path(context, &model, base.as_deref(), &text, args.on.window, args.numbers.into())?;
    match context.ui.json {
        true => context.ui.print_json(&found),
        false => Ok(context.ui.print(&fields(&evaluation::rows(&found), context.ui.out))?),
    }
}
