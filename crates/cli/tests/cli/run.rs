//! `run` with a prompt or piped input.

use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;

use crate::support::{Edgeling, checkpoint, keys, tiny};

fn run(extra: &[&str]) -> Vec<String> {
    ["run", &tiny()].iter().chain(extra).map(|s| s.to_string()).collect()
}

#[test]
fn json_has_exactly_the_agreed_fields() {
    let answer = Edgeling::new().json(&run(&["hello", "--max-tokens", "5", "--temperature", "0", "--json"]));
    assert_eq!(keys(&answer), ["text", "tokens", "finish_reason", "prompt_tokens", "seed", "timings"]);
    assert_eq!(keys(&answer["timings"]), ["load_s", "prefill_tps", "decode_tps", "first_token_s"]);
    assert!(answer["tokens"].as_u64().unwrap() <= 5 && answer["prompt_tokens"].as_u64().unwrap() >= 5);
    assert!(["stop", "length"].contains(&answer["finish_reason"].as_str().unwrap()));
    assert!(answer["timings"]["first_token_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_text_is_the_same_streamed_or_in_json() {
    let edgeling = Edgeling::new();
    let args = ["hello", "--raw", "--max-tokens", "20", "--seed", "3"];
    let json = edgeling.json(&run(&[&args[..], &["--json"]].concat()));
    let streamed = edgeling.run(&run(&args)).success();
    assert_eq!(streamed.stdout.trim_end_matches('\n'), json["text"].as_str().unwrap().trim_end_matches('\n'));
    assert_eq!(streamed.stderr, "");
}

#[test]
fn a_seed_repeats_an_answer_and_none_does_not() {
    let edgeling = Edgeling::new();
    let text = |extra: &[&str]| {
        let args =
            ["hello", "--raw", "--max-tokens", "30", "--temperature", "2", "--top-k", "0", "--top-p", "1", "--json"];
        edgeling.json(&run(&[&args[..], extra].concat()))
    };
    let first = text(&[]);
    let seed = first["seed"].to_string();
    assert_eq!(text(&["--seed", &seed, "--threads", "1"])["text"], first["text"]);
    assert_ne!(text(&[])["text"], first["text"]);
    assert_ne!(text(&[])["seed"], first["seed"]);
}

#[test]
fn both_forms_of_a_model_answer_alike() {
    let edgeling = Edgeling::new();
    let answer = |path: &str| {
        edgeling.json(&[
            "run",
            path,
            "hello there",
            "--temperature",
            "0",
            "--max-tokens",
            "16",
            "--kv",
            "f32",
            "--json",
        ])
    };
    for name in ["llama", "qwen2", "qwen3"] {
        let folder = checkpoint(name);
        let (hf, gguf) = (answer(folder.to_str().unwrap()), answer(folder.join("model.gguf").to_str().unwrap()));
        assert_eq!((&hf["text"], &hf["prompt_tokens"]), (&gguf["text"], &gguf["prompt_tokens"]), "{name}");
    }
}

#[test]
fn piped_input_is_the_prompt_or_follows_it() {
    let edgeling = Edgeling::new();
    let greedy = ["--raw", "--temperature", "0", "--max-tokens", "3", "--json"];
    let tokens = |args: &[&str], input: &[u8]| {
        let answer: Value = edgeling.run_with(&run(&[args, &greedy[..]].concat()), input).json();
        (answer["text"].clone(), answer["prompt_tokens"].clone())
    };
    let given = tokens(&["one\n\ntwo"], b"");
    assert_eq!(tokens(&[], b"one\n\ntwo\n"), given);
    assert_eq!(tokens(&["one"], b"two\n"), given);
    edgeling.run_with(&run(&[]), b"").failed(2, &["PROMPT", "empty"]);
    edgeling.run_with(&run(&[]), b"\xff\xfe").failed(1, &["UTF-8"]);
}

#[test]
fn a_silent_pipe_beside_a_prompt_is_left_unread_with_a_warning() {
    let edgeling = Edgeling::new();
    let args = run(&["one", "--raw", "--max-tokens", "1"]);
    let start = Instant::now();
    let mut child =
        edgeling.command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let open = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && start.elapsed().as_secs() < 60);
    assert!(String::from_utf8_lossy(&output.stderr).contains("warning: standard input"));
    drop(open);
}

#[test]
fn a_prompt_over_the_context_is_an_error_with_both_numbers() {
    let edgeling = Edgeling::new();
    let long = "x".repeat(300);
    edgeling.run(&run(&[&long, "--raw"])).failed(1, &["has 300 tokens", "holds 256", "hint: "]);
    edgeling.run(&run(&["hello", "--raw", "--context", "3"])).failed(1, &["has 5 tokens", "holds 3"]);
}

#[test]
fn an_answer_that_fills_the_context_says_so() {
    let edgeling = Edgeling::new();
    let args = run(&["hello", "--raw", "--temperature", "0", "--context", "12", "--json"]);
    let done = edgeling.run(&args);
    assert!(done.stderr.contains("12 tokens is full"), "{}", done.stderr);
    assert_eq!(done.json()["finish_reason"], "context");
}

#[test]
fn stop_strings_end_the_answer_before_them() {
    let edgeling = Edgeling::new();
    let args = ["hello", "--raw", "--temperature", "0", "--max-tokens", "40", "--json"];
    let whole = edgeling.json(&run(&args))["text"].as_str().unwrap().to_owned();
    let stop: String = whole.chars().skip(3).take(2).collect();
    let cut = edgeling.json(&run(&[&args[..], &["--stop", "never there", "--stop", &stop]].concat()));
    assert_eq!(cut["text"], whole[..whole.find(&stop).unwrap()]);
    assert_eq!(cut["finish_reason"], "stop");
}

#[test]
fn the_chat_template_counts_unless_raw() {
    let edgeling = Edgeling::new();
    let count = |extra: &[&str]| {
        let args = ["hello", "--temperature", "0", "--max-tokens", "1", "--json"];
        edgeling.json(&run(&[&args[..], extra].concat()))["prompt_tokens"].as_u64().unwrap()
    };
    assert!(count(&[]) > count(&["--raw"]));
    assert!(count(&["--system", "Be brief."]) > count(&[]));
}

#[test]
fn a_chat_needs_a_terminal_and_no_json() {
    // Standard input is empty, so that nothing but an error can come of it.
    Edgeling::new().run(&run(&["--json"])).failed(2, &["PROMPT"]);
}
