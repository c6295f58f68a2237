//! `inspect`, `tokenize`, `detokenize`: what needs no weights.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Edgeling, checkpoint, tiny};

#[test]
fn inspect_computes_from_the_tensors_of_both_formats() {
    let edgeling = Edgeling::new();
    for name in ["llama", "qwen2", "qwen3"] {
        let folder = checkpoint(name);
        let config: Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        let hf = edgeling.json(&["inspect", folder.to_str().unwrap(), "--json", "--tensors"]);
        let gguf = edgeling.json(&["inspect", folder.join("model.gguf").to_str().unwrap(), "--json", "--tensors"]);
        for facts in [&hf, &gguf] {
            assert_eq!(facts["architecture"], name);
            assert_eq!(facts["context"], config["max_position_embeddings"]);
            assert_eq!(facts["shape"]["layers"], config["num_hidden_layers"]);
            assert_eq!(facts["shape"]["kv_heads"], config["num_key_value_heads"]);
            assert_eq!((&facts["class"], &facts["precision"]), (&json!("below"), &json!("high")));
            assert_eq!(facts["tokenizer"]["vocab"], config["vocab_size"]);
            assert_eq!(facts["parameters"], hf["parameters"]);

            let tensors = facts["tensors"].as_array().unwrap();
            let elements =
                |t: &Value| t["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product::<u64>();
            let parameters: u64 = tensors.iter().map(elements).sum();
            assert_eq!(facts["parameters"], parameters);
            let bytes: u64 = tensors.iter().map(|t| t["bytes"].as_u64().unwrap()).sum();
            assert_eq!(facts["bits_per_weight"], bytes as f64 * 8.0 / parameters as f64);
        }
        assert_eq!((&hf["format"], &gguf["format"]), (&json!("hf"), &json!("gguf")));
        assert_eq!(hf["template"], true);
    }
}

#[test]
fn inspect_shows_people_the_same() {
    let shown = Edgeling::new().run(&["inspect", &tiny(), "--tensors"]).success().stdout;
    for word in ["architecture", "llama", "bits per weight  16.00", "class", "licence", "model.embed_tokens.weight"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn text_survives_tokens() {
    let edgeling = Edgeling::new();
    let text = "Hello wörld, 你好 👩‍👩‍👧\n\ttabs  and   spaces";
    for model in [tiny(), checkpoint("llama").join("model.gguf").to_str().unwrap().to_owned()] {
        let tokens = edgeling.json(&["tokenize", &model, text, "--no-special", "--json"]);
        let ids: Vec<_> = tokens["tokens"].as_array().unwrap().iter().map(Value::to_string).collect();
        let ids = ids.join(",");
        assert_eq!(edgeling.json(&["detokenize", &model, "--tokens", &ids, "--json"]), json!({ "text": text }));
        assert_eq!(edgeling.run(&["detokenize", &model, "--tokens", &ids]).success().stdout, text);
    }
}

#[test]
fn text_comes_as_an_argument_a_file_or_standard_input() {
    let edgeling = Edgeling::new();
    let file = edgeling.home.path().join("text");
    fs::write(&file, "one\ntwo\n").unwrap();
    let argument = edgeling.json(&["tokenize", &tiny(), "one\ntwo\n", "--json"]);
    assert_eq!(edgeling.json(&["tokenize", &tiny(), "--file", file.to_str().unwrap(), "--json"]), argument);
    assert_eq!(edgeling.run_with(&["tokenize", &tiny(), "--json"], b"one\ntwo\n").json(), argument);
    edgeling.run_with(&["tokenize", &tiny()], b"\xff").failed(1, &["UTF-8", "byte 0"]);
}

#[test]
fn special_tokens_in_the_text_are_read_and_shown() {
    let edgeling = Edgeling::new();
    let shown = edgeling.run(&["tokenize", &tiny(), "<|eos|>", "--no-special"]).success().stdout;
    assert!(shown.contains("\"<|eos|>\"  special"), "{shown}");
}

#[test]
fn a_folder_with_a_tokenizer_alone_will_do() {
    let edgeling = Edgeling::new();
    let folder = edgeling.home.path().join("tokenizer");
    fs::create_dir(&folder).unwrap();
    fs::copy(checkpoint("llama").join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    let folder = folder.to_str().unwrap();
    let ids = |model: &str| edgeling.json(&["tokenize", model, "no weights", "--no-special", "--json"]);
    assert_eq!(ids(folder), ids(&tiny()));
    assert_eq!(edgeling.run(&["detokenize", folder, "--tokens", "104,105"]).status, 0);
    edgeling.run(&["inspect", folder]).failed(1, &["config.json"]);
}

#[test]
fn a_token_outside_the_vocabulary_is_refused() {
    Edgeling::new().run(&["detokenize", &tiny(), "--tokens", "1,264"]).failed(1, &["below 264", "found 264"]);
}
