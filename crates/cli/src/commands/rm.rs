//! `rm`: a model out of the store, or out of a registry.

use anyhow::Result;
use hub::{Images, Reference, Scheme, StoreName};

use crate::context::Context;
use crate::interrupt::winding_up;
use crate::ui::human;
use crate::ui::progress::Stages;

/// Remove a model from the store, or from an OCI registry
///
/// Files that another name in the store needs stay. A registry frees the space when it next collects garbage.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling rm smollm2
  edgeling rm qwen3:0.6b-q4_k_m --json
  edgeling rm oci:registry.example.com/models/smollm2:v1")]
pub struct Args {
    /// A name in the store, or oci:host/repository:tag
    name: String,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    if let Ok(Reference::Remote { scheme: Scheme::Oci, .. }) = Reference::parse(&args.name) {
        return delete(&args.name, context);
    }
    let removed = context.store()?.remove(&StoreName::parse(&args.name)?)?;
    Images::new(&context.home()?).sweep();
    if context.ui.json {
        return context.ui.print_json(&removed);
    }
    Ok(context.ui.print(&format!("removed {} ({} freed)\n", removed.name, human::bytes(removed.freed)))?)
}

fn delete(reference: &str, context: &Context) -> Result<()> {
    context.require_network()?;
    let deleted = winding_up(|| Ok(hub::delete(reference, &Stages::new(&context.ui))?))?;
    if context.ui.json {
        return context.ui.print_json(&deleted);
    }
    Ok(context.ui.print(&format!("{} is gone\n{}\n", deleted.reference, deleted.digest))?)
}
