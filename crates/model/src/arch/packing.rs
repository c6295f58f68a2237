//! Feed-forward matrices that Hugging Face files hold otherwise than GGUF files: experts one by one or all in one tensor,
//! gate and up in one.

use std::ops::Range;

use formats::{Checkpoint, Format};

use super::granite::HYBRID;
use super::{Architecture, DecoderConfig, HfNames};

/// A tensor of Hugging Face files with the rows of other canonical ones.
#[derive(Debug)]
pub struct Packing {
    /// Its whole name, with `{}` for the layer and `{e}` for the expert where each has a tensor.
    pub hf: &'static str,
    /// The canonical tensors, without `blk.N.` and `.weight`: of each expert, the rows of the first and then those of the
    /// others.
    pub holds: &'static [&'static str],
    /// Whether files of a decoder are written so; any file may be read so.
    pub written: fn(&DecoderConfig) -> bool,
}

/// As some GGUF files have gates and ups of all experts.
const FUSED: Packing =
    Packing { hf: "blk.{}.ffn_gate_up_exps.weight", holds: &["ffn_gate_exps", "ffn_up_exps"], written: |_| false };

/// Some rows of a file's tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The tensor's name in the file.
    pub tensor: String,
    /// What the whole tensor is to have.
    pub shape: Vec<usize>,
    /// Among the rows of the tensor as a matrix with columns of its last dimension.
    pub rows: Range<usize>,
}

/// A tensor that is put together from pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembly {
    pub name: String,
    pub shape: Vec<usize>,
    pub pieces: Vec<Piece>,
}

/// The shape of a canonical feed-forward matrix: experts, where it holds those of all, rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stack {
    experts: Option<usize>,
    rows: usize,
    cols: usize,
}

impl Stack {
    /// Of the tensor `blk.N.PART.weight`; none of other parts.
    fn of(config: &DecoderConfig, part: &str) -> Option<Self> {
        let (hidden, experts) = (config.hidden, config.experts.as_ref());
        let (stem, kind) = part.rsplit_once('_').filter(|(stem, _)| stem.contains('_')).unwrap_or((part, ""));
        let (count, width) = match (kind, experts) {
            ("exps", Some(experts)) => (Some(experts.count), experts.intermediate),
            ("shexp", Some(experts)) => (None, experts.shared?),
            ("", _) => (None, config.intermediate),
            ("inp", Some(experts)) if stem == "ffn_gate" => {
                return Some(Self { experts: None, rows: experts.count, cols: hidden });
            }
            _ => return None,
        };
        match stem {
            "ffn_gate" | "ffn_up" => Some(Self { experts: count, rows: width, cols: hidden }),
            "ffn_down" => Some(Self { experts: count, rows: hidden, cols: width }),
            _ => None,
        }
    }

    fn shape(self) -> Vec<usize> {
        self.experts.into_iter().chain([self.rows, self.cols]).collect()
    }

    fn experts(self) -> usize {
        self.experts.unwrap_or(1)
    }
}

/// The layer and the part of a canonical name `blk.N.PART.weight`.
pub(super) fn layer_and_part(canonical: &str) -> Option<(&str, &str)> {
    canonical.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')
}

impl Packing {
    fn of_each_expert(&self) -> bool {
        self.hf.contains("{e}")
    }

    pub(super) fn name(&self, layer: &str, expert: usize) -> String {
        self.hf.replace("{e}", &expert.to_string()).replace("{}", layer)
    }

    /// The layer and the expert of a tensor with such a name.
    pub(super) fn parse<'a>(&self, name: &'a str) -> Option<(&'a str, usize)> {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (before, after) = self.hf.split_once("{}")?;
        let rest = name.strip_prefix(before)?;
        let (layer, rest) = rest.split_at_checked(digits(rest)).filter(|(layer, _)| !layer.is_empty())?;
        let Some((before, after)) = after.split_once("{e}") else {
            return (rest == after).then_some((layer, 0));
        };
        let rest = rest.strip_prefix(before)?;
        let (expert, rest) = rest.split_at_checked(digits(rest))?;
        (rest == after).then_some((layer, expert.parse().ok()?))
    }

    /// The rows of the held tensor number `which`, for each expert.
    fn pieces(&self, config: &DecoderConfig, layer: &str, which: usize) -> Option<Vec<Piece>> {
        let stacks: Option<Vec<Stack>> = self.holds.iter().map(|part| Stack::of(config, part)).collect();
        let stacks = stacks?;
        let before: usize = stacks[..which].iter().map(|s| s.rows).sum();
        let (rows, together) = (stacks[which].rows, stacks.iter().map(|s| s.rows).sum::<usize>());
        let own = Stack { rows: together, ..stacks[which] };
        let piece = |expert: usize| {
            let (shape, first) = if self.of_each_expert() {
                (Stack { experts: None, ..own }.shape(), before)
            } else {
                (own.shape(), expert * together + before)
            };
            Piece { tensor: self.name(layer, expert), shape, rows: first..first + rows }
        };
        Some((0..own.experts()).map(piece).collect())
    }
}

impl Architecture {
    /// Where the rows of a canonical feed-forward matrix are in a checkpoint, or would be: one piece for each expert, or one.
    /// None where the name is of another tensor, or of one that no other holds.
    pub fn pieces(&self, checkpoint: &Checkpoint, config: &DecoderConfig, canonical: &str) -> Option<Vec<Piece>> {
        let (layer, part) = layer_and_part(canonical)?;
        let stack = Stack::of(config, part)?;
        let has = |name: &str| checkpoint.tensor_info(name).is_some();
        if let Some(tensor) = self.file_name(checkpoint, canonical).filter(|name| has(name)) {
            let piece = |e: usize| {
                let rows = e * stack.rows..(e + 1) * stack.rows;
                Piece { tensor: tensor.clone(), shape: stack.shape(), rows }
            };
            return Some((0..stack.experts()).map(piece).collect());
        }
        if checkpoint.format() == Format::Gguf {
            let which = FUSED.holds.iter().position(|held| *held == part)?;
            return FUSED.pieces(config, layer, which).filter(|pieces| pieces.iter().all(|piece| has(&piece.tensor)));
        }
        let names = HfNames::of(checkpoint);
        let of = |packing: &Packing| {
            let which = packing.holds.iter().position(|held| *held == part)?;
            let mut pieces = packing.pieces(config, layer, which)?;
            pieces.iter_mut().for_each(|piece| piece.tensor = names.nested(&piece.tensor));
            Some(pieces)
        };
        let present = |pieces: &Vec<Piece>| pieces.first().is_some_and(|piece| has(&piece.tensor));
        let written = || self.packings.iter().filter(|packing| (packing.written)(config)).find_map(of);
        self.packings.iter().chain(self.mlx_packings()).filter_map(of).find(present).or_else(written)
    }

    /// The canonical tensors that begin with this tensor of a Hugging Face file, as [`HfNames::plain`] names it, put together
    /// from the checkpoint's. None where the tensor is no packing; nothing where others begin those that it has a part in.
    pub fn unpacked(&self, checkpoint: &Checkpoint, config: &DecoderConfig, plain: &str) -> Option<Vec<Assembly>> {
        let found =
            self.packings.iter().chain(self.mlx_packings()).find_map(|packing| Some((packing, packing.parse(plain)?)));
        let (packing, (layer, expert)) = found?;
        let assembly = |part: &&str| {
            let name = format!("blk.{layer}.{part}.weight");
            let pieces = self.pieces(checkpoint, config, &name)?;
            Some(Assembly { name, shape: Stack::of(config, part)?.shape(), pieces })
        };
        if expert > 0 { Some(Vec::new()) } else { Some(packing.holds.iter().filter_map(assembly).collect()) }
    }

    /// The canonical tensors that a tensor of a GGUF file holds: itself, or the fused gates and ups of all experts.
    pub fn held(name: &str) -> Vec<String> {
        match FUSED.parse(name) {
            Some((layer, _)) => FUSED.holds.iter().map(|part| format!("blk.{layer}.{part}.weight")).collect(),
            None => vec![name.to_owned()],
        }
    }

    /// The tensors of a Hugging Face file that begin with this canonical tensor. None where it is written under a name of its
    /// own; nothing where another tensor begins those that it has a part in.
    pub fn packed(&self, config: &DecoderConfig, canonical: &str) -> Option<Vec<Assembly>> {
        self.packed_where(config, canonical, |packing| (packing.written)(config))
    }

    /// As [`Self::packed`], for a folder whose `model_type` is known.
    pub fn packed_for(&self, config: &DecoderConfig, model_type: &str, canonical: &str) -> Option<Vec<Assembly>> {
        let hybrid = model_type == HYBRID.0;
        self.packed_where(config, canonical, |packing| hybrid || (packing.written)(config))
    }

    fn packed_where(
        &self,
        config: &DecoderConfig,
        canonical: &str,
        written: impl Fn(&Packing) -> bool,
    ) -> Option<Vec<Assembly>> {
        let (layer, part) = layer_and_part(canonical)?;
        let packing = self.packings.iter().find(|packing| packing.holds.contains(&part) && written(packing))?;
        if packing.holds.first() != Some(&part) {
            return Some(Vec::new());
        }
        let stacks: Option<Vec<Stack>> = packing.holds.iter().map(|part| Stack::of(config, part)).collect();
        let stacks = stacks?;
        let own = Stack { rows: stacks.iter().map(|s| s.rows).sum(), ..stacks[0] };
        let of_expert = |expert: usize| {
            packing.holds.iter().zip(&stacks).map(move |(part, stack)| Piece {
                tensor: format!("blk.{layer}.{part}.weight"),
                shape: stack.shape(),
                rows: expert * stack.rows..(expert + 1) * stack.rows,
            })
        };
        if packing.of_each_expert() {
            let shape = Stack { experts: None, ..own }.shape();
            let one = |e: usize| Assembly {
                name: packing.name(layer, e),
                shape: shape.clone(),
                pieces: of_expert(e).collect(),
            };
            return Some((0..own.experts()).map(one).collect());
        }
        let pieces = (0..own.experts()).flat_map(of_expert).collect();
        Some(vec![Assembly { name: packing.name(layer, 0), shape: own.shape(), pieces }])
    }

    /// Whether its layers are mixtures of experts.
    pub fn has_experts(&self) -> bool {
        self.packings.iter().any(|packing| packing.holds.contains(&"ffn_down_exps"))
    }
}
