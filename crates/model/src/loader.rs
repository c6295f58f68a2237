//! From a checkpoint to the plan that a backend compiles.

use std::collections::HashSet;

use formats::{Checkpoint, Format, Tensor};
use kernels::plan::{DecoderPlan, Layer, Linear, Rope, Weight};

use crate::ModelError;
use crate::arch::{Architecture, DecoderConfig, Presence};

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
    let mut loader = Loader { checkpoint, architecture, used: HashSet::new() };
    let embedding = loader.matrix("token_embd", config.vocab, config.hidden)?;
    let head = if config.tied || !loader.has("output.weight") {
        loader.used.extend(loader.file_name("output.weight"));
        embedding.clone()
    } else {
        loader.matrix("output", config.vocab, config.hidden)?
    };
    let rope = loader.rope(config)?;
    let mut layers = Vec::new();
    for layer in 0..config.layers {
        layers.push(loader.layer(config, layer)?);
    }
    let output_norm = loader.vector("output_norm.weight", config.hidden)?;
    loader.refuse_unused()?;
    Ok(DecoderPlan {
        hidden: config.hidden,
        intermediate: config.intermediate,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        vocab: config.vocab,
        context: config.context,
        norm_eps: config.norm_eps,
        attention_scale: config.attention_scale,
        rope,
        embedding,
        layers,
        output_norm,
        head: Linear::new(head, None),
    })
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    architecture: &'a Architecture,
    /// Names, as in the file, of the tensors that the plan has taken or may pass over.
    used: HashSet<String>,
}

impl Loader<'_> {
    fn layer(&mut self, config: &DecoderConfig, layer: usize) -> Result<Layer, ModelError> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (hidden, ff, head) = (config.hidden, config.intermediate, config.head_dim);
        let (q, kv) = (config.heads * head, config.kv_heads * head);
        let biases = config.biases;
        let head_norm =
            |loader: &mut Self, part: &str| config.qk_norm.then(|| loader.vector(&name(part), head)).transpose();
        Ok(Layer {
            attn_norm: self.vector(&name("attn_norm.weight"), hidden)?,
            q: self.linear(&name("attn_q"), q, hidden, biases.qkv)?,
            k: self.linear(&name("attn_k"), kv, hidden, biases.qkv)?,
            v: self.linear(&name("attn_v"), kv, hidden, biases.qkv)?,
            o: self.linear(&name("attn_output"), hidden, q, biases.attention_output)?,
            q_norm: head_norm(self, "attn_q_norm.weight")?,
            k_norm: head_norm(self, "attn_k_norm.weight")?,
            ffn_norm: self.vector(&name("ffn_norm.weight"), hidden)?,
            gate: self.linear(&name("ffn_gate"), ff, hidden, biases.mlp)?,
            up: self.linear(&name("ffn_up"), ff, hidden, biases.mlp)?,
            down: self.linear(&name("ffn_down"), hidden, ff, biases.mlp)?,
        })
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
        Ok(Rope { style: settings.style, inv_freq, attention_factor: settings.attention_factor })
    }

    /// The matrix `{stem}.weight`.
    fn matrix(&mut self, stem: &str, rows: usize, cols: usize) -> Result<Weight, ModelError> {
        Ok(self.tensor(&format!("{stem}.weight"), &[rows, cols])?.into_weight()?)
    }

    fn linear(&mut self, stem: &str, rows: usize, cols: usize, bias: Presence) -> Result<Linear, ModelError> {
        let weight = self.matrix(stem, rows, cols)?;
        Ok(Linear::new(weight, self.vector_if(bias, &format!("{stem}.bias"), rows)?))
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

    /// The name in this checkpoint's files; none where its format has no such tensor.
    fn file_name(&self, canonical: &str) -> Option<String> {
        match self.checkpoint.format() {
            Format::Gguf => Some(canonical.to_owned()),
            Format::HuggingFace => self.architecture.to_hf(canonical),
        }
    }

    /// A tensor that nothing has used means a model that this decoder would compute wrongly.
    fn refuse_unused(&self) -> Result<(), ModelError> {
        // Early Hugging Face checkpoints of Llama store the frequencies, which follow from the settings.
        let unused = |name: &str| !self.used.contains(name) && !name.ends_with(".rotary_emb.inv_freq");
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
