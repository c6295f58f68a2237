//! `import`: a model out of one file.

use std::path::PathBuf;

use anyhow::Result;
use hub::StoreName;

use crate::context::Context;
use crate::interrupt::winding_up;
use crate::ui::human;
use crate::ui::progress::Stages;

/// Bring a model that `export` wrote into the store
///
/// Every digest is checked before the model gets its name.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling import smollm2.tar
  edgeling import smollm2.tar --name helpdesk:v1")]
pub struct Args {
    /// The bundle: a tar archive of an OCI image layout
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// What to call the model; its own name unless given
    #[arg(long)]
    name: Option<String>,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let name = args.name.as_deref().map(StoreName::parse).transpose()?;
    let store = context.store()?;
    let got = winding_up(|| Ok(hub::import(&args.file, name.as_ref(), &store, &Stages::new(&context.ui))?))?;
    if context.ui.json {
        return context.ui.print_json(&got);
    }
    Ok(context.ui.print(&format!("{} is in the store ({})\n", got.name, human::bytes(got.size)))?)
}
