//! From a checkpoint to the plan that a backend compiles.

use std::collections::HashSet;

use formats::{Checkpoint, Format, RawType, Tensor, TensorInfo};
use kernels::plan::{
    Attention, DecoderPlan, FeedForward, HeadNorm, Layer, Linear, Mixture, Rope, Router, SharedExpert, Weight,
};

use crate::ModelError;
use crate::arch::{
    Architecture, DecoderConfig, Experts, HfNames, Piece, Presence, QkNorm, ROPE_LONG, ROPE_SHORT, RopeScaling, Ternary,
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

/// As [`build_plan`], of a configuration that was read before.
pub(crate) fn plan_of(
    checkpoint: &Checkpoint,
    architecture: &Architecture,
    config: &DecoderConfig,
) -> Result<DecoderPlan, ModelError> {
    let mut loader = Loader { checkpoint, architecture, config, ternary: config.ternary, used: HashSet::new() };
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
    let mut layers = Vec::new();
    for layer in 0..config.layers {
        layers.push(loader.layer(config, layer)?);
    }
    let output_norm = loader.norm(config, "output_norm.weight", config.hidden)?;
    loader.refuse_unused()?;
    Ok(DecoderPlan {
        hidden: config.hidden,
        vocab: config.vocab,
        context: config.context,
        norm: config.norm,
        norm_eps: config.norm_eps,
        scales: config.scales,
        ropes,
        embedding,
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
    /// Names, as in the file, of the tensors that the plan has taken or may pass over.
    used: HashSet<String>,
}

impl Loader<'_> {
    fn layer(&mut self, config: &DecoderConfig, layer: usize) -> Result<Layer, ModelError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let mut norm =
            |part: &str, there: bool| there.then(|| self.norm(config, &name(part), config.hidden)).transpose();
        Ok(Layer {
            attn_norm: norm("attn_norm.weight", config.norms.before)?,
            attn_post_norm: norm("post_attention_norm.weight", config.norms.after)?,
            ffn_norm: norm("ffn_norm.weight", config.norms.before)?,
            ffn_post_norm: norm("post_ffw_norm.weight", config.norms.after)?,
            attention: self.attention(config, layer)?,
            ffn: match config.experts_of(layer) {
                None => self.feed_forward(config, layer)?.into(),
                Some(experts) => self.mixture(config, experts, layer)?.into(),
            },
        })
    }

    fn attention(&mut self, config: &DecoderConfig, layer: usize) -> Result<Attention, ModelError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let DecoderConfig { hidden, heads, kv_heads, head_dim, biases, .. } = *config;
        let kind = config.layer_types[layer];
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        let [q_proj, k_proj, v_proj] = if self.has(&name("attn_qkv.weight")) {
            let mut rows = 0;
            let fused = self.linear(&name("attn_qkv"), q + 2 * kv, hidden, biases.qkv)?;
            [q, kv, kv].map(|count| {
                rows += count;
                part(&fused, rows - count..rows)
            })
        } else {
            let mut linear = |part: &str, rows: usize| self.linear(&name(part), rows, hidden, biases.qkv);
            [linear("attn_q", q)?, linear("attn_k", kv)?, linear("attn_v", kv)?]
        };
        let head_norm = |loader: &mut Self, part: &str, width: usize| {
            Ok::<_, ModelError>(match config.qk_norm {
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
            q: q_proj,
            k: k_proj,
            v: v_proj,
            q_norm: head_norm(self, "attn_q_norm.weight", q)?,
            k_norm: head_norm(self, "attn_k_norm.weight", kv)?,
            sub_norm: config.norms.sub.then(|| self.norm(config, &name("attn_sub_norm.weight"), q)).transpose()?,
            o: self.linear(&name("attn_output"), hidden, q, biases.attention_output)?,
        })
    }

    fn feed_forward(&mut self, config: &DecoderConfig, layer: usize) -> Result<FeedForward, ModelError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (hidden, ff, biases) = (config.hidden, config.intermediate, config.biases.mlp);
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
            linear: Linear::new(self.matrix(&name("ffn_gate_inp"), experts.count, hidden)?, None),
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
            Ok::<_, ModelError>(SharedExpert { ffn, gate: gate.map(|weight| Linear::new(weight, None)) })
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
            Some(Ternary::Online) => {
                let (weight, factor) = ternary::online(&self.matrix(stem, rows, cols)?);
                (weight, Some(factor))
            }
            Some(Ternary::Packed { divides }) => {
                let (weight, factor) = self.packed(stem, rows, cols)?;
                (weight, Some(if divides { 1.0 / factor } else { factor }))
            }
        };
        let bias = self.vector_if(bias, &format!("{stem}.bias"), rows)?;
        Ok(Linear { ternary: factor, ..Linear::new(weight, bias) })
    }

    /// A ternary matrix with four rows in a byte, and its factor.
    fn packed(&mut self, stem: &str, rows: usize, cols: usize) -> Result<(Weight, f32), ModelError> {
        let canonical = format!("{stem}.weight");
        let name = self.file_name(&canonical).unwrap_or(canonical);
        let scale = format!("{name}_scale");
        let path = self.checkpoint.path();
        let info = self.checkpoint.tensor_info(&name);
        let is_packed = |info: &&TensorInfo| {
            info.raw_type == RawType::Safetensors("U8".to_owned()) && info.shape == [rows.div_ceil(4), cols]
        };
        if let Some(info) = info.filter(|info| !is_packed(info)) {
            let expected = format!("shape [{}, {cols}] of type U8", rows.div_ceil(4));
            let found = format!("shape {:?} of type {}", info.shape, info.raw_type);
            return Err(ModelError::tensor(path, &name, expected, found));
        }
        let weight = ternary::packed(&name, &self.checkpoint.raw(&name)?, rows, cols);
        let tensor = self.checkpoint.tensor(&scale)?;
        let factor = match tensor.to_f32()[..] {
            [factor] if factor.is_finite() && factor > 0.0 => factor,
            _ => return Err(ModelError::tensor(path, &scale, "one positive number", format!("{:?}", tensor.shape))),
        };
        self.used.extend([name, scale]);
        Ok((weight, factor))
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

    /// Rows of a matrix, if there is one.
    fn rows(&self, canonical: &str) -> Option<usize> {
        self.checkpoint.tensor_info(&self.file_name(canonical)?)?.shape.first().copied()
    }

    fn file_name(&self, canonical: &str) -> Option<String> {
        self.architecture.file_name(self.checkpoint, canonical)
    }

    /// A tensor that nothing has used means a model that this decoder would compute wrongly.
    fn refuse_unused(&self) -> Result<(), ModelError> {
        // Early Hugging Face checkpoints of Llama store the frequencies, which follow from the settings.
        let names = (self.checkpoint.format() == Format::HuggingFace).then(|| HfNames::of(self.checkpoint));
        let other_part = |name: &str| names.is_some_and(|names| names.plain(name).is_none());
        let unused =
            |name: &str| !self.used.contains(name) && !name.ends_with(".rotary_emb.inv_freq") && !other_part(name);
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

/// Some rows of a node, with their biases.
fn part(linear: &Linear, rows: std::ops::Range<usize>) -> Linear {
    let bias = linear.bias.as_ref().map(|bias| bias[rows.clone()].to_vec());
    // The tensor's shape was found to be that of all parts.
    let weight = linear.weight.slice(rows).unwrap_or_else(|| linear.weight.clone());
    Linear::new(weight, bias)
}
