//! `edgeling`: small language models from source to production, in one binary.

mod chat;
mod commands;
mod comparison;
mod context;
mod evaluation;
mod facts;
mod generation;
mod input;
mod interrupt;
mod legacy;
mod memory;
mod prompt;
mod session;
mod settings;
mod speed;
mod threads;
mod ui;

use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::commands::Command;
use crate::context::{Context, Global};

/// Small language models, from source to production, in one binary.
#[derive(Parser)]
#[command(name = "edgeling", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = "\
Examples:
  edgeling run smollm2 \"Why is the sky blue?\"
  edgeling pull smollm2 && edgeling list
  edgeling bench smollm2

Exit status: 0 done, 1 failed, 2 wrong usage, 3 a gate refused, 130 stopped with Ctrl-C.
EDGELING_CPU=scalar|avx2|avx512 picks the instructions to run with, in place of the best that there are.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let context = Context::new(cli.global);
    match interrupt::install().and_then(|()| cli.command.run(&context)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ui::error::report(&error),
    }
}

/// Prints what is wrong with the arguments, or the help that they ask for, and gives the status to exit with.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed standard output is no failure.
    let _printed = error.print();
    let typed = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let hint = match error.kind() {
        ErrorKind::InvalidSubcommand => typed(ContextKind::InvalidSubcommand).and_then(legacy::command),
        ErrorKind::UnknownArgument => typed(ContextKind::InvalidArg).and_then(legacy::flag),
        _ => None,
    };
    if let Some(hint) = hint {
        ui::error::print_hint(&hint);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}
