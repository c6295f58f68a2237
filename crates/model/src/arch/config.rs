//! The shape of a decoder, whatever file it comes from.

use std::path::Path;

use kernels::plan::{Activation, HeadOrder, NormKind, QueryGrowth, RouterScore, Scales};

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
    /// Blocks of a quantized type that hold -1, 0 and 1, and a tensor with the factor: GGUF files.
    Blocks,
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

/// How a layer mixes positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MixerType {
    #[default]
    Attention,
    /// A gated convolution over as many positions.
    ShortConv { taps: usize },
    /// Linear attention by the gated delta rule, as [`DecoderConfig::delta_net`] says.
    DeltaNet,
}

/// The sizes of linear attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaNetConfig {
    pub key_heads: usize,
    /// A multiple of the key heads.
    pub value_heads: usize,
    pub key_dim: usize,
    pub value_dim: usize,
    /// Positions that its convolution covers.
    pub taps: usize,
    /// In which order the file has its value heads.
    pub order: HeadOrder,
}

/// What differs from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerType {
    /// Whether attention sees no more than the window.
    pub sliding: bool,
    /// Whether queries and keys rotate.
    pub rope: bool,
    pub mixer: MixerType,
    /// The next three where they are not the decoder's.
    pub head_dim: Option<usize>,
    pub kv_heads: Option<usize>,
    pub intermediate: Option<usize>,
    /// The earlier layer whose keys and values this one reads, instead of its own.
    pub reads: Option<usize>,
    /// Whether values have a projection of their own; where not, they are what keys are projected to.
    pub values: Presence,
}

impl LayerType {
    pub const PLAIN: Self = Self {
        sliding: false,
        rope: true,
        mixer: MixerType::Attention,
        head_dim: None,
        kv_heads: None,
        intermediate: None,
        reads: None,
        values: Presence::Required,
    };
    pub const SLIDING: Self = Self { sliding: true, ..Self::PLAIN };
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
    /// Whether each has a bias that counts when experts are chosen, and not in their weights.
    pub choice_bias: Presence,
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
    /// Whether each head's output is multiplied by a gate.
    pub attention_gate: bool,
    /// Of the layers that have it.
    pub delta_net: Option<DeltaNetConfig>,
    /// Layers behind the decoder's that guess further tokens, which are passed over.
    pub guessing_layers: usize,
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
    /// Whether each head's values are normed, without weights.
    pub v_norm: bool,
    /// What queries, keys and values are cut off at.
    pub clip_qkv: Option<f32>,
    pub query_growth: Option<QueryGrowth>,
    /// Values of the input that each layer is given of the token itself.
    pub layer_input: Option<usize>,
    /// Whether each layer has a number that multiplies what leaves it.
    pub layer_scale: Presence,
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

    /// Values of a layer's heads.
    pub fn head_dim_of(&self, layer: usize) -> usize {
        self.layer_types[layer].head_dim.unwrap_or(self.head_dim)
    }

    pub fn kv_heads_of(&self, layer: usize) -> usize {
        self.layer_types[layer].kv_heads.unwrap_or(self.kv_heads)
    }

    pub fn intermediate_of(&self, layer: usize) -> usize {
        self.layer_types[layer].intermediate.unwrap_or(self.intermediate)
    }

    /// The number whose multiples are the layers, counted from 1, of which this holds, if there is one.
    pub fn period(&self, holds: impl Fn(&LayerType) -> bool) -> Option<usize> {
        let of = |period: usize, (i, layer): (usize, &LayerType)| holds(layer) == (i + 1).is_multiple_of(period);
        (1..=self.layers).find(|period| self.layer_types.iter().enumerate().all(|layer| of(*period, layer)))
    }

    /// A layer that slides, or else does not, if there is one.
    pub fn first_layer(&self, sliding: bool) -> Option<usize> {
        self.layer_types.iter().position(|layer| layer.sliding == sliding)
    }

    /// Values of the heads of sliding layers.
    pub fn sliding_head_dim(&self) -> usize {
        self.first_layer(true).map_or(self.head_dim, |layer| self.head_dim_of(layer))
    }

    /// The last `shared` layers read the keys and values of the last one before them that slides if they do.
    ///
    /// # Errors
    /// There is none; `path` is for the message.
    pub fn share_last(&mut self, shared: usize, path: &Path) -> Result<(), ModelError> {
        let first = self.layers.saturating_sub(shared);
        for layer in first..self.layers {
            let sliding = self.layer_types[layer].sliding;
            let read = self.layer_types[..first].iter().rposition(|other| other.sliding == sliding);
            let expected = || format!("keys and values for layer {layer} among the first {first}");
            self.layer_types[layer].reads = Some(read.ok_or_else(|| ModelError::config(path, expected(), "none"))?);
        }
        Ok(())
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
            let seen = |i: usize| {
                let layer = &config.layer_types[i];
                let sizes = (config.head_dim_of(i), config.kv_heads_of(i), config.intermediate_of(i));
                (config.window.filter(|_| layer.sliding), layer.rope, layer.mixer, sizes, layer.reads)
            };
            format!("{:?}", (0..config.layers).map(seen).collect::<Vec<_>>())
        };
        let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
        let net = |config: &Self| {
            format!("{:?}", config.delta_net.map(|net| DeltaNetConfig { order: HeadOrder::Grouped, ..net }))
        };
        let sparse =
            |config: &Self| text(&(0..config.layers).filter(|i| config.experts_of(*i).is_some()).collect::<Vec<_>>());
        // The tensors tell whether experts have biases.
        let plain = |experts| Experts { layers: Vec::new(), choice_bias: Presence::Absent, ..experts };
        let experts = |config: &Self| text(&config.experts.clone().map(plain));
        let scales = |s: &Scales| format!("{:?}", (s.embedding, s.residual, s.logit_softcap));
        let properties = [
            ("attention scale", text(&self.attention_scale), text(&read.attention_scale)),
            ("attention softcap", text(&self.attention_softcap), text(&read.attention_softcap)),
            ("rotating values", text(&self.rope.dim), text(&read.rope.dim)),
            ("RoPE attention factor", text(&self.rope.attention_factor), text(&read.rope.attention_factor)),
            ("windows, rotations and mixers", layers(self), layers(read)),
            ("attention gate", text(&self.attention_gate), text(&read.attention_gate)),
            ("delta net", net(self), net(read)),
            ("activation", text(&self.activation), text(&read.activation)),
            ("scales", scales(&self.scales), scales(&read.scales)),
            ("layers with experts", sparse(self), sparse(read)),
            ("experts", experts(self), experts(read)),
            ("bound of queries, keys and values", text(&self.clip_qkv), text(&read.clip_qkv)),
            ("growth of queries", text(&self.query_growth), text(&read.query_growth)),
            ("input of layers", text(&self.layer_input), text(&read.layer_input)),
            ("norm of values", text(&self.v_norm), text(&read.v_norm)),
            ("ternary weights", text(&self.ternary.is_some()), text(&read.ternary.is_some())),
        ];
        match properties.into_iter().find(|(_, own, read)| own != read) {
            Some((name, own, read)) => Err(ModelError::unsupported(path, name, own, format!("{read} in {format}"))),
            None => Ok(()),
        }
    }

    /// Whether a tensor of a GGUF file belongs to a layer that guesses further tokens.
    pub fn is_guessing(&self, canonical: &str) -> bool {
        let layer = canonical.strip_prefix("blk.").and_then(|rest| rest.split_once('.')?.0.parse::<usize>().ok());
        layer.is_some_and(|layer| (self.layers..self.layers + self.guessing_layers).contains(&layer))
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
        if let Some(net) = &self.delta_net {
            net.validate(path)?;
        } else if self.layer_types.iter().any(|layer| layer.mixer == MixerType::DeltaNet) {
            return Err(ModelError::config(path, "the sizes of linear attention", "none"));
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
        for layer in 0..self.layers {
            self.validate_layer(layer, path)?;
        }
        let floats = [
            ("norm epsilon", self.norm_eps),
            ("attention scale", self.attention_scale),
            ("attention softcap", self.attention_softcap.unwrap_or(1.0)),
            ("embedding scale", self.scales.embedding),
            ("residual scale", self.scales.residual),
            ("logit scale", self.scales.logits),
            ("logit softcap", self.scales.logit_softcap.unwrap_or(1.0)),
            ("bound of queries, keys and values", self.clip_qkv.unwrap_or(1.0)),
            ("growth of queries", self.query_growth.map_or(1.0, |growth| growth.beta)),
        ];
        for (name, value) in floats {
            if !(value.is_finite() && value > 0.0) {
                return Err(ModelError::config(path, format!("a positive {name}"), value));
            }
        }
        self.validate_experts(path)?;
        if self.query_growth.is_some_and(|growth| growth.every == 0) {
            return Err(ModelError::config(path, "positions between two steps of queries' growth", 0));
        }
        self.sliding_rope.iter().try_for_each(|rope| rope.validate(self.sliding_head_dim(), path))?;
        self.rope.validate(self.head_dim, path)
    }

    fn validate_layer(&self, layer: usize, path: &Path) -> Result<(), ModelError> {
        let (head_dim, kv_heads) = (self.head_dim_of(layer), self.kv_heads_of(layer));
        let width = self.heads.saturating_mul(head_dim);
        let sizes = [width, head_dim, kv_heads, self.intermediate_of(layer)];
        if sizes.iter().any(|size| *size == 0 || *size > MOST) {
            return Err(ModelError::config(
                path,
                format!("sizes of layer {layer} from 1 to {MOST}"),
                format!("{sizes:?}"),
            ));
        }
        if !self.heads.is_multiple_of(kv_heads) {
            let expected = format!("a head count that is a multiple of the {kv_heads} key and value heads");
            return Err(ModelError::config(path, expected, self.heads));
        }
        match self.layer_types[layer].reads {
            Some(read) if read >= layer || (self.head_dim_of(read), self.kv_heads_of(read)) != (head_dim, kv_heads) => {
                let expected =
                    format!("keys of an earlier layer with {kv_heads} heads of {head_dim}, for layer {layer}");
                Err(ModelError::config(path, expected, format!("those of layer {read}")))
            }
            _ => Ok(()),
        }
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

impl DeltaNetConfig {
    fn validate(&self, path: &Path) -> Result<(), ModelError> {
        let Self { key_heads, value_heads, key_dim, value_dim, taps, .. } = *self;
        let sizes = [
            ("linear attention key head count", key_heads),
            ("linear attention value head count", value_heads),
            ("linear attention key head size", key_dim),
            ("linear attention value head size", value_dim),
            ("convolution size", taps),
        ];
        for (name, size) in sizes {
            if size == 0 || size > MOST_LAYERS {
                return Err(ModelError::config(path, format!("a {name} from 1 to {MOST_LAYERS}"), size));
            }
        }
        if !value_heads.is_multiple_of(key_heads) {
            let expected = format!("a value head count that is a multiple of the {key_heads} key heads");
            return Err(ModelError::config(path, expected, value_heads));
        }
        let values = [(key_heads, key_dim), (value_heads, value_dim)];
        if values.into_iter().any(|(heads, dim)| heads * dim > MOST / 4) {
            let expected = format!("heads of linear attention of at most {} values together", MOST / 4);
            return Err(ModelError::config(path, expected, format!("{values:?}")));
        }
        Ok(())
    }

    /// Channels of its convolution: queries, keys and values.
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
    }
}
