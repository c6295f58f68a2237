//! Qwen3.5: three of four layers are linear attention by the gated delta rule; the others have a gate for each head, and a part
//! of each head rotates. The text part of the models that see is the same.

use formats::gguf::{Array, FromValue, Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::{HeadOrder, RopeStyle};
use serde_json::{Map, Value, json};

use super::from_hf::FULL;
use super::{Architecture, DecoderConfig, DeltaNetConfig, MixerType, Norms, QkNorm, from_gguf, from_hf};
use crate::ModelError;

/// Names that the family with experts has too.
pub const TENSORS: &[(&str, &str)] = &[
    ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"),
    ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"),
    ("blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm"),
    ("blk.{}.attn_qkv", "model.layers.{}.linear_attn.in_proj_qkv"),
    ("blk.{}.attn_gate", "model.layers.{}.linear_attn.in_proj_z"),
    ("blk.{}.ssm_beta", "model.layers.{}.linear_attn.in_proj_b"),
    ("blk.{}.ssm_alpha", "model.layers.{}.linear_attn.in_proj_a"),
    ("blk.{}.ssm_conv1d", "model.layers.{}.linear_attn.conv1d"),
    ("blk.{}.ssm_norm", "model.layers.{}.linear_attn.norm"),
    ("blk.{}.ssm_out", "model.layers.{}.linear_attn.out_proj"),
];

pub static ARCHITECTURE: Architecture = Architecture {
    name: "qwen35",
    models: "Qwen3.5 (text)",
    limits: "layers that guess further tokens are passed over",
    hf: &[("qwen3_5_text", "Qwen3_5ForCausalLM"), ("qwen3_5", "Qwen3_5ForConditionalGeneration")],
    from_gguf: |metadata| gguf(metadata, ARCHITECTURE.name),
    from_hf: dense,
    extra_tensors: TENSORS,
    packings: &[],
    gguf_rope: RopeStyle::Half,
    hf_biases: &[],
    write_hf,
    write_gguf: |decoder, out| write_gguf(ARCHITECTURE.name, decoder, out),
};

/// The name of linear attention in `layer_types`.
const LINEAR: &str = "linear_attention";
/// Every layer whose number is a multiple is attention.
const PERIOD: usize = 4;

/// Of the architecture with this name, which reads experts itself if it has them.
pub fn gguf(metadata: &Metadata, name: &str) -> Result<DecoderConfig, ModelError> {
    let keys = from_gguf::Keys { metadata, architecture: name };
    let experts = if name == ARCHITECTURE.name { None } else { Some(from_gguf::EXPERT_COUNT) };
    let reads: Vec<&str> = [from_gguf::GUESSING_LAYERS].into_iter().chain(experts).collect();
    let mut decoder = from_gguf::base(metadata, name, ARCHITECTURE.gguf_rope, &reads)?;
    decoder.guessing_layers = keys.get(from_gguf::GUESSING_LAYERS)?.unwrap_or(0);
    decoder.layers = decoder.layers.saturating_sub(decoder.guessing_layers);
    decoder.layer_types.truncate(decoder.layers);
    differences(&mut decoder);
    let value_heads: usize = keys.require("ssm.time_step_rank")?;
    let values: usize = keys.require("ssm.inner_size")?;
    let net = DeltaNetConfig {
        key_heads: keys.require("ssm.group_count")?,
        value_heads,
        key_dim: keys.require("ssm.state_size")?,
        value_dim: values.checked_div(value_heads).unwrap_or(0),
        taps: keys.require("ssm.conv_kernel")?,
        order: HeadOrder::Tiled,
    };
    keys.require_only("ssm.inner_size", net.value_dim.saturating_mul(value_heads))?;
    decoder.delta_net = Some(net);
    let list = metadata.get::<Array>(&keys.full("attention.recurrent_layers")).ok().flatten();
    let list: Option<Vec<bool>> = list.map(|l| l.values().map(|v| bool::from_value(v).unwrap_or(false)).collect());
    let period: usize = keys.get("full_attention_interval")?.unwrap_or(PERIOD).max(1);
    for (i, layer) in decoder.layer_types.iter_mut().enumerate() {
        let listed = list.as_ref().and_then(|list| list.get(i).copied());
        let linear = listed.unwrap_or(!(i + 1).is_multiple_of(period));
        layer.mixer = if linear { MixerType::DeltaNet } else { MixerType::Attention };
    }
    Ok(decoder)
}

fn differences(decoder: &mut DecoderConfig) {
    decoder.qk_norm = QkNorm::Heads;
    decoder.attention_gate = true;
}

fn dense(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    from_hf::refuse_experts(&config.text(&[]))?;
    hf(config)
}

/// Experts aside.
pub fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let config = &config.text(&[
        ("vocab_size", json!(248_320)),
        ("hidden_size", json!(4096)),
        ("intermediate_size", json!(12_288)),
        ("num_hidden_layers", json!(32)),
        ("num_attention_heads", json!(16)),
        ("num_key_value_heads", json!(4)),
        ("head_dim", json!(256)),
        ("max_position_embeddings", json!(32_768)),
        ("linear_conv_kernel_dim", json!(4)),
        ("linear_key_head_dim", json!(128)),
        ("linear_value_head_dim", json!(128)),
        ("linear_num_key_heads", json!(16)),
        ("linear_num_value_heads", json!(32)),
    ]);
    if config.get("attention_bias")?.unwrap_or(false) {
        return Err(ModelError::unsupported(config.path(), "attention_bias", true, false));
    }
    let mut rope = config.rope()?;
    rope.partial_rotary_factor.get_or_insert(0.25);
    let mut decoder = from_hf::base_with_experts(config, rope)?;
    differences(&mut decoder);
    decoder.norms = Norms { plus_one: true, ..Norms::PLAIN };
    decoder.delta_net = Some(DeltaNetConfig {
        key_heads: config.require("linear_num_key_heads")?,
        value_heads: config.require("linear_num_value_heads")?,
        key_dim: config.require("linear_key_head_dim")?,
        value_dim: config.require("linear_value_head_dim")?,
        taps: config.require("linear_conv_kernel_dim")?,
        order: HeadOrder::Grouped,
    });
    let types: Option<Vec<String>> = config.get("layer_types")?;
    if let Some(types) = types.as_ref().filter(|types| types.len() < decoder.layers) {
        let expected = format!("layer_types of {} layers", decoder.layers);
        return Err(ModelError::config(config.path(), expected, types.len()));
    }
    let period = config.get("full_attention_interval")?.unwrap_or(PERIOD).max(1);
    for (i, layer) in decoder.layer_types.iter_mut().enumerate() {
        layer.mixer = match types.as_ref().and_then(|types| types.get(i)).map(String::as_str) {
            Some(FULL) => MixerType::Attention,
            Some(LINEAR) => MixerType::DeltaNet,
            None if (i + 1).is_multiple_of(period) => MixerType::Attention,
            None => MixerType::DeltaNet,
            Some(other) => {
                let supported = format!("{FULL} and {LINEAR}");
                return Err(ModelError::unsupported(config.path(), "layer_types", other, supported));
            }
        };
    }
    Ok(decoder)
}

/// Rotating pairs that follow the three axes of a picture; in a text all axes are one.
fn sections(decoder: &DecoderConfig) -> [usize; 3] {
    let pairs = decoder.rope.dim / 2;
    let time = pairs.div_ceil(3);
    let height = (pairs - time).div_ceil(2);
    [time, height, pairs - time - height]
}

pub fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    let name = |mixer| if mixer == MixerType::Attention { FULL } else { LINEAR };
    let types: Vec<&str> = decoder.layer_types.iter().map(|layer| name(layer.mixer)).collect();
    out.insert("layer_types".to_owned(), json!(types));
    if let Some(net) = &decoder.delta_net {
        let sizes = [
            ("linear_num_key_heads", net.key_heads),
            ("linear_num_value_heads", net.value_heads),
            ("linear_key_head_dim", net.key_dim),
            ("linear_value_head_dim", net.value_dim),
            ("linear_conv_kernel_dim", net.taps),
        ];
        out.extend(sizes.map(|(key, size)| (key.to_owned(), json!(size))));
    }
    if let Some(rope) = out.get_mut("rope_parameters").and_then(Value::as_object_mut) {
        // What is not there is a quarter.
        rope.insert("partial_rotary_factor".to_owned(), json!(decoder.rope.dim as f64 / decoder.head_dim as f64));
        rope.insert("mrope_interleaved".to_owned(), json!(true));
        rope.insert("mrope_section".to_owned(), json!(sections(decoder)));
    }
}

pub fn write_gguf(architecture: &str, decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    let key = |name: &str| format!("{architecture}.{name}");
    let linear: Vec<bool> = decoder.layer_types.iter().map(|layer| layer.mixer == MixerType::DeltaNet).collect();
    let interval = decoder.period(|layer| layer.mixer == MixerType::Attention).unwrap_or(PERIOD);
    if let Some(net) = &decoder.delta_net {
        out.set(&key("ssm.conv_kernel"), &(net.taps as u32));
        out.set(&key("ssm.state_size"), &(net.key_dim as u32));
        out.set(&key("ssm.group_count"), &(net.key_heads as u32));
        out.set(&key("ssm.time_step_rank"), &(net.value_heads as u32));
        out.set(&key("ssm.inner_size"), &((net.value_heads * net.value_dim) as u32));
    }
    out.set(&key("attention.recurrent_layers"), &linear);
    out.set(&key("full_attention_interval"), &(interval as u32));
    let [time, height, width] = sections(decoder).map(|pairs| pairs as i32);
    out.set(&key("rope.dimension_sections"), &vec![time, height, width, 0]);
}
