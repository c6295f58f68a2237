//! `tokenize`: text to token ids.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use model::tokenizer::{EncodeOptions, TokenKind, Tokenizer};
use serde_json::json;

use crate::context::{Context, MODEL_HELP};
use crate::input;
use crate::ui::table::{Align, Table};

/// Show the tokens of a text
///
/// Needs no weights: a folder with tokenizer.json will do. Special tokens written in the text are read as such.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling tokenize smollm2 \"Why is the sky blue?\"
  edgeling tokenize ./my-checkpoint --file book.txt --json
  echo -n héllo | edgeling tokenize model.gguf --no-special")]
pub struct Args {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// The text; standard input unless it or a file is given
    text: Option<String>,
    /// Read the text from a file
    #[arg(long, value_name = "F", conflicts_with = "text", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// Add nothing around the text, such as a begin-of-text token
    #[arg(long)]
    no_special: bool,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let text = match (args.text, args.file) {
        (Some(text), _) => text,
        (None, Some(file)) => {
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?
        }
        (None, None) => input::required("a TEXT or --file")?,
    };
    let tokenizer = context.tokenizer(&args.model)?;
    let options = EncodeOptions { add_special: !args.no_special, parse_special: true };
    let tokens = tokenizer.encode(&text, options);
    if context.ui.json {
        return context.ui.print_json(&json!({ "tokens": tokens }));
    }
    Ok(context.ui.print(&view(&tokenizer, &tokens).render(context.ui.out))?)
}

fn view(tokenizer: &Tokenizer, tokens: &[u32]) -> Table {
    let mut table = Table::new(&[("token", Align::Right), ("text", Align::Left), ("kind", Align::Left)]);
    for &token in tokens {
        let kind = match tokenizer.token_kind(token) {
            Some(TokenKind::Control) => "special",
            Some(TokenKind::UserDefined) => "added",
            Some(TokenKind::Byte) => "byte",
            Some(TokenKind::Unknown) => "unknown",
            Some(TokenKind::Unused) => "unused",
            Some(TokenKind::Normal) | None => "",
        };
        table.row([token.to_string(), quoted(tokenizer.token_bytes(token)), kind.to_owned()]);
    }
    table
}

/// The bytes in quotes: characters where they are whole, `\xNN` elsewhere.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().chars().flat_map(|c| match c {
            // Joiners and combining marks would run into their neighbours, but are what the text is.
            '\'' => vec![c],
            _ => c.escape_debug().collect::<Vec<_>>(),
        }));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn pieces_are_shown_unmistakably() {
        assert_eq!(quoted(b" it's\n"), "\" it's\\n\"");
        assert_eq!(quoted("é\"\u{1b}".as_bytes()), "\"é\\\"\\u{1b}\"");
        assert_eq!(quoted(b"a\xf0\x9f"), "\"a\\xf0\\x9f\"");
    }
}
