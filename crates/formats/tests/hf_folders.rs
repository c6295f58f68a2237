//! Hugging Face folders: weights of the field's own writer, and each spelling of the JSON files.

mod common;

use std::fs;
use std::path::Path;

use common::{check_tensors, data};
use formats::hf::{HfConfig, RopeConfig, TokenizerConfig};
use formats::{Checkpoint, Config, Format, FormatError, GenerationDefaults, TokenizerFiles};
use proptest::prelude::*;
use tempfile::TempDir;

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a str)];

fn folder(files: Files) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn one_file_of_weights() {
    let checkpoint = Checkpoint::open(&data("hf-single")).unwrap();
    assert_eq!((checkpoint.format(), checkpoint.architecture().unwrap()), (Format::HuggingFace, "llama"));
    assert!(matches!(checkpoint.config(), Config::HuggingFace(_)));
    check_tensors(&checkpoint, "hf-single");
    let names: Vec<_> = checkpoint.tensors().map(|t| t.name.as_str()).collect();
    assert_eq!((names.len(), names[0]), (4, "test.integers"));
    let error = checkpoint.tensor("test.integers").unwrap_err().to_string();
    assert!(error.ends_with("found I64"), "{error}");
    assert_eq!(checkpoint.generation_defaults().unwrap().eos_token_ids, [1]);
    assert!(checkpoint.tokenizer_files().is_err());
    assert_eq!(checkpoint.chat_templates().unwrap().default_template(), None);
}

#[test]
fn sharded_weights() {
    let checkpoint = Checkpoint::open(&data("hf-sharded")).unwrap();
    check_tensors(&checkpoint, "hf-sharded");
    assert_eq!((checkpoint.tensors().len(), checkpoint.files().count()), (4, 2));
}

#[test]
fn a_wrong_index_is_refused() {
    let copy = folder(&[]);
    for entry in fs::read_dir(data("hf-sharded")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let first = "model-00001-of-00002.safetensors";
    let cases = [
        (format!(r#"{{"weight_map": {{"layers.1.a": "{first}", "none": "{first}"}}}}"#), "expected tensor none in"),
        (format!(r#"{{"weight_map": {{"layers.1.a": "../{first}"}}}}"#), "names of files in the same folder"),
        (r#"{"weight_map": {"layers.1.a": "absent.safetensors"}}"#.to_owned(), "absent.safetensors: "),
        (r#"{"weight_map": {}}"#.to_owned(), "found none"),
        (r#"{"weight_map": []}"#.to_owned(), "not valid JSON"),
    ];
    for (index, message) in cases {
        fs::write(copy.path().join("model.safetensors.index.json"), index).unwrap();
        let error = Checkpoint::open(copy.path()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn folders_without_a_model_are_named() {
    let cases: [(Files, &str); 5] = [
        (&[], "found neither"),
        (&[("m.gguf", "")], "found a folder with GGUF files"),
        (&[("config.json", "{}"), ("weights.bin", "")], "found PyTorch weights"),
        (&[("tokenizer.json", "{}")], "found a tokenizer without weights"),
        (&[("config.json", "[]"), ("model.safetensors", "")], "expected a JSON object, found another JSON value"),
    ];
    for (files, message) in cases {
        let error = Checkpoint::open(folder(files).path()).unwrap_err().to_string();
        assert!(error.ends_with(message), "{error}");
    }
    assert!(matches!(Checkpoint::open(Path::new("no/such/path")), Err(FormatError::Io { .. })));
}

fn rope(config: &str) -> Result<RopeConfig, FormatError> {
    HfConfig::open(&folder(&[("config.json", config)]).path().join("config.json")).unwrap().rope()
}

#[test]
fn both_spellings_of_rope_mean_the_same() {
    let old = r#"{"rope_theta": 500000.0, "rope_scaling": {"factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}}"#;
    let new = r#"{"rope_parameters": {"rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_scaling": null}"#;
    let expected = RopeConfig {
        theta: 500_000.0,
        kind: "llama3".to_owned(),
        factor: Some(32.0),
        low_freq_factor: Some(1.0),
        high_freq_factor: Some(4.0),
        original_context: Some(8192),
        attention_factor: None,
        beta_fast: None,
        beta_slow: None,
        mscale: None,
        mscale_all_dim: None,
        truncate: None,
        short_factor: None,
        long_factor: None,
        partial_rotary_factor: None,
    };
    assert_eq!(rope(old).unwrap(), expected);
    assert_eq!(rope(new).unwrap(), expected);
}

#[test]
fn rope_defaults_and_errors() {
    let plain = rope("{}").unwrap();
    assert_eq!((plain.theta, plain.kind.as_str(), plain.factor), (10_000.0, "default", None));
    let newest = rope(r#"{"rope_parameters": {"rope_theta": 1000000, "rope_type": "default"}}"#).unwrap();
    assert_eq!((newest.theta, newest.kind.as_str()), (1_000_000.0, "default"));
    let oldest = rope(r#"{"rope_scaling": {"type": "linear", "factor": 2}, "partial_rotary_factor": 0.75}"#).unwrap();
    assert_eq!((oldest.kind.as_str(), oldest.factor, oldest.partial_rotary_factor), ("linear", Some(2.0), Some(0.75)));
    let longrope = r#"{"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 4096}"#;
    assert_eq!(rope(longrope).unwrap().original_context, Some(4096));

    let error = rope(r#"{"rope_scaling": {"type": "linear", "factor": "two"}}"#).unwrap_err().to_string();
    assert!(error.contains(r#"key rope_scaling.factor: invalid type: string "two", expected f64"#), "{error}");
    assert!(rope(r#"{"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}"#).is_err());
    let config = r#"{"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}"#;
    let config = HfConfig::open(&folder(&[("config.json", config)]).path().join("config.json")).unwrap();
    assert_eq!(config.rope_of("full_attention").unwrap().unwrap().theta, 1.0);
    assert_eq!(config.rope_of("sliding_attention").unwrap(), None);
    assert!(rope(r#"{"rope_scaling": 3}"#).is_err());
}

#[test]
fn generation_defaults_take_ids_from_either_file() {
    let read = |config: &str, generation: Option<&str>| {
        let folder = folder(&[("config.json", config)]);
        let path = folder.path().join("generation_config.json");
        if let Some(text) = generation {
            fs::write(&path, text).unwrap();
        }
        let file = formats::hf::JsonFile::open_optional(&path).unwrap();
        GenerationDefaults::from_hf(file.as_ref(), &HfConfig::open(&folder.path().join("config.json")).unwrap())
    };
    let config = r#"{"bos_token_id": 5, "eos_token_id": 6, "pad_token_id": -1}"#;
    let alone = read(config, None).unwrap();
    assert_eq!((alone.bos_token_id, &alone.eos_token_ids[..], alone.pad_token_id), (Some(5), &[6][..], None));

    let generation = r#"{"eos_token_id": [7, 8], "do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95,
        "min_p": 0.01, "repetition_penalty": 1.05}"#;
    let expected = GenerationDefaults {
        bos_token_id: Some(5),
        eos_token_ids: vec![7, 8],
        pad_token_id: None,
        do_sample: Some(true),
        temperature: Some(0.6),
        top_k: Some(20),
        top_p: Some(0.95),
        min_p: Some(0.01),
        repetition_penalty: Some(1.05),
    };
    assert_eq!(read(config, Some(generation)).unwrap(), expected);
    assert!(read(config, Some(r#"{"eos_token_id": "</s>"}"#)).is_err());
    assert!(read(config, Some(r#"{"top_k": -1}"#)).is_err());
}

#[test]
fn a_tokenizer_needs_no_weights() {
    let folder = folder(&[("tokenizer.json", "{\"model\": {}}")]);
    let TokenizerFiles::HuggingFace(tokenizer) = TokenizerFiles::open(folder.path()).unwrap() else { panic!() };
    assert_eq!(&*tokenizer.json, b"{\"model\": {}}");
    assert_eq!(tokenizer.config.special_token("bos_token").unwrap(), None);
}

#[test]
fn a_folder_without_tokenizer_says_so() {
    let error = TokenizerFiles::open(folder(&[("tokenizer.model", "")]).path()).unwrap_err();
    assert!(error.to_string().ends_with("found tokenizer.model alone") && error.hint().is_some(), "{error}");
}

#[test]
fn special_tokens_are_strings_or_objects() {
    let folder = folder(&[
        (
            "tokenizer_config.json",
            r#"{"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false},
            "pad_token": null, "add_bos_token": true}"#,
        ),
        ("special_tokens_map.json", r#"{"pad_token": "<pad>", "bos_token": "<other>"}"#),
    ]);
    let config = TokenizerConfig::open(folder.path()).unwrap();
    let token = |key: &str| config.special_token(key).unwrap();
    assert_eq!((token("bos_token"), token("eos_token")), (Some("<s>"), Some("</s>")));
    assert_eq!((token("pad_token"), token("unk_token")), (Some("<pad>"), None));
    assert_eq!(config.get::<bool>("add_bos_token").unwrap(), Some(true));
    assert_eq!(config.get::<bool>("add_eos_token").unwrap(), None);
}

#[test]
fn chat_templates_in_all_their_places() {
    let named = r#"{"chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]}"#;
    let cases: [(Files, Option<&str>, Option<&str>); 4] = [
        (&[("tokenizer_config.json", r#"{"chat_template": "one"}"#)], Some("one"), None),
        (&[("tokenizer_config.json", named)], Some("D"), Some("T")),
        (&[("tokenizer_config.json", named), ("chat_template.jinja", "own file")], Some("own file"), Some("T")),
        (&[], None, None),
    ];
    for (files, default, tool_use) in cases {
        let config = TokenizerConfig::open(folder(files).path()).unwrap();
        let templates = config.chat_templates();
        assert_eq!((templates.default_template(), templates.get("tool_use")), (default, tool_use));
    }
    for wrong in [r#"{"chat_template": 3}"#, r#"{"chat_template": [{"name": "default"}]}"#] {
        assert!(TokenizerConfig::open(folder(&[("tokenizer_config.json", wrong)]).path()).is_err());
    }
}

#[test]
fn missing_keys_say_what_they_must_be() {
    let folder = folder(&[("config.json", "{}")]);
    let config = HfConfig::open(&folder.path().join("config.json")).unwrap();
    let error = config.require::<u32>("hidden_size").unwrap_err().to_string();
    assert!(error.ends_with("config.json: no key hidden_size, expected a value of type u32"), "{error}");
    let error = config.require::<Vec<String>>("architectures").unwrap_err().to_string();
    assert!(error.ends_with("expected a value of type Vec<String>"), "{error}");
}

proptest! {
    /// Headers with replaced bytes: an error, or tensors inside the file.
    #[test]
    fn mutated_safetensors(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut file = fs::read(data("hf-single/model.safetensors")).unwrap();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        for tensor in formats::safetensors::parse(&file, Path::new("m.safetensors")).unwrap_or_default() {
            prop_assert!(tensor.bytes <= file.len());
        }
    }
}
