//! Phi-3, Phi-3.5-mini, Phi-4 and Phi-4-mini: fused projections, a part of each head rotates, and frequencies have factors
//! of their own.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::{Architecture, DecoderConfig, RopeScaling, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "phi3",
    hf: &[("phi3", "Phi3ForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[
        ("blk.{}.attn_qkv", "model.layers.{}.self_attn.qkv_proj"),
        ("blk.{}.ffn_up", "model.layers.{}.mlp.gate_up_proj"),
    ],
    packings: &[],
    gguf_rope: RopeStyle::Half,
    hf_biases: &[],
    write_hf,
    write_gguf,
};

/// Files tell of the scaling by having its factors as tensors.
fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let name = ARCHITECTURE.name;
    let mut decoder = from_gguf::base(metadata, name, ARCHITECTURE.gguf_rope, &[from_gguf::SLIDING_WINDOW])?;
    from_gguf::read_windows(metadata, name, &mut decoder, 0)?;
    let keys = from_gguf::Keys { metadata, architecture: name };
    if keys.get::<f32>("rope.scaling.attn_factor")?.is_some() {
        let original_context = keys.get("rope.scaling.original_context_length")?.unwrap_or(decoder.context);
        decoder.rope.scaling = RopeScaling::LongRope { original_context, short: Vec::new(), long: Vec::new() };
    }
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let mut decoder = from_hf::base(config, config.rope()?)?;
    if let RopeScaling::LongRope { original_context, .. } = &mut decoder.rope.scaling {
        // The older key stands outside the parameters of RoPE.
        *original_context = config.rope()?.original_context.unwrap_or(*original_context);
    }
    decoder.window = config.get("sliding_window")?;
    let sliding = decoder.window.is_some();
    decoder.layer_types.iter_mut().for_each(|layer| layer.sliding = sliding);
    Ok(decoder)
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    out.insert("sliding_window".to_owned(), json!(decoder.window));
    out.insert("original_max_position_embeddings".to_owned(), json!(original_context(decoder)));
}

fn write_gguf(decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    if decoder.rope.scaling == RopeScaling::None {
        out.set("phi3.rope.scaling.original_context_length", &(decoder.context as u32));
    }
    if decoder.window.is_none() {
        // How these files say that there is none.
        out.set("phi3.attention.sliding_window", &0u32);
    }
}

fn original_context(decoder: &DecoderConfig) -> usize {
    match decoder.rope.scaling {
        RopeScaling::LongRope { original_context, .. } => original_context,
        _ => decoder.context,
    }
}
