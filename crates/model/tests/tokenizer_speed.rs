//! Measurements, not run by default:
//! `cargo test --release -p edgeling-model --test tokenizer_speed -- --ignored --nocapture --test-threads 1`

mod support;

use std::fs;
use std::time::{Duration, Instant};

use model::tokenizer::{EncodeOptions, GgufVocabulary, SpecialNames, Tokenizer};
use serde_json::Value;

/// The shortest of some runs, and what the last one gave.
fn fastest<T>(run: impl Fn() -> T) -> (Duration, T) {
    let timed = || {
        let start = Instant::now();
        let result = run();
        (start.elapsed(), result)
    };
    (0..9).fold(timed(), |(best, _), _| {
        let (time, result) = timed();
        (best.min(time), result)
    })
}

/// Four megabytes of plain English sentences.
fn english() -> String {
    let corpus = fs::read_to_string(support::data("tokenizer/corpus.jsonl")).unwrap();
    let lines = corpus.lines().map(|line| serde_json::from_str::<String>(line).unwrap());
    let sentences: Vec<String> = lines.filter(|line| line.is_ascii() && (40..200).contains(&line.len())).collect();
    let text = sentences.join(" ");
    text.repeat((4 << 20) / text.len())
}

#[test]
#[ignore = "a measurement"]
fn encoding() {
    let text = english();
    for name in ["qwen3", "llama3", "gemma3"] {
        let json = fs::read(support::npm_tokenizer(name).join("tokenizer.json")).unwrap();
        let tokenizer = Tokenizer::from_tokenizer_json(&json, SpecialNames::default()).unwrap();
        let (time, ids) = fastest(|| tokenizer.encode(&text, EncodeOptions::TEXT));
        let rate = text.len() as f64 / time.as_secs_f64() / 1e6;
        println!("{name}: {rate:.0} MB/s of English, {:.2} bytes a token", text.len() as f64 / ids.len() as f64);
        assert!(rate > 5.0);
        let (time, decoded) = fastest(|| tokenizer.decode(&ids, true));
        println!("{name}: {:.0} MB/s of decoding", decoded.len() as f64 / time.as_secs_f64() / 1e6);
    }
}

#[test]
#[ignore = "a measurement"]
fn loading() {
    for name in ["qwen3", "llama3", "gemma3"] {
        let json = fs::read(support::npm_tokenizer(name).join("tokenizer.json")).unwrap();
        let (time, _) = fastest(|| Tokenizer::from_tokenizer_json(&json, SpecialNames::default()).unwrap());
        println!("{name}: {:.1} ms from tokenizer.json of {} bytes", time.as_secs_f64() * 1e3, json.len());
        assert!(name != "qwen3" || time < Duration::from_millis(50));
    }
    let path = support::smollm2();
    let (time, _) = fastest(|| Tokenizer::open(&path).unwrap());
    println!("smollm2: {:.1} ms from GGUF, the file's header included", time.as_secs_f64() * 1e3);

    let json = fs::read(support::npm_tokenizer("qwen3").join("tokenizer.json")).unwrap();
    let file: Value = serde_json::from_slice(&json).unwrap();
    let mut tokens: Vec<(&str, u64)> = file["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(text, id)| (text.as_str(), id.as_u64().unwrap()))
        .collect();
    tokens.sort_by_key(|&(_, id)| id);
    let merges: Vec<String> = file["model"]["merges"].as_array().unwrap().iter().map(joined).collect();
    let source = GgufVocabulary {
        model: "gpt2",
        pre: Some("qwen2"),
        tokens: tokens.iter().map(|(text, _)| text.as_bytes()).collect(),
        merges: merges.iter().map(String::as_bytes).collect(),
        ..Default::default()
    };
    let (time, _) = fastest(|| Tokenizer::from_gguf(&source).unwrap());
    println!("qwen3: {:.1} ms from GGUF metadata", time.as_secs_f64() * 1e3);
}

fn joined(merge: &Value) -> String {
    format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap())
}
