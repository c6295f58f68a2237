//! Rotary position embedding: from settings to the angle per position of each pair.
//!
//! Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021. Frequencies are computed in f32 step by
//! step as transformers does, from powers that are rounded once: the same on every platform.

use std::f32::consts::TAU;
use std::path::Path;

use kernels::plan::{LongRope, RopeStyle};

use super::Presence;
use crate::ModelError;

/// How a model reaches positions beyond those it was first trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    /// Positions are divided by `factor`.
    Linear {
        factor: f64,
    },
    /// Llama 3.1: wavelengths over `original_context / low_freq_factor` are stretched by `factor`, those under
    /// `original_context / high_freq_factor` stay, those between are stretched in part.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_context: usize,
    },
    /// YaRN (Peng et al., 2023): pairs that turn more than `beta_fast` times in the original context stay, those that turn
    /// less than `beta_slow` times are stretched by `factor`, those between are stretched in part.
    Yarn {
        factor: f64,
        original_context: usize,
        beta_fast: f64,
        beta_slow: f64,
        /// Whether the bounds are whole numbers of pairs.
        truncate: bool,
    },
    /// LongRoPE (Ding et al., 2024): each frequency is divided by a factor of its own, which is another one in sequences for
    /// which more than the original context is reserved.
    LongRope {
        original_context: usize,
        /// Empty until they are read, in files that have them as tensors.
        short: Vec<f32>,
        long: Vec<f32>,
    },
    /// The first pairs rotate as those of a whole head do, the others not at all.
    Proportional {
        pairs: usize,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct RopeSettings {
    pub style: RopeStyle,
    /// Values of each head that rotate; even.
    pub dim: usize,
    /// Base of the angles' geometric series.
    pub theta: f64,
    pub scaling: RopeScaling,
    /// Whether the file has a tensor of divisors, one for each frequency.
    pub divisors: Presence,
    /// Multiplies cosine and sine.
    pub attention_factor: f32,
}

impl RopeSettings {
    /// What YaRN multiplies cosine and sine by, unless a file says otherwise; `scale` is 1 in its paper.
    pub fn yarn_factor(factor: f64, scale: f64) -> f64 {
        if factor > 1.0 { 0.1 * scale * libm::log(factor) + 1.0 } else { 1.0 }
    }

    /// What LongRoPE multiplies cosine and sine by, unless a file says otherwise.
    pub fn longrope_factor(factor: f64, original_context: usize) -> f64 {
        if factor > 1.0 { (1.0 + libm::log(factor) / libm::log(original_context as f64)).sqrt() } else { 1.0 }
    }

    /// Angle per position of each of the `dim / 2` pairs.
    pub fn inv_freq(&self) -> Vec<f32> {
        let plain = (0..self.dim / 2).map(|pair| {
            let exponent = (2 * pair) as f32 / self.dim as f32;
            1.0 / libm::pow(self.theta, f64::from(exponent)) as f32
        });
        match self.scaling {
            RopeScaling::None => plain.collect(),
            RopeScaling::LongRope { ref short, .. } => self.divided(short),
            RopeScaling::Proportional { pairs } => {
                plain.enumerate().map(|(pair, f)| if pair < pairs { f } else { 0.0 }).collect()
            }
            RopeScaling::Linear { factor } => plain.map(|f| f / factor as f32).collect(),
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, truncate } => {
                let (dim, original) = (self.dim as f64, original_context as f64);
                // The pair that turns so many times in the original context.
                let pair = |turns: f64| {
                    dim * libm::log(original / (turns * std::f64::consts::TAU)) / (2.0 * libm::log(self.theta))
                };
                let (mut low, mut high) = (pair(beta_fast), pair(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(dim - 1.0));
                // No division by zero.
                high += if low == high { 0.001 } else { 0.0 };
                let (low, width) = (low as f32, (high - low) as f32);
                let stretched = |(pair, f): (usize, f32)| {
                    let kept = 1.0 - ((pair as f32 - low) / width).clamp(0.0, 1.0);
                    let exponent = (2 * pair) as f32 / self.dim as f32;
                    let power = libm::pow(self.theta, f64::from(exponent)) as f32;
                    1.0 / (factor as f32 * power) * (1.0 - kept) + f * kept
                };
                plain.enumerate().map(stretched).collect()
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let original = original_context as f64;
                let (low, high) = (low_freq_factor, high_freq_factor);
                let (longest, shortest) = ((original / low) as f32, (original / high) as f32);
                let scaled = |f: f32| {
                    let wavelength = TAU / f;
                    if wavelength > longest {
                        f / factor as f32
                    } else if wavelength < shortest {
                        f
                    } else {
                        let smooth = (original as f32 / wavelength - low as f32) / (high - low) as f32;
                        (1.0 - smooth) * f / factor as f32 + smooth * f
                    }
                };
                plain.map(scaled).collect()
            }
        }
    }

    /// Frequencies divided by factors of their own.
    fn divided(&self, factors: &[f32]) -> Vec<f32> {
        let divided = |(pair, factor): (usize, &f32)| {
            let exponent = (2 * pair) as f32 / self.dim as f32;
            1.0 / (factor * libm::pow(self.theta, f64::from(exponent)) as f32)
        };
        factors.iter().enumerate().map(divided).collect()
    }

    /// What long sequences take instead of [`Self::inv_freq`].
    pub fn long(&self) -> Option<LongRope> {
        let RopeScaling::LongRope { original_context, long, .. } = &self.scaling else { return None };
        let (above, attention_factor) = (*original_context, self.attention_factor);
        Some(LongRope { above, inv_freq: self.divided(long), attention_factor })
    }

    /// # Errors
    /// Settings that give no angles; `path` is for the message.
    pub fn validate(&self, head_dim: usize, path: &Path) -> Result<(), ModelError> {
        if self.dim == 0 || !self.dim.is_multiple_of(2) || self.dim > head_dim {
            let expected = format!("an even number of rotating values in each head of {head_dim}");
            return Err(ModelError::config(path, expected, self.dim));
        }
        let mut positive = vec![("RoPE base", self.theta), ("RoPE attention factor", self.attention_factor.into())];
        match self.scaling {
            RopeScaling::None => {}
            RopeScaling::Proportional { pairs } if pairs > self.dim / 2 => {
                let expected = format!("at most {} rotating pairs", self.dim / 2);
                return Err(ModelError::config(path, expected, pairs));
            }
            RopeScaling::Proportional { .. } => {}
            RopeScaling::LongRope { original_context, ref short, ref long } => {
                positive.push(("original context", original_context as f64));
                for (name, factors) in [("short", short), ("long", long)] {
                    if factors.len() != self.dim / 2 {
                        let expected = format!("{} {name} factors of RoPE scaling", self.dim / 2);
                        return Err(ModelError::config(path, expected, factors.len()));
                    }
                }
                let factors = short.iter().chain(long);
                positive.extend(factors.map(|factor| ("factor of RoPE scaling of each frequency", f64::from(*factor))));
            }
            RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, .. } => positive.extend([
                ("RoPE scaling factor", factor),
                ("original context", original_context as f64),
                ("RoPE beta_slow", beta_slow),
                ("RoPE beta_fast over beta_slow", beta_fast - beta_slow),
                ("RoPE base above 1", self.theta - 1.0),
            ]),
            RopeScaling::Linear { factor } => positive.push(("RoPE scaling factor", factor)),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => positive.extend([
                ("RoPE scaling factor", factor),
                ("RoPE low_freq_factor", low_freq_factor),
                ("RoPE high_freq_factor over low_freq_factor", high_freq_factor - low_freq_factor),
                ("original context", original_context as f64),
            ]),
        }
        for (name, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(ModelError::config(path, format!("a positive {name}"), value));
            }
        }
        Ok(())
    }
}
