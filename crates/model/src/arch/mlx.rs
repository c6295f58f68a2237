//! How folders of mlx-lm differ from those of Hugging Face: what its model classes rename or transform when they load weights,
//! and what they quantize otherwise.

use formats::Checkpoint;
use serde_json::{Map, Value, json};

use super::packing::layer_and_part;
use super::{ARCHITECTURES, Architecture, DecoderConfig, HfNames, LayerType, MixerType, Packing, Presence};

const fn named(hf: &'static str, holds: &'static [&'static str]) -> Packing {
    Packing { hf, holds, written: |_| false }
}

const QWEN: &[&str] = &["olmoe", "qwen2moe", "qwen3moe", "qwen35moe"];
const GRANITE: &[&str] = &["granitemoe"];
const LFM2: &[&str] = &["lfm2moe"];

/// Matrices with a name of their own in mlx-lm's folders, by architecture: those of all experts are one tensor.
static NAMES: [(&[&str], Packing); 15] = [
    (QWEN, named("model.layers.{}.mlp.switch_mlp.gate_proj.weight", &["ffn_gate_exps"])),
    (QWEN, named("model.layers.{}.mlp.switch_mlp.up_proj.weight", &["ffn_up_exps"])),
    (QWEN, named("model.layers.{}.mlp.switch_mlp.down_proj.weight", &["ffn_down_exps"])),
    (GRANITE, named("model.layers.{}.block_sparse_moe.switch_mlp.gate_proj.weight", &["ffn_gate_exps"])),
    (GRANITE, named("model.layers.{}.block_sparse_moe.switch_mlp.up_proj.weight", &["ffn_up_exps"])),
    (GRANITE, named("model.layers.{}.block_sparse_moe.switch_mlp.down_proj.weight", &["ffn_down_exps"])),
    (LFM2, named("model.layers.{}.feed_forward.switch_mlp.gate_proj.weight", &["ffn_gate_exps"])),
    (LFM2, named("model.layers.{}.feed_forward.switch_mlp.up_proj.weight", &["ffn_up_exps"])),
    (LFM2, named("model.layers.{}.feed_forward.switch_mlp.down_proj.weight", &["ffn_down_exps"])),
    // Its dense layers.
    (LFM2, named("model.layers.{}.feed_forward.gate_proj.weight", &["ffn_gate"])),
    (LFM2, named("model.layers.{}.feed_forward.up_proj.weight", &["ffn_up"])),
    (LFM2, named("model.layers.{}.feed_forward.down_proj.weight", &["ffn_down"])),
    // Granite 4, whose Hugging Face files call them the shared expert's.
    (&["granite"], named("model.layers.{}.mlp.gate_proj.weight", &["ffn_gate"])),
    (&["granite"], named("model.layers.{}.mlp.up_proj.weight", &["ffn_up"])),
    (&["granite"], named("model.layers.{}.mlp.down_proj.weight", &["ffn_down"])),
];

/// By `model_type`, the canonical parts that mlx-lm quantizes with 8 bits in groups of 64, whatever it is asked for: routers,
/// and matrices whose values some modes are too narrow for.
const EIGHT_BITS: [(&str, &[&str]); 6] = [
    ("granite", &["attn_output", "ffn_down", "output"]),
    ("granitemoe", &["ffn_gate_inp", "attn_output", "ffn_down_exps", "output"]),
    ("granitemoehybrid", &["ffn_gate_inp"]),
    ("lfm2_moe", &["ffn_gate_inp"]),
    ("qwen3_moe", &["ffn_gate_inp"]),
    ("qwen3_5_moe", &["ffn_gate_inp", "ffn_gate_inp_shexp"]),
];

/// By `model_type`, the canonical tensors that mlx-lm leaves in their type when it casts all others.
const NOT_CAST: [(&str, &str); 3] = [("lfm2_moe", "exp_probs_b.bias"), ("qwen3_5", "ssm_a"), ("qwen3_5_moe", "ssm_a")];

/// Keys of a configuration, and their values.
type Keys = Vec<(&'static str, Value)>;

/// A family that mlx-lm knows under another `model_type` alone, or as a case of another.
struct Renamed {
    model_type: &'static str,
    /// `model_type` and `architectures` there.
    to: (&'static str, &'static str),
    /// What the other has to be told of it.
    more: fn(&DecoderConfig) -> Keys,
}

const RENAMED: [Renamed; 4] = [
    Renamed { model_type: "qwen3_5_text", to: ("qwen3_5", "Qwen3_5ForConditionalGeneration"), more: |_| Vec::new() },
    Renamed {
        model_type: "qwen3_5_moe_text",
        to: ("qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration"),
        more: |_| Vec::new(),
    },
    Renamed {
        model_type: "granitemoeshared",
        to: ("granitemoehybrid", "GraniteMoeHybridForCausalLM"),
        more: |decoder| {
            vec![("layer_types", json!(vec!["attention"; decoder.layers])), ("position_embedding_type", json!("rope"))]
        },
    },
    Renamed {
        model_type: "gemma4_unified_text",
        to: ("gemma4_text", "Gemma4ForCausalLM"),
        more: |_| vec![("hidden_size_per_layer_input", json!(0))],
    },
];

/// An architecture, and what mlx-lm has to be told of it.
type Told = (&'static str, fn(&DecoderConfig) -> Keys);

/// Keys that mlx-lm reads and newer files lack, or spell otherwise.
const READ: [Told; 6] = [
    ("lfm2", |decoder| vec![("block_dim", json!(decoder.hidden))]),
    ("gemma3", |decoder| period("sliding_window_pattern", decoder, |layer| !layer.sliding)),
    ("gemma4", full_attention),
    ("qwen35", |decoder| period("full_attention_interval", decoder, is_attention)),
    ("qwen35moe", |decoder| period("full_attention_interval", decoder, is_attention)),
    ("qwen3moe", |_| vec![("decoder_sparse_step", json!(1)), ("mlp_only_layers", json!([]))]),
];

fn is_attention(layer: &LayerType) -> bool {
    layer.mixer == MixerType::Attention
}

/// The number whose multiples are the layers that see the whole context, under the key that it has.
fn period(key: &'static str, decoder: &DecoderConfig, sees_all: fn(&LayerType) -> bool) -> Keys {
    let period = decoder.period(sees_all).map(|period| (key, json!(period)));
    period.into_iter().collect()
}

/// What newer files say of each layer by its number.
fn full_attention(decoder: &DecoderConfig) -> Keys {
    let shared = decoder.layer_types.iter().filter(|layer| layer.reads.is_some()).count();
    let keys_are_values = decoder.layer_types.iter().any(|layer| layer.values == Presence::Absent);
    let heads = if keys_are_values { json!(decoder.kv_heads) } else { Value::Null };
    vec![
        ("global_head_dim", json!(decoder.head_dim)),
        ("num_global_key_value_heads", heads),
        ("num_kv_shared_layers", json!(shared)),
        ("use_double_wide_mlp", json!(decoder.layer_types.iter().any(|layer| layer.intermediate.is_some()))),
        ("hidden_size_per_layer_input", json!(decoder.layer_input.unwrap_or(0))),
    ]
}

impl Architecture {
    /// The tensors of mlx-lm's folders that Hugging Face's have otherwise.
    pub(super) fn mlx_packings(&self) -> impl Iterator<Item = &'static Packing> {
        let name = self.name;
        NAMES.iter().filter(move |(of, _)| of.contains(&name)).map(|(_, packing)| packing)
    }

    /// The name in mlx-lm's folders of the tensor with this canonical name, where it may be another than in Hugging Face's.
    pub fn mlx_name(&self, canonical: &str) -> Option<String> {
        let (layer, part) = layer_and_part(canonical)?;
        self.mlx_packings().find(|packing| packing.holds == [part]).map(|packing| packing.name(layer, 0))
    }

    /// Whether a tensor of a folder, as [`HfNames::plain`] names it, has such a name.
    pub fn is_mlx_name(&self, plain: &str) -> bool {
        self.mlx_packings().any(|packing| packing.parse(plain).is_some())
    }

    /// Whether mlx-lm has transformed a folder's weights: convolutions have their axes the other way around, and norms that
    /// lack 1 in Hugging Face files do not.
    pub fn is_transformed(&self, checkpoint: &Checkpoint, config: &DecoderConfig) -> bool {
        let Some(net) = config.delta_net else { return false };
        let names = HfNames::of(checkpoint);
        let is_conv = |name: &str| names.plain(name).is_some_and(|name| name.ends_with(".linear_attn.conv1d.weight"));
        let transformed = [net.channels(), net.taps, 1];
        net.taps > 1 && checkpoint.tensors().any(|info| info.shape == transformed && is_conv(&info.name))
    }

    /// Names the family as mlx-lm does, in a folder's `config.json`, and adds what its classes have to be told.
    pub fn name_for_mlx(&self, decoder: &DecoderConfig, config: &mut Map<String, Value>) {
        let found = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
        if let Some(row) = RENAMED.iter().find(|row| row.model_type == found) {
            config.insert("model_type".to_owned(), json!(row.to.0));
            config.insert("architectures".to_owned(), json!([row.to.1]));
            config.extend((row.more)(decoder).into_iter().map(|(key, value)| (key.to_owned(), value)));
        }
        let nested = config.get("text_config").is_some_and(Value::is_object);
        for (key, value) in READ.iter().filter(|row| row.0 == self.name).flat_map(|row| (row.1)(decoder)) {
            let text =
                if nested { config.get_mut("text_config").and_then(Value::as_object_mut) } else { Some(&mut *config) };
            if let Some(text) = text.filter(|text| text.get(key).is_none_or(Value::is_null)) {
                text.insert(key.to_owned(), value);
            }
        }
    }
}

/// Whether mlx-lm quantizes the matrix `canonical` of a model of this `model_type` with 8 bits in groups of 64.
pub fn mlx_has_eight_bits(model_type: &str, canonical: &str) -> bool {
    let part = canonical.strip_suffix(".weight").unwrap_or(canonical);
    let part = layer_and_part(canonical).map_or(part, |(_, part)| part);
    EIGHT_BITS.iter().any(|(name, parts)| *name == model_type && parts.contains(&part))
}

/// Whether mlx-lm leaves the tensor `canonical` of a model of this `model_type` in its type, whatever others are cast to.
pub fn mlx_does_not_cast(model_type: &str, canonical: &str) -> bool {
    let part = canonical.splitn(3, '.').nth(2);
    part.is_some_and(|part| NOT_CAST.contains(&(model_type, part)))
}

/// The inverse of [`Architecture::name_for_mlx`] where transformers takes such a name for that of a model that sees.
pub fn name_for_hf(config: &mut Map<String, Value>) {
    let found = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let row = RENAMED.iter().find(|row| row.to.0 == found && row.to.1.ends_with("ForConditionalGeneration"));
    if let Some(row) = row.filter(|_| !config.contains_key("text_config")) {
        let names = ARCHITECTURES.iter().flat_map(|architecture| architecture.hf);
        let class = names.into_iter().find(|names| names.0 == row.model_type).map(|names| names.1);
        config.insert("model_type".to_owned(), json!(row.model_type));
        config.insert("architectures".to_owned(), json!([class]));
    }
}
