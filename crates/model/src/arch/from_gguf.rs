//! What GGUF files name alike for every architecture: keys that begin with the architecture's name.

use formats::gguf::{Array, FromValue, Metadata};
use kernels::plan::{Activation, NormKind, RopeStyle, RouterScore, Scales};

use super::config::{Biases, DecoderConfig, Experts, Norms, Presence, QkNorm, Ternary};
use super::rope::{RopeScaling, RopeSettings};
use crate::ModelError;

/// Keys of variants that the plain decoder lacks, with the one value that changes nothing.
const NEUTRAL_ONLY: [(&str, f64); 10] = [
    (EXPERT_COUNT, 0.0),
    ("expert_group_count", 1.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("final_logit_softcapping", 0.0),
    ("embedding_scale", 1.0),
    ("residual_scale", 1.0),
    ("logit_scale", 1.0),
    ("nextn_predict_layers", 0.0),
];

/// The plain decoder as `metadata` describes it: no biases, no norms of queries and keys, no tensor of RoPE divisors.
///
/// # Errors
/// A key is missing or of the wrong type, or asks for what the decoder does not do.
pub fn common(metadata: &Metadata, architecture: &str, style: RopeStyle) -> Result<DecoderConfig, ModelError> {
    base(metadata, architecture, style, &[])
}

/// As [`common`], of a family that reads the keys in `reads` itself.
///
/// # Errors
/// As [`common`].
pub fn base(
    metadata: &Metadata,
    architecture: &str,
    style: RopeStyle,
    reads: &[&str],
) -> Result<DecoderConfig, ModelError> {
    let keys = Keys { metadata, architecture };
    keys.refuse_variants(reads)?;
    // What may have a value for each layer, in families that read them.
    let of_all = |key: &str| match keys.of_layers(key)?.as_deref() {
        None => Ok(None),
        Some([first, rest @ ..]) if reads.contains(&key) || rest.iter().all(|other| other == first) => Ok(Some(*first)),
        Some(found) => Err(keys.unsupported(key, format!("{found:?}"), "one value for all layers")),
    };
    let hidden: usize = keys.require("embedding_length")?;
    let heads: usize = keys.require("attention.head_count")?;
    let head_dim = match keys.get("attention.key_length")? {
        Some(length) => length,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    let context: usize = keys.require("context_length")?;
    keys.require_only("attention.value_length", head_dim)?;
    let window = keys.get::<usize>("attention.sliding_window");
    if !reads.contains(&SLIDING_WINDOW)
        && let Some(window) = window?.filter(|w| (1..context).contains(w))
    {
        let supported = format!("attention to the whole context of {context}");
        return Err(keys.unsupported(SLIDING_WINDOW, window, supported));
    }
    let layers: usize = keys.require("block_count")?;
    let (scaling, attention_factor) = keys.rope_scaling(context)?;
    let plain_scale = DecoderConfig::plain_attention_scale(head_dim);
    Ok(DecoderConfig {
        hidden,
        layers,
        heads,
        kv_heads: of_all(KV_HEADS)?.unwrap_or(heads),
        head_dim,
        intermediate: match of_all(FEED_FORWARD)? {
            Some(size) => size,
            // Files whose layers all have experts may leave it out.
            None if reads.contains(&EXPERT_COUNT) => keys.require(EXPERT_FEED_FORWARD)?,
            None => keys.require(FEED_FORWARD)?,
        },
        experts: None,
        vocab: keys.vocab()?,
        context,
        norm: NormKind::Rms,
        norm_eps: match keys.get("attention.layer_norm_epsilon")? {
            Some(eps) if reads.contains(&LAYER_NORM) => eps,
            _ => keys.require("attention.layer_norm_rms_epsilon")?,
        },
        norms: Norms::PLAIN,
        activation: Activation::Silu,
        scales: Scales::default(),
        attention_softcap: None,
        attention_gate: false,
        delta_net: None,
        guessing_layers: 0,
        window: None,
        layer_types: DecoderConfig::plain_layers(layers, metadata.path())?,
        // Some files write 0 for "not set".
        attention_scale: keys.get("attention.scale")?.filter(|s| *s != 0.0).unwrap_or(plain_scale),
        rope: RopeSettings {
            style,
            dim: keys.get("rope.dimension_count")?.unwrap_or(head_dim),
            theta: keys.get("rope.freq_base")?.unwrap_or(10_000.0),
            scaling,
            divisors: Presence::Absent,
            attention_factor,
        },
        sliding_rope: None,
        tied: false,
        biases: Biases::NONE,
        qk_norm: QkNorm::None,
        v_norm: false,
        clip_qkv: None,
        query_growth: None,
        layer_input: None,
        layer_scale: Presence::Absent,
        ternary: ternary(metadata)?,
    })
}

/// How the inputs of ternary weights are rounded. Nothing in GGUF says it: files that lack this key of ours round theirs as
/// those of any other type.
pub const ACTIVATIONS: &str = "edgeling.activations";
/// As BitNet b1.58 was trained: to int8, with one scale for each position.
pub const PER_TOKEN: &str = "int8 per token";

fn ternary(metadata: &Metadata) -> Result<Option<Ternary>, ModelError> {
    match metadata.get::<&str>(ACTIVATIONS)? {
        None => Ok(None),
        Some(PER_TOKEN) => Ok(Some(Ternary::Blocks)),
        Some(other) => Err(ModelError::unsupported(metadata.path(), ACTIVATIONS, other, PER_TOKEN)),
    }
}

/// Sizes that may be lists with one for each layer.
pub const KV_HEADS: &str = "attention.head_count_kv";
pub const FEED_FORWARD: &str = "feed_forward_length";
pub const EXPERT_FEED_FORWARD: &str = "expert_feed_forward_length";
/// Layers behind the decoder's that guess further tokens.
pub const GUESSING_LAYERS: &str = "nextn_predict_layers";
/// Experts in a layer.
pub const EXPERT_COUNT: &str = "expert_count";

/// The mixture that the keys of `architecture` describe, in every layer: softmax scores, normalized unless the file tells
/// otherwise where `normalized` says so.
///
/// # Errors
/// A key is missing or of the wrong type, or asks for another score.
pub fn experts(
    metadata: &Metadata,
    architecture: &str,
    decoder: &DecoderConfig,
    normalized: bool,
) -> Result<Experts, ModelError> {
    let keys = Keys { metadata, architecture };
    let score = match keys.get::<u32>("expert_gating_func")? {
        None | Some(0 | SOFTMAX) => RouterScore::Softmax,
        Some(SIGMOID) => RouterScore::Sigmoid,
        Some(other) => return Err(keys.unsupported("expert_gating_func", other, "1 (softmax) or 2 (sigmoid)")),
    };
    Ok(Experts {
        count: keys.require(EXPERT_COUNT)?,
        used: keys.require("expert_used_count")?,
        intermediate: keys.get(EXPERT_FEED_FORWARD)?.unwrap_or(decoder.intermediate),
        score,
        normalized: keys.get("expert_weights_norm")?.unwrap_or(normalized),
        // 0 stands for "not set".
        scale: keys.get("expert_weights_scale")?.filter(|scale| *scale != 0.0).unwrap_or(1.0),
        shared: keys.get("expert_shared_feed_forward_length")?.filter(|width| *width > 0),
        shared_gate: false,
        choice_bias: Presence::Absent,
        layers: vec![true; decoder.layers],
    })
}

/// As [`experts`], where experts whose width the file does not tell share that of a feed-forward layer.
///
/// # Errors
/// As [`experts`].
pub fn shared_width_experts(
    metadata: &Metadata,
    architecture: &str,
    decoder: &DecoderConfig,
    normalized: bool,
) -> Result<Experts, ModelError> {
    let mut experts = experts(metadata, architecture, decoder, normalized)?;
    let told: Option<usize> = Keys { metadata, architecture }.get(EXPERT_FEED_FORWARD)?;
    experts.intermediate = told.unwrap_or(decoder.intermediate / experts.used.max(1));
    Ok(experts)
}

/// Scores by their numbers in `expert_gating_func`.
pub const SOFTMAX: u32 = 1;
pub const SIGMOID: u32 = 2;

/// Positions that a sliding layer sees.
pub const SLIDING_WINDOW: &str = "attention.sliding_window";
/// The epsilon of norms that subtract the mean.
pub const LAYER_NORM: &str = "attention.layer_norm_epsilon";

/// Which layers slide: a list with an entry for each, or a number of which every layer that is a multiple does not; `period`
/// where the file does not tell.
///
/// # Errors
/// A key of the wrong type, or a list that is too short.
pub fn read_windows(
    metadata: &Metadata,
    architecture: &str,
    decoder: &mut DecoderConfig,
    period: usize,
) -> Result<(), ModelError> {
    let keys = Keys { metadata, architecture };
    decoder.window = keys.get(SLIDING_WINDOW)?.filter(|window| *window > 0);
    if decoder.window.is_none() {
        return Ok(());
    }
    let pattern = keys.full("attention.sliding_window_pattern");
    let (list, period) = match metadata.get::<Array>(&pattern) {
        Ok(Some(list)) => {
            let list: Vec<bool> = list.values().map(|value| bool::from_value(value).unwrap_or(false)).collect();
            if list.len() < decoder.layers {
                let expected = format!("{pattern} of {} layers", decoder.layers);
                return Err(ModelError::config(metadata.path(), expected, list.len()));
            }
            (Some(list), period)
        }
        _ => (None, metadata.get(&pattern)?.unwrap_or(period)),
    };
    for (i, layer) in decoder.layer_types.iter_mut().enumerate() {
        layer.sliding = match &list {
            Some(list) => list[i],
            // 1 means that no layer slides, 0 that all do.
            None => period == 0 || !(i + 1).is_multiple_of(period),
        };
    }
    Ok(())
}

/// The keys of one architecture.
pub struct Keys<'a> {
    pub metadata: &'a Metadata,
    pub architecture: &'a str,
}

impl<'a> Keys<'a> {
    pub fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// The value of an optional key.
    ///
    /// # Errors
    /// It is of another type.
    pub fn get<T: FromValue<'a>>(&self, key: &str) -> Result<Option<T>, ModelError> {
        Ok(self.metadata.get(&self.full(key))?)
    }

    /// The values of an optional key that has one for all layers or one for each; not empty.
    ///
    /// # Errors
    /// They are no sizes.
    pub fn of_layers(&self, key: &str) -> Result<Option<Vec<usize>>, ModelError> {
        match self.metadata.get::<Array>(&self.full(key)) {
            Ok(Some(list)) if !list.is_empty() => {
                let sizes: Option<Vec<usize>> = list.values().map(usize::from_value).collect();
                let wrong =
                    || ModelError::config(self.metadata.path(), format!("sizes in {}", self.full(key)), "others");
                sizes.map(Some).ok_or_else(wrong)
            }
            _ => Ok(self.get(key)?.map(|size| vec![size])),
        }
    }

    pub fn require<T: FromValue<'a>>(&self, key: &str) -> Result<T, ModelError> {
        Ok(self.metadata.require(&self.full(key))?)
    }

    fn unsupported(&self, key: &str, found: impl ToString, supported: impl ToString) -> ModelError {
        ModelError::unsupported(self.metadata.path(), &self.full(key), found, supported)
    }

    /// Refuses any value of an optional key but one.
    pub fn require_only(&self, key: &str, only: usize) -> Result<(), ModelError> {
        match self.get::<usize>(key)? {
            Some(found) if found != only => Err(self.unsupported(key, found, only)),
            _ => Ok(()),
        }
    }

    fn refuse_variants(&self, reads: &[&str]) -> Result<(), ModelError> {
        for (key, neutral) in NEUTRAL_ONLY.into_iter().filter(|(key, _)| !reads.contains(key)) {
            // 0 stands for "not set" in every one of them.
            if let Some(found) = self.get::<f64>(key)?.filter(|v| *v != neutral && *v != 0.0) {
                return Err(self.unsupported(key, found, neutral));
            }
        }
        for (key, neutral) in [("attention.causal", true), ("use_parallel_residual", false)] {
            if let Some(found) = self.get::<bool>(key)?.filter(|v| *v != neutral) {
                return Err(self.unsupported(key, found, neutral));
            }
        }
        Ok(())
    }

    /// The size that the file states, else the length of its token list.
    fn vocab(&self) -> Result<usize, ModelError> {
        match self.get("vocab_size")? {
            Some(size) => Ok(size),
            None => Ok(self.metadata.require::<Array>("tokenizer.ggml.tokens")?.len()),
        }
    }

    /// The method, and what multiplies cosine and sine.
    fn rope_scaling(&self, context: usize) -> Result<(RopeScaling, f32), ModelError> {
        let given: f32 = self.get("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let original: Option<usize> = self.get("rope.scaling.original_context_length")?;
        let factor: Option<f64> = match self.get("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            None => self.get("rope.scale_linear")?, // The key's name before scaling had types.
        };
        // 0 stands for "not set", and a factor without a type is linear.
        let factor = factor.filter(|f| *f != 0.0 && *f != 1.0);
        match self.get::<&str>("rope.scaling.type")?.unwrap_or("linear") {
            "none" => Ok((RopeScaling::None, given)),
            "linear" => Ok((factor.map_or(RopeScaling::None, |factor| RopeScaling::Linear { factor }), given)),
            "yarn" => {
                let original_context = original.unwrap_or(context);
                let factor = factor.unwrap_or(context as f64 / original_context.max(1) as f64);
                let beta = |name: &str, usual: f64| {
                    Ok::<_, ModelError>(self.get(&format!("rope.scaling.yarn_beta_{name}"))?.unwrap_or(usual))
                };
                let (beta_fast, beta_slow) = (beta("fast", 32.0)?, beta("slow", 1.0)?);
                // Files leave out the factor that the method implies.
                let without: f64 = self.get("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0);
                let implied = RopeSettings::yarn_factor(factor, 1.0) / RopeSettings::yarn_factor(factor, without);
                let attention_factor = (f64::from(given) * implied) as f32;
                let scaling = RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, truncate: true };
                Ok((scaling, attention_factor))
            }
            "longrope" => {
                let original_context = original.unwrap_or(context);
                Ok((RopeScaling::LongRope { original_context, short: Vec::new(), long: Vec::new() }, given))
            }
            other => Err(self.unsupported("rope.scaling.type", other, "none, linear, yarn or longrope")),
        }
    }
}
