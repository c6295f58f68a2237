//! Gemma 2: norms around attention and the feed-forward layer, soft-capped scores and logits, every other layer slides.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::{Activation, RopeStyle};
use serde_json::{Map, Value, json};

use super::{Architecture, DecoderConfig, Norms, from_gguf, from_hf, names};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "gemma2",
    hf: &[("gemma2", "Gemma2ForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: names::NORMS_AROUND,
    packings: &[],
    gguf_rope: RopeStyle::Half,
    hf_biases: &[],
    write_hf,
    write_gguf: |_: &DecoderConfig, _: &mut MetadataBuilder| {},
};

/// The largest model divides queries by the root of its hidden size's share; which it is, files tell by their layers.
const LARGEST_LAYERS: usize = 46;
const DEFAULT_WINDOW: usize = 4096;

/// What all Gemmas have in common.
pub(super) fn gemma(decoder: &mut DecoderConfig, plus_one: bool) {
    decoder.activation = Activation::GeluTanh;
    decoder.norms = Norms { after: true, plus_one, ..Norms::PLAIN };
    decoder.scales.embedding = (decoder.hidden as f64).sqrt() as f32;
}

/// What multiplies `q·k` where the file does not tell: `1 / sqrt(scalar)`, whose scalar is the head size, or in the largest
/// model of a generation the hidden size by the heads.
pub(super) fn attention_scale(decoder: &DecoderConfig, largest_layers: usize) -> f32 {
    let share = decoder.hidden.checked_div(decoder.heads).unwrap_or(0);
    DecoderConfig::plain_attention_scale(if decoder.layers == largest_layers { share } else { decoder.head_dim })
}

/// The scalar that gives this factor.
pub(super) fn query_pre_attn_scalar(decoder: &DecoderConfig) -> Value {
    let scalar = f64::from(decoder.attention_scale).powi(-2);
    // Models have whole ones, of which the factor is a rounded root.
    if (scalar - scalar.round()).abs() < 1e-3 { json!(scalar.round() as u64) } else { json!(scalar) }
}

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let name = ARCHITECTURE.name;
    let reads = [from_gguf::SLIDING_WINDOW, "attn_logit_softcapping", "final_logit_softcapping"];
    let mut decoder = from_gguf::base(metadata, name, ARCHITECTURE.gguf_rope, &reads)?;
    let keys = from_gguf::Keys { metadata, architecture: name };
    gemma(&mut decoder, false);
    decoder.attention_softcap = keys.get("attn_logit_softcapping")?.filter(|cap| *cap != 0.0);
    decoder.scales.logit_softcap = keys.get("final_logit_softcapping")?.filter(|cap| *cap != 0.0);
    if keys.get::<f32>("attention.scale")?.is_none() {
        decoder.attention_scale = attention_scale(&decoder, LARGEST_LAYERS);
    }
    from_gguf::read_windows(metadata, name, &mut decoder, 2)?;
    if decoder.window.is_none() {
        decoder.window = Some(DEFAULT_WINDOW);
        decoder.layer_types.iter_mut().step_by(2).for_each(|layer| layer.sliding = true);
    }
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let config = &config.text(&[
        ("head_dim", json!(256)),
        ("sliding_window", json!(DEFAULT_WINDOW)),
        ("query_pre_attn_scalar", json!(256)),
        ("attn_logit_softcapping", json!(50.0)),
        ("final_logit_softcapping", json!(30.0)),
        ("tie_word_embeddings", json!(true)),
    ]);
    let mut decoder = from_hf::base(config, config.rope()?)?;
    gemma(&mut decoder, true);
    decoder.attention_softcap = config.get("attn_logit_softcapping")?;
    decoder.scales.logit_softcap = config.get("final_logit_softcapping")?;
    decoder.attention_scale = (1.0 / config.require::<f64>("query_pre_attn_scalar")?.sqrt()) as f32;
    from_hf::read_layer_types(config, &mut decoder, |layer| layer % 2 == 0)?;
    Ok(decoder)
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    out.insert("hidden_activation".to_owned(), json!("gelu_pytorch_tanh"));
    out.insert("query_pre_attn_scalar".to_owned(), query_pre_attn_scalar(decoder));
    out.insert("attn_logit_softcapping".to_owned(), json!(decoder.attention_softcap));
    out.insert("final_logit_softcapping".to_owned(), json!(decoder.scales.logit_softcap));
    out.insert("sliding_window".to_owned(), json!(decoder.window));
    out.insert("layer_types".to_owned(), json!(from_hf::layer_types(&decoder.layer_types)));
}
