//! `quantize`: the file, its card, and the gate.

use std::fs;
use std::path::PathBuf;

use crate::support::{Edgeling, checkpoint};

/// A source in GGUF, a text that is long enough to evaluate on, and where to write.
struct Case {
    edgeling: Edgeling,
    source: String,
    text: String,
    out: PathBuf,
}

impl Case {
    fn new() -> Self {
        let edgeling = Edgeling::new();
        let text = edgeling.home.path().join("text.txt");
        fs::write(&text, "the winter in the inn ".repeat(40)).unwrap();
        let source = checkpoint("llama").join("model.gguf").to_str().unwrap().to_owned();
        let out = edgeling.home.path().join("out.gguf");
        Self { edgeling, source, text: text.to_str().unwrap().to_owned(), out }
    }

    fn args<'a>(&'a self, file_type: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let fixed = ["quantize", &self.source, file_type, "--out", self.out.to_str().unwrap()];
        fixed.iter().chain(more).copied().collect()
    }

    /// What stands in the folder of the result.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.edgeling.home.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "home");
        names.sort();
        names
    }
}

#[test]
fn the_result_is_smaller_runs_and_carries_its_card() {
    let case = Case::new();
    let measure = ["--text", &case.text, "--context", "32", "--gate", "kl<0.5,top1>0.1", "--json"];
    let report = case.edgeling.json(&case.args("q8_0", &measure));
    assert_eq!(report["type"], "Q8_0");
    assert!(fs::metadata(&case.out).unwrap().len() < fs::metadata(&case.source).unwrap().len());
    assert_eq!(case.left(), ["out.gguf", "text.txt"]);

    let out = case.out.to_str().unwrap();
    let facts = case.edgeling.json(&["inspect", out, "--json"]);
    let card = &facts["evaluation"];
    assert_eq!(card["base"], "model.gguf");
    assert_eq!(card["context"], 32);
    for figure in ["perplexity", "kl_mean", "top1_agreement"] {
        assert_eq!(card[figure], report["evaluation"][figure], "{figure}");
    }
    let args = ["eval", out, "--base", &case.source, "--text", &case.text, "--context", "32", "--json"];
    assert_eq!(case.edgeling.json(&args)["kl_mean"], card["kl_mean"]);
    assert!(case.edgeling.run(&["inspect", out]).success().stdout.contains("KL "));
}

#[test]
fn a_gate_that_refuses_leaves_nothing() {
    let case = Case::new();
    let measure = ["--text", &case.text, "--context", "32", "--gate", "kl<0.0000001"];
    let done = case.edgeling.run(&case.args("Q4_0", &measure));
    done.failed(3, &["kl<0.0000001", "refused", "found 0."]);
    assert_eq!(case.left(), ["text.txt"]);
}

#[test]
fn types_are_chosen_by_name_and_in_any_case() {
    let case = Case::new();
    let chosen = ["--tensor-type", "ffn_down=q8_0", "--embedding-type", "f16", "--pure", "--json"];
    let report = case.edgeling.json(&case.args("q4_1", &chosen));
    let of = |name: &str| {
        let tensors = report["tensors"].as_array().unwrap();
        tensors.iter().find(|t| t["name"] == name).unwrap()["to"].clone()
    };
    assert_eq!(of("blk.0.ffn_down.weight"), "Q8_0");
    assert_eq!(of("token_embd.weight"), "F16");
    assert_eq!(of("blk.0.attn_q.weight"), "Q4_1");
    assert_eq!(of("blk.0.attn_norm.weight"), "F32");
}

#[test]
fn wrong_asks_are_refused() {
    let case = Case::new();
    case.edgeling.run(&case.args("Q9_9", &[])).failed(2, &["expected one of", "Q4_K_M"]);
    case.edgeling.run(&case.args("Q8_0", &["--gate", "kl<1"])).failed(2, &["--text"]);
    case.edgeling.run(&case.args("Q8_0", &["--gate", "mse<1", "--text", &case.text])).failed(2, &["mse", "top1"]);
    fs::write(&case.out, "precious").unwrap();
    case.edgeling.run(&case.args("Q8_0", &[])).failed(1, &["is there already", "--force"]);
    assert_eq!(fs::read(&case.out).unwrap(), b"precious");
    case.edgeling.run(&case.args("Q8_0", &["--force"])).success();
    let again = ["quantize", case.out.to_str().unwrap(), "Q4_0", "--out", "unused.gguf"];
    case.edgeling.run(&again).failed(1, &["found Q8_0", "--requantize"]);
    let itself = ["quantize", &case.source, "Q8_0", "--force", "--out", &case.source];
    case.edgeling.run(&itself).failed(2, &["source itself"]);
    let folder = checkpoint("llama");
    let hugging_face = ["quantize", folder.to_str().unwrap(), "Q8_0", "--out", "unused.gguf"];
    case.edgeling.run(&hugging_face).failed(1, &["GGUF"]);
}
