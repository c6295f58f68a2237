//! A model as a checkpoint holds it, ready to be compiled and talked to.

use std::path::Path;

use formats::{ChatTemplates, Checkpoint, GenerationDefaults};
use kernels::plan::DecoderPlan;

use crate::ModelError;
use crate::arch::{Architecture, DecoderConfig};
use crate::loader::plan_of;
use crate::sampler::SamplingParams;
use crate::tokenizer::Tokenizer;

#[derive(Debug)]
pub struct Model {
    pub architecture: &'static Architecture,
    pub config: DecoderConfig,
    pub tokenizer: Tokenizer,
    pub chat_templates: ChatTemplates,
    /// How the model's makers say that it is to be run.
    pub generation: GenerationDefaults,
    /// What a backend compiles; its matrices stay in the mapped files.
    pub plan: DecoderPlan,
}

impl Model {
    /// # Errors
    /// As [`Checkpoint::open`] and [`Self::load`].
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::load(&Checkpoint::open(path)?)
    }

    /// # Errors
    /// As [`crate::build_plan`]; a tokenizer that is missing or not supported; settings of the wrong type.
    pub fn load(checkpoint: &Checkpoint) -> Result<Self, ModelError> {
        let architecture = Architecture::of(checkpoint)?;
        let config = architecture.config(checkpoint)?;
        Ok(Self {
            architecture,
            tokenizer: Tokenizer::from_files(&checkpoint.tokenizer_files()?)?,
            chat_templates: checkpoint.chat_templates()?,
            generation: checkpoint.generation_defaults()?,
            plan: plan_of(checkpoint, architecture, &config)?,
            config,
        })
    }

    /// The tokens that end an answer, ascending: those that the tokenizer knows by their role, and those that the makers
    /// name.
    pub fn stop_tokens(&self) -> Vec<u32> {
        let mut tokens = [self.tokenizer.end_of_generation(), &self.generation.eos_token_ids].concat();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    /// The makers' sampling parameters, and the usual ones for what they leave open.
    pub fn sampling_defaults(&self) -> SamplingParams {
        sampling_defaults(&self.generation)
    }
}

fn sampling_defaults(generation: &GenerationDefaults) -> SamplingParams {
    let usual = SamplingParams::default();
    let temperature = match generation.do_sample {
        Some(false) => 0.0,
        _ => generation.temperature.unwrap_or(usual.temperature),
    };
    SamplingParams {
        temperature,
        top_k: generation.top_k.map_or(usual.top_k, |k| k as usize),
        top_p: generation.top_p.unwrap_or(usual.top_p),
        min_p: generation.min_p.unwrap_or(usual.min_p),
        repetition_penalty: generation.repetition_penalty.unwrap_or(usual.repetition_penalty),
        ..usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_makers_parameters_come_first() {
        let made = GenerationDefaults { temperature: Some(0.6), top_k: Some(20), ..Default::default() };
        let expected = SamplingParams { temperature: 0.6, top_k: 20, ..SamplingParams::default() };
        assert_eq!(sampling_defaults(&made), expected);
        let greedy = GenerationDefaults { do_sample: Some(false), ..made };
        assert_eq!(sampling_defaults(&greedy).temperature, 0.0);
        assert_eq!(sampling_defaults(&GenerationDefaults::default()), SamplingParams::default());
    }
}
