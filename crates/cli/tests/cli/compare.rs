//! `compare`: files side by side.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Done, Edgeling, checkpoint, keys, tiny};

const FIELDS: [&str; 14] = [
    "model",
    "type",
    "bytes",
    "bits_per_weight",
    "imatrix",
    "perplexity",
    "perplexity_error",
    "kl_mean",
    "kl_p99",
    "kl_max",
    "top1_agreement",
    "prefill_tps",
    "decode_tps",
    "memory_bytes",
];

/// A text, and a quantized file of the tiny model.
fn files(edgeling: &Edgeling) -> (String, String) {
    let path = |name: &str| edgeling.home.path().join(name).to_str().unwrap().to_owned();
    let (text, quantized) = (path("text"), path("tiny-q8_0.gguf"));
    fs::write(&text, "The quick brown fox jumps over the lazy dog. ".repeat(20)).unwrap();
    let source = checkpoint("llama").join("model.gguf");
    edgeling.run(&["quantize", source.to_str().unwrap(), "Q8_0", "--out", &quantized]).success();
    (text, quantized)
}

#[test]
fn quality_speed_and_memory_stand_side_by_side() {
    let edgeling = Edgeling::new();
    let (text, quantized) = files(&edgeling);
    let svg = edgeling.home.path().join("table.svg");
    let tiny = tiny();
    let quality = ["--text", &text, "--base", &tiny, "--context", "64"];
    let speed = ["--prompt", "16", "--generate", "4", "--repeat", "2"];
    let args = [&["compare", &tiny, &quantized, "--svg", svg.to_str().unwrap()], &quality[..], &speed].concat();
    let rows = edgeling.json(&[&args[..], &["--json"]].concat());
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.iter().map(keys).collect::<Vec<_>>(), [FIELDS; 2]);
    let number = |row: usize, field: &str| rows[row][field].as_f64().unwrap_or_else(|| panic!("{field} of {row}"));
    assert_eq!((number(0, "kl_mean"), number(0, "top1_agreement")), (0.0, 1.0));
    assert!(number(1, "kl_mean") > 0.0 && number(1, "bytes") < number(0, "bytes"));
    assert!(number(1, "bits_per_weight") < number(0, "bits_per_weight"));
    for row in 0..2 {
        assert!(number(row, "prefill_tps") > 0.0 && number(row, "decode_tps") > 0.0);
    }
    if cfg!(target_os = "linux") {
        assert!(number(0, "memory_bytes") > 1e6);
    }
    // What `eval` finds, with the base beside each file.
    for (model, row) in [&tiny, &quantized].iter().zip(rows) {
        let alone = edgeling.json(&[&["eval", model], &quality[..], &["--json"]].concat());
        for field in &FIELDS[5..11] {
            assert_eq!(alone[*field], row[*field], "{field} of {model}");
        }
    }
    let drawn = fs::read_to_string(&svg).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("tiny-q8_0.gguf") && drawn.contains("decode tokens/s"));

    let table = edgeling.run(&args).success().stdout;
    assert!(table.contains("KL mean") && table.lines().count() == 3, "{table}");
}

/// The base's logits lie in the system's folder for what does not last.
#[test]
fn nothing_is_left_of_the_bases_logits() {
    let edgeling = Edgeling::new();
    let (text, quantized) = files(&edgeling);
    let folder = edgeling.home.path().join("temporary");
    fs::create_dir(&folder).unwrap();
    let tiny = tiny();
    let args = ["compare", &tiny, &quantized, "--text", &text, "--base", &tiny, "--context", "64", "--prompt", "0"];
    let args = [&args[..], &["--generate", "0"]].concat();
    let run = |folder: &Path| Done::of(edgeling.command(&args).env("TMPDIR", folder).output().unwrap());
    run(&folder).success();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    if cfg!(unix) {
        run(&folder.join("missing")).failed(1, &["cannot keep the base model's logits", "hint: TMPDIR"]);
    }
}

#[test]
fn what_is_not_asked_for_is_not_measured() {
    let edgeling = Edgeling::new();
    let rows = edgeling.json(&["compare", &tiny(), "--prompt", "0", "--generate", "0", "--json"]);
    for field in &FIELDS[5..] {
        assert_eq!(rows[0][*field], Value::Null, "{field}");
    }
}

#[test]
fn nothing_is_left_of_a_comparison_that_fails() {
    let edgeling = Edgeling::new();
    let (_, quantized) = files(&edgeling);
    fs::write(edgeling.home.path().join("short"), "short").unwrap();
    let before = fs::read_dir(edgeling.home.path()).unwrap().count();
    let (short, svg) = (edgeling.home.path().join("short"), edgeling.home.path().join("table.svg"));
    let args = ["compare", &quantized, "--text", short.to_str().unwrap(), "--svg", svg.to_str().unwrap()];
    edgeling.run(&args).failed(1, &["tiny-q8_0.gguf", "hint: give a longer text"]);
    edgeling.run(&["compare", &quantized, "no-such-model"]).failed(1, &["no-such-model"]);
    edgeling.run(&["compare", &quantized, "--svg", "/no-such-folder/x.svg"]).failed(1, &["/no-such-folder"]);
    edgeling.run(&["compare", &quantized, "--base", &quantized]).failed(2, &["--text"]);
    assert_eq!(fs::read_dir(edgeling.home.path()).unwrap().count(), before);
}
