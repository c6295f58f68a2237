//! Gemma 3: as Gemma 2, with normed queries and keys in place of soft-capping; five of six layers slide, and rotate by a
//! base of their own. The text part of the models that see is the same.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::gemma2::{attention_scale, gemma, query_pre_attn_scalar};
use super::{Architecture, DecoderConfig, QkNorm, RopeScaling, RopeSettings, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "gemma3",
    hf: &[("gemma3_text", "Gemma3ForCausalLM"), ("gemma3", "Gemma3ForConditionalGeneration")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[
        ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"),
        ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"),
        ("blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm"),
        ("blk.{}.ffn_norm", "model.layers.{}.pre_feedforward_layernorm"),
        ("blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm"),
    ],
    packings: &[],
    gguf_rope: RopeStyle::Half,
    hf_biases: &[],
    write_hf,
    write_gguf: |_: &DecoderConfig, _: &mut MetadataBuilder| {},
};

const LARGEST_LAYERS: usize = 62;
/// Every layer whose number is a multiple sees the whole context.
const PERIOD: usize = 6;
/// RoPE base of sliding layers, unless the file says otherwise.
const SLIDING_THETA: f64 = 10_000.0;

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let name = ARCHITECTURE.name;
    let reads = [from_gguf::SLIDING_WINDOW, "final_logit_softcapping"];
    let mut decoder = from_gguf::base(metadata, name, ARCHITECTURE.gguf_rope, &reads)?;
    let keys = from_gguf::Keys { metadata, architecture: name };
    gemma(&mut decoder, false);
    decoder.qk_norm = QkNorm::Heads;
    decoder.scales.logit_softcap = keys.get("final_logit_softcapping")?.filter(|cap| *cap != 0.0);
    if keys.get::<f32>("attention.scale")?.is_none() {
        decoder.attention_scale = attention_scale(&decoder, LARGEST_LAYERS);
    }
    from_gguf::read_windows(metadata, name, &mut decoder, PERIOD)?;
    let theta = keys.get("rope.freq_base_swa")?.unwrap_or(SLIDING_THETA);
    decoder.sliding_rope = decoder.window.map(|_| sliding_rope(&decoder.rope, theta));
    Ok(decoder)
}

/// Sliding layers never scale.
fn sliding_rope(rope: &RopeSettings, theta: f64) -> RopeSettings {
    RopeSettings { theta, scaling: RopeScaling::None, attention_factor: 1.0, ..rope.clone() }
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    // Published files leave out what is as in the smallest model.
    let config = &config.text(&[
        ("vocab_size", json!(262_208)),
        ("hidden_size", json!(2304)),
        ("intermediate_size", json!(9216)),
        ("num_hidden_layers", json!(26)),
        ("num_attention_heads", json!(8)),
        ("num_key_value_heads", json!(4)),
        ("head_dim", json!(256)),
        ("hidden_activation", json!("gelu_pytorch_tanh")),
        ("max_position_embeddings", json!(131_072)),
        ("query_pre_attn_scalar", json!(256)),
        ("sliding_window", json!(4096)),
        ("rope_theta", json!(1_000_000.0)),
        ("tie_word_embeddings", json!(true)),
    ]);
    if config.get("use_bidirectional_attention")?.unwrap_or(false) {
        let key = "use_bidirectional_attention";
        return Err(ModelError::unsupported(config.path(), key, true, false));
    }
    let mut decoder = from_hf::base(config, from_hf::full_rope(config)?)?;
    gemma(&mut decoder, true);
    decoder.qk_norm = QkNorm::Heads;
    decoder.attention_softcap = config.get("attn_logit_softcapping")?;
    decoder.scales.logit_softcap = config.get("final_logit_softcapping")?;
    decoder.attention_scale = (1.0 / config.require::<f64>("query_pre_attn_scalar")?.sqrt()) as f32;
    let period = config.get("sliding_window_pattern")?.unwrap_or(PERIOD).max(1);
    from_hf::read_layer_types(config, &mut decoder, |layer| !(layer + 1).is_multiple_of(period))?;
    // A set of parameters for each type of layer, or one for full layers and a base for the others.
    decoder.sliding_rope = Some(match from_hf::own_sliding_rope(config, &decoder)? {
        Some(rope) => rope,
        None => sliding_rope(&decoder.rope, config.get("rope_local_base_freq")?.unwrap_or(SLIDING_THETA)),
    });
    Ok(decoder)
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    out.insert("hidden_activation".to_owned(), json!("gelu_pytorch_tanh"));
    out.insert("query_pre_attn_scalar".to_owned(), query_pre_attn_scalar(decoder));
    out.insert("final_logit_softcapping".to_owned(), json!(decoder.scales.logit_softcap));
    out.insert("sliding_window".to_owned(), json!(decoder.window));
    out.insert("layer_types".to_owned(), json!(from_hf::layer_types(&decoder.layer_types)));
    if let Some(rope) = &decoder.sliding_rope {
        out.insert("rope_local_base_freq".to_owned(), json!(rope.theta));
    }
}
