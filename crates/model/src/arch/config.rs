//! The shape of a decoder, whatever file it comes from.

use std::path::Path;

use super::rope::RopeSettings;
use crate::ModelError;

/// No size of a decoder exceeds it, nor does the width of all heads.
const MOST: usize = i32::MAX as usize;

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
    pub vocab: usize,
    /// Positions that the model was made for.
    pub context: usize,
    /// Added to the mean square in RMS norms.
    pub norm_eps: f32,
    /// Multiplies `q·k`.
    pub attention_scale: f32,
    pub rope: RopeSettings,
    /// Whether the embedding is the output matrix too, even if the file has another one.
    pub tied: bool,
    pub biases: Biases,
    /// RMS norms of each head's queries and keys, before RoPE.
    pub qk_norm: bool,
}

impl DecoderConfig {
    /// `1/sqrt(head_dim)`, what attention scores are scaled by unless a file says otherwise.
    pub fn plain_attention_scale(head_dim: usize) -> f32 {
        (1.0 / (head_dim as f64).sqrt()) as f32
    }

    /// # Errors
    /// Sizes that no decoder has; `path` is for the message.
    pub fn validate(&self, path: &Path) -> Result<(), ModelError> {
        let sizes = [
            ("hidden size", self.hidden),
            ("layer count", self.layers),
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
        let floats = [("norm epsilon", self.norm_eps), ("attention scale", self.attention_scale)];
        for (name, value) in floats {
            if !(value.is_finite() && value > 0.0) {
                return Err(ModelError::config(path, format!("a positive {name}"), value));
            }
        }
        self.rope.validate(self.head_dim, path)
    }
}
