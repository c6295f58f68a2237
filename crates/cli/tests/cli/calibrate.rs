//! `calibrate`: the file, what an interrupted run leaves, and what `quantize` makes of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use formats::{Checkpoint, Config};
use rustix::process::{Pid, Signal, kill_process};

use serde_json::json;

use crate::support::{Edgeling, checkpoint};

/// A model, a text, and where to write.
struct Case {
    edgeling: Edgeling,
    model: String,
    text: PathBuf,
    out: PathBuf,
}

impl Case {
    fn new(repeats: usize) -> Self {
        let edgeling = Edgeling::new();
        let folder = edgeling.home.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let text = edgeling.home.path().join("text.txt");
        fs::write(&text, "the winter in the inn, and the dog in the barn; ".repeat(repeats)).unwrap();
        let model = checkpoint("llama").join("model.gguf").to_str().unwrap().to_owned();
        Self { edgeling, model, text, out: folder.join("imatrix.gguf") }
    }

    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let fixed = ["calibrate", &self.model, "--text", self.text.to_str().unwrap(), "--out", self.out()];
        fixed.iter().chain(more).copied().collect()
    }

    fn out(&self) -> &str {
        self.out.to_str().unwrap()
    }

    fn partial(&self) -> PathBuf {
        self.out.with_file_name("imatrix.gguf.partial")
    }

    /// What stands in the folder of the result.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.out.parent().unwrap()).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Starts it and waits until it keeps what it has done.
    fn started(&self) -> Child {
        let kept = || fs::read(self.partial()).ok();
        let (before, args) = (kept(), self.args(&["--context", "8"]));
        let child = self.edgeling.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while kept() == before {
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    }
}

#[test]
fn the_result_names_its_text_and_weighs_a_smaller_file() {
    let case = Case::new(10);
    let report = case.edgeling.json(&case.args(&["--context", "32", "--json"]));
    assert_eq!(report["tensors"], 14);
    assert_eq!(report["context"], 32);
    assert_eq!(report["unseen_experts"], 0);
    let windows = report["windows"].as_u64().unwrap();
    assert!(windows > 5);
    assert_eq!(case.left(), ["imatrix.gguf"]);
    case.edgeling.run(&case.args(&[])).failed(1, &["is there already", "hint: --force replaces it"]);
    case.edgeling.run(&case.args(&["--force", "--context", "32"])).success();

    let small = case.out.with_file_name("small.gguf");
    let small = small.to_str().unwrap();
    let args = ["quantize", &case.model, "Q4_0", "--imatrix", case.out(), "--out", small, "--json"];
    let report = case.edgeling.json(&args);
    assert!(report["tensors"].as_array().unwrap().iter().any(|tensor| tensor["to"] == "Q4_0"));
    let small = Checkpoint::open(Path::new(small)).unwrap();
    let Config::Gguf(keys) = small.config() else { panic!("{small:?}") };
    assert_eq!(keys.require::<&str>("quantize.imatrix.file").unwrap(), "imatrix.gguf");
    assert_eq!(keys.require::<&str>("quantize.imatrix.dataset").unwrap(), "text.txt");
    assert_eq!(keys.require::<u32>("quantize.imatrix.entries_count").unwrap(), 14);
    assert_eq!(keys.require::<u64>("quantize.imatrix.chunks_count").unwrap(), windows);

    let facts = case.edgeling.json(&["inspect", case.out(), "--json"]);
    assert_eq!((&facts["imatrix"]["tensors"], &facts["imatrix"]["chunk_size"]), (&json!(14), &json!(32)));
    let said = case.edgeling.run(&["inspect", case.out()]).success().stdout;
    assert!(said.contains("importance matrix (GGUF)") && said.contains("text.txt"), "{said}");
}

#[test]
fn an_interrupted_run_is_taken_up_again() {
    let case = Case::new(4000);
    let whole = {
        let case = Case { text: case.text.clone(), ..Case::new(0) };
        case.edgeling.run(&case.args(&["--context", "8"])).success();
        fs::read(&case.out).unwrap()
    };

    let mut child = case.started();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(case.partial().exists() && !case.out.exists());

    // Another calibration does not take it.
    case.edgeling.run(&case.args(&["--context", "16"])).failed(1, &["of another model, text or context", "--force"]);

    let child = case.started();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("going on after") && said.contains("the same command goes on"), "{said}");
    assert!(!said.contains("error") && case.partial().exists() && !case.out.exists());

    let done = case.edgeling.run(&case.args(&["--context", "8"])).success();
    assert!(done.stderr.contains("going on after"), "{}", done.stderr);
    assert!(fs::read(&case.out).unwrap() == whole);
    assert!(!case.partial().exists());
}

#[test]
fn wrong_asks_are_refused() {
    let case = Case::new(10);
    case.edgeling.run(&["calibrate", &case.model]).failed(2, &["--text", "--out"]);
    case.edgeling.run(&case.args(&["--context", "4"])).failed(2, &["4 is not in 8"]);
    case.edgeling
        .run(&case.args(&["--context", "4096"]))
        .failed(1, &["at least one window of 4096", "give a longer text"]);
    assert!(case.left().is_empty());
    let quantize = |imatrix: &str| {
        let out = case.out.with_file_name("small.gguf");
        case.edgeling.run(&["quantize", &case.model, "Q4_0", "--imatrix", imatrix, "--out", out.to_str().unwrap()])
    };
    quantize(&case.model).failed(1, &["expected an importance matrix, found a GGUF file of a model"]);
    quantize(case.text.to_str().unwrap()).failed(1, &["expected an importance matrix"]);
    // Of a model of another width.
    let other = checkpoint("olmoe").join("model.gguf");
    let args = ["calibrate", other.to_str().unwrap(), "--text", case.text.to_str().unwrap(), "--out", case.out()];
    case.edgeling.run(&[&args[..], &["--context", "32"]].concat()).success();
    quantize(case.out()).failed(1, &["expected the importance of", "columns", "hint: make the importance matrix from"]);
    assert_eq!(case.left(), ["imatrix.gguf"]);
}
