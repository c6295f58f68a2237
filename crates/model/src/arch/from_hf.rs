//! What `config.json` names alike for every architecture.

use formats::hf::{HfConfig, RopeConfig};
use formats::mlx::Quantization;
use kernels::plan::{Activation, NormKind, RopeStyle, RouterScore, Scales};
use serde_json::{Value, json};

use super::config::{Biases, DecoderConfig, Experts, LayerType, Norms, Presence, QkNorm, Ternary};
use super::rope::{RopeScaling, RopeSettings};
use crate::ModelError;

/// The names of layers in `layer_types`.
pub const FULL: &str = "full_attention";
pub const SLIDING: &str = "sliding_attention";

/// The activations of `hidden_act`; the first name of each is written.
pub const ACTIVATIONS: [(&str, Activation); 5] = [
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_new", Activation::GeluTanh),
    ("relu2", Activation::SquaredRelu),
];

/// The plain decoder as `config` describes it: no biases, no norms of queries and keys, attention to the whole context.
///
/// # Errors
/// A key is missing or of the wrong type, or asks for what the decoder does not do.
pub fn common(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    refuse_experts(config)?;
    common_with_experts(config)
}

/// As [`common`], of a family that reads the experts itself.
///
/// # Errors
/// As [`common`].
pub fn common_with_experts(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    refuse_windows(config)?;
    let unsupported =
        |key, found: String, supported| Err(ModelError::unsupported(config.path(), key, found, supported));
    let decoder = base_with_experts(config, config.rope()?)?;
    if decoder.activation != Activation::Silu {
        return unsupported("hidden_act", config.get("hidden_act")?.unwrap_or_default(), "silu");
    }
    if decoder.rope.dim != decoder.head_dim {
        let share = config.rope()?.partial_rotary_factor.unwrap_or(1.0);
        return unsupported("partial_rotary_factor", share.to_string(), "1");
    }
    if matches!(decoder.rope.scaling, RopeScaling::LongRope { .. } | RopeScaling::Proportional { .. }) {
        return unsupported("rope_type", config.rope()?.kind, "default, linear, llama3 or yarn");
    }
    Ok(decoder)
}

/// As [`common`], of a family that reads windows and the share of rotating values itself.
///
/// # Errors
/// As [`common`].
pub fn base(config: &HfConfig, rope_config: RopeConfig) -> Result<DecoderConfig, ModelError> {
    refuse_experts(config)?;
    base_with_experts(config, rope_config)
}

/// As [`base`], of a family that reads the experts itself.
///
/// # Errors
/// As [`common`].
pub fn base_with_experts(config: &HfConfig, rope_config: RopeConfig) -> Result<DecoderConfig, ModelError> {
    refuse_variants(config)?;
    let hidden: usize = config.require("hidden_size")?;
    let heads: usize = config.require("num_attention_heads")?;
    let head_dim = match config.get("head_dim")? {
        Some(size) => size,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    let context: usize = config.require("max_position_embeddings")?;
    let layers: usize = config.require("num_hidden_layers")?;
    Ok(DecoderConfig {
        hidden,
        layers,
        heads,
        kv_heads: config.get("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        intermediate: config.require("intermediate_size")?,
        experts: None,
        vocab: config.require("vocab_size")?,
        context,
        norm: NormKind::Rms,
        norm_eps: config.get("rms_norm_eps")?.unwrap_or(1e-6),
        norms: Norms::PLAIN,
        activation: activation(config)?,
        scales: Scales::default(),
        attention_scale: DecoderConfig::plain_attention_scale(head_dim),
        attention_softcap: None,
        attention_gate: false,
        delta_net: None,
        guessing_layers: 0,
        window: None,
        layer_types: DecoderConfig::plain_layers(layers, config.path())?,
        rope: rope(config, &rope_config, head_dim, context)?,
        sliding_rope: None,
        tied: config.get("tie_word_embeddings")?.unwrap_or(false),
        biases: Biases::NONE,
        qk_norm: QkNorm::None,
        v_norm: false,
        clip_qkv: None,
        query_growth: None,
        layer_input: None,
        layer_scale: Presence::Absent,
        ternary: ternary(config)?,
    })
}

/// `quant_method` of ternary weights, and the family that has them.
pub const BITNET: &str = "bitnet";
/// `linear_class` and `quantization_mode` of ternary weights, the usual spelling of each first.
const TERNARY: [(&str, &str, Ternary); 4] = [
    ("autobitlinear", "online", Ternary::Online),
    ("autobitlinear", "offline", Ternary::Packed { divides: false }),
    ("bitlinear", "offline", Ternary::Packed { divides: true }),
    ("bitlinear", "online", Ternary::Packed { divides: true }),
];
/// The modules that stay as they are.
const EXCEPTED: &str = "modules_to_not_convert";
/// The one of them that is never ternary.
const HEAD: &str = "lm_head";

/// `quantization_config` of ternary weights; none of those that only GGUF files have.
pub fn ternary_config(ternary: Ternary) -> Option<Value> {
    let (class, mode, _) = TERNARY.iter().find(|row| row.2 == ternary)?;
    Some(json!({
        "quant_method": BITNET,
        "linear_class": class,
        "quantization_mode": mode,
        EXCEPTED: [HEAD],
    }))
}

/// Ternary weights, in whichever of the spellings.
fn ternary(config: &HfConfig) -> Result<Option<Ternary>, ModelError> {
    let key = |key: &str| format!("quantization_config.{key}");
    if config.get::<String>(&key("quant_method"))?.is_none_or(|method| method != BITNET) {
        return Ok(None);
    }
    if config.get(&key("use_rms_norm"))?.unwrap_or(false) {
        return Err(ModelError::unsupported(config.path(), &key("use_rms_norm"), true, false));
    }
    let class: String = config.get(&key("linear_class"))?.unwrap_or_else(|| "bitlinear".to_owned());
    let mode: String = config.get(&key("quantization_mode"))?.unwrap_or_else(|| "offline".to_owned());
    let excepted: Option<Vec<String>> = config.get(&key(EXCEPTED))?;
    if let Some(other) = excepted.iter().flatten().find(|name| *name != HEAD) {
        return Err(ModelError::unsupported(config.path(), &key(EXCEPTED), other, HEAD));
    }
    let known = TERNARY.iter().find(|row| (row.0, row.1) == (class.as_str(), mode.as_str()));
    known.map(|row| Some(row.2)).ok_or_else(|| {
        let supported = "bitlinear or autobitlinear, online or offline";
        ModelError::unsupported(config.path(), &key("linear_class"), format!("{class}, {mode}"), supported)
    })
}

fn activation(config: &HfConfig) -> Result<Activation, ModelError> {
    let key = if config.find("hidden_activation").is_some() { "hidden_activation" } else { "hidden_act" };
    let Some(name) = config.get::<String>(key)? else { return Ok(Activation::Silu) };
    let known = ACTIVATIONS.iter().find(|(known, _)| *known == name);
    known.map(|(_, activation)| *activation).ok_or_else(|| {
        let supported: Vec<_> = ACTIVATIONS.iter().map(|(known, _)| *known).collect();
        ModelError::unsupported(config.path(), key, name, supported.join(", "))
    })
}

/// Rotary embedding as one set of parameters describes it; a head's halves rotate together.
///
/// # Errors
/// A parameter is missing, or the method is not known.
pub fn rope(config: &HfConfig, rope: &RopeConfig, head_dim: usize, context: usize) -> Result<RopeSettings, ModelError> {
    let required = |key: &str, value: Option<f64>| {
        let expected = || format!("{key} for RoPE scaling of type {}", rope.kind);
        value.ok_or_else(|| ModelError::config(config.path(), expected(), "none"))
    };
    let original_context = rope.original_context.unwrap_or(context);
    let mut attention_factor = 1.0;
    let scaling = match rope.kind.as_str() {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: required("factor", rope.factor)? },
        "llama3" => RopeScaling::Llama3 {
            factor: required("factor", rope.factor)?,
            low_freq_factor: required("low_freq_factor", rope.low_freq_factor)?,
            high_freq_factor: required("high_freq_factor", rope.high_freq_factor)?,
            original_context,
        },
        "yarn" if rope.short_factor.is_none() => {
            let factor = rope.factor.unwrap_or(context as f64 / original_context as f64);
            let by = |scale: Option<f64>| RopeSettings::yarn_factor(factor, scale.unwrap_or(1.0));
            let both = rope.mscale.is_some_and(|s| s != 0.0) && rope.mscale_all_dim.is_some_and(|s| s != 0.0);
            let implied = if both { by(rope.mscale) / by(rope.mscale_all_dim) } else { by(None) };
            attention_factor = rope.attention_factor.unwrap_or(implied);
            let (beta_fast, beta_slow) = (rope.beta_fast.unwrap_or(32.0), rope.beta_slow.unwrap_or(1.0));
            RopeScaling::Yarn {
                factor,
                original_context,
                beta_fast,
                beta_slow,
                truncate: rope.truncate.unwrap_or(true),
            }
        }
        "proportional" => {
            if let Some(factor) = rope.factor.filter(|factor| *factor != 1.0) {
                return Err(ModelError::unsupported(
                    config.path(),
                    "factor",
                    factor,
                    "1 for RoPE of type proportional",
                ));
            }
            let share = rope.partial_rotary_factor.unwrap_or(1.0).clamp(0.0, 1.0);
            RopeScaling::Proportional { pairs: (share * head_dim as f64 / 2.0) as usize }
        }
        // Its older names.
        "longrope" | "su" | "yarn" => {
            let factors = |key: &str, factors: &Option<Vec<f32>>| {
                let expected = || format!("{key} for RoPE scaling of type {}", rope.kind);
                factors.clone().ok_or_else(|| ModelError::config(config.path(), expected(), "none"))
            };
            let factor = rope.factor.unwrap_or(context as f64 / original_context as f64);
            let proposed = || RopeSettings::longrope_factor(factor, original_context);
            attention_factor = rope.attention_factor.unwrap_or_else(proposed);
            RopeScaling::LongRope {
                original_context,
                short: factors("short_factor", &rope.short_factor)?,
                long: factors("long_factor", &rope.long_factor)?,
            }
        }
        other => {
            let supported = "default, linear, llama3, yarn, longrope or proportional";
            return Err(ModelError::unsupported(config.path(), "rope_type", other, supported));
        }
    };
    let share = rope.partial_rotary_factor.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&share) {
        return Err(ModelError::config(config.path(), "a partial_rotary_factor from 0 to 1", share));
    }
    Ok(RopeSettings {
        style: RopeStyle::Half,
        dim: if rope.kind == "proportional" { head_dim } else { (head_dim as f64 * share) as usize },
        theta: rope.theta,
        scaling,
        divisors: Presence::Absent,
        attention_factor: attention_factor as f32,
    })
}

/// Where `attention_bias` and `mlp_bias` say that biases are.
pub fn biases(config: &HfConfig) -> Result<Biases, ModelError> {
    let attention = Presence::when(config.get("attention_bias")?.unwrap_or(false));
    let mlp = Presence::when(config.get("mlp_bias")?.unwrap_or(false));
    Ok(Biases { qkv: attention, attention_output: attention, mlp })
}

/// The RoPE of layers that see the whole context, which must be there.
pub fn full_rope(config: &HfConfig) -> Result<RopeConfig, ModelError> {
    let rope = config.rope_of(FULL)?;
    rope.ok_or_else(|| ModelError::config(config.path(), "rope_parameters of full_attention", "none"))
}

/// The RoPE of sliding layers, if the file has a set of parameters for them.
pub fn own_sliding_rope(config: &HfConfig, decoder: &DecoderConfig) -> Result<Option<RopeSettings>, ModelError> {
    let own = config.find("rope_parameters").is_some_and(|rope| rope.get(SLIDING).is_some());
    let found = config.rope_of(SLIDING)?.filter(|_| own);
    found.map(|found| rope(config, &found, decoder.head_dim, decoder.context)).transpose()
}

/// Which layers slide: as `layer_types` says, else as `default` says of each layer's number.
///
/// # Errors
/// A type that is neither of the two.
pub fn read_layer_types(
    config: &HfConfig,
    decoder: &mut DecoderConfig,
    default: impl Fn(usize) -> bool,
) -> Result<(), ModelError> {
    let types: Option<Vec<String>> = config.get("layer_types")?;
    if let Some(types) = &types
        && types.len() < decoder.layers
    {
        let expected = format!("layer_types of {} layers", decoder.layers);
        return Err(ModelError::config(config.path(), expected, types.len()));
    }
    for (i, layer) in decoder.layer_types.iter_mut().enumerate() {
        layer.sliding = match types.as_ref().and_then(|types| types.get(i)).map(String::as_str) {
            None => default(i),
            Some(FULL) => false,
            Some(SLIDING) => true,
            Some(other) => {
                let supported = format!("{FULL} and {SLIDING}");
                return Err(ModelError::unsupported(config.path(), "layer_types", other, supported));
            }
        };
    }
    decoder.window = config.get("sliding_window")?;
    Ok(())
}

/// As `layer_types` of `config.json`.
pub fn layer_types(layers: &[LayerType]) -> Vec<&'static str> {
    layers.iter().map(|layer| if layer.sliding { SLIDING } else { FULL }).collect()
}

fn refuse_variants(config: &HfConfig) -> Result<(), ModelError> {
    let unsupported =
        |key, found: String, supported| Err(ModelError::unsupported(config.path(), key, found, supported));
    if let Some(method) = config.find("quantization_config")
        && method.get("quant_method").is_none_or(|method| method != BITNET)
        && Quantization::of(config)?.is_none()
    {
        let method = method.get("quant_method").unwrap_or(method).to_string();
        return unsupported("quantization_config", method, "weights that are not quantized, in F32, F16 or BF16");
    }
    Ok(())
}

/// Of a family without them.
pub fn refuse_experts(config: &HfConfig) -> Result<(), ModelError> {
    for key in EXPERT_COUNTS {
        if let Some(experts) = config.get::<usize>(key)?.filter(|n| *n > 0) {
            return Err(ModelError::unsupported(config.path(), key, experts, "0"));
        }
    }
    Ok(())
}

/// The names of the number of experts.
const EXPERT_COUNTS: [&str; 2] = ["num_experts", "num_local_experts"];

/// How many experts a layer has; 0 where there are none.
pub fn expert_count(config: &HfConfig) -> Result<usize, ModelError> {
    let found = EXPERT_COUNTS.iter().find_map(|key| config.get::<usize>(key).transpose());
    Ok(found.transpose()?.unwrap_or(0))
}

/// The mixture of experts of this width, in every layer: softmax scores, normalized as `norm_topk_prob` says.
///
/// # Errors
/// A key is missing or of the wrong type.
pub fn experts(config: &HfConfig, decoder: &DecoderConfig, intermediate: usize) -> Result<Experts, ModelError> {
    Ok(Experts {
        count: expert_count(config)?,
        used: config.require("num_experts_per_tok")?,
        intermediate,
        score: RouterScore::Softmax,
        normalized: config.get("norm_topk_prob")?.unwrap_or(false),
        scale: 1.0,
        shared: None,
        shared_gate: false,
        choice_bias: Presence::Absent,
        layers: vec![true; decoder.layers],
    })
}

fn refuse_windows(config: &HfConfig) -> Result<(), ModelError> {
    let unsupported =
        |key, found: String, supported| Err(ModelError::unsupported(config.path(), key, found, supported));
    let layer_types: Vec<String> = config.get("layer_types")?.unwrap_or_default();
    if let Some(other) = layer_types.into_iter().find(|t| t != FULL) {
        return unsupported("layer_types", other, FULL);
    }
    // A window counts unless its switch, which some families have, is off.
    let window_used = config.get("use_sliding_window")?.unwrap_or(true);
    let window = config.get::<usize>("sliding_window")?.filter(|_| window_used);
    let context: usize = config.require("max_position_embeddings")?;
    match window {
        Some(window) if window < context => {
            unsupported("sliding_window", window.to_string(), "attention to the whole context")
        }
        _ => Ok(()),
    }
}

/// The mixtures of Qwen: of a width of their own, in every `decoder_sparse_step`th layer but those of `mlp_only_layers`.
///
/// # Errors
/// As [`experts`].
pub fn qwen_experts(config: &HfConfig, decoder: &DecoderConfig) -> Result<Experts, ModelError> {
    let mut experts = experts(config, decoder, config.require("moe_intermediate_size")?)?;
    let dense: Vec<usize> = config.get("mlp_only_layers")?.unwrap_or_default();
    let step: usize = config.get("decoder_sparse_step")?.unwrap_or(1);
    for (layer, sparse) in experts.layers.iter_mut().enumerate() {
        *sparse = !dense.contains(&layer) && (layer + 1).is_multiple_of(step);
    }
    Ok(experts)
}
