//! Which tensor of a GGUF file each linear node of a plan multiplies with.

use std::collections::HashMap;

use formats::{Checkpoint, Format};
use kernels::plan::{DecoderPlan, FeedForward, Ffn, Linear, Mixer};

use crate::ModelError;
use crate::arch::{Architecture, HfNames};
use crate::loader::shape_plan;

/// The tensor of a linear node, or one of several that a node's rows are part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTensor {
    /// Its canonical name, which is GGUF's: `blk.3.ffn_down_exps.weight`.
    pub tensor: String,
    /// Which expert's matrix of the stack it is.
    pub expert: usize,
    /// Matrices of the stack; 1 where it is none.
    pub experts: usize,
    /// Width of the input.
    pub cols: usize,
}

/// The tensor of each linear node of a checkpoint's plan, in the order of [`DecoderPlan::linears`].
///
/// # Errors
/// As [`build_plan`](crate::build_plan), or the columns of a tensor stand in another order in GGUF files.
pub fn node_tensors(checkpoint: &Checkpoint) -> Result<Vec<NodeTensor>, ModelError> {
    let architecture = Architecture::of(checkpoint)?;
    let plan = shape_plan(checkpoint)?;
    let hf = (checkpoint.format() == Format::HuggingFace).then(|| HfNames::of(checkpoint));
    if hf.is_some() {
        check_order(checkpoint, &plan)?;
    }
    let feed_forward = feed_forward(&plan);
    let tensor = |linear: &Linear| {
        let part = feed_forward.get(&std::ptr::from_ref(linear));
        let own = match hf {
            None => Some(linear.weight.name.clone()),
            Some(names) => names.plain(&linear.weight.name).and_then(|name| architecture.to_canonical(&name)),
        };
        // Else a tensor that holds those of several names.
        let name = own.or_else(|| part.map(|part| part.name.clone()));
        let (expert, experts) = part.map_or((0, 1), |part| (part.expert, part.experts));
        let tensor = name.unwrap_or_else(|| linear.weight.name.clone());
        NodeTensor { tensor, expert, experts, cols: linear.weight.cols }
    };
    Ok(plan.linears().map(tensor).collect())
}

/// A matrix of a feed-forward layer, named after its place.
struct Part {
    name: String,
    expert: usize,
    experts: usize,
}

fn feed_forward(plan: &DecoderPlan) -> HashMap<*const Linear, Part> {
    let mut parts = HashMap::new();
    for (layer, ffn) in plan.layers.iter().map(|layer| &layer.ffn).enumerate() {
        let mut add = |ffn: &FeedForward, kind: &str, expert: usize, experts: usize| {
            for (part, linear) in [("gate", &ffn.gate), ("up", &ffn.up), ("down", &ffn.down)] {
                let name = format!("blk.{layer}.ffn_{part}{kind}.weight");
                parts.insert(std::ptr::from_ref(linear), Part { name, expert, experts });
            }
        };
        match ffn {
            Ffn::Dense(ffn) => add(ffn, "", 0, 1),
            Ffn::Mixture(mixture) => {
                let experts = mixture.experts.iter().enumerate();
                experts.for_each(|(e, expert)| add(expert, "_exps", e, mixture.experts.len()));
                mixture.shared.iter().for_each(|shared| add(&shared.ffn, "_shexp", 0, 1));
            }
        }
    }
    parts
}

/// GGUF files have the value heads of a delta net in another order where several share a key head, and so the columns of its
/// last matrix.
fn check_order(checkpoint: &Checkpoint, plan: &DecoderPlan) -> Result<(), ModelError> {
    let reordered = |mixer: &Mixer| matches!(mixer, Mixer::DeltaNet(net) if net.key_heads != net.value_heads);
    if plan.layers.iter().any(|layer| reordered(&layer.mixer)) {
        let found = "a folder whose columns GGUF files have in another order";
        return Err(ModelError::config(checkpoint.path(), "a GGUF file of this architecture", found));
    }
    Ok(())
}
