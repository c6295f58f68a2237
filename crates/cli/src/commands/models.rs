//! `models`: the families that run, from the table of architectures.

use anyhow::Result;
use kernels::DType;
use kernels::quant::GroupAffine;
use model::arch::{ARCHITECTURES, Architecture};
use serde::Serialize;

use crate::context::Context;
use crate::ui::table::{Align, Table};

/// List the families of models that run, and what works for each
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling models
  edgeling models --json | jq -r '.[].config_json[]'

run and convert name the formats: gguf for GGUF files, hf for Hugging Face folders.")]
pub struct Args {
    /// Print the table in Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

#[derive(Serialize)]
struct Family {
    /// `general.architecture` of GGUF files.
    architecture: &'static str,
    models: &'static str,
    /// `model_type` in `config.json`.
    config_json: Vec<&'static str>,
    /// Formats that it runs from.
    run: Vec<&'static str>,
    /// Formats that it converts to, each from the other.
    convert: Vec<&'static str>,
    /// Types of weights that it runs with.
    types: Vec<&'static str>,
    limits: Option<&'static str>,
}

impl Family {
    /// An architecture reads both formats and writes both, its row having a function for each.
    fn of(architecture: &Architecture) -> Self {
        Self {
            architecture: architecture.name,
            models: architecture.models,
            config_json: architecture.hf.iter().map(|(model_type, _)| *model_type).collect(),
            run: vec!["gguf", "hf"],
            convert: vec!["gguf", "hf"],
            types: DType::all().map(|dtype| dtype.name).collect(),
            limits: Some(architecture.limits).filter(|limits| !limits.is_empty()),
        }
    }

    fn cells(&self) -> [String; 6] {
        [
            self.models.to_owned(),
            self.architecture.to_owned(),
            self.config_json.join(", "),
            self.run.join(", "),
            self.convert.join(" ↔ "),
            self.limits.unwrap_or_default().to_owned(),
        ]
    }
}

const COLUMNS: [&str; 6] = ["models", "in GGUF", "in config.json", "run", "convert", "except"];

pub fn run(args: Args, context: &Context) -> Result<()> {
    let families: Vec<Family> = ARCHITECTURES.into_iter().map(Family::of).collect();
    if context.ui.json {
        return context.ui.print_json(&families);
    }
    if args.markdown {
        return Ok(context.ui.print(&markdown(&families))?);
    }
    let mut table = Table::new(&COLUMNS.map(|name| (name, Align::Left)));
    families.iter().for_each(|family| table.row(family.cells()));
    let types: Vec<_> = DType::all().filter(|t| GroupAffine::of(*t).is_none()).map(|t| t.name).collect();
    let numbers = |numbers: &[usize]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    context.ui.print(&format!(
        "{}\ntypes of weights, in every family: {}, and MLX's affine ones of {} bits in groups of {}\n",
        table.render(context.ui.out),
        types.join(", "),
        numbers(&GroupAffine::BITS),
        numbers(&GroupAffine::GROUPS)
    ))?;
    Ok(())
}

fn markdown(families: &[Family]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = COLUMNS.map(|_| "---".to_owned());
    let rows = families.iter().map(|family| line(&family.cells()));
    line(&COLUMNS.map(str::to_owned)) + &line(&rule) + &rows.collect::<String>()
}
