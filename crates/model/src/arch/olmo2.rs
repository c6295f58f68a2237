//! OLMo 2 and OLMo 3: norms after attention and after the feed-forward layer only, and of all heads' queries and keys
//! together. Three of four layers of OLMo 3 slide; where RoPE is scaled, they rotate as before.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::{Architecture, DecoderConfig, Norms, QkNorm, RopeScaling, RopeSettings, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "olmo2",
    hf: &[("olmo2", "Olmo2ForCausalLM"), ("olmo3", "Olmo3ForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[
        ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"),
        ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"),
        ("blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm"),
        ("blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm"),
    ],
    packings: &[],
    gguf_rope: RopeStyle::Half,
    hf_biases: &[],
    write_hf,
    write_gguf: |_: &DecoderConfig, _: &mut MetadataBuilder| {},
};

/// Every layer whose number is a multiple sees the whole context.
const PERIOD: usize = 4;

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let reads = [from_gguf::SLIDING_WINDOW];
    let mut decoder = from_gguf::base(metadata, ARCHITECTURE.name, ARCHITECTURE.gguf_rope, &reads)?;
    from_gguf::read_windows(metadata, ARCHITECTURE.name, &mut decoder, PERIOD)?;
    differences(&mut decoder);
    let keys = from_gguf::Keys { metadata, architecture: ARCHITECTURE.name };
    if let (Some(rope), Some(theta)) = (&mut decoder.sliding_rope, keys.get("rope.freq_base_swa")?) {
        rope.theta = theta;
    }
    Ok(decoder)
}

fn differences(decoder: &mut DecoderConfig) {
    decoder.norms = Norms { before: false, after: true, ..Norms::PLAIN };
    decoder.qk_norm = QkNorm::Whole;
    let plain = RopeSettings { scaling: RopeScaling::None, attention_factor: 1.0, ..decoder.rope.clone() };
    decoder.sliding_rope = decoder.window.map(|_| plain);
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    if config.get("attention_bias")?.unwrap_or(false) {
        return Err(ModelError::unsupported(config.path(), "attention_bias", true, false));
    }
    if config.model_type()? == "olmo2" {
        let mut decoder = from_hf::common(config)?;
        differences(&mut decoder);
        return Ok(decoder);
    }
    let config = &config.text(&[("sliding_window", json!(4096))]);
    let mut decoder = from_hf::base(config, from_hf::full_rope(config)?)?;
    from_hf::read_layer_types(config, &mut decoder, |layer| !(layer + 1).is_multiple_of(PERIOD))?;
    differences(&mut decoder);
    if let Some(rope) = from_hf::own_sliding_rope(config, &decoder)? {
        decoder.sliding_rope = Some(rope);
    }
    Ok(decoder)
}

/// A window belongs to OLMo 3.
fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    if decoder.window.is_some() {
        let (model_type, class) = ARCHITECTURE.hf[1];
        out.insert("model_type".to_owned(), json!(model_type));
        out.insert("architectures".to_owned(), json!([class]));
        out.insert("sliding_window".to_owned(), json!(decoder.window));
        out.insert("layer_types".to_owned(), json!(from_hf::layer_types(&decoder.layer_types)));
    }
}
