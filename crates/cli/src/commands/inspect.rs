//! `inspect`: what a model is, from its header alone.

use anyhow::Result;
use formats::Checkpoint;
use formats::imatrix::Imatrix;
use hub::Missing;
use pipeline::card::Card;
use serde_json::json;

use crate::context::{Context, MODEL_HELP};
use crate::facts::{AtContext, ExpertFacts, Facts, ImatrixFacts, Memory};
use crate::ui::human;
use crate::ui::table::{Align, Table, fields};

/// Say what a model is: size, precision, shape, tokenizer, licence
///
/// Reads the header and the settings, never the weights, and computes everything from the tensors. Of an importance matrix
/// it says what it was made from.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  edgeling inspect smollm2
  edgeling inspect model.gguf --tensors
  edgeling inspect ./my-checkpoint --json")]
pub struct Args {
    #[arg(help = MODEL_HELP)]
    model: String,
    /// List the tensors too
    #[arg(long)]
    tensors: bool,
}

pub fn run(args: Args, context: &Context) -> Result<()> {
    let path = context.locate(&args.model, Missing::Fail)?.path;
    if let Some(imatrix) = Some(&path).filter(|path| path.is_file()).and_then(|path| Imatrix::open(path).ok()) {
        let facts = ImatrixFacts::of(&imatrix);
        return match context.ui.json {
            true => context.ui.print_json(&json!({ "imatrix": facts })),
            false => Ok(context.ui.print(&fields(&facts.rows(), context.ui.out))?),
        };
    }
    let checkpoint = Checkpoint::open(&path)?;
    let facts = Facts::of(&checkpoint)?;
    if context.ui.json {
        let mut value = serde_json::to_value(&facts)?;
        if args.tensors {
            value["tensors"] = checkpoint
                .tensors()
                .map(|t| json!({ "name": t.name, "type": t.raw_type.to_string(), "shape": t.shape, "bytes": t.bytes }))
                .collect();
        }
        return context.ui.print_json(&value);
    }
    let mut text = fields(&rows(&facts), context.ui.out);
    if args.tensors {
        text += "\n";
        text += &tensor_table(&checkpoint).render(context.ui.out);
    }
    Ok(context.ui.print(&text)?)
}

fn rows(facts: &Facts) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let Some(name) = &facts.name {
        rows.push(("name", name.clone()));
    }
    rows.push(("architecture", facts.architecture.clone()));
    if let Some(problem) = &facts.unsupported {
        rows.push(("", format!("cannot run here: {problem}")));
    }
    rows.extend([
        ("parameters", format!("{} ({})", human::count(facts.parameters), human::grouped(facts.parameters))),
        ("class", facts.class.describe().to_owned()),
        ("precision", facts.precision.describe().to_owned()),
        ("bits per weight", format!("{:.2}", facts.bits_per_weight)),
        ("types", types(facts)),
        ("size", format!("{} ({})", human::bytes(facts.bytes), facts.format)),
    ]);
    if let Some(context) = facts.context {
        rows.push(("context", format!("{} tokens", human::grouped(context as u64))));
    }
    if let Some(shape) = &facts.shape {
        rows.extend([
            ("layers", shape.layers.to_string()),
            ("width", format!("{} hidden, {} feed-forward", shape.hidden, shape.intermediate)),
        ]);
        rows.extend(shape.experts.as_ref().map(|experts| ("experts", mixture(experts, facts.parameters))));
        rows.extend([
            ("heads", format!("{} of {}, {} for keys and values", shape.heads, shape.head_dim, shape.kv_heads)),
            (
                "KV cache",
                format!(
                    "{} a token in f16, {} in q8_0, {} in f32",
                    human::bytes(shape.kv_bytes_per_token.f16 as u64),
                    human::bytes(shape.kv_bytes_per_token.q8_0 as u64),
                    human::bytes(shape.kv_bytes_per_token.f32 as u64)
                ),
            ),
        ]);
    }
    let state = facts.memory.as_ref().map(|memory| memory.state).filter(|bytes| *bytes > 0);
    rows.extend(state.map(|bytes| ("state", format!("{} a sequence", human::bytes(bytes)))));
    rows.extend(facts.memory.as_ref().map(|memory| ("memory", describe(memory))));
    let tokenizer = facts.tokenizer.as_ref().map_or("none".to_owned(), |t| match t.vocab {
        Some(vocab) => format!("{}, {} tokens", t.kind, human::grouped(vocab as u64)),
        None => t.kind.to_owned(),
    });
    rows.extend([
        ("tokenizer", tokenizer),
        ("chat template", if facts.template { "yes" } else { "no" }.to_owned()),
        ("licence", facts.licence.clone().unwrap_or_else(|| "not stated".to_owned())),
    ]);
    rows.extend(facts.evaluation.as_ref().map(|card| ("evaluation", evaluation(card))));
    rows
}

/// A mixture, and the parameters that a token meets.
fn mixture(experts: &ExpertFacts, parameters: u64) -> String {
    let shared = experts.shared.map_or_else(String::new, |width| format!(" and a shared one of {width}"));
    let active = human::count(parameters.saturating_sub(experts.idle_parameters));
    let ExpertFacts { count, used, intermediate, .. } = experts;
    format!("{used} of {count}, of width {intermediate}{shared}: {active} parameters a token")
}

/// What running takes, by how much of the context is filled.
fn describe(memory: &Memory) -> String {
    let at = |at: &AtContext| format!("{} at {}", human::bytes(at.total), human::grouped(at.context as u64));
    memory.at.iter().map(at).collect::<Vec<_>>().join(", ") + " tokens"
}

/// What was measured when the file was made, and on what.
fn evaluation(card: &Card) -> String {
    let mut out = format!("perplexity {:.4} ± {:.4}", card.perplexity, card.perplexity_error);
    if let (Some(kl), Some(top1)) = (card.kl_mean, card.top1_agreement) {
        let base = card.base.as_deref().unwrap_or("its source");
        out += &format!(", KL {kl:.6} and top-1 {:.2} % against {base}", top1 * 100.0);
    }
    let text = card.text_sha256.get(..12).unwrap_or(&card.text_sha256);
    out + &format!(", on {} tokens of text {text} ({})", human::grouped(card.tokens), card.tool)
}

/// Shares of the parameters by type, the largest first.
fn types(facts: &Facts) -> String {
    let mut types: Vec<_> = facts.types.iter().collect();
    types.sort_by(|a, b| b.1.cmp(a.1));
    let share = |elements: u64| elements as f64 * 100.0 / (facts.parameters as f64).max(1.0);
    let shares: Vec<_> = types.iter().map(|&(name, &elements)| format!("{name} {:.1} %", share(elements))).collect();
    shares.join(", ")
}

fn tensor_table(checkpoint: &Checkpoint) -> Table {
    let mut table =
        Table::new(&[("tensor", Align::Left), ("type", Align::Left), ("shape", Align::Left), ("size", Align::Right)]);
    for tensor in checkpoint.tensors() {
        let shape: Vec<_> = tensor.shape.iter().map(usize::to_string).collect();
        table.row([
            tensor.name.clone(),
            tensor.raw_type.to_string(),
            shape.join(" × "),
            human::bytes(tensor.bytes as u64),
        ]);
    }
    table
}
