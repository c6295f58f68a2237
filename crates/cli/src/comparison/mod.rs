//! Files side by side: what is measured of each, as data, as a table and as a plot.

mod labels;
pub mod plot;
mod scatter;
mod svg;
pub mod table;

use pipeline::evaluate::Evaluation;
use serde::Serialize;

use crate::speed::Speed;

/// What is known of one file. What was not measured is absent.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// As the user named it.
    pub model: String,
    /// The type that holds most of its parameters.
    #[serde(rename = "type")]
    pub dtype: String,
    /// Bytes of all its files.
    pub bytes: u64,
    pub bits_per_weight: f64,
    /// Whether it was quantized with an importance matrix.
    pub imatrix: bool,
    pub perplexity: Option<f64>,
    pub perplexity_error: Option<f64>,
    /// Divergence from the base, in nats.
    pub kl_mean: Option<f64>,
    pub kl_p99: Option<f64>,
    pub kl_max: Option<f64>,
    pub top1_agreement: Option<f64>,
    #[serde(flatten)]
    pub speed: Speed,
}

impl Compared {
    /// Takes over what an evaluation found.
    pub fn evaluated(&mut self, found: &Evaluation) {
        self.perplexity = Some(found.perplexity);
        self.perplexity_error = Some(found.perplexity_error);
        self.kl_mean = found.kl_mean;
        self.kl_p99 = found.kl_p99;
        self.kl_max = found.kl_max;
        self.top1_agreement = found.top1_agreement;
    }

    /// What its shapes are drawn as.
    fn class(&self) -> &'static str {
        if self.imatrix { "weighed" } else { "plain" }
    }
}

/// A figure that tables and plots show of each file.
pub struct Figure {
    pub name: &'static str,
    pub of: fn(&Compared) -> Option<f64>,
    pub show: fn(f64) -> String,
}

/// The figures, in the order that they are shown in.
pub static FIGURES: [Figure; 8] = [
    Figure { name: "size MB", of: |c| Some(c.bytes as f64), show: |v| format!("{:.1}", v / 1e6) },
    Figure { name: "bits/weight", of: |c| Some(c.bits_per_weight), show: |v| format!("{v:.2}") },
    Figure { name: "KL mean", of: |c| c.kl_mean, show: |v| format!("{v:.5}") },
    Figure { name: "top-1 %", of: |c| c.top1_agreement, show: |v| format!("{:.2}", v * 100.0) },
    Figure { name: "perplexity", of: |c| c.perplexity, show: |v| format!("{v:.4}") },
    Figure { name: "prefill tokens/s", of: |c| c.speed.prefill_tps, show: |v| format!("{v:.1}") },
    Figure { name: "decode tokens/s", of: |c| c.speed.decode_tps, show: |v| format!("{v:.1}") },
    Figure { name: "memory MB", of: |c| c.speed.memory_bytes.map(|b| b as f64), show: |v| format!("{:.1}", v / 1e6) },
];

/// The figures that at least one file has.
pub fn shown(files: &[Compared]) -> impl Iterator<Item = &'static Figure> {
    FIGURES.iter().filter(|figure| files.iter().any(|file| (figure.of)(file).is_some()))
}
