//! `cp`: a second name for a model.

use anyhow::Result;
use hub::StoreName;

use crate::context::Context;

/// Give a model in the store a second name
///
/// No file is copied. Removing one of the names leaves the other.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling cp smollm2 helpdesk
  edgeling cp qwen3:0.6b-q4_k_m helpdesk:v2")]
pub struct Args {
    /// A name in the store
    name: String,
    /// The new name
    new: String,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let (from, to) = (StoreName::parse(&args.name)?, StoreName::parse(&args.new)?);
    context.store()?.copy(&from, &to)?;
    if context.ui.json {
        return context.ui.print_json(&serde_json::json!({ "name": to.to_string(), "from": from.to_string() }));
    }
    Ok(context.ui.print(&format!("{to} is {from}\n"))?)
}
