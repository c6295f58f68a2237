//! Running the binary in a home of its own, and the tiny checkpoints that it runs on.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use formats::gguf::{GgufWriter, MetadataBuilder, NewTensor};
use formats::{Checkpoint, Config};
use serde_json::Value;
use tempfile::TempDir;

/// Variables that change what the binary does or how its output looks.
const VARIABLES: [&str; 7] =
    ["EDGELING_HOME", "EDGELING_CPU", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_BACKTRACE", "TERM"];

/// The binary with an empty home.
pub struct Edgeling {
    pub home: TempDir,
}

/// What a finished process left.
pub struct Done {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Edgeling {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    /// The binary with these arguments, an empty standard input and none of the user's settings.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgeling"));
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command.env("EDGELING_HOME", self.home.path().join("home"));
        command.args(args).stdin(Stdio::null());
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Done {
        Done::of(self.command(args).output().unwrap())
    }

    /// As [`Self::run`] with `input` on standard input.
    pub fn run_with<S: AsRef<OsStr>>(&self, args: &[S], input: &[u8]) -> Done {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A process that fails early reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input);
        Done::of(child.wait_with_output().unwrap())
    }

    /// The JSON that a command prints, which must succeed.
    pub fn json<S: AsRef<OsStr>>(&self, args: &[S]) -> Value {
        self.run(args).json()
    }
}

impl Done {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        let done = Self {
            status: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        done
    }

    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.status, 0, "{}", self.stderr);
        self
    }

    /// The command failed with `status`, said so on standard error with all of `words`, and printed nothing.
    #[track_caller]
    pub fn failed(self, status: i32, words: &[&str]) -> Self {
        assert_eq!(self.status, status, "{}", self.stderr);
        assert_eq!(self.stdout, "");
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in: {}", self.stderr);
        }
        self
    }

    /// The one JSON value on standard output.
    #[track_caller]
    pub fn json(self) -> Value {
        let done = self.success();
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.stdout))
    }
}

/// The folder of a tiny checkpoint: a model in Hugging Face layout, `model.gguf` beside it, reference logits.
pub fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints").join(name)
}

/// The path of a tiny model as an argument.
pub fn tiny() -> String {
    checkpoint("llama").to_str().unwrap().to_owned()
}

/// The names of an object's fields.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// A model of many layers, all those of the tiny one over and over: work that a signal finds under way.
pub fn deep(folder: &Path, layers: u32) -> PathBuf {
    let tiny = Checkpoint::open(&checkpoint("llama").join("model.gguf")).unwrap();
    let Config::Gguf(metadata) = tiny.config() else { unreachable!("the tiny file is GGUF") };
    let mut metadata = MetadataBuilder::from(metadata);
    metadata.set("llama.block_count", &layers);
    let of_layer = |name: &str, layer: u32| name.strip_prefix("blk.0.").map(|rest| format!("blk.{layer}.{rest}"));
    let mut tensors: Vec<(String, String)> = Vec::new();
    for info in tiny.tensors().filter(|info| !info.name.starts_with("blk.") || info.name.starts_with("blk.0.")) {
        let layers = 0..if info.name.starts_with("blk.") { layers } else { 1 };
        tensors.extend(layers.map(|i| (of_layer(&info.name, i).unwrap_or(info.name.clone()), info.name.clone())));
    }
    let new = |(name, from): &(String, String)| {
        let tensor = tiny.tensor(from).unwrap();
        NewTensor { name: name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone() }
    };
    let path = folder.join("deep.gguf");
    let mut writer = GgufWriter::create(&path, &metadata, &tensors.iter().map(new).collect::<Vec<_>>()).unwrap();
    for (name, from) in &tensors {
        writer.write(name, &tiny.tensor(from).unwrap().data).unwrap();
    }
    writer.finish().unwrap();
    path
}
