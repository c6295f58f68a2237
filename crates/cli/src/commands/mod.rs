//! One file per command: its arguments, its help and what it does.

mod bench;
mod calibrate;
mod compare;
mod completions;
mod convert;
mod cp;
mod detokenize;
mod eval;
mod export;
mod import;
mod inspect;
mod list;
mod logits;
mod measure;
mod models;
mod pull;
mod push;
mod quantize;
mod rm;
mod run;
mod show;
mod tokenize;

use anyhow::Result;
use clap::Subcommand;

use crate::context::Context;

#[derive(Subcommand)]
pub enum Command {
    Pull(pull::Args),
    List(list::Args),
    Show(show::Args),
    Cp(cp::Args),
    Rm(rm::Args),
    Push(push::Args),
    Export(export::Args),
    Import(import::Args),
    Run(Box<run::Args>),
    Inspect(inspect::Args),
    Models(models::Args),
    Tokenize(tokenize::Args),
    Detokenize(detokenize::Args),
    Logits(logits::Args),
    Convert(convert::Args),
    Calibrate(calibrate::Args),
    Quantize(Box<quantize::Args>),
    Eval(eval::Args),
    Compare(Box<compare::Args>),
    Bench(bench::Args),
    #[command(hide = true)]
    Measure(measure::Args),
    Completions(completions::Args),
}

impl Command {
    pub fn run(self, context: &Context) -> Result<()> {
        match self {
            Self::Pull(args) => pull::run(args, context),
            Self::List(args) => list::run(args, context),
            Self::Show(args) => show::run(args, context),
            Self::Cp(args) => cp::run(args, context),
            Self::Rm(args) => rm::run(args, context),
            Self::Push(args) => push::run(args, context),
            Self::Export(args) => export::run(args, context),
            Self::Import(args) => import::run(args, context),
            Self::Run(args) => run::run(*args, context),
            Self::Inspect(args) => inspect::run(args, context),
            Self::Models(args) => models::run(args, context),
            Self::Tokenize(args) => tokenize::run(args, context),
            Self::Detokenize(args) => detokenize::run(args, context),
            Self::Logits(args) => logits::run(args, context),
            Self::Convert(args) => convert::run(args, context),
            Self::Eval(args) => eval::run(args, context),
            Self::Compare(args) => compare::run(*args, context),
            Self::Measure(args) => measure::run(args, context),
            Self::Bench(args) => bench::run(args, context),
            Self::Calibrate(args) => calibrate::run(args, context),
            Self::Quantize(args) => quantize::run(*args, context),
            Self::Completions(args) => completions::run(args, context),
        }
    }
}
