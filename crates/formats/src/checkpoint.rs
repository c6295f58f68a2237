//! The one type that everything reads a model through.

use std::path::{Path, PathBuf};

use kernels::plan::{Bytes, Source};

use crate::gguf::{self, Metadata};
use crate::hf::{CONFIG_FILE, GENERATION_FILE, HfConfig, JsonFile, TOKENIZER_FILE, TokenizerConfig, model_card};
use crate::safetensors::{INDEX_FILE, SINGLE_FILE};
use crate::tensor::TensorTable;
use crate::{
    ChatTemplates, FormatError, GenerationDefaults, Tensor, TensorInfo, TokenizerFiles, mlx, pytorch, safetensors,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Gguf,
    HuggingFace,
}

/// Where a model's shape is described.
#[derive(Clone, Copy, Debug)]
pub enum Config<'a> {
    Gguf(&'a Metadata),
    HuggingFace(&'a HfConfig),
}

/// A model on disk: its settings, and its tensors in mapped files. Opening reads headers and settings only.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    settings: Settings,
    tensors: TensorTable,
}

#[derive(Debug)]
enum Settings {
    Gguf(Metadata),
    HuggingFace { config: HfConfig, generation: Option<JsonFile> },
}

impl Checkpoint {
    /// Opens a GGUF file (any shard of it), or a folder in Hugging Face or MLX layout with `config.json` and
    /// safetensors, or archives of NumPy arrays or weights of PyTorch where there are none.
    ///
    /// # Errors
    /// Neither of them, or files that break the rules of their format.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let (settings, tensors) = if path.is_dir() {
            check_folder(path)?;
            let config = HfConfig::open(&path.join(CONFIG_FILE))?;
            let generation = JsonFile::open_optional(&path.join(GENERATION_FILE))?;
            let mut tensors = match path {
                _ if has_safetensors(path) => safetensors::open(path)?,
                _ if path.join(mlx::NPZ_FILE).exists() => mlx::open_npz(path)?,
                _ => pytorch::open(path)?,
            };
            if let Some(quantization) = mlx::Quantization::of(&config)? {
                mlx::merge(&mut tensors, &quantization)?;
            }
            (Settings::HuggingFace { config, generation }, tensors)
        } else {
            let (metadata, tensors) = gguf::open(path)?;
            (Settings::Gguf(metadata), tensors)
        };
        Ok(Self { path: path.to_owned(), settings, tensors })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn format(&self) -> Format {
        match self.settings {
            Settings::Gguf(_) => Format::Gguf,
            Settings::HuggingFace { .. } => Format::HuggingFace,
        }
    }

    /// Whether it is a folder with matrices that MLX has quantized.
    pub fn is_mlx(&self) -> bool {
        matches!(&self.settings, Settings::HuggingFace { config, .. } if matches!(mlx::Quantization::of(config), Ok(Some(_))))
    }

    pub fn config(&self) -> Config<'_> {
        match &self.settings {
            Settings::Gguf(metadata) => Config::Gguf(metadata),
            Settings::HuggingFace { config, .. } => Config::HuggingFace(config),
        }
    }

    /// The architecture's name as the file gives it: `llama`, `qwen3`.
    ///
    /// # Errors
    /// The file gives none.
    pub fn architecture(&self) -> Result<&str, FormatError> {
        match self.config() {
            Config::Gguf(metadata) => metadata.require("general.architecture"),
            Config::HuggingFace(config) => config.model_type(),
        }
    }

    /// All tensors in file order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.infos.iter()
    }

    pub fn tensor_info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.info(name)
    }

    /// # Errors
    /// There is no such tensor, or its type cannot be read.
    pub fn tensor(&self, name: &str) -> Result<Tensor, FormatError> {
        self.tensors.tensor(name)
    }

    /// Lets bytes in memory stand in for those of a tensor, of the same type and shape, until [`Self::restore`].
    ///
    /// # Errors
    /// There is no such tensor, or it has another number of bytes.
    pub fn replace(&mut self, name: &str, data: Vec<u8>) -> Result<(), FormatError> {
        self.tensors.replace(name, data)
    }

    /// Tensors have the bytes of their files again.
    pub fn restore(&mut self) {
        self.tensors.restore();
    }

    /// The bytes of a tensor of any type, as they stand in its file.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn raw(&self, name: &str) -> Result<Bytes, FormatError> {
        self.tensors.raw(name)
    }

    /// # Errors
    /// A setting has the wrong type.
    pub fn generation_defaults(&self) -> Result<GenerationDefaults, FormatError> {
        match &self.settings {
            Settings::Gguf(metadata) => GenerationDefaults::from_gguf(metadata),
            Settings::HuggingFace { config, generation } => GenerationDefaults::from_hf(generation.as_ref(), config),
        }
    }

    /// The licence, as the metadata or the model card names it.
    ///
    /// # Errors
    /// The metadata's key is not text.
    pub fn licence(&self) -> Result<Option<String>, FormatError> {
        match &self.settings {
            Settings::Gguf(metadata) => Ok(metadata.get::<&str>("general.license")?.map(str::to_owned)),
            Settings::HuggingFace { .. } => Ok(model_card::licence(&self.path)),
        }
    }

    /// # Errors
    /// Templates that are not text, or files around them that are not JSON.
    pub fn chat_templates(&self) -> Result<ChatTemplates, FormatError> {
        match &self.settings {
            Settings::Gguf(metadata) => ChatTemplates::from_gguf(metadata),
            Settings::HuggingFace { .. } => Ok(TokenizerConfig::open(&self.path)?.chat_templates().clone()),
        }
    }

    /// # Errors
    /// A folder without `tokenizer.json`, or files beside it that are not JSON.
    pub fn tokenizer_files(&self) -> Result<TokenizerFiles, FormatError> {
        match &self.settings {
            Settings::Gguf(metadata) => Ok(TokenizerFiles::Gguf(metadata.clone())),
            Settings::HuggingFace { .. } => TokenizerFiles::open(&self.path),
        }
    }

    /// The files that hold the tensors, with their bytes.
    pub fn files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.tensors.files.iter().map(|file| (file.path(), Source::bytes(file.as_ref()).len()))
    }

    /// Bytes of all files that hold tensors.
    pub fn total_bytes(&self) -> usize {
        self.files().map(|(_, bytes)| bytes).sum()
    }
}

fn has_safetensors(folder: &Path) -> bool {
    [SINGLE_FILE, INDEX_FILE].iter().any(|name| folder.join(name).exists())
}

/// Says what a folder is that holds no model in Hugging Face layout.
fn check_folder(folder: &Path) -> Result<(), FormatError> {
    let has = |name: &str| folder.join(name).exists();
    let others = [pytorch::SINGLE_FILE, pytorch::INDEX_FILE, mlx::NPZ_FILE].into_iter().any(has);
    if has(CONFIG_FILE) && (has_safetensors(folder) || others) {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).map_err(FormatError::io(folder))?;
    let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    let any = |ending: &str| names.iter().any(|name| name.ends_with(ending));
    let (found, hint) = if any(".gguf") {
        ("a folder with GGUF files", Some("give the path of the .gguf file"))
    } else if any(".safetensors") {
        (
            "safetensors under other names, or without config.json",
            Some("the files must have the names they are published under"),
        )
    } else if any(".bin") || any(".pth") || any(".pt") {
        ("PyTorch weights", Some("the files must be named pytorch_model.bin, or as pytorch_model.bin.index.json says"))
    } else if has(TOKENIZER_FILE) {
        ("a tokenizer without weights", Some("it can be used to tokenize and detokenize only"))
    } else {
        ("neither", None)
    };
    Err(FormatError::Kind {
        path: folder.to_owned(),
        expected: "a folder with config.json and model.safetensors",
        found: found.to_owned(),
        hint,
    })
}
