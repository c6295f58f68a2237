//! `export`: a model as one file.

use std::path::PathBuf;

use anyhow::Result;

use crate::context::Context;
use crate::interrupt::winding_up;
use crate::ui::human;
use crate::ui::progress::Stages;

/// Write a model to one file, for a machine without a network
///
/// The file is a tar archive of an OCI image layout; `import` reads it. Every digest is checked on the way.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling export smollm2 smollm2.tar
  edgeling export qwen3:0.6b-q4_k_m /media/usb/qwen3.tar
  edgeling import smollm2.tar --home /media/usb/models")]
pub struct Args {
    /// A name in the store
    name: String,
    /// The file to write, which must not exist
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let store = context.store()?;
    let made = winding_up(|| Ok(hub::export(&args.name, &args.file, &store, &Stages::new(&context.ui))?))?;
    if context.ui.json {
        return context.ui.print_json(&made);
    }
    let size = human::bytes(made.size);
    Ok(context.ui.print(&format!("{} is in {} ({size})\n", made.name, args.file.display()))?)
}
