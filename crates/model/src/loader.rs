//! From a checkpoint to the plan that a backend compiles.

use std::collections::HashSet;
use std::sync::Arc;

use formats::{Checkpoint, Format, Tensor};
use kernels::DType;
use kernels::plan::{
    Attention, Bytes, Conv, DecoderPlan, DeltaNet, FeedForward, HeadNorm, Layer, Linear, Mixer, Mixture, Rope, Router,
    SharedExpert, ShortConv, TakeInput, TokenInputs, Weight,
};

use crate::ModelError;
use crate::arch::{
    Architecture, DecoderConfig, DeltaNetConfig, Experts, HfNames, MixerType, Piece, Presence, QkNorm, ROPE_LONG,
    ROPE_SHORT, RopeScaling, Ternary,
};
use crate::ternary;

/// Describes the checkpoint's decoder as a plan. Matrices stay in the mapped files; norms and biases are decoded.
///
/// # Errors
/// The architecture or a setting is not supported; a tensor is missing, has another shape than the settings ask for or a
/// type that cannot be read; or the file has tensors that the decoder does not use.
pub fn build_plan(checkpoint: &Checkpoint) -> Result<DecoderPlan, ModelError> {
    let architecture = Architecture::of(checkpoint)?;
    let config = architecture.config(checkpoint)?;
    plan_of(checkpoint, architecture, &config)
}

/// As [`build_plan`], for what follows from the shapes of tensors alone: weights that would have to be computed first have
/// no bytes, so that no backend can run it.
///
/// # Errors
/// As [`build_plan`].
pub fn shape_plan(checkpoint: &Checkpoint) -> Result<DecoderPlan, ModelError> {
    let architecture = Architecture::of(checkpoint)?;
    plan_with(checkpoint, architecture, &architecture.config(checkpoint)?, Computed::Left)
}

/// As [`build_plan`], of a configuration that was read before.
pub(crate) fn plan_of(
    checkpoint: &Checkpoint,
    architecture: &Architecture,
    config: &DecoderConfig,
) -> Result<DecoderPlan, ModelError> {
    plan_with(checkpoint, architecture, config, Computed::There)
}

/// Whether weights that are no bytes of the file are computed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Computed {
    There,
    Left,
}

fn plan_with(
    checkpoint: &Checkpoint,
    architecture: &Architecture,
    config: &DecoderConfig,
    computed: Computed,
) -> Result<DecoderPlan, ModelError> {
    let mut loader =
        Loader { checkpoint, architecture, config, ternary: config.ternary, computed, used: HashSet::new() };
    let embedding = loader.matrix("token_embd", config.vocab, config.hidden)?;
    let head = if config.tied || !loader.has("output.weight") {
        loader.used.extend(loader.file_name("output.weight"));
        embedding.clone()
    } else {
        loader.matrix("output", config.vocab, config.hidden)?
    };
    let mut ropes = vec![loader.rope(config)?];
    if let Some(sliding) = &config.sliding_rope {
        let (style, attention_factor) = (sliding.style, sliding.attention_factor);
        ropes.push(Rope { style, inv_freq: sliding.inv_freq(), attention_factor, long: sliding.long() });
    }
    let inputs = config.layer_input.map(|width| loader.inputs(config, width)).transpose()?;
    let mut layers = Vec::new();
    for layer in 0..config.layers {
        layers.push(loader.layer(config, layer)?);
    }
    // One family's files call it a norm of embeddings.
    let output_norm = loader.first_of(&["token_embd_norm.weight", "output_norm.weight"]);
    let output_norm = loader.norm(config, output_norm, config.hidden)?;
    loader.refuse_unused(config)?;
    Ok(DecoderPlan {
        hidden: config.hidden,
        vocab: config.vocab,
        context: config.context,
        norm: config.norm,
        norm_eps: config.norm_eps,
        scales: config.scales,
        ropes,
        embedding,
        inputs,
        layers,
        output_norm,
        head: Linear::new(head, None),
    })
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    architecture: &'a Architecture,
    config: &'a DecoderConfig,
    /// How the layers' matrices are ternary, if they are.
    ternary: Option<Ternary>,
    computed: Computed,
    /// Names, as in the file, of the tensors that the plan has taken or may pass over.
    used: HashSet<String>,
}

impl Loader<'_> {
    fn layer(&mut self, config: &DecoderConfig, layer: usize) -> Result<Layer, ModelError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        // Without norms behind the two, this is one between them.
        let between = ["post_attention_norm.weight", "ffn_norm.weight"].map(name);
        let between = match config.norms.after {
            false => self.first_of(&between.each_ref().map(String::as_str)).to_owned(),
            true => name("ffn_norm.weight"),
        };
        let mut norm = |name: &str, there: bool| there.then(|| self.norm(config, name, config.hidden)).transpose();
        Ok(Layer {
            attn_norm: norm(&name("attn_norm.weight"), config.norms.before)?,
            attn_post_norm: norm(&name("post_attention_norm.weight"), config.norms.after)?,
            ffn_norm: norm(&between, config.norms.before)?,
            ffn_post_norm: norm(&name("post_ffw_norm.weight"), config.norms.after)?,
            mixer: match (config.layer_types[layer].mixer, &config.delta_net) {
                (MixerType::ShortConv { taps }, _) => Mixer::ShortConv(self.short_conv(config, layer, taps)?),
                (MixerType::DeltaNet, Some(net)) => Mixer::DeltaNet(self.delta_net(config, net, layer)?),
                _ => Mixer::Attention(self.attention(config, layer)?),
            },
            ffn: match config.experts_of(layer) {
                None => self.feed_forward(config, layer)?.into(),
                Some(experts) => self.mixture(config, experts, layer)?.into(),
            },
            input: config.layer_input.map(|width| self.take_input(config, layer, width)).transpose()?,
            scale: self.scale(config.layer_scale, &name("layer_output_scale.weight"))?,
        })
    }

    /// The number that multiplies what leaves a layer.
    fn scale(&mut self, presence: Presence, name: &str) -> Result<f32, ModelError> {
        Ok(self.vector_if(presence, name, 1)?.and_then(|scale| scale.first().copied()).unwrap_or(1.0))
    }

    /// What every layer is given of the token: half of it from the table, half from its embedding.
    fn inputs(&mut self, config: &DecoderConfig, width: usize) -> Result<TokenInputs, ModelError> {
        let all = config.layers.saturating_mul(width);
        Ok(TokenInputs {
            width,
            embedding: self.matrix("per_layer_token_embd", config.vocab, all)?,
            embedding_scale: (width as f64).sqrt() as f32,
            projection: Linear::new(self.matrix("per_layer_model_proj", all, config.hidden)?, None),
            projection_scale: (config.hidden as f64).powf(-0.5) as f32,
            norm: self.norm(config, "per_layer_proj_norm.weight", width)?,
            scale: std::f32::consts::FRAC_1_SQRT_2,
        })
    }

    fn take_input(&mut self, config: &DecoderConfig, layer: usize, width: usize) -> Result<TakeInput, ModelError> {
        let (name, hidden) = (|part: &str| format!("blk.{layer}.{part}"), config.hidden);
        Ok(TakeInput {
            activation: config.activation,
            gate: Linear::new(self.matrix(&name("inp_gate"), width, hidden)?, None),
            projection: Linear::new(self.matrix(&name("proj"), hidden, width)?, None),
            post_norm: self.norm(config, &name("post_norm.weight"), hidden)?,
        })
    }

    fn attention(&mut self, config: &DecoderConfig, layer: usize) -> Result<Attention, ModelError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let DecoderConfig { hidden, heads, biases, clip_qkv, query_growth, .. } = *config;
        let (kind, kv_heads, head_dim) =
            (config.layer_types[layer], config.kv_heads_of(layer), config.head_dim_of(layer));
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        let q_rows = if config.attention_gate { 2 * q } else { q };
        let (q_proj, k_proj, v_proj) = if self.has(&name("attn_qkv.weight")) {
            let mut rows = 0;
            let fused = self.linear(&name("attn_qkv"), q_rows + 2 * kv, hidden, biases.qkv)?;
            let [q, k, v] = [q_rows, kv, kv].map(|count| {
                rows += count;
                part(&fused, rows - count..rows)
            });
            (q, Some(k), Some(v))
        } else {
            let has_values = match kind.values {
                Presence::Optional => self.has(&name("attn_v.weight")),
                decided => decided == Presence::Required,
            };
            let mut linear = |part: &str, rows: usize| self.linear(&name(part), rows, hidden, biases.qkv);
            let (q, own) = (linear("attn_q", q_rows)?, kind.reads.is_none());
            let mut linear_if = |there: bool, part: &str| there.then(|| linear(part, kv)).transpose();
            (q, linear_if(own, "attn_k")?, linear_if(own && has_values, "attn_v")?)
        };
        if kind.reads.is_some() {
            // Files may have what nothing reads.
            let unread =
                ["attn_k.weight", "attn_v.weight", "attn_k_norm.weight"].map(|part| self.file_name(&name(part)));
            self.used.extend(unread.into_iter().flatten());
        }
        let head_norm = |loader: &mut Self, part: &str, width: usize, there: bool| {
            Ok::<_, ModelError>(match config.qk_norm {
                _ if !there => None,
                QkNorm::None => None,
                QkNorm::Heads => Some(HeadNorm::Each(loader.norm(config, &name(part), head_dim)?)),
                QkNorm::Whole => Some(HeadNorm::Whole(loader.norm(config, &name(part), width)?)),
            })
        };
        Ok(Attention {
            heads,
            kv_heads,
            head_dim,
            scale: config.attention_scale,
            softcap: config.attention_softcap,
            window: config.window.filter(|_| kind.sliding),
            rope: kind.rope.then_some(usize::from(kind.sliding && config.sliding_rope.is_some())),
            gated: config.attention_gate,
            clip: clip_qkv,
            query_growth,
            reads: kind.reads,
            q: q_proj,
            k: k_proj,
            v: v_proj,
            q_norm: head_norm(self, "attn_q_norm.weight", q, true)?,
            k_norm: head_norm(self, "attn_k_norm.weight", kv, kind.reads.is_none())?,
            v_norm: (config.v_norm && kind.reads.is_none()).then(|| vec![1.0; head_dim]),
            sub_norm: config.norms.sub.then(|| self.norm(config, &name("attn_sub_norm.weight"), q)).transpose()?,
            o: self.linear(&name("attn_output"), hidden, q, biases.attention_output)?,
        })
    }

    fn short_conv(&mut self, config: &DecoderConfig, layer: usize, taps: usize) -> Result<ShortConv, ModelError> {
        let name = |part: &str| format!("blk.{layer}.shortconv.{part}");
        let hidden = config.hidden;
        let inputs = self.linear(&name("in_proj"), 3 * hidden, hidden, Presence::Absent)?;
        Ok(ShortConv {
            in_gate: part(&inputs, 0..hidden),
            out_gate: part(&inputs, hidden..2 * hidden),
            value: part(&inputs, 2 * hidden..3 * hidden),
            conv: self.conv(&name("conv.weight"), taps, hidden)?,
            output: self.linear(&name("out_proj"), hidden, hidden, Presence::Absent)?,
        })
    }

    fn delta_net(
        &mut self,
        config: &DecoderConfig,
        net: &DeltaNetConfig,
        layer: usize,
    ) -> Result<DeltaNet, ModelError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let DeltaNetConfig { key_heads, value_heads, key_dim, value_dim, taps, order } = *net;
        let (hidden, values) = (config.hidden, value_heads * value_dim);
        let mut linear = |part: &str, rows, cols| self.linear(&name(part), rows, cols, Presence::Absent);
        let (qkv, gate) = (linear("attn_qkv", net.channels(), hidden)?, linear("attn_gate", values, hidden)?);
        let (beta, alpha) = (linear("ssm_beta", value_heads, hidden)?, linear("ssm_alpha", value_heads, hidden)?);
        let output = linear("ssm_out", hidden, values)?;
        let mut decay = self.vector(&name("ssm_a"), value_heads)?;
        if self.checkpoint.format() == Format::HuggingFace {
            // There it is the logarithm.
            decay.iter_mut().for_each(|a| *a = -f64::from(*a).exp() as f32);
        }
        Ok(DeltaNet {
            key_heads,
            value_heads,
            key_dim,
            value_dim,
            order,
            qkv,
            conv: self.conv(&name("ssm_conv1d.weight"), taps, net.channels())?,
            gate,
            beta,
            alpha,
            dt_bias: self.vector(&name("ssm_dt.bias"), value_heads)?,
            decay,
            norm: self.vector(&name("ssm_norm.weight"), value_dim)?,
            output,
        })
    }

    /// The weights of a convolution, which files have by channel; with an axis of length 1 between in Hugging Face files, and
    /// at the end in those of mlx-lm.
    fn conv(&mut self, name: &str, taps: usize, channels: usize) -> Result<Conv, ModelError> {
        let last = self.shape(name).is_some_and(|shape| shape == [channels, taps, 1]);
        let shape: &[usize] = match self.checkpoint.format() {
            Format::Gguf => &[channels, taps],
            Format::HuggingFace if last => &[channels, taps, 1],
            Format::HuggingFace => &[channels, 1, taps],
        };
        let found = self.tensor(name, shape)?.to_f32();
        let weights = (0..taps).flat_map(|tap| found.iter().skip(tap).step_by(taps).copied()).collect();
        Ok(Conv { taps, weights })
    }

    fn feed_forward(&mut self, config: &DecoderConfig, layer: usize) -> Result<FeedForward, ModelError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (hidden, ff, biases) = (config.hidden, config.intermediate_of(layer), config.biases.mlp);
        let (gate, up) = if !self.has(&name("ffn_gate.weight")) && self.rows(&name("ffn_up.weight")) == Some(2 * ff) {
            let fused = self.linear(&name("ffn_up"), 2 * ff, hidden, biases)?;
            (part(&fused, 0..ff), part(&fused, ff..2 * ff))
        } else {
            (self.linear(&name("ffn_gate"), ff, hidden, biases)?, self.linear(&name("ffn_up"), ff, hidden, biases)?)
        };
        Ok(FeedForward {
            activation: config.activation,
            gate,
            up,
            sub_norm: config.norms.sub.then(|| self.norm(config, &name("ffn_sub_norm.weight"), ff)).transpose()?,
            down: self.linear(&name("ffn_down"), hidden, ff, biases)?,
        })
    }

    fn mixture(&mut self, config: &DecoderConfig, experts: &Experts, layer: usize) -> Result<Mixture, ModelError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (hidden, activation) = (config.hidden, config.activation);
        let router = Router {
            score: experts.score,
            top_k: experts.used,
            normalized: experts.normalized,
            scale: experts.scale,
            choice_bias: self.vector_if(experts.choice_bias, &name("exp_probs_b.bias"), experts.count)?,
            linear: Linear::new(in_floats(self.matrix(&name("ffn_gate_inp"), experts.count, hidden)?), None),
        };
        let mut of = |part: &str| self.pieces(&name(part));
        let [gates, ups, downs] = [of("ffn_gate_exps")?, of("ffn_up_exps")?, of("ffn_down_exps")?];
        let expert = |((gate, up), down)| {
            let [gate, up, down] = [gate, up, down].map(|weight| Linear::new(weight, None));
            FeedForward { activation, gate, up, sub_norm: None, down }
        };
        let shared = experts.shared.map(|width| {
            let mut linear = |part: &str, rows: usize, cols: usize| {
                Ok::<_, ModelError>(Linear::new(self.matrix(&name(part), rows, cols)?, None))
            };
            let (gate, up) = (linear("ffn_gate_shexp", width, hidden)?, linear("ffn_up_shexp", width, hidden)?);
            let ffn =
                FeedForward { activation, gate, up, sub_norm: None, down: linear("ffn_down_shexp", hidden, width)? };
            let gate = experts.shared_gate.then(|| self.row(&name("ffn_gate_inp_shexp.weight"), hidden)).transpose()?;
            Ok::<_, ModelError>(SharedExpert { ffn, gate: gate.map(|weight| Linear::new(in_floats(weight), None)) })
        });
        Ok(Mixture {
            router,
            experts: gates.into_iter().zip(ups).zip(downs).map(expert).collect(),
            shared: shared.transpose()?,
        })
    }

    /// A matrix of one row, which may be stored as a vector.
    fn row(&mut self, canonical: &str, cols: usize) -> Result<Weight, ModelError> {
        let name = self.file_name(canonical).unwrap_or_else(|| canonical.to_owned());
        let vector = self.checkpoint.tensor_info(&name).is_some_and(|info| info.shape.len() == 1);
        let tensor = if vector { self.tensor(canonical, &[cols])? } else { self.tensor(canonical, &[1, cols])? };
        Ok(Weight { name, dtype: tensor.dtype, rows: 1, cols, data: tensor.data })
    }

    /// The matrices of the experts in `{stem}.weight`, or the one matrix, wherever the file has them.
    fn pieces(&mut self, stem: &str) -> Result<Vec<Weight>, ModelError> {
        let canonical = format!("{stem}.weight");
        let Some(pieces) = self.architecture.pieces(self.checkpoint, self.config, &canonical) else {
            let name = self.file_name(&canonical).unwrap_or(canonical);
            // Says that it is missing.
            return Ok(vec![self.checkpoint.tensor(&name)?.into_weight()?]);
        };
        pieces.iter().map(|piece| self.piece(piece)).collect()
    }

    fn piece(&mut self, piece: &Piece) -> Result<Weight, ModelError> {
        let Piece { tensor: name, shape, rows } = piece;
        let tensor = self.checkpoint.tensor(name)?;
        let wrong = |found: &[usize]| {
            let (expected, found) = (format!("shape {shape:?}"), format!("shape {found:?}"));
            ModelError::tensor(self.checkpoint.path(), name, expected, found)
        };
        if tensor.shape != *shape {
            return Err(wrong(&tensor.shape));
        }
        let found = tensor.shape.clone();
        let part = tensor.rows(rows.clone()).ok_or_else(|| wrong(&found))?;
        self.used.insert(name.clone());
        Ok(part.into_weight()?)
    }

    /// The weights of a norm as they multiply.
    fn norm(&mut self, config: &DecoderConfig, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        if config.norms.weightless {
            return Ok(vec![1.0; len]);
        }
        let mut weights = self.vector(name, len)?;
        if config.norms.plus_one {
            weights.iter_mut().for_each(|w| *w += 1.0);
        }
        Ok(weights)
    }

    fn rope(&mut self, config: &DecoderConfig) -> Result<Rope, ModelError> {
        let settings = &config.rope;
        let mut inv_freq = settings.inv_freq();
        if let Some(divisors) = self.vector_if(settings.divisors, "rope_freqs.weight", inv_freq.len())? {
            if let Some(wrong) = divisors.iter().find(|d| !(d.is_finite() && **d > 0.0)) {
                let (path, found) = (self.checkpoint.path(), format!("{wrong}"));
                return Err(ModelError::tensor(path, "rope_freqs.weight", "positive numbers", found));
            }
            inv_freq.iter_mut().zip(divisors).for_each(|(f, divisor)| *f /= divisor);
        }
        if matches!(settings.scaling, RopeScaling::LongRope { .. }) {
            // The settings have their values.
            self.used.extend([ROPE_SHORT, ROPE_LONG].map(str::to_owned));
        }
        let (style, attention_factor, long) = (settings.style, settings.attention_factor, settings.long());
        Ok(Rope { style, inv_freq, attention_factor, long })
    }

    /// The matrix `{stem}.weight`.
    fn matrix(&mut self, stem: &str, rows: usize, cols: usize) -> Result<Weight, ModelError> {
        let canonical = format!("{stem}.weight");
        if !self.has(&canonical)
            && let Some(pieces) = self.architecture.pieces(self.checkpoint, self.config, &canonical)
            && let [piece] = &pieces[..]
        {
            return self.piece(piece);
        }
        Ok(self.tensor(&canonical, &[rows, cols])?.into_weight()?)
    }

    fn linear(&mut self, stem: &str, rows: usize, cols: usize, bias: Presence) -> Result<Linear, ModelError> {
        let (weight, factor) = match self.ternary {
            None => (self.matrix(stem, rows, cols)?, None),
            Some(Ternary::Online) if self.computed == Computed::There => {
                let (weight, factor) = ternary::online(&self.matrix(stem, rows, cols)?);
                (weight, Some(factor))
            }
            Some(kind) => {
                let canonical = format!("{stem}.weight");
                let name = self.file_name(&canonical).unwrap_or(canonical);
                self.used.extend(ternary::factor_of(kind, &name));
                self.used.insert(name.clone());
                if self.computed == Computed::Left && kind != Ternary::Blocks {
                    (ternary::shape(&name, rows, cols), Some(1.0))
                } else {
                    let (weight, factor) = ternary::read(self.checkpoint, kind, &name, rows, cols)?;
                    (weight, Some(factor))
                }
            }
        };
        let bias = self.vector_if(bias, &format!("{stem}.bias"), rows)?;
        if bias.is_some() && self.ternary == Some(Ternary::Packed { divides: false }) {
            let (path, key) = (self.checkpoint.path(), "quantization_config.linear_class");
            return Err(ModelError::unsupported(
                path,
                key,
                "autobitlinear, whose factor multiplies biases",
                "bitlinear",
            ));
        }
        Ok(Linear { ternary: factor, ..Linear::new(weight, bias) })
    }

    fn vector_if(&mut self, presence: Presence, name: &str, len: usize) -> Result<Option<Vec<f32>>, ModelError> {
        match presence {
            Presence::Absent => Ok(None),
            Presence::Optional if !self.has(name) => Ok(None),
            Presence::Optional | Presence::Required => self.vector(name, len).map(Some),
        }
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.tensor(name, &[len])?.to_f32())
    }

    /// The tensor with this canonical name, if it has this shape.
    fn tensor(&mut self, canonical: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let name = self.file_name(canonical).unwrap_or_else(|| canonical.to_owned());
        let tensor = self.checkpoint.tensor(&name)?;
        if tensor.shape != shape {
            let (expected, found) = (format!("shape {shape:?}"), format!("shape {:?}", tensor.shape));
            return Err(ModelError::tensor(self.checkpoint.path(), &name, expected, found));
        }
        self.used.insert(name);
        Ok(tensor)
    }

    fn has(&self, canonical: &str) -> bool {
        self.file_name(canonical).is_some_and(|name| self.checkpoint.tensor_info(&name).is_some())
    }

    /// The first of these names that the checkpoint has, or else the last.
    fn first_of<'n>(&self, names: &[&'n str]) -> &'n str {
        let found = names.iter().find(|name| self.has(name));
        found.or(names.last()).copied().unwrap_or_default()
    }

    /// Rows of a matrix, if there is one.
    fn rows(&self, canonical: &str) -> Option<usize> {
        self.shape(canonical)?.first().copied()
    }

    fn shape(&self, canonical: &str) -> Option<&[usize]> {
        Some(&self.checkpoint.tensor_info(&self.file_name(canonical)?)?.shape)
    }

    fn file_name(&self, canonical: &str) -> Option<String> {
        self.architecture.file_name(self.checkpoint, canonical)
    }

    /// A tensor that nothing has used means a model that this decoder would compute wrongly.
    fn refuse_unused(&self, config: &DecoderConfig) -> Result<(), ModelError> {
        // Early Hugging Face checkpoints of Llama store the frequencies, which follow from the settings.
        let names = (self.checkpoint.format() == Format::HuggingFace).then(|| HfNames::of(self.checkpoint));
        let other_part = |name: &str| names.is_some_and(|names| names.plain(name).is_none());
        let unused =
            |name: &str| !self.used.contains(name) && !name.ends_with(".rotary_emb.inv_freq") && !other_part(name);
        let unused = |name: &str| unused(name) && !config.is_guessing(name);
        match self.checkpoint.tensors().find(|info| unused(&info.name)) {
            Some(info) => {
                let expected = format!("no such tensor in a model of architecture {}", self.architecture.name);
                let found = format!("one of shape {:?}", info.shape);
                Err(ModelError::tensor(self.checkpoint.path(), &info.name, expected, found))
            }
            None => Ok(()),
        }
    }
}

/// A router, or the gate of a shared expert: folders of mlx-lm may have it quantized, which is no reason to round its inputs.
fn in_floats(weight: Weight) -> Weight {
    if weight.dtype.is_float() {
        return weight;
    }
    let mut values = vec![0.0; weight.rows * weight.cols];
    if let Some(blocks) = weight.data.read(0..weight.data.len()) {
        (weight.dtype.decode)(&blocks, &mut values);
    }
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let range = 0..bytes.len();
    match Bytes::new(Arc::new(bytes), range) {
        Some(data) => Weight { dtype: DType::F32, data, ..weight },
        None => weight,
    }
}

/// Some rows of a node, with their biases.
fn part(linear: &Linear, rows: std::ops::Range<usize>) -> Linear {
    let bias = linear.bias.as_ref().map(|bias| bias[rows.clone()].to_vec());
    // The tensor's shape was found to be that of all parts.
    let weight = linear.weight.slice(rows).unwrap_or_else(|| linear.weight.clone());
    Linear { ternary: linear.ternary, ..Linear::new(weight, bias) }
}
