//! How an error reads: `error:` and its causes, then a separate `hint:`.

use std::fmt;
use std::io;
use std::process::ExitCode;

use formats::FormatError;
use hub::HubError;
use model::ModelError;
use model::tokenizer::TokenizerError;
use pipeline::convert::ConvertError;

use super::style::Style;
use super::{StdoutError, visible};

/// The command failed.
const FAILED: u8 = 1;

/// The command line asks for what cannot be, as the argument parser reports it.
const WRONG_USAGE: u8 = 2;

/// A gate refused a result.
const REFUSED: u8 = 3;

/// 128 + SIGINT, as shells report it.
pub const INTERRUPTED: u8 = 130;

/// The user stopped the command with Ctrl-C.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Arguments that do not go together, or not with what standard input is.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A result that broke the bounds of its gate.
#[derive(Debug)]
pub struct Refused {
    pub gate: String,
    /// Each broken bound with what was found.
    pub broken: Vec<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the gate {} refused the result, nothing is written: {}", self.gate, self.broken.join("; "))
    }
}

impl std::error::Error for Refused {}

/// An error with advice on what to do about it.
#[derive(Debug)]
pub struct Hinted {
    message: String,
    hint: String,
}

impl Hinted {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

/// Prints `error` to standard error and gives the status to exit with. A reader that closed standard output early, as
/// `head` does, is no failure.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(StdoutError(cause)) = error.downcast_ref()
        && cause.kind() == io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    if error.is::<Interrupted>() {
        return ExitCode::from(INTERRUPTED);
    }
    print(error);
    ExitCode::from(match () {
        () if error.is::<Usage>() => WRONG_USAGE,
        () if error.is::<Refused>() => REFUSED,
        () => FAILED,
    })
}

/// Writes `error` to standard error.
pub fn print(error: &anyhow::Error) {
    eprint!("{}", render(error, Style::of(&io::stderr())));
}

/// Writes advice to standard error.
pub fn print_hint(hint: &str) {
    eprint!("{}", render_hint(hint, Style::of(&io::stderr())));
}

fn render_hint(hint: &str, style: Style) -> String {
    format!("{} {}\n", style.note("hint:"), visible(hint))
}

/// The text of [`print`]. A cause whose text its parent already ends with is not repeated.
fn render(error: &anyhow::Error, style: Style) -> String {
    let mut shown = visible(&error.to_string()).into_owned();
    let mut out = format!("{} {shown}\n", style.error("error:"));
    for cause in error.chain().skip(1) {
        let text = visible(&cause.to_string()).into_owned();
        if !shown.ends_with(&text) {
            out += &format!("  {} {text}\n", style.dim("caused by:"));
            shown = text;
        }
    }
    if let Some(hint) = error.chain().find_map(hint) {
        out += &render_hint(&hint, style);
    }
    out
}

/// The advice that an error of this program or of its libraries carries.
fn hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let ours = || error.downcast_ref::<Hinted>().map(|e| e.hint.clone());
    let format = || error.downcast_ref::<FormatError>()?.hint().map(str::to_owned);
    let model = || error.downcast_ref::<ModelError>()?.hint().map(str::to_owned);
    let hub = || error.downcast_ref::<HubError>()?.hint();
    let tokenizer = || match error.downcast_ref::<TokenizerError>()? {
        TokenizerError::Format(error) => error.hint().map(str::to_owned),
        _ => None,
    };
    let convert = || error.downcast_ref::<ConvertError>()?.hint().map(str::to_owned);
    ours().or_else(format).or_else(model).or_else(hub).or_else(tokenizer).or_else(convert)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn causes_follow_and_the_hint_stands_apart() {
        let error = Err::<(), _>(Hinted::new("expected a, found b", "use a")).context("cannot read x").unwrap_err();
        let text = render(&error, Style::plain());
        assert_eq!(text, "error: cannot read x\n  caused by: expected a, found b\nhint: use a\n");
    }

    #[test]
    fn a_cause_that_the_message_quotes_is_not_repeated() {
        let cause = io::Error::other("disk full");
        let error = anyhow::Error::new(cause).context("cannot write x: disk full");
        assert_eq!(render(&error, Style::plain()), "error: cannot write x: disk full\n");
    }
}
