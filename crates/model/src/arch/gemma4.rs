//! Gemma 4: values are normed too; layers that see the whole context have heads of another size and rotate a share of each;
//! the last layers read keys and values of earlier ones; small models give every layer an input of the token itself.

use formats::gguf::{Metadata, MetadataBuilder};
use formats::hf::HfConfig;
use kernels::plan::RopeStyle;
use serde_json::{Map, Value, json};

use super::gemma2::gemma;
use super::{Architecture, DecoderConfig, Presence, QkNorm, RopeScaling, RopeSettings, from_gguf, from_hf};
use crate::ModelError;

pub static ARCHITECTURE: Architecture = Architecture {
    name: "gemma4",
    models: "Gemma 4 (dense), the text part",
    limits: "",
    hf: &[
        ("gemma4_text", "Gemma4ForCausalLM"),
        ("gemma4", "Gemma4ForConditionalGeneration"),
        ("gemma4_unified_text", "Gemma4UnifiedForCausalLM"),
        ("gemma4_unified", "Gemma4UnifiedForConditionalGeneration"),
    ],
    from_gguf: gguf,
    from_hf: hf,
    extra_tensors: &[
        ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"),
        ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"),
        ("blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm"),
        ("blk.{}.ffn_norm", "model.layers.{}.pre_feedforward_layernorm"),
        ("blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm"),
        ("blk.{}.layer_output_scale", "model.layers.{}.layer_scalar"),
        ("blk.{}.inp_gate", "model.layers.{}.per_layer_input_gate"),
        ("blk.{}.proj", "model.layers.{}.per_layer_projection"),
        ("blk.{}.post_norm", "model.layers.{}.post_per_layer_input_norm"),
        ("per_layer_token_embd", "model.embed_tokens_per_layer"),
        ("per_layer_model_proj", "model.per_layer_model_projection"),
        ("per_layer_proj_norm", "model.per_layer_projection_norm"),
    ],
    packings: &[],
    gguf_rope: RopeStyle::Half,
    hf_biases: &[],
    write_hf,
    write_gguf,
};

/// Every layer whose number is a multiple sees the whole context.
const PERIOD: usize = 6;
/// RoPE base of sliding layers, unless the file says otherwise.
const SLIDING_THETA: f64 = 10_000.0;
/// Heads of layers that see the whole context, unless the file says otherwise.
const FULL_HEAD: usize = 512;

const HEAD_SLIDING: &str = "attention.key_length_swa";
const LAYER_INPUT: &str = "embedding_length_per_layer_input";
const SHARED: &str = "attention.shared_kv_layers";

fn gguf(metadata: &Metadata) -> Result<DecoderConfig, ModelError> {
    let name = ARCHITECTURE.name;
    let reads = [from_gguf::SLIDING_WINDOW, from_gguf::KV_HEADS, from_gguf::FEED_FORWARD, "final_logit_softcapping"];
    let mut decoder = from_gguf::base(metadata, name, ARCHITECTURE.gguf_rope, &reads)?;
    let keys = from_gguf::Keys { metadata, architecture: name };
    differences(&mut decoder);
    decoder.scales.logit_softcap = keys.get("final_logit_softcapping")?.filter(|cap| *cap != 0.0);
    decoder.layer_input = keys.get(LAYER_INPUT)?.filter(|width| *width > 0);
    decoder.rope.divisors = Presence::Required;
    decoder.layer_scale = Presence::Optional;
    from_gguf::read_windows(metadata, name, &mut decoder, PERIOD)?;
    let head: usize = keys.get(HEAD_SLIDING)?.unwrap_or(decoder.head_dim);
    let per_layer = |key: &str| {
        let list = keys.of_layers(key)?.filter(|list| list.len() > 1);
        match list {
            Some(list) if list.len() < decoder.layers => {
                let expected = format!("{name}.{key} of {} layers", decoder.layers);
                Err(ModelError::config(metadata.path(), expected, list.len()))
            }
            list => Ok(list),
        }
    };
    let (kv_heads, intermediate) = (per_layer(from_gguf::KV_HEADS)?, per_layer(from_gguf::FEED_FORWARD)?);
    if let (Some(list), Some(full)) = (&kv_heads, decoder.first_layer(false)) {
        decoder.kv_heads = list[full];
    }
    for (i, layer) in decoder.layer_types.iter_mut().enumerate() {
        layer.head_dim = Some(head).filter(|head| layer.sliding && *head != decoder.head_dim);
        layer.kv_heads = kv_heads.as_ref().map(|list| list[i]).filter(|heads| *heads != decoder.kv_heads);
        layer.intermediate = intermediate.as_ref().map(|list| list[i]).filter(|size| *size != decoder.intermediate);
        layer.values = if layer.sliding { Presence::Required } else { Presence::Optional };
    }
    decoder.share_last(keys.get(SHARED)?.unwrap_or(0), metadata.path())?;
    let dim = keys.get("rope.dimension_count_swa")?.unwrap_or(head);
    let theta = keys.get("rope.freq_base_swa")?.unwrap_or(SLIDING_THETA);
    decoder.sliding_rope = decoder.window.map(|_| {
        let (scaling, divisors) = (RopeScaling::None, Presence::Absent);
        RopeSettings { dim, theta, scaling, divisors, attention_factor: 1.0, ..decoder.rope.clone() }
    });
    Ok(decoder)
}

fn differences(decoder: &mut DecoderConfig) {
    gemma(decoder, false);
    decoder.attention_scale = 1.0;
    decoder.qk_norm = QkNorm::Heads;
    decoder.v_norm = true;
}

fn hf(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    // A file that says null has no input of layers, nor has a unified model; one that says nothing has the usual.
    let unified = config.model_type()?.starts_with("gemma4_unified");
    let none = unified || config.text(&[]).value().get("hidden_size_per_layer_input").is_some_and(Value::is_null);
    let config = &config.text(&[
        ("vocab_size", json!(262_144)),
        ("hidden_size", json!(2304)),
        ("intermediate_size", json!(9216)),
        ("num_hidden_layers", json!(30)),
        ("num_attention_heads", json!(8)),
        ("num_key_value_heads", json!(4)),
        ("head_dim", json!(256)),
        ("hidden_activation", json!("gelu_pytorch_tanh")),
        ("max_position_embeddings", json!(if unified { 262_144 } else { 131_072 })),
        ("sliding_window", json!(if unified { 1024 } else { 512 })),
        ("hidden_size_per_layer_input", json!(if none { 0 } else { 256 })),
        ("rope_parameters", json!({
            from_hf::SLIDING: { "rope_type": "default", "rope_theta": SLIDING_THETA },
            from_hf::FULL: { "rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0 },
        })),
        ("tie_word_embeddings", json!(true)),
    ]);
    refuse_variants(config)?;
    let full = from_hf::full_rope(config)?;
    let mut decoder = from_hf::base(config, full.clone())?;
    differences(&mut decoder);
    decoder.layer_scale = Presence::Required;
    decoder.scales.logit_softcap = config.get("final_logit_softcapping")?;
    decoder.layer_input = config.get("hidden_size_per_layer_input")?.filter(|width| *width > 0);
    from_hf::read_layer_types(config, &mut decoder, |layer| !(layer + 1).is_multiple_of(PERIOD))?;
    // As the family's own code has it.
    if let Some(last) = decoder.layer_types.last_mut() {
        last.sliding = false;
    }
    decoder.sliding_rope = from_hf::own_sliding_rope(config, &decoder)?;
    let sizes = Sizes::read(config, &decoder)?;
    let (head, kv_heads) = (decoder.head_dim, decoder.kv_heads);
    (decoder.head_dim, decoder.kv_heads) = (sizes.head_dim, sizes.kv_heads);
    decoder.rope = from_hf::rope(config, &full, decoder.head_dim, decoder.context)?;
    let keys_are_values = config.get("attention_k_eq_v")?.unwrap_or(false);
    for layer in &mut decoder.layer_types {
        layer.head_dim = Some(head).filter(|head| layer.sliding && *head != decoder.head_dim);
        layer.kv_heads = Some(kv_heads).filter(|heads| layer.sliding && *heads != decoder.kv_heads);
        layer.values = Presence::when(layer.sliding || !keys_are_values);
    }
    decoder.share_last(config.get("num_kv_shared_layers")?.unwrap_or(0), config.path())?;
    if config.get("use_double_wide_mlp")?.unwrap_or(false) {
        let wide = decoder.intermediate.saturating_mul(2);
        let sharing = decoder.layer_types.iter_mut().filter(|layer| layer.reads.is_some());
        sharing.for_each(|layer| layer.intermediate = Some(wide));
    }
    Ok(decoder)
}

/// Sizes of the layers that see the whole context.
struct Sizes {
    head_dim: usize,
    kv_heads: usize,
}

impl Sizes {
    /// In either spelling: for all such layers, or for each by its number.
    fn read(config: &HfConfig, decoder: &DecoderConfig) -> Result<Self, ModelError> {
        let own = config.find("per_layer_config");
        let of = |layer: usize, key: &str| config.get::<usize>(&format!("per_layer_config.{layer}.{key}"));
        let keys_are_values = config.get("attention_k_eq_v")?.unwrap_or(false);
        let all_heads = config.get("num_global_key_value_heads")?.filter(|_| keys_are_values);
        let sizes = |layer: usize| {
            let head_dim = match own {
                Some(_) => of(layer, "head_dim")?.unwrap_or(decoder.head_dim),
                None => config.get("global_head_dim")?.unwrap_or(FULL_HEAD),
            };
            let kv_heads = of(layer, "num_key_value_heads")?.or(all_heads).unwrap_or(decoder.kv_heads);
            Ok::<_, ModelError>(Self { head_dim, kv_heads })
        };
        let full: Vec<usize> = (0..decoder.layers).filter(|layer| !decoder.layer_types[*layer].sliding).collect();
        let first = sizes(full.first().copied().unwrap_or(0))?;
        for &layer in &full {
            let Self { head_dim, kv_heads } = sizes(layer)?;
            if (head_dim, kv_heads) != (first.head_dim, first.kv_heads) {
                let (found, supported) = (format!("{kv_heads} of {head_dim} in layer {layer}"), "one size for all");
                return Err(ModelError::unsupported(config.path(), "per_layer_config", found, supported));
            }
        }
        Ok(first)
    }
}

fn refuse_variants(config: &HfConfig) -> Result<(), ModelError> {
    for key in ["enable_moe_block", "attention_bias"] {
        if config.get(key)?.unwrap_or(false) {
            return Err(ModelError::unsupported(config.path(), key, true, false));
        }
    }
    let key = "use_bidirectional_attention";
    if config.get::<String>(key)?.is_some_and(|kind| kind == "all") {
        return Err(ModelError::unsupported(config.path(), key, "all", "null or vision"));
    }
    let (key, vocab): (_, usize) = ("vocab_size_per_layer_input", config.require("vocab_size")?);
    match config.get::<usize>(key)?.filter(|found| *found != vocab) {
        Some(found) if config.find("hidden_size_per_layer_input") != Some(&json!(0)) => {
            Err(ModelError::unsupported(config.path(), key, found, vocab))
        }
        _ => Ok(()),
    }
}

fn write_hf(decoder: &DecoderConfig, out: &mut Map<String, Value>) {
    let sliding = decoder.first_layer(true).unwrap_or(0);
    let keys_are_values = decoder.layer_types.iter().any(|layer| layer.values == Presence::Absent);
    let shared = decoder.layer_types.iter().filter(|layer| layer.reads.is_some()).count();
    let wide = decoder.layer_types.iter().any(|layer| layer.intermediate.is_some());
    // Keys of others without inputs of layers stand in unified models alone, and only their code computes them.
    if shared > 0 && decoder.layer_input.is_none() {
        let (model_type, class) = ARCHITECTURE.hf[2];
        out.insert("model_type".to_owned(), json!(model_type));
        out.insert("architectures".to_owned(), json!([class]));
    }
    // Spellings that are older than the family.
    for key in ["rope_scaling", "rope_theta"] {
        out.remove(key);
    }
    let mut set = |key: &str, value: Value| out.insert(key.to_owned(), value);
    set("hidden_activation", json!("gelu_pytorch_tanh"));
    set("head_dim", json!(decoder.head_dim_of(sliding)));
    set("global_head_dim", json!(decoder.head_dim));
    set("num_key_value_heads", json!(decoder.kv_heads_of(sliding)));
    set("num_global_key_value_heads", if keys_are_values { json!(decoder.kv_heads) } else { Value::Null });
    set("attention_k_eq_v", json!(keys_are_values));
    set("num_kv_shared_layers", json!(shared));
    set("use_double_wide_mlp", json!(wide));
    set("hidden_size_per_layer_input", json!(decoder.layer_input.unwrap_or(0)));
    set("vocab_size_per_layer_input", json!(decoder.vocab));
    set("enable_moe_block", json!(false));
    set("final_logit_softcapping", json!(decoder.scales.logit_softcap));
    set("sliding_window", json!(decoder.window));
    set("layer_types", json!(from_hf::layer_types(&decoder.layer_types)));
}

fn write_gguf(decoder: &DecoderConfig, out: &mut MetadataBuilder) {
    let key = |name: &str| format!("{}.{name}", ARCHITECTURE.name);
    let per_layer = |of: fn(&DecoderConfig, usize) -> usize| {
        let list: Vec<u32> = (0..decoder.layers).map(|layer| of(decoder, layer) as u32).collect();
        list.windows(2).any(|two| two[0] != two[1]).then_some(list)
    };
    let head = decoder.sliding_head_dim() as u32;
    out.set(&key(HEAD_SLIDING), &head);
    out.set(&key("attention.value_length_swa"), &head);
    if let Some(rope) = &decoder.sliding_rope {
        out.set(&key("rope.dimension_count_swa"), &(rope.dim as u32));
    }
    if let Some(list) = per_layer(DecoderConfig::kv_heads_of) {
        out.set(&key(from_gguf::KV_HEADS), &list);
    }
    if let Some(list) = per_layer(DecoderConfig::intermediate_of) {
        out.set(&key(from_gguf::FEED_FORWARD), &list);
    }
    let shared = decoder.layer_types.iter().filter(|layer| layer.reads.is_some()).count();
    out.set(&key(SHARED), &(shared as u32));
    out.set(&key(LAYER_INPUT), &(decoder.layer_input.unwrap_or(0) as u32));
}
