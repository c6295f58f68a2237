//! What is not supported is refused by name, and broken files give errors.

mod support;

use std::fs;

use model::tokenizer::{EncodeOptions, GgufVocabulary, SpecialNames, Tokenizer};
use serde_json::{Value, json};

fn small(name: &str) -> Value {
    let path = support::data("tokenizer/small").join(format!("{name}.json"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn error_of(file: &Value) -> String {
    Tokenizer::from_tokenizer_json(file.to_string().as_bytes(), SpecialNames::default()).unwrap_err().to_string()
}

/// `byte_level_gpt2` with the value at `pointer` replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut file = small("byte_level_gpt2");
    *file.pointer_mut(pointer).unwrap() = value;
    file
}

#[test]
fn unknown_parts_are_named() {
    let split = |pattern: Value, behavior: &str| json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": false});
    let cases = [
        (with("/normalizer", json!({"type": "Lowercase"})), "normalizer: {\"type\":\"Lowercase\"} is not supported"),
        (with("/normalizer", json!({"type": "Prepend", "prepend": "▁"})), "Replace of a space by ▁ beside Prepend"),
        (
            with("/pre_tokenizer", split(json!({"Regex": "[a-z"}), "Isolated")),
            "expected a regular expression, found \"[a-z\"",
        ),
        (with("/pre_tokenizer", split(json!({"Regex": "a"}), "Mirrored")), "Mirrored"),
        (with("/pre_tokenizer", split(json!({"String": "a"}), "Isolated")), "a Split by a Regex"),
        (with("/pre_tokenizer", json!({"type": "Whitespace"})), "{\"type\":\"Whitespace\"} is not supported"),
        (with("/decoder", json!({"type": "WordPiece"})), "decoder: {\"type\":\"WordPiece\"} is not supported"),
        (with("/post_processor", json!({"type": "BertProcessing"})), "post_processor: {\"type\":\"BertProcessing\"}"),
        (with("/model/type", json!("WordPiece")), "model: type WordPiece is not supported"),
        (with("/model/dropout", json!(0.1)), "dropout 0.1"),
        (with("/model/end_of_word_suffix", json!("</w>")), "</w>"),
    ];
    for (file, expected) in cases {
        let error = error_of(&file);
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
}

#[test]
fn contradictions_say_where() {
    let frame = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}],
        "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [99999], "tokens": ["<s>"]}}});
    let cases = [
        (
            with("/model/merges/0", json!(["no", "such"])),
            "merge 0: expected two tokens that make a third, found \"no\" and \"such\"",
        ),
        (with("/model/merges/1", json!("one")), "tokenizer.json: invalid value: string \"one\", expected a merge"),
        (with("/model/merges/2", json!([1, 2])), "tokenizer.json: "),
        (with("/added_tokens/0/id", json!(4_000_000_000u32)), "found id 4000000000"),
        (with("/post_processor", frame), "post_processor: expected ids below"),
    ];
    for (file, expected) in cases {
        let error = error_of(&file);
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
}

#[test]
fn tekken_that_cannot_be() {
    let file = |config: Value, vocab: Value| json!({"config": config, "vocab": vocab}).to_string();
    let config = |total: u64, special: u64| json!({"pattern": ".", "default_vocab_size": total, "default_num_special_tokens": special});
    let a = json!([{"rank": 0, "token_bytes": "YQ=="}]);
    let cases = [
        (file(config(21, 20), json!([])), "token of each rank below 1, found none of rank 0"),
        (file(config(21, 20), json!([{"rank": 0, "token_bytes": "?"}])), "token of rank 0: expected base64, found ?"),
        (file(config(21, 22), a.clone()), "default_vocab_size"),
        (file(config(1 << 40, 20), a.clone()), "default_vocab_size"),
        (file(config(3, 2), a.clone()), "special_tokens: expected ranks below 2, found 2"),
        ("{}".to_owned(), "tekken.json: missing field"),
    ];
    for (file, expected) in cases {
        let error = Tokenizer::from_tekken_json(file.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
    let tokenizer = Tokenizer::from_tekken_json(file(config(21, 20), a).as_bytes()).unwrap();
    assert_eq!(tokenizer.encode("aab", EncodeOptions::TEXT), [1, 20, 20, 0]);
}

#[test]
fn every_prefix_of_a_file_is_an_error() {
    let text = small("bpe_llama2").to_string();
    for end in (0..text.len()).step_by(97).filter(|&end| text.is_char_boundary(end)) {
        assert!(Tokenizer::from_tokenizer_json(&text.as_bytes()[..end], SpecialNames::default()).is_err());
    }
    assert!(Tokenizer::from_tokenizer_json(b"\xFF", SpecialNames::default()).is_err());
}

#[test]
fn gguf_metadata_that_cannot_be() {
    let base = GgufVocabulary { model: "gpt2", pre: Some("gpt-2"), tokens: vec![b"a", b"b"], ..Default::default() };
    let cases = [
        (GgufVocabulary { model: "rwkv", ..base.clone() }, "tokenizer.ggml.model: rwkv is not supported"),
        (GgufVocabulary { pre: Some("mystery"), ..base.clone() }, "tokenizer.ggml.pre: mystery is not supported"),
        (GgufVocabulary { token_type: vec![1], ..base.clone() }, "tokenizer.ggml.token_type: expected 2 values"),
        (GgufVocabulary { model: "llama", ..base.clone() }, "tokenizer.ggml.scores: expected 2 values"),
        (
            GgufVocabulary {
                model: "t5",
                scores: vec![0.0; 2],
                precompiled_charsmap: vec![9, 0, 0, 0],
                ..base.clone()
            },
            "tokenizer.ggml.precompiled_charsmap",
        ),
    ];
    for (source, expected) in cases {
        let error = Tokenizer::from_gguf(&source).unwrap_err().to_string();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
}

/// Ids of roles outside the vocabulary, tokens that are not UTF-8, and merges of what is not there do no harm.
#[test]
fn gguf_metadata_of_little_sense() {
    for model in ["gpt2", "gemma4", "whitespace", "llama", "t5", "bert"] {
        let tokens: Vec<&[u8]> =
            vec![b"\xFF\xFE", b"", b"a", b"<0x41>", b"<0xZZ>", b"\xE2\x96\x81", b"a", b"<|im_end|>"];
        let source = GgufVocabulary {
            model,
            token_type: vec![3, 1, 1, 6, 6, 1, 4, 3],
            scores: vec![f32::NAN, f32::INFINITY, -1.0, 0.0, 0.0, -2.0, -1.0, 0.0],
            tokens,
            merges: vec![b"a b", b"", b" ", b"a", b"\xFF \xFE", b"a a"],
            bos_token_id: Some(u32::MAX),
            eos_token_id: Some(8),
            unknown_token_id: Some(1 << 30),
            add_bos_token: Some(true),
            add_eos_token: Some(true),
            ..Default::default()
        };
        let tokenizer = Tokenizer::from_gguf(&source).unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.eot()), (None, None, Some(7)), "{model}");
        let ids = tokenizer.encode("a A ▁ é <|im_end|>", EncodeOptions { add_special: true, parse_special: true });
        assert_eq!(ids.last(), Some(&7), "{model}");
        assert!(tokenizer.decode(&ids, false).ends_with("<|im_end|>"), "{model}");
        assert_eq!(tokenizer.decode(&[8, u32::MAX], false), "");
    }
}
