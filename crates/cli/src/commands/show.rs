//! `show`: all that the store knows of a model.

use anyhow::Result;
use hub::StoreName;

use crate::context::Context;
use crate::ui::human;
use crate::ui::table::{Align, Table, fields};

/// Show what the store knows of a model
///
/// `inspect` says what kind of model it is.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling show smollm2
  edgeling show smollm2 --json | jq -r '.layers[].path'")]
pub struct Args {
    /// A name in the store
    name: String,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let model = context.store()?.show(&StoreName::parse(&args.name)?)?;
    if context.ui.json {
        return context.ui.print_json(&model);
    }
    let entry = &model.entry;
    let mut rows = vec![("name", entry.name.clone())];
    let optional = [
        ("title", entry.title.clone()),
        ("licence", entry.license.clone()),
        ("source", entry.source.clone()),
        ("pulled", entry.modified.clone()),
        ("pinned", entry.pinned.as_ref().map(ToString::to_string)),
        ("damage", entry.damage.clone()),
    ];
    rows.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    rows.extend([("size", human::bytes(entry.size)), ("manifest", entry.digest.to_string())]);

    let mut files =
        Table::new(&[("file", Align::Left), ("size", Align::Right), ("type", Align::Left), ("digest", Align::Left)]);
    for layer in &model.layers {
        let name = layer.file_name.clone().unwrap_or_default();
        files.row([name, human::bytes(layer.size), layer.media_type.clone(), layer.digest.to_string()]);
    }
    let text = fields(&rows, context.ui.out) + "\n" + &files.render(context.ui.out);
    Ok(context.ui.print(&text)?)
}
