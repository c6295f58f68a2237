//! SmolLM3: every fourth layer does not rotate.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::{Architecture, Biases, DecoderConfig, Presence, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "smollm3",
    hf: &[("smollm3", "SmolLM3ForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[],
    packings: &[],
    gguf_rope: RopeStyle::Interleaved,
    hf_biases: &[("attention_bias", |b| b.qkv), ("mlp_bias", |b| b.mlp)],
    write_hf,
    write_gguf: |_: &DecoderConfig, _: &mut MetadataBuilder| {},
};

/// Every layer whose number is a multiple does not rotate.
const PERIOD: usize = 4;

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let mut decoder = from_gguf::common(metadata, ARCHITECTURE.name, ARCHITECTURE.gguf_rope)?;
    decoder.rope.divisors = Presence::Optional;
    decoder.biases = Biases::all(Presence::Optional);
    decoder.layer_types.iter_mut().enumerate().for_each(|(i, layer)| layer.rope = !(i + 1).is_multiple_of(PERIOD));
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let mut decoder = from_hf::base(config, config.rope()?)?;
    decoder.biases = from_hf::biases(config)?;
    let list: Option<Vec<u8>> = config.get("no_rope_layers")?;
    let period = config.get("no_rope_layer_interval")?.unwrap_or(PERIOD).max(1);
    let uses_windows = config.get("use_sliding_window")?.unwrap_or(false);
    for (i, layer) in decoder.layer_types.iter_mut().enumerate() {
        // The key lists the layers that rotate, despite its name.
        let listed = list.as_ref().and_then(|list| list.get(i));
        layer.rope = listed.map_or(!(i + 1).is_multiple_of(period), |rotates| *rotates != 0);
    }
    let sliding: Vec<bool> = decoder.layer_types.iter().map(|layer| uses_windows && !layer.rope).collect();
    from_hf::read_layer_types(config, &mut decoder, |i| sliding[i])?;
    Ok(decoder)
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    let rotates: Vec<u8> = decoder.layer_types.iter().map(|layer| layer.rope.into()).collect();
    out.insert("no_rope_layers".to_owned(), json!(rotates));
    out.insert("no_rope_layer_interval".to_owned(), json!(PERIOD));
}
