//! The shape of a decoder, whatever file it comes from.

use std::path::Path;

use kernels::plan::{Activation, NormKind, RouterScore, Scales};

use super::rope::RopeSettings;
use crate::ModelError;

/// No size of a decoder exceeds it, nor does the width of all heads.
const MOST: usize = i32::MAX as usize;
/// No decoder has more layers; there is a list with an entry for each.
const MOST_LAYERS: usize = 1 << 16;
/// No layer has more experts; likewise.
const MOST_EXPERTS: usize = 1 << 16;

/// Whether a checkpoint holds a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Absent,
    /// The file decides.
    Optional,
    Required,
}

impl Presence {
    /// Required where a setting says so, else absent.
    pub fn when(required: bool) -> Self {
        if required { Self::Required } else { Self::Absent }
    }
}

/// Which linear layers add a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: Presence,
    pub attention_output: Presence,
    /// Gate, up and down.
    pub mlp: Presence,
}

impl Biases {
    pub const NONE: Self = Self::all(Presence::Absent);

    pub const fn all(presence: Presence) -> Self {
        Self { qkv: presence, attention_output: presence, mlp: presence }
    }
}

/// Where ternary weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ternary {
    /// Four rows in a byte, and a tensor with the factor.
    Packed {
        /// Whether weights are divided by the factor.
        divides: bool,
    },
    /// Weights in full precision, rounded as they are read.
    Online,
}

/// Norms of queries and keys before RoPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    None,
    /// Of each head alone.
    Heads,
    /// Of all heads together.
    Whole,
}

/// Where a layer has norms, and what their tensors hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norms {
    /// Of the inputs of attention and of the feed-forward layer.
    pub before: bool,
    /// Of what the two add to the residual stream.
    pub after: bool,
    /// Of the inputs of the two's last matrices.
    pub sub: bool,
    /// Whether the file's weights lack 1, which is added as they are read.
    pub plus_one: bool,
    /// Whether the file has no weights: all are 1.
    pub weightless: bool,
}

impl Norms {
    pub const PLAIN: Self = Self { before: true, after: false, sub: false, plus_one: false, weightless: false };
}

/// What differs from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerType {
    /// Whether attention sees no more than the window.
    pub sliding: bool,
    /// Whether queries and keys rotate.
    pub rope: bool,
}

impl LayerType {
    pub const PLAIN: Self = Self { sliding: false, rope: true };
    pub const SLIDING: Self = Self { sliding: true, rope: true };
}

/// The mixtures of experts that stand in place of feed-forward layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Experts {
    pub count: usize,
    /// How many a position takes.
    pub used: usize,
    /// Width of each.
    pub intermediate: usize,
    pub score: RouterScore,
    /// Whether the weights of a position's experts are divided by their sum.
    pub normalized: bool,
    /// Multiplies the weights.
    pub scale: f32,
    /// Width of the expert that all positions take beside theirs, if there is one.
    pub shared: Option<usize>,
    /// Whether a gate weighs the shared expert.
    pub shared_gate: bool,
    /// Whether each layer has a mixture; the others are dense.
    pub layers: Vec<bool>,
}

/// What makes one decoder differ from another, its weights aside.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    pub experts: Option<Experts>,
    pub vocab: usize,
    /// Positions that the model was made for.
    pub context: usize,
    pub norm: NormKind,
    /// Added to the mean square in norms.
    pub norm_eps: f32,
    pub norms: Norms,
    pub activation: Activation,
    pub scales: Scales,
    /// Multiplies `q·k`.
    pub attention_scale: f32,
    /// Attention scores become `cap * tanh(score / cap)`.
    pub attention_softcap: Option<f32>,
    /// Positions that a sliding layer sees, its own included.
    pub window: Option<usize>,
    /// One for each layer.
    pub layer_types: Vec<LayerType>,
    pub rope: RopeSettings,
    /// Of sliding layers, where theirs is another.
    pub sliding_rope: Option<RopeSettings>,
    /// Whether the embedding is the output matrix too, even if the file has another one.
    pub tied: bool,
    pub biases: Biases,
    pub qk_norm: QkNorm,
    /// How the layers' matrices are ternary, if they are.
    pub ternary: Option<Ternary>,
}

impl DecoderConfig {
    /// `1/sqrt(head_dim)`, what attention scores are scaled by unless a file says otherwise.
    pub fn plain_attention_scale(head_dim: usize) -> f32 {
        (1.0 / (head_dim as f64).sqrt()) as f32
    }

    /// The mixture of a layer, if it has one.
    pub fn experts_of(&self, layer: usize) -> Option<&Experts> {
        self.experts.as_ref().filter(|experts| experts.layers[layer])
    }

    /// As many layers, all of them plain.
    ///
    /// # Errors
    /// No decoder has as many; `path` is for the message.
    pub fn plain_layers(layers: usize, path: &Path) -> Result<Vec<LayerType>, ModelError> {
        if layers > MOST_LAYERS {
            return Err(ModelError::config(path, format!("a layer count from 1 to {MOST_LAYERS}"), layers));
        }
        Ok(vec![LayerType::PLAIN; layers])
    }

    /// Checks that what was written of this decoder means the same when it is read.
    ///
    /// # Errors
    /// A property is lost; `format` is where, `path` is for the message.
    pub(super) fn require_same(&self, read: &Self, format: &str, path: &Path) -> Result<(), ModelError> {
        let layers = |config: &Self| {
            let seen = |layer: &LayerType| (config.window.filter(|_| layer.sliding), layer.rope);
            format!("{:?}", config.layer_types.iter().map(seen).collect::<Vec<_>>())
        };
        let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
        let sparse =
            |config: &Self| text(&(0..config.layers).filter(|i| config.experts_of(*i).is_some()).collect::<Vec<_>>());
        let experts = |config: &Self| text(&config.experts.clone().map(|e| Experts { layers: Vec::new(), ..e }));
        let scales = |s: &Scales| format!("{:?}", (s.embedding, s.residual, s.logit_softcap));
        let properties = [
            ("attention scale", text(&self.attention_scale), text(&read.attention_scale)),
            ("attention softcap", text(&self.attention_softcap), text(&read.attention_softcap)),
            ("rotating values", text(&self.rope.dim), text(&read.rope.dim)),
            ("RoPE attention factor", text(&self.rope.attention_factor), text(&read.rope.attention_factor)),
            ("windows and rotations", layers(self), layers(read)),
            ("activation", text(&self.activation), text(&read.activation)),
            ("scales", scales(&self.scales), scales(&read.scales)),
            ("layers with experts", sparse(self), sparse(read)),
            ("experts", experts(self), experts(read)),
        ];
        match properties.into_iter().find(|(_, own, read)| own != read) {
            Some((name, own, read)) => Err(ModelError::unsupported(path, name, own, format!("{read} in {format}"))),
            None => Ok(()),
        }
    }

    /// # Errors
    /// Sizes that no decoder has; `path` is for the message.
    pub fn validate(&self, path: &Path) -> Result<(), ModelError> {
        if self.layers == 0 || self.layers > MOST_LAYERS || self.layer_types.len() != self.layers {
            let expected = format!("a layer count from 1 to {MOST_LAYERS}");
            return Err(ModelError::config(path, expected, self.layers));
        }
        if self.layer_types.iter().any(|layer| layer.sliding) && self.window.is_none_or(|window| window == 0) {
            return Err(ModelError::config(path, "a sliding window of at least 1", "none"));
        }
        let sizes = [
            ("hidden size", self.hidden),
            ("head count", self.heads),
            ("key and value head count", self.kv_heads),
            ("head size", self.head_dim),
            ("feed-forward size", self.intermediate),
            ("vocabulary size", self.vocab),
            ("context length", self.context),
        ];
        for (name, size) in sizes {
            if size == 0 || size > MOST {
                return Err(ModelError::config(path, format!("a {name} from 1 to {MOST}"), size));
            }
        }
        if self.heads.checked_mul(self.head_dim).is_none_or(|width| width > MOST) {
            let expected = format!("heads of at most {MOST} values together");
            return Err(ModelError::config(path, expected, format!("{} of {}", self.heads, self.head_dim)));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let expected = format!("a head count that is a multiple of the {} key and value heads", self.kv_heads);
            return Err(ModelError::config(path, expected, self.heads));
        }
        let floats = [
            ("norm epsilon", self.norm_eps),
            ("attention scale", self.attention_scale),
            ("attention softcap", self.attention_softcap.unwrap_or(1.0)),
            ("embedding scale", self.scales.embedding),
            ("residual scale", self.scales.residual),
            ("logit scale", self.scales.logits),
            ("logit softcap", self.scales.logit_softcap.unwrap_or(1.0)),
        ];
        for (name, value) in floats {
            if !(value.is_finite() && value > 0.0) {
                return Err(ModelError::config(path, format!("a positive {name}"), value));
            }
        }
        self.validate_experts(path)?;
        self.sliding_rope.iter().try_for_each(|rope| rope.validate(self.head_dim, path))?;
        self.rope.validate(self.head_dim, path)
    }

    fn validate_experts(&self, path: &Path) -> Result<(), ModelError> {
        let Some(experts) = &self.experts else { return Ok(()) };
        let wrong = |expected: String, found: usize| Err(ModelError::config(path, expected, found));
        if !(1..=MOST_EXPERTS).contains(&experts.count) {
            return wrong(format!("an expert count from 1 to {MOST_EXPERTS}"), experts.count);
        }
        if !(1..=experts.count).contains(&experts.used) {
            return wrong(format!("from 1 to {} experts a position", experts.count), experts.used);
        }
        let most = MOST / experts.count;
        for width in [Some(experts.intermediate), experts.shared].into_iter().flatten() {
            if !(1..=most).contains(&width) {
                return wrong(format!("an expert's size from 1 to {most}"), width);
            }
        }
        if self.hidden > most {
            return wrong(format!("a hidden size from 1 to {most} beside {} experts", experts.count), self.hidden);
        }
        if !(experts.scale.is_finite() && experts.scale > 0.0) {
            return Err(ModelError::config(path, "a positive scale of the experts' weights", experts.scale));
        }
        if experts.layers.len() != self.layers {
            return wrong(format!("{} layers with or without experts", self.layers), experts.layers.len());
        }
        Ok(())
    }
}
