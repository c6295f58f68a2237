//! `detokenize`: token ids to text.

use std::io::{IsTerminal, stdout};

use anyhow::Result;
use serde_json::json;

use crate::context::{Context, MODEL_HELP};
use crate::input::Tokens;
use crate::ui::error::Hinted;

/// Show the text of tokens
///
/// Needs no weights: a folder with tokenizer.json will do. Bytes that make no character are shown as U+FFFD.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling detokenize smollm2 --tokens 9494,314,260,6376
  edgeling detokenize ./my-checkpoint --tokens \"1, 2, 3\" --json")]
pub struct Args {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// Token ids, separated by commas
    #[arg(long, value_name = "IDS")]
    tokens: Tokens,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let tokenizer = context.tokenizer(&args.model)?;
    let size = tokenizer.vocab_size();
    if let Some(token) = args.tokens.0.iter().find(|&&token| token as usize >= size) {
        let problem = format!("expected token ids below {size}, found {token}");
        return Err(Hinted::new(problem, "are the tokens those of another model?").into());
    }
    let text = tokenizer.decode(&args.tokens.0, false);
    if context.ui.json {
        return context.ui.print_json(&json!({ "text": text }));
    }
    // Exactly the text where a program reads it.
    let end = if stdout().is_terminal() { "\n" } else { "" };
    Ok(context.ui.print_foreign(&(text + end))?)
}
