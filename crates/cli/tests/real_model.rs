//! The real SmolLM2-135M-Instruct, pulled once into a cache: its perplexity beside llama-perplexity's, and an answer.
//!
//! `EDGELING_TEST_CACHE` names the cache; it is `target/test-cache` of the workspace where that is not set.

use std::path::{Path, PathBuf};
use std::process::Command;

use formats::imatrix::Imatrix;
use serde_json::Value;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn cache() -> PathBuf {
    std::env::var_os("EDGELING_TEST_CACHE").map_or_else(|| workspace().join("target/test-cache"), PathBuf::from)
}

fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} did not start: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed with {}:\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn edgeling(args: &[&str]) -> String {
    stdout(Command::new(env!("CARGO_BIN_EXE_edgeling")).args(args).arg("--home").arg(cache()))
}

/// The text that the reference perplexities were measured on.
fn english() -> PathBuf {
    let path = cache().join("english.txt");
    if !path.exists() {
        std::fs::create_dir_all(cache()).unwrap();
        let made = cache().join(format!("english-{}.txt", std::process::id()));
        stdout(Command::new("python3").arg(workspace().join("scripts/oracle/english_text.py")).arg(&made));
        std::fs::rename(&made, &path).unwrap();
    }
    path
}

#[test]
fn the_perplexity_is_that_of_llama_perplexity() {
    let reference = std::fs::read(workspace().join("tests/data/llama_cpp/perplexity.json")).unwrap();
    let reference: Value = serde_json::from_slice(&reference).unwrap();
    let expected = &reference["results"]["published-q4_1"];
    edgeling(&["pull", "smollm2"]);
    let text = english();
    let found: Value =
        serde_json::from_str(&edgeling(&["eval", "smollm2", "--text", text.to_str().unwrap(), "--json"])).unwrap();
    assert_eq!(found["tokens"], expected["scored_tokens"]);
    let ratio = found["perplexity"].as_f64().unwrap() / expected["perplexity"].as_f64().unwrap();
    assert!((ratio - 1.0).abs() < 0.005, "expected {expected}, found {found}");
}

/// Counts and sums of what each matrix is given are llama-imatrix's.
#[test]
fn the_importance_matrix_is_that_of_llama_imatrix() {
    let reference = std::fs::read(workspace().join("tests/data/llama_cpp/imatrix.json")).unwrap();
    let reference: Value = serde_json::from_slice(&reference).unwrap();
    edgeling(&["pull", "smollm2"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let bytes = reference["bytes"].as_u64().unwrap() as usize;
    std::fs::write(file("text.txt"), &std::fs::read(english()).unwrap()[..bytes]).unwrap();
    // The reference's numbers went through F16.
    edgeling(&["quantize", "smollm2", "F16", "--requantize", "--out", &file("f16.gguf")]);
    edgeling(&["quantize", &file("f16.gguf"), "F32", "--out", &file("f32.gguf")]);
    let context = reference["context"].to_string();
    let (model, text, out) = (file("f32.gguf"), file("text.txt"), file("imatrix.gguf"));
    edgeling(&["calibrate", &model, "--text", &text, "--context", &context, "--out", &out]);

    let found = Imatrix::open(Path::new(&out)).unwrap();
    let tensors = reference["tensors"].as_object().unwrap();
    assert_eq!(u64::from(found.chunks), reference["chunks"].as_u64().unwrap());
    assert_eq!(found.len(), tensors.len());
    let mut worst: f64 = 0.0;
    for (name, expected) in tensors {
        let entry = found.entry(name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(f64::from(entry.counts()[0]), expected["count"].as_f64().unwrap(), "{name}");
        let sums: Vec<f64> = entry.sums().into_iter().map(f64::from).collect();
        assert_eq!(sums.len() as u64, expected["columns"].as_u64().unwrap(), "{name}");
        let mut near = |what: &str, found: f64, expected: &Value| {
            let expected = expected.as_f64().unwrap();
            worst = worst.max((found / expected - 1.0).abs());
            assert!((found - expected).abs() <= expected * 1e-4, "{name}, {what}: expected {expected}, found {found}");
        };
        near("all columns", sums.iter().sum(), &expected["sum"]);
        let first = expected["first"].as_array().unwrap();
        sums.iter().zip(first).enumerate().for_each(|(i, (sum, first))| near(&format!("column {i}"), *sum, first));
    }
    println!("at most {worst:.1e} of a sum apart");
}

#[test]
fn a_question_gets_a_sensible_answer_and_gets_it_again() {
    let answer = || {
        let args = ["run", "smollm2", "What is photosynthesis?", "--temperature", "0", "--max-tokens", "24", "--json"];
        let answer: Value = serde_json::from_str(&edgeling(&args)).unwrap();
        answer["text"].as_str().unwrap().to_owned()
    };
    let images = cache().join("images");
    let _absent = std::fs::remove_dir_all(&images);
    let text = answer();
    assert!(text.contains("light energy"), "{text}");
    let kept = std::fs::read_dir(&images)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "panels"));
    assert_eq!(kept.count(), 1);
    // From the packed weights that the first run kept.
    assert_eq!(answer(), text);
}

/// The most memory that a process has held at once, asked for until it ends.
#[cfg(target_os = "linux")]
fn peak_of(command: &mut Command) -> u64 {
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        if let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            peak = line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    peak
}

/// What `inspect` says of memory is what a run takes that fills its context.
#[cfg(target_os = "linux")]
#[test]
fn the_memory_of_a_run_is_what_inspect_says() {
    edgeling(&["pull", "smollm2"]);
    let facts: Value = serde_json::from_str(&edgeling(&["inspect", "smollm2", "--json"])).unwrap();
    let at = facts["memory"]["at"].as_array().unwrap();
    assert_eq!(at.iter().map(|at| at["context"].as_u64().unwrap()).collect::<Vec<_>>(), [2048, 8192]);
    for (at, repeats) in at.iter().zip([200, 800]) {
        let (context, expected) = (at["context"].to_string(), at["total"].as_u64().unwrap());
        let prompt = "The quick brown fox jumps over the lazy dog. ".repeat(repeats);
        let args = ["run", "smollm2", "--raw", &prompt, "--context", &context, "--temperature", "0", "--home"];
        let found = peak_of(Command::new(env!("CARGO_BIN_EXE_edgeling")).args(args).arg(cache()));
        println!("{context}: expected {expected}, found {found}");
        // Not more than is said, and not much less.
        assert!(found <= expected + expected / 50, "{context}: expected {expected}, found {found}");
        assert!(found >= expected - expected / 10, "{context}: expected {expected}, found {found}");
    }
}
