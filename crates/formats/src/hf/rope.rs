//! Rotary embedding in `config.json`, which has two spellings: `rope_theta` with an optional `rope_scaling`, and the newer
//! `rope_parameters` that holds both.

use super::json::JsonFile;
use crate::FormatError;

/// The base that models have whose configuration names none.
const DEFAULT_THETA: f64 = 10_000.0;

/// Parameters of rotary embedding. Those that the method does not use, or the file leaves out, are `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the angles' geometric series.
    pub theta: f64,
    /// How positions beyond the original context are reached: `default` (not at all), `linear`, `dynamic`, `yarn`,
    /// `longrope`, `llama3`, or any other name that the file gives.
    pub kind: String,
    /// By how much the context grew.
    pub factor: Option<f64>,
    /// `llama3`: wavelengths over `original_context / low_freq_factor` are stretched by `factor`.
    pub low_freq_factor: Option<f64>,
    /// `llama3`: wavelengths under `original_context / high_freq_factor` stay as they are.
    pub high_freq_factor: Option<f64>,
    /// Positions of the context before it grew.
    pub original_context: Option<usize>,
    /// Multiplies cosine and sine.
    pub attention_factor: Option<f64>,
    /// `yarn`: rotations over the original context above which a pair stays as it is.
    pub beta_fast: Option<f64>,
    /// `yarn`: rotations over the original context below which a pair is stretched in full.
    pub beta_slow: Option<f64>,
    /// `yarn`: what the attention factor grows by, and what it is divided by.
    pub mscale: Option<f64>,
    pub mscale_all_dim: Option<f64>,
    /// `yarn`: whether the bounds of the stretched pairs are whole numbers; they are unless the file says otherwise.
    pub truncate: Option<bool>,
    /// `longrope`: what each frequency is divided by in short sequences.
    pub short_factor: Option<Vec<f32>>,
    /// `longrope`: what each frequency is divided by in long sequences.
    pub long_factor: Option<Vec<f32>>,
    /// The share of each head that rotates.
    pub partial_rotary_factor: Option<f64>,
}

impl RopeConfig {
    /// Reads either spelling; where a file has both, the newer one counts.
    ///
    /// # Errors
    /// A key has the wrong type, or there are separate parameters for each type of layer.
    pub fn from_json(config: &JsonFile) -> Result<Self, FormatError> {
        let section = Self::section(config)?;
        if let Some(layers) = Self::types_of_layers(config, section).next() {
            let problem = format!("expected one set of parameters, found a set for layers of type {layers}");
            return Err(config.wrong(section, problem));
        }
        Self::from_section(config, section)
    }

    /// As [`Self::from_json`], of layers of type `layers` where each type has parameters of its own, and `None` where that
    /// type has none.
    ///
    /// # Errors
    /// A key has the wrong type.
    pub fn of_layers(config: &JsonFile, layers: &str) -> Result<Option<Self>, FormatError> {
        let section = Self::section(config)?;
        if Self::types_of_layers(config, section).next().is_none() {
            return Self::from_section(config, section).map(Some);
        }
        let own = format!("{section}.{layers}");
        config.find(&own).map(|_| Self::from_section(config, &own)).transpose()
    }

    /// Which of the spellings the file has.
    fn section(config: &JsonFile) -> Result<&'static str, FormatError> {
        let section = if config.find("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
        match config.find(section) {
            Some(value) if !value.is_object() => {
                Err(config.wrong(section, format!("expected an object, found {value}")))
            }
            _ => Ok(section),
        }
    }

    fn types_of_layers<'a>(config: &'a JsonFile, section: &str) -> impl Iterator<Item = &'a String> {
        let object = config.find(section).and_then(|value| value.as_object());
        object.into_iter().flatten().filter(|(_, value)| value.is_object()).map(|(layers, _)| layers)
    }

    fn from_section(config: &JsonFile, section: &str) -> Result<Self, FormatError> {
        let own = |key: &str| config.get::<f64>(&format!("{section}.{key}"));
        let own_or_global = |key: &str| Ok::<_, FormatError>(own(key)?.or(config.get(key)?));

        let kind = match config.get::<String>(&format!("{section}.rope_type"))? {
            Some(kind) => kind,
            None => config.get(&format!("{section}.type"))?.unwrap_or_else(|| "default".to_owned()),
        };
        let context_key = "original_max_position_embeddings";
        let original_context = match config.get(&format!("{section}.{context_key}"))? {
            Some(context) => Some(context),
            None => config.get(context_key)?,
        };
        Ok(Self {
            theta: own_or_global("rope_theta")?.unwrap_or(DEFAULT_THETA),
            kind,
            factor: own("factor")?,
            low_freq_factor: own("low_freq_factor")?,
            high_freq_factor: own("high_freq_factor")?,
            original_context,
            attention_factor: own("attention_factor")?,
            beta_fast: own("beta_fast")?,
            beta_slow: own("beta_slow")?,
            mscale: own("mscale")?,
            mscale_all_dim: own("mscale_all_dim")?,
            truncate: config.get(&format!("{section}.truncate"))?,
            short_factor: config.get(&format!("{section}.short_factor"))?,
            long_factor: config.get(&format!("{section}.long_factor"))?,
            partial_rotary_factor: own_or_global("partial_rotary_factor")?,
        })
    }
}
