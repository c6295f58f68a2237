//! What the choice of types needs to know of a model.

use formats::FormatError;
use formats::gguf::{Array, FromValue, Metadata, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFacts {
    /// The architecture's name in GGUF.
    pub architecture: String,
    pub layers: u32,
    /// Experts in a mixture; 0 or 1 in dense models.
    pub experts: u32,
    pub heads: u32,
    pub kv_heads: u32,
}

impl ModelFacts {
    /// # Errors
    /// A key is missing or has the wrong type.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, FormatError> {
        let architecture: &str = metadata.require("general.architecture")?;
        let key = |name: &str| format!("{architecture}.{name}");
        let heads = metadata.get::<First>(&key("attention.head_count"))?.map_or(0, |n| n.0);
        Ok(Self {
            layers: metadata.require(&key("block_count"))?,
            experts: metadata.get(&key("expert_count"))?.unwrap_or(0),
            heads,
            kv_heads: metadata.get::<First>(&key("attention.head_count_kv"))?.map_or(heads, |n| n.0),
            architecture: architecture.to_owned(),
        })
    }

    /// Heads of queries for each head of keys, those of the first layer.
    pub(super) fn queries_per_key(&self) -> u32 {
        self.heads.checked_div(self.kv_heads).unwrap_or(0)
    }

    /// Whether the reference counts the model among those of 70 B parameters, whose V matrices are small for their use.
    pub(super) fn is_70b(&self) -> bool {
        match (self.architecture.as_str(), self.layers) {
            ("llama", 80) => self.experts != 8 && self.heads != self.kv_heads,
            ("qwen2" | "deci" | "olmo", 80) | ("jais2", 68) => true,
            _ => false,
        }
    }
}

/// A number, or that of the first layer where each layer has its own.
struct First(u32);

impl FromValue<'_> for First {
    fn expected() -> String {
        "an integer, or an array of them".to_owned()
    }

    fn from_value(value: Value) -> Option<Self> {
        let first = match value {
            Value::Array(array) => Array::values(array).next()?,
            value => value,
        };
        u32::from_value(first).map(Self)
    }
}
