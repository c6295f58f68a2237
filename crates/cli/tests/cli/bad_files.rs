//! Files that are missing, cut, hostile or something else: status 1 and an error that says where.

use std::fs;
use std::path::PathBuf;

use crate::support::{Edgeling, checkpoint};

/// Writes `bytes` to a file in the test's folder.
fn file(edgeling: &Edgeling, name: &str, bytes: &[u8]) -> PathBuf {
    let path = edgeling.home.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn gguf() -> Vec<u8> {
    fs::read(checkpoint("llama").join("model.gguf")).unwrap()
}

#[test]
fn a_file_that_is_not_there() {
    let edgeling = Edgeling::new();
    for command in [&["inspect", "no/such.gguf"][..], &["run", "no/such.gguf", "hi"], &["bench", "no/such.gguf"]] {
        edgeling.run(command).failed(1, &["no/such.gguf", "expected", "found"]);
    }
}

#[test]
fn truncated_files_fail_wherever_they_end() {
    let edgeling = Edgeling::new();
    let whole = gguf();
    for keep in [0, 1, 4, 12, 23, 24, 100, whole.len() / 2, whole.len() - 1] {
        let path = file(&edgeling, "cut.gguf", &whole[..keep]);
        for command in [&["inspect"][..], &["run", "--raw", "--max-tokens", "1"]] {
            let mut args: Vec<_> = command.to_vec();
            args.insert(1, path.to_str().unwrap());
            if command[0] == "run" {
                args.insert(2, "hi");
            }
            edgeling.run(&args).failed(1, &["cut.gguf", "expected", "found"]);
        }
    }
}

#[test]
fn counts_and_lengths_beyond_the_file_cost_no_memory() {
    let edgeling = Edgeling::new();
    // Offsets of the tensor count, the key count and the first key's length.
    for at in [8, 16, 24] {
        let mut bytes = gguf();
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        let path = file(&edgeling, "hostile.gguf", &bytes);
        edgeling.run(&["inspect", path.to_str().unwrap()]).failed(1, &["hostile.gguf", "expected", "found"]);
    }
}

#[test]
fn other_files_are_told_apart() {
    let edgeling = Edgeling::new();
    for (name, bytes) in [("zip.gguf", &b"PK\x03\x04 and so on"[..]), ("text.gguf", b"just some text\n")] {
        let path = file(&edgeling, name, bytes);
        edgeling.run(&["inspect", path.to_str().unwrap()]).failed(1, &[name, "expected a GGUF file", "found"]);
    }
    let folder = edgeling.home.path().join("empty");
    fs::create_dir(&folder).unwrap();
    edgeling.run(&["inspect", folder.to_str().unwrap()]).failed(1, &["empty", "expected", "found"]);
}

#[test]
fn a_model_of_another_architecture_can_be_inspected_and_not_run() {
    let edgeling = Edgeling::new();
    let mut bytes = gguf();
    let at = bytes.windows(20).position(|w| w == b"general.architecture").unwrap() + 20 + 4 + 8;
    assert_eq!(&bytes[at..at + 5], b"llama");
    bytes[at..at + 5].copy_from_slice(b"mamba");
    let path = file(&edgeling, "mamba.gguf", &bytes);
    let path = path.to_str().unwrap();
    let facts = edgeling.json(&["inspect", path, "--json"]);
    assert_eq!(facts["architecture"], "mamba");
    assert!(facts["unsupported"].as_str().unwrap().contains("llama"), "{facts}");
    edgeling.run(&["run", path, "hi"]).failed(1, &["mamba", "llama"]);
}
