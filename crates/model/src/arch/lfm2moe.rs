//! LFM2 with mixtures of experts: as LFM2, but for the first layers with experts whose scores are sigmoids, chosen with a bias
//! for each.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::{RopeStyle, RouterScore};
use serde_json::{Map, Value, json};

use super::from_gguf::{EXPERT_COUNT, Keys};
use super::names::joined;
use super::{Architecture, DecoderConfig, Packing, Presence, from_gguf, from_hf, lfm2};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "lfm2moe",
    models: "LFM2 with experts",
    limits: "",
    hf: &[("lfm2_moe", "Lfm2MoeForCausalLM")],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &joined::<13>(lfm2::TENSORS, &[("blk.{}.ffn_gate_inp", "model.layers.{}.feed_forward.gate")]),
    packings: &[
        Packing {
            hf: "model.layers.{}.feed_forward.experts.{e}.w1.weight",
            holds: &["ffn_gate_exps"],
            written: |_| true,
        },
        Packing {
            hf: "model.layers.{}.feed_forward.experts.{e}.w3.weight",
            holds: &["ffn_up_exps"],
            written: |_| true,
        },
        Packing {
            hf: "model.layers.{}.feed_forward.experts.{e}.w2.weight",
            holds: &["ffn_down_exps"],
            written: |_| true,
        },
        // As transformers 5 keeps them in memory.
        Packing {
            hf: "model.layers.{}.feed_forward.experts.gate_up_proj",
            holds: &["ffn_gate_exps", "ffn_up_exps"],
            written: |_| false,
        },
        Packing { hf: "model.layers.{}.feed_forward.experts.down_proj", holds: &["ffn_down_exps"], written: |_| false },
    ],
    gguf_rope: RopeStyle::Half,
    hf_biases: &[],
    write_hf,
    write_gguf,
};

/// Layers at the beginning without experts.
const DENSE: &str = "leading_dense_block_count";

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let name = ARCHITECTURE.name;
    let mut decoder = lfm2::gguf(metadata, name, &[EXPERT_COUNT])?;
    let mut experts = from_gguf::experts(metadata, name, &decoder, true)?;
    experts.choice_bias = Presence::Optional;
    let dense: usize = Keys { metadata, architecture: name }.get(DENSE)?.unwrap_or(0);
    experts.layers.iter_mut().take(dense).for_each(|sparse| *sparse = false);
    decoder.experts = Some(experts);
    Ok(decoder)
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let config = &config.text(&[
        ("hidden_size", json!(2048)),
        ("intermediate_size", json!(7168)),
        ("moe_intermediate_size", json!(1792)),
        ("num_dense_layers", json!(2)),
        ("num_experts", json!(32)),
        ("num_experts_per_tok", json!(4)),
        ("norm_topk_prob", json!(true)),
        ("use_expert_bias", json!(true)),
        // Its feed-forward layers are as wide as it says.
        ("block_auto_adjust_ff_dim", json!(false)),
    ]);
    let mut decoder = lfm2::hf(config)?;
    let mut experts = from_hf::experts(config, &decoder, config.require("moe_intermediate_size")?)?;
    experts.score = RouterScore::Sigmoid;
    experts.scale = config.get("routed_scaling_factor")?.unwrap_or(1.0);
    experts.choice_bias = Presence::when(config.require("use_expert_bias")?);
    let dense: usize = config.require("num_dense_layers")?;
    experts.layers.iter_mut().take(dense).for_each(|sparse| *sparse = false);
    decoder.experts = Some(experts);
    Ok(decoder)
}

/// Layers at the beginning without experts; others do not come back as they were.
fn leading_dense(decoder: &DecoderConfig) -> usize {
    let sparse = |layer: &usize| decoder.experts_of(*layer).is_some();
    (0..decoder.layers).find(sparse).unwrap_or(decoder.layers)
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    lfm2::write_hf(decoder, out);
    let Some(experts) = &decoder.experts else { return };
    for (key, value) in [
        ("num_experts", json!(experts.count)),
        ("num_experts_per_tok", json!(experts.used)),
        ("moe_intermediate_size", json!(experts.intermediate)),
        ("num_dense_layers", json!(leading_dense(decoder))),
        ("norm_topk_prob", json!(experts.normalized)),
        ("routed_scaling_factor", json!(experts.scale)),
        ("use_expert_bias", json!(experts.choice_bias == Presence::Required)),
    ] {
        out.insert(key.to_owned(), value);
    }
}

fn write_gguf(decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    lfm2::write_gguf(ARCHITECTURE.name, decoder, out);
    if let Some(experts) = &decoder.experts {
        out.set("lfm2moe.expert_feed_forward_length", &(experts.intermediate as u32));
        out.set(&format!("lfm2moe.{DENSE}"), &(leading_dense(decoder) as u32));
    }
}
