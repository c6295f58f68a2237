//! Rotary position embedding: from settings to the angle per position of each pair.
//!
//! Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021. Frequencies are computed in f32 step by
//! step as transformers does, from powers that are rounded once: the same on every platform.

use std::f32::consts::TAU;
use std::path::Path;

use kernels::plan::RopeStyle;

use super::Presence;
use crate::ModelError;

/// How a model reaches positions beyond those it was first trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// Angle per position of each of the `dim / 2` pairs.
    pub fn inv_freq(&self) -> Vec<f32> {
        let plain = (0..self.dim / 2).map(|pair| {
            let exponent = (2 * pair) as f32 / self.dim as f32;
            1.0 / libm::pow(self.theta, f64::from(exponent)) as f32
        });
        match self.scaling {
            RopeScaling::None => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|f| f / factor as f32).collect(),
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
