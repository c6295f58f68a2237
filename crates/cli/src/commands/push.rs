//! `push`: a model to a registry.

use anyhow::Result;

use crate::context::Context;
use crate::interrupt::winding_up;
use crate::ui::human;
use crate::ui::progress::Stages;

/// Send a model in the store to an OCI registry
///
/// What the registry has is not sent again. `docker login HOST`, or EDGELING_REGISTRY_USER and
/// EDGELING_REGISTRY_PASSWORD, say who you are. A registry on this machine is spoken to in plain http.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling push smollm2 oci:registry.example.com/models/smollm2:v1
  edgeling push smollm2 oci:localhost:5000/smollm2")]
pub struct Args {
    /// A name in the store
    name: String,
    /// Where to: oci:host/repository:tag
    reference: String,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    context.require_network()?;
    let store = context.store()?;
    let pushed = winding_up(|| Ok(hub::push(&args.name, &args.reference, &store, &Stages::new(&context.ui))?))?;
    if context.ui.json {
        return context.ui.print_json(&pushed);
    }
    let uploaded = human::bytes(pushed.uploaded);
    Ok(context
        .ui
        .print(&format!("{} is at {} ({uploaded} sent)\n{}\n", pushed.name, pushed.reference, pushed.digest))?)
}
