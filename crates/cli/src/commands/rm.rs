//! `rm`: a model out of the store.

use anyhow::Result;
use hub::{Images, StoreName};

use crate::context::Context;
use crate::ui::human;

/// Remove a model from the store
///
/// Files that another name in the store needs stay.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling rm smollm2
  edgeling rm qwen3:0.6b-q4_k_m --json")]
pub struct Args {
    /// A name in the store
    name: String,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let removed = context.store()?.remove(&StoreName::parse(&args.name)?)?;
    Images::new(&context.home()?).sweep();
    if context.ui.json {
        return context.ui.print_json(&removed);
    }
    Ok(context.ui.print(&format!("removed {} ({} freed)\n", removed.name, human::bytes(removed.freed)))?)
}
