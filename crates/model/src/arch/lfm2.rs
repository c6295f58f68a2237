//! LFM2: most layers are gated convolutions over a few positions, the others attention with normed queries and keys.

use formats::gguf::{Array, FromValue, Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::from_hf::FULL;
use super::{Architecture, DecoderConfig, MixerType, QkNorm, from_gguf, from_hf};
use crate::ModelError;

/// Names that the family with experts has too.
pub const TENSORS: &[(&str, &str)] = &[
    ("blk.{}.attn_norm", "model.layers.{}.operator_norm"),
    ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_layernorm"),
    ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_layernorm"),
    ("blk.{}.attn_output", "model.layers.{}.self_attn.out_proj"),
    ("blk.{}.shortconv.in_proj", "model.layers.{}.conv.in_proj"),
    ("blk.{}.shortconv.conv", "model.layers.{}.conv.conv"),
    ("blk.{}.shortconv.out_proj", "model.layers.{}.conv.out_proj"),
    ("blk.{}.ffn_norm", "model.layers.{}.ffn_norm"),
    ("blk.{}.ffn_gate", "model.layers.{}.feed_forward.w1"),
    ("blk.{}.ffn_up", "model.layers.{}.feed_forward.w3"),
    ("blk.{}.ffn_down", "model.layers.{}.feed_forward.w2"),
    ("token_embd_norm", "model.embedding_norm"),
];

pub static ARCHITECTURE: Architecture = Architecture {
    name: "lfm2",
    models: "LFM2",
    limits: "",
    hf: &[("lfm2", "Lfm2ForCausalLM")],
    from_gguf: |metadata| gguf(metadata, ARCHITECTURE.name, &[]),
    from_hf: dense,
    extra_tensors: TENSORS,
    packings: &[],
    gguf_rope: RopeStyle::Half,
    hf_biases: &[],
    write_hf,
    write_gguf: |decoder, out| write_gguf(ARCHITECTURE.name, decoder, out),
};

/// The name of a convolution in `layer_types`.
const CONV: &str = "conv";
const TAPS: &str = "shortconv.l_cache";

/// Of the architecture with this name, which reads more keys itself. Layers without key and value heads are convolutions.
pub fn gguf(metadata: &Metadata, name: &str, reads: &[&str]) -> Result<DecoderConfig, ModelError> {
    let reads = [&[from_gguf::KV_HEADS], reads].concat();
    let mut decoder = from_gguf::base(metadata, name, ARCHITECTURE.gguf_rope, &reads)?;
    let taps = from_gguf::Keys { metadata, architecture: name }.require(TAPS)?;
    let key = format!("{name}.{}", from_gguf::KV_HEADS);
    let heads: Vec<usize> =
        metadata.require::<Array>(&key)?.values().map(|v| usize::from_value(v).unwrap_or(0)).collect();
    decoder.kv_heads = heads.iter().copied().max().unwrap_or(0);
    if heads.len() < decoder.layers || heads.iter().any(|n| *n != 0 && *n != decoder.kv_heads) {
        let expected = format!("{key} of {} layers, 0 or the same number", decoder.layers);
        return Err(ModelError::config(metadata.path(), expected, format!("{heads:?}")));
    }
    differences(&mut decoder, taps, |layer| heads[layer] == 0);
    Ok(decoder)
}

fn differences(decoder: &mut DecoderConfig, taps: usize, is_conv: impl Fn(usize) -> bool) {
    decoder.qk_norm = QkNorm::Heads;
    for (i, layer) in decoder.layer_types.iter_mut().enumerate() {
        layer.mixer = if is_conv(i) { MixerType::ShortConv { taps } } else { MixerType::Attention };
    }
}

fn dense(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    from_hf::refuse_experts(config)?;
    hf(config)
}

/// Experts aside.
pub fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let config = &config.text(&[
        ("vocab_size", json!(65_536)),
        ("hidden_size", json!(2560)),
        ("intermediate_size", json!(12_288)),
        ("num_hidden_layers", json!(32)),
        ("num_attention_heads", json!(32)),
        ("num_key_value_heads", json!(8)),
        ("max_position_embeddings", json!(128_000)),
        ("norm_eps", json!(1e-5)),
        ("rope_theta", json!(1_000_000.0)),
        ("conv_L_cache", json!(3)),
        ("block_multiple_of", json!(256)),
        ("block_ffn_dim_multiplier", json!(1.0)),
        ("block_auto_adjust_ff_dim", json!(true)),
    ]);
    if config.get("conv_bias")?.unwrap_or(false) {
        return Err(ModelError::unsupported(config.path(), "conv_bias", true, false));
    }
    let mut decoder = from_hf::base_with_experts(config, config.rope()?)?;
    decoder.norm_eps = config.require("norm_eps")?;
    decoder.tied = config.get("tie_embedding")?.or(config.get("tie_word_embeddings")?).unwrap_or(true);
    decoder.intermediate = intermediate(config, decoder.intermediate)?;
    let conv = convolutions(config, decoder.layers)?;
    differences(&mut decoder, config.require("conv_L_cache")?, |layer| conv[layer]);
    Ok(decoder)
}

/// Width of the feed-forward layer: two thirds of what the file says, times a factor, in whole multiples, if it is adjusted.
fn intermediate(config: &HfConfig, plain: usize) -> Result<usize, ModelError> {
    let width = config.get("block_ff_dim")?.unwrap_or(plain);
    if !config.require::<bool>("block_auto_adjust_ff_dim")? {
        return Ok(width);
    }
    let thirds = (2.0 * width as f64 / 3.0) as usize;
    let Some(factor) = config.get::<f64>("block_ffn_dim_multiplier")? else { return Ok(thirds) };
    let multiple: usize = config.require("block_multiple_of")?;
    match ((factor * thirds as f64) as usize).checked_next_multiple_of(multiple) {
        Some(width) => Ok(width),
        None => Err(ModelError::config(config.path(), "a positive block_multiple_of", multiple)),
    }
}

/// Whether each layer is a convolution: as `layer_types` says, else those that `full_attn_idxs` does not list.
fn convolutions(config: &HfConfig, layers: usize) -> Result<Vec<bool>, ModelError> {
    let Some(types) = config.get::<Vec<String>>("layer_types")? else {
        let attention: Option<Vec<usize>> = config.get("full_attn_idxs")?;
        let is_conv = |layer: usize| attention.as_ref().is_some_and(|attention| !attention.contains(&layer));
        return Ok((0..layers).map(is_conv).collect());
    };
    if let Some(other) = types.iter().find(|t| ![CONV, FULL].contains(&t.as_str())) {
        return Err(ModelError::unsupported(config.path(), "layer_types", other, format!("{CONV} and {FULL}")));
    }
    if types.len() < layers {
        return Err(ModelError::config(config.path(), format!("layer_types of {layers} layers"), types.len()));
    }
    Ok(types.iter().map(|t| t == CONV).collect())
}

/// As in every file with convolutions.
fn taps(decoder: &DecoderConfig) -> Option<usize> {
    decoder.layer_types.iter().find_map(|layer| match layer.mixer {
        MixerType::ShortConv { taps } => Some(taps),
        _ => None,
    })
}

pub fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    let types: Vec<&str> =
        decoder.layer_types.iter().map(|l| if l.mixer == MixerType::Attention { FULL } else { CONV }).collect();
    let values = [
        ("layer_types", json!(types)),
        ("conv_L_cache", json!(taps(decoder).unwrap_or(1))),
        ("conv_bias", json!(false)),
        ("block_auto_adjust_ff_dim", json!(false)),
        ("block_ff_dim", json!(decoder.intermediate)),
        ("block_multiple_of", json!(256)),
        ("block_ffn_dim_multiplier", json!(1.0)),
        ("tie_embedding", json!(decoder.tied)),
    ];
    out.extend(values.map(|(key, value)| (key.to_owned(), value)));
    if let Some(eps) = out.remove("rms_norm_eps") {
        out.insert("norm_eps".to_owned(), eps);
    }
}

pub fn write_gguf(architecture: &str, decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    let heads = |mixer| if mixer == MixerType::Attention { decoder.kv_heads as i32 } else { 0 };
    let heads: Vec<i32> = decoder.layer_types.iter().map(|layer| heads(layer.mixer)).collect();
    out.set(&format!("{architecture}.{}", from_gguf::KV_HEADS), &heads);
    out.set(&format!("{architecture}.{TAPS}"), &(taps(decoder).unwrap_or(1) as u32));
}
