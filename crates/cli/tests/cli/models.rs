//! `models`, and what `inspect` says of memory.

use std::fs;
use std::path::Path;

use model::arch::{ARCHITECTURES, Architecture};
use serde_json::json;

use crate::support::{Edgeling, checkpoint, keys};

#[test]
fn models_lists_every_architecture_in_all_three_forms() {
    let edgeling = Edgeling::new();
    let families = edgeling.json(&["models", "--json"]);
    let families = families.as_array().unwrap();
    assert_eq!(families.len(), ARCHITECTURES.len());
    let (text, markdown) =
        (edgeling.run(&["models"]).success().stdout, edgeling.run(&["models", "--markdown"]).success().stdout);
    assert_eq!(markdown.lines().count(), 2 + families.len());
    for (family, architecture) in families.iter().zip(ARCHITECTURES) {
        assert_eq!(keys(family), ["architecture", "models", "config_json", "run", "convert", "types", "limits"]);
        assert_eq!(family["architecture"], architecture.name);
        assert!(!architecture.models.is_empty() && family["types"].as_array().unwrap().contains(&json!("Q4_K")));
        for table in [&text, &markdown] {
            let row = table.lines().find(|line| line.contains(architecture.models)).unwrap();
            for (model_type, _) in architecture.hf {
                assert!(row.contains(model_type) && row.contains(architecture.limits), "{row}");
            }
        }
    }
}

/// What the table says of running and converting, every family shows: `convert.rs` takes all cases both ways.
#[test]
fn every_family_of_the_table_has_a_case() {
    let folders = fs::read_dir(checkpoint("")).unwrap().map(|e| e.unwrap().path());
    let found: Vec<_> =
        folders.map(|f| Architecture::of(&formats::Checkpoint::open(&f).unwrap()).unwrap().name).collect();
    // BitNet's older name has another activation in the same folders; the conversion's own tests make its file.
    let has_case = |a: &&Architecture| found.contains(&a.name) || a.name == "bitnet";
    let missing: Vec<_> = ARCHITECTURES.iter().filter(|a| !has_case(a)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_readme_has_the_table() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")).unwrap();
    let markdown = Edgeling::new().run(&["models", "--markdown"]).success().stdout;
    assert!(readme.contains(&markdown), "README.md lacks what `edgeling models --markdown` prints:\n{markdown}");
}

#[test]
fn packed_ternary_weights_count_as_what_they_are() {
    let edgeling = Edgeling::new();
    let inspect = |name: &str| edgeling.json(&["inspect", checkpoint(name).to_str().unwrap(), "--json"]);
    let (packed, plain) = (inspect("bitnet-packed"), inspect("bitnet"));
    assert_eq!((&packed["precision"], &plain["precision"]), (&json!("ultra-low"), &json!("high")));
    // But for one factor for each matrix.
    let count = |facts: &serde_json::Value| facts["parameters"].as_u64().unwrap();
    assert_eq!(count(&packed) - count(&plain), 14);
    assert_eq!(packed["memory"]["at"], inspect("bitnet-online")["memory"]["at"]);
}

#[test]
fn a_state_counts_once_for_a_sequence() {
    let edgeling = Edgeling::new();
    let inspect = |name: &str| edgeling.json(&["inspect", checkpoint(name).to_str().unwrap(), "--json"]);
    let (with, without) = (inspect("lfm2"), inspect("qwen3"));
    // Three convolutions of three taps over 32 channels keep two positions of f32; one layer stores a KV head of 16.
    assert_eq!(with["memory"]["state"], json!(3 * 2 * 32 * 4));
    assert_eq!(with["shape"]["kv_bytes_per_token"]["f16"], json!(2 * 16 * 2));
    let at = &with["memory"]["at"][0];
    assert_eq!(at["cache"], json!(at["context"].as_u64().unwrap() * 64 + 768));
    assert_eq!(without["memory"]["state"], json!(0));
    let text = edgeling.run(&["inspect", checkpoint("lfm2").to_str().unwrap()]).success().stdout;
    assert!(text.lines().any(|line| line.starts_with("state") && line.contains("768 B a sequence")), "{text}");
}
