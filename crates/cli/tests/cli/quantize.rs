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

#[test]
fn more_effort_makes_other_blocks_of_the_same_types() {
    let case = Case::new();
    let made = |file_type: &str, more: &[&str]| {
        let report = case.edgeling.json(&case.args(file_type, &[more, &["--force", "--json"]].concat()));
        (report["tensors"].clone(), fs::read(&case.out).unwrap())
    };
    for file_type in ["Q4_0", "Q4_K_M", "Q2_K"] {
        let usual = made(file_type, &[]);
        assert_eq!(made(file_type, &["--effort", "reference"]), usual, "{file_type}");
        let better = made(file_type, &["--effort", "high", "--threads", "1"]);
        assert_eq!(made(file_type, &["--effort", "high", "--threads", "2"]), better, "{file_type}");
        assert_eq!((&better.0, better.1.len()), (&usual.0, usual.1.len()), "{file_type}");
        assert_ne!(better.1, usual.1, "{file_type}");
    }

    let imatrix = case.edgeling.home.path().join("imatrix.gguf").display().to_string();
    let [plain, products] = [&[][..], &["--products"]].map(|more| {
        let fixed = ["calibrate", &case.source, "--text", &case.text, "--context", "32", "--out", &imatrix, "--force"];
        case.edgeling.run(&[&fixed, more].concat()).success();
        let quantized = |threads| made("Q4_0", &["--imatrix", &imatrix, "--effort", "high", "--threads", threads]).1;
        let better = quantized("1");
        assert!(better == quantized("2"));
        (better, made("Q4_0", &["--imatrix", &imatrix]).1)
    });
    assert!(plain.0 != products.0, "products count");
    assert!(plain.1 == products.1, "the reference has none");
    case.edgeling.run(&case.args("Q4_0", &["--effort", "heroic"])).failed(2, &["reference", "high"]);
}

/// Arguments of a run that chooses types for a size.
fn to_size<'a>(case: &'a Case, target: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["quantize", &case.source, "--out", case.out.to_str().unwrap(), "--force"];
    let measure = ["--text", &case.text, "--context", "32", "--windows", "2"];
    [&fixed, target, &measure, more].concat()
}

#[test]
fn a_file_has_the_size_that_was_asked_for() {
    let case = Case::new();
    let source = fs::metadata(&case.source).unwrap().len();
    let sizes = [0.45, 0.6, 0.9].map(|share| (source as f64 * share) as u64);
    let mut estimates = Vec::new();
    for size in sizes {
        let target = format!("{size}b");
        let report = case.edgeling.json(&to_size(&case, &["--target-size", &target], &["--json"]));
        let bytes = fs::metadata(&case.out).unwrap().len();
        assert!(bytes <= size, "{bytes} of {size}");
        assert_eq!(report["bytes"], bytes);
        let rows = report["target"]["table"]["tensors"].as_array().unwrap();
        for (row, chosen) in rows.iter().zip(report["target"]["chosen"].as_array().unwrap()) {
            let of = |t: &&serde_json::Value| t["name"] == row["tensor"];
            let made = report["tensors"].as_array().unwrap().iter().find(of).unwrap();
            assert_eq!(made["to"], *chosen, "{}", row["tensor"]);
        }
        estimates.push(report["target"]["kl_estimated"].as_f64().unwrap());
    }
    assert!(estimates.is_sorted_by(|a, b| a > b), "{estimates:?}");
    assert_eq!(case.left(), ["out.gguf", "text.txt"]);
}

#[test]
fn what_was_measured_is_kept_and_chosen_from_again() {
    let case = Case::new();
    let table = case.edgeling.home.path().join("table.json").to_str().unwrap().to_owned();
    let made = |more: &[&str]| {
        case.edgeling.run(&to_size(&case, &["--target-bpw", "9"], more)).success();
        fs::read(&case.out).unwrap()
    };
    let first = made(&["--threads", "1"]);
    let kept = made(&["--threads", "2", "--table", &table]);
    assert_eq!(kept, first);
    let measured = fs::read(&table).unwrap();
    assert_eq!(made(&["--table", &table]), first);
    assert_eq!(fs::read(&table).unwrap(), measured);

    let refused = |more: &[&str], why: &str| {
        let args = [to_size(&case, &["--target-bpw", "9"], &["--table", &table]), more.to_vec()].concat();
        case.edgeling.run(&args).failed(1, &[why, "--table"]);
    };
    refused(&["--effort", "high"], "another effort");
    let imatrix = case.edgeling.home.path().join("imatrix.gguf").to_str().unwrap().to_owned();
    let calibrate = ["calibrate", &case.source, "--text", &case.text, "--context", "32", "--out", &imatrix];
    case.edgeling.run(&calibrate).success();
    refused(&["--imatrix", &imatrix], "another importance matrix");
    fs::write(&case.text, "a winter in an inn ".repeat(40)).unwrap();
    refused(&[], "another text");
    fs::write(&table, "{}").unwrap();
    case.edgeling
        .run(&to_size(&case, &["--target-bpw", "9"], &["--table", &table]))
        .failed(1, &["table.json", "--table"]);
}

#[test]
fn targets_that_make_no_sense_are_refused() {
    let case = Case::new();
    let without_type = ["quantize", &case.source, "--out", case.out.to_str().unwrap()];
    case.edgeling.run(&without_type).failed(2, &["TYPE"]);
    let bpw = ["--target-bpw", "4.5"];
    case.edgeling.run(&[&without_type[..], &bpw].concat()).failed(2, &["--text"]);
    case.edgeling
        .run(&case.args("Q4_0", &[&bpw[..], &["--text", &case.text]].concat()))
        .failed(2, &["cannot be used with"]);
    case.edgeling.run(&to_size(&case, &bpw, &["--target-size", "4MB"])).failed(2, &["cannot be used with"]);
    case.edgeling.run(&case.args("Q4_0", &["--table", "t.json"])).failed(2, &["--target"]);
    case.edgeling.run(&to_size(&case, &["--target-size", "4 parsecs"], &[])).failed(2, &["400MB"]);
    case.edgeling.run(&to_size(&case, &["--target-bpw", "0.1"], &[])).failed(1, &["the smallest that can be made has"]);
    assert_eq!(case.left(), ["text.txt"]);
}
