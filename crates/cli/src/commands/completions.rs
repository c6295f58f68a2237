//! `completions`: completion scripts for shells.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::context::Context;

/// Print a completion script for a shell
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling completions bash > ~/.local/share/bash-completion/completions/edgeling
  edgeling completions fish > ~/.config/fish/completions/edgeling.fish
  edgeling completions zsh > \"${fpath[1]}/_edgeling\"")]
pub struct Args {
    shell: Shell,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "edgeling", &mut script);
    let script = String::from_utf8(script)?;
    if context.ui.json {
        return context.ui.print_json(&serde_json::json!({ "shell": args.shell.to_string(), "script": script }));
    }
    Ok(context.ui.print(&script)?)
}
