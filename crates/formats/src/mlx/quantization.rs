//! `quantization` in `config.json`: how matrices are quantized.

use std::collections::BTreeMap;

use kernels::DType;
use kernels::quant::GroupAffine;
use serde_json::{Value, json};

use crate::FormatError;
use crate::hf::HfConfig;

/// Where newer files have a copy of [`KEY`].
const COPY: &str = "quantization_config";
const KEY: &str = "quantization";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Affine,
    Mxfp4,
    Mxfp8,
    Nvfp4,
}

impl Mode {
    /// By name, with the usual number of bits and size of groups; beside the affine ones they are the only ones.
    const ALL: [(&'static str, Self, usize, usize); 4] = [
        ("affine", Self::Affine, 4, 64),
        ("mxfp4", Self::Mxfp4, 4, 32),
        ("mxfp8", Self::Mxfp8, 8, 32),
        ("nvfp4", Self::Nvfp4, 4, 16),
    ];

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    fn row(self) -> &'static (&'static str, Self, usize, usize) {
        Self::ALL.iter().find(|row| row.1 == self).unwrap_or(&Self::ALL[0])
    }

    pub fn name(self) -> &'static str {
        self.row().0
    }
}

/// How a matrix is quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub mode: Mode,
    pub bits: usize,
    /// Values that share a scale.
    pub group: usize,
}

impl Layout {
    /// A mode with its usual numbers, or with these.
    pub fn new(mode: Mode, bits: Option<usize>, group: Option<usize>) -> Self {
        let (_, _, usual_bits, usual_group) = *mode.row();
        Self { mode, bits: bits.unwrap_or(usual_bits), group: group.unwrap_or(usual_group) }
    }

    /// The type of blocks of this layout, with scales of this type where it is affine; `None` where there is none.
    pub fn dtype(self, scales: DType) -> Option<DType> {
        let Self { mode, bits, group } = self;
        match mode {
            Mode::Affine => GroupAffine { bits, group, scales }.dtype(),
            _ if self != Self::new(mode, None, None) => None,
            Mode::Mxfp4 => Some(DType::MXFP4),
            Mode::Mxfp8 => Some(DType::MXFP8),
            Mode::Nvfp4 => Some(DType::NVFP4),
        }
    }

    /// As [`Self::dtype`], of rows of `cols` values: those of nvfp4 may be no whole blocks of GGUF's type.
    pub fn dtype_of_rows(self, cols: usize, scales: DType) -> Option<DType> {
        let dtype = self.dtype(scales)?;
        let narrow = dtype == DType::NVFP4 && !cols.is_multiple_of(dtype.block);
        Some(if narrow { DType::NVFP4_G16 } else { dtype })
    }

    /// The layout of matrices of this type, if MLX has one.
    pub fn of(dtype: DType) -> Option<Self> {
        let dtype = if dtype == DType::NVFP4_G16 { DType::NVFP4 } else { dtype };
        if let Some(GroupAffine { bits, group, .. }) = GroupAffine::of(dtype) {
            return Some(Self { mode: Mode::Affine, bits, group });
        }
        let others = [Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4].map(|mode| Self::new(mode, None, None));
        others.into_iter().find(|layout| layout.dtype(DType::F32) == Some(dtype))
    }

    /// As `config.json` has it.
    pub fn to_json(self) -> Value {
        json!({ "group_size": self.group, "bits": self.bits, "mode": self.mode.name() })
    }
}

/// How the matrices of a folder are quantized; of those by name, `None` says that it is as all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantization {
    pub all: Layout,
    pub by_name: BTreeMap<String, Layout>,
}

impl Quantization {
    /// What the file says; `None` where it is none of MLX, or its matrices are not quantized.
    ///
    /// # Errors
    /// A number or a mode that is none.
    pub fn of(config: &HfConfig) -> Result<Option<Self>, FormatError> {
        let is_mlx = |value: &&Value| value.get("quant_method").is_none() && value.get("bits").is_some();
        let key = [KEY, COPY].into_iter().find(|key| config.find(key).filter(is_mlx).is_some());
        let Some((key, settings)) = key.and_then(|key| Some((key, config.find(key)?.as_object()?))) else {
            return Ok(None);
        };
        let read = |settings: &Value| {
            let number = |of: &str| match settings.get(of) {
                None => Ok(None),
                Some(value) => {
                    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
                    number.map(Some).ok_or_else(|| wrong_number(config, key, of, value))
                }
            };
            let mode = match settings.get("mode") {
                None => Mode::Affine,
                Some(name) => name.as_str().and_then(Mode::from_name).ok_or_else(|| {
                    let names: Vec<_> = Mode::ALL.iter().map(|row| row.0).collect();
                    config.wrong(&format!("{key}.mode"), format!("expected {}, found {name}", names.join(", ")))
                })?,
            };
            Ok::<_, FormatError>(Layout::new(mode, number("bits")?, number("group_size")?))
        };
        let all = read(&Value::Object(settings.clone()))?;
        let mut by_name = BTreeMap::new();
        for (name, settings) in settings.iter().filter(|(_, settings)| settings.is_object()) {
            by_name.insert(name.clone(), read(settings)?);
        }
        Ok(Some(Self { all, by_name }))
    }

    /// How the matrix `{stem}.weight` is quantized.
    pub fn layout(&self, stem: &str) -> Layout {
        self.by_name.get(stem).copied().unwrap_or(self.all)
    }

    /// Sets what a folder's `config.json` says of it.
    pub fn write(&self, config: &mut serde_json::Map<String, Value>) {
        let mut settings = self.all.to_json();
        for (name, layout) in &self.by_name {
            settings[name] = layout.to_json();
        }
        config.insert(KEY.to_owned(), settings.clone());
        config.insert(COPY.to_owned(), settings);
    }

    /// Takes out of a folder's `config.json` what it says of quantization.
    pub fn erase(config: &mut serde_json::Map<String, Value>) {
        config.remove(KEY);
        config.remove(COPY);
    }
}

fn wrong_number(config: &HfConfig, key: &str, of: &str, found: &Value) -> FormatError {
    config.wrong(&format!("{key}.{of}"), format!("expected a number, found {found}"))
}
