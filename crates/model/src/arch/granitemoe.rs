//! Granite 3 and 4 with mixtures of experts: gate and up of all experts in one tensor, weights that are normalized, and from
//! the shared variant on an expert that all positions take.

use formats::gguf::Metadata;
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::granite::{self, HYBRID, no_layer_rotates};
use super::{Architecture, DecoderConfig, Packing, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "granitemoe",
    hf: &[("granitemoe", "GraniteMoeForCausalLM"), SHARED, HYBRID],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[("blk.{}.ffn_gate_inp", "model.layers.{}.block_sparse_moe.router.layer")],
    packings: &[
        Packing {
            hf: "model.layers.{}.block_sparse_moe.input_linear.weight",
            holds: &["ffn_gate_exps", "ffn_up_exps"],
            written: |_| true,
        },
        Packing {
            hf: "model.layers.{}.block_sparse_moe.output_linear.weight",
            holds: &["ffn_down_exps"],
            written: |_| true,
        },
        Packing {
            hf: "model.layers.{}.shared_mlp.input_linear.weight",
            holds: &["ffn_gate_shexp", "ffn_up_shexp"],
            written: |_| true,
        },
        Packing {
            hf: "model.layers.{}.shared_mlp.output_linear.weight",
            holds: &["ffn_down_shexp"],
            written: |_| true,
        },
        // As transformers 5 keeps them in memory.
        Packing {
            hf: "model.layers.{}.block_sparse_moe.experts.gate_up_proj",
            holds: &["ffn_gate_exps", "ffn_up_exps"],
            written: |_| false,
        },
        Packing {
            hf: "model.layers.{}.block_sparse_moe.experts.down_proj",
            holds: &["ffn_down_exps"],
            written: |_| false,
        },
        Packing { hf: "model.layers.{}.block_sparse_moe.router.weight", holds: &["ffn_gate_inp"], written: |_| false },
    ],
    gguf_rope: RopeStyle::Interleaved,
    hf_biases: &[("attention_bias", |b| b.qkv)],
    write_hf,
    write_gguf: |decoder, out| granite::write_gguf("granitemoe", decoder, out),
};

const SHARED: (&str, &str) = ("granitemoeshared", "GraniteMoeSharedForCausalLM");

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let mut decoder = granite::gguf(metadata, ARCHITECTURE.name)?;
    decoder.experts = Some(from_gguf::experts(metadata, ARCHITECTURE.name, &decoder, true)?);
    Ok(decoder)
}

/// The softmax is over the chosen experts, which is one over all, normalized.
fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let kind = config.model_type()?;
    let mut decoder = if kind == HYBRID.0 {
        granite::hybrid(config)?
    } else {
        granite::factors(config, from_hf::common_with_experts(config)?)?
    };
    let mut experts = from_hf::experts(config, &decoder, decoder.intermediate)?;
    experts.normalized = true;
    experts.shared = match kind {
        kind if kind == HYBRID.0 => Some(config.get("shared_intermediate_size")?.unwrap_or(1024)),
        kind if kind == SHARED.0 => config.get("shared_intermediate_size")?.filter(|width| *width > 0),
        _ => None,
    };
    decoder.experts = Some(experts);
    Ok(decoder)
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    granite::write_factors(decoder, out);
    let Some(experts) = &decoder.experts else { return };
    out.insert("num_local_experts".to_owned(), json!(experts.count));
    out.insert("num_experts_per_tok".to_owned(), json!(experts.used));
    if let Some(width) = experts.shared {
        out.insert("model_type".to_owned(), json!(SHARED.0));
        out.insert("architectures".to_owned(), json!([SHARED.1]));
        out.insert("shared_intermediate_size".to_owned(), json!(width));
    }
    if no_layer_rotates(decoder) {
        granite::write_hybrid(decoder, out);
    }
}
