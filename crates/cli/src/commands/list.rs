//! `list`: what is in the store.

use anyhow::Result;

use crate::context::Context;
use crate::ui::human;
use crate::ui::table::{Align, Table};

/// List the models in the store
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling list
  edgeling list --json | jq -r '.[].name'")]
pub struct Args {}

pub fn run(_: Args, context: &Context) -> Result<()> {
    let entries = context.store()?.list()?;
    if context.ui.json {
        return context.ui.print_json(&entries);
    }
    if entries.is_empty() {
        context.ui.note("the store is empty; `edgeling pull smollm2` gets a first model");
        return Ok(());
    }
    let mut table = Table::new(&[
        ("name", Align::Left),
        ("size", Align::Right),
        ("licence", Align::Left),
        ("pulled", Align::Left),
        ("digest", Align::Left),
    ]);
    for entry in &entries {
        // A dozen digits tell the models of one store apart.
        let digest = entry.digest.hex().get(..12).unwrap_or_default();
        let state = if entry.damage.is_some() { "damaged" } else { digest };
        table.row([
            entry.name.clone(),
            human::bytes(entry.size),
            entry.license.clone().unwrap_or_default(),
            entry.modified.as_deref().map(day).unwrap_or_default(),
            state.to_owned(),
        ]);
    }
    context.ui.print(&table.render(context.ui.out))?;
    for entry in &entries {
        if let Some(damage) = &entry.damage {
            context.ui.warn(&format!("{}: {damage}", entry.name));
        }
    }
    Ok(())
}

/// The day of an RFC 3339 time.
pub fn day(time: &str) -> String {
    time.split('T').next().unwrap_or(time).to_owned()
}
