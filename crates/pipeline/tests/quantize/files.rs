//! Whole files: each tensor's type and bytes, and the file's digest, are llama-quantize's.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::Checkpoint;
use formats::imatrix::Imatrix;
use kernels::DType;
use pipeline::quantize::{FileType, QuantizeOptions, TypeOptions, planned, quantize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{go_on, imatrices, json, models};

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().map_or_else(Vec::new, |list| list.iter().map(|v| v.as_str().unwrap()).collect())
}

/// Options from llama-quantize's arguments; files are in `folder`.
fn options(arguments: &[&str], folder: &Path) -> QuantizeOptions {
    let dtype = |name: &str| DType::from_name(name).unwrap();
    let (file_type, mut rest) = arguments.split_last().unwrap();
    let mut types = TypeOptions::new(FileType::from_name(file_type).unwrap());
    let (mut requantize, mut imatrix) = (false, None);
    while let [option, more @ ..] = rest {
        rest = more;
        let mut value = || {
            let (value, more) = rest.split_first().unwrap();
            rest = more;
            *value
        };
        match *option {
            "--pure" => types.pure = true,
            "--allow-requantize" => requantize = true,
            "--imatrix" => imatrix = Some(Arc::new(Imatrix::open(&folder.join(value())).unwrap())),
            "--output-tensor-type" => types.output = Some(dtype(value())),
            "--token-embedding-type" => types.embedding = Some(dtype(value())),
            "--tensor-type" => types.add_tensor_type(value()).unwrap(),
            other => panic!("no option {other}"),
        }
    }
    QuantizeOptions { requantize, imatrix, ..QuantizeOptions::new(types) }
}

/// Does every run of a reference, and compares. Results stay in `folder`.
fn check(reference: &Value, source: &Path, folder: &Path) {
    assert_eq!(sha256(&fs::read(source).unwrap()), reference["source"].as_str().unwrap(), "the source is another file");
    let mut results: HashMap<Vec<&str>, PathBuf> = HashMap::new();
    for (i, run) in reference["runs"].as_array().unwrap().iter().enumerate() {
        let arguments = strings(&run["arguments"]);
        let from = strings(&run["from"]);
        let source = if from.is_empty() { source } else { &results[&from] };
        let target = folder.join(format!("{i}.gguf"));
        let options = options(&arguments, folder);
        let listed = quantize(&Checkpoint::open(source).unwrap(), &target, &options, go_on);
        let listed = listed.unwrap_or_else(|error| panic!("{arguments:?}: {error}"));

        assert_eq!(planned(&Checkpoint::open(source).unwrap(), &options).unwrap(), listed);
        let written = Checkpoint::open(&target).unwrap();
        assert_eq!(listed.len(), written.tensors().len());
        for tensor in listed {
            let data = written.tensor(&tensor.name).unwrap();
            assert_eq!((data.dtype, data.data.len()), (tensor.to, tensor.bytes_out), "{arguments:?}: {}", tensor.name);
            let by_type = reference["tensors"].get(&tensor.name);
            let of_run = run.get("tensors").and_then(|t| t.get(&tensor.name));
            if by_type.is_none() && of_run.is_none() {
                continue;
            }
            let expected_type = run["others"].get(&tensor.name).unwrap_or(&run["dtype"]);
            assert_eq!(tensor.to.name, expected_type, "{arguments:?}: {}", tensor.name);
            // Some tensors' digests are left out; that of the file stands for them.
            if let Some(expected) = of_run.or_else(|| by_type?.get(tensor.to.name)) {
                assert_eq!(&sha256(&data.data), expected, "{arguments:?}: {}", tensor.name);
            }
        }
        assert_eq!(sha256(&fs::read(&target).unwrap()), run["file"].as_str().unwrap(), "{arguments:?}");
        results.insert(arguments, target);
    }
}

fn check_model(name: &str, model: &models::Model) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    model.write(&source);
    check(&json(&format!("{name}.json")), &source, folder.path());
}

/// With importance matrices.
fn check_weighed(name: &str, model: &models::Model) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    model.write(&source);
    imatrices::write_both(&source, folder.path());
    check(&json(&format!("{name}-imatrix.json")), &source, folder.path());
}

#[test]
fn widths_that_are_multiples_of_256() {
    check_model("dense", &models::DENSE);
}

#[test]
fn widths_that_k_types_do_not_fit() {
    check_model("narrow", &models::NARROW);
}

#[test]
fn a_mixture_of_experts() {
    check_model("experts", &models::EXPERTS);
}

#[test]
fn a_mixture_with_a_shared_expert() {
    check_model("shared", &models::SHARED);
}

#[test]
fn weighed_columns() {
    check_weighed("dense", &models::DENSE);
}

#[test]
fn weighed_columns_of_many_layers() {
    check_weighed("deep", &models::DEEP);
}

#[test]
fn weighed_columns_of_experts_and_a_shared_one() {
    check_weighed("shared", &models::SHARED);
}

#[test]
fn weighed_columns_of_widths_that_k_types_do_not_fit() {
    check_weighed("narrow", &models::NARROW);
}

#[test]
fn weighed_columns_of_experts() {
    check_weighed("experts", &models::EXPERTS);
}

/// The published Q4_1 file, where there is one: at the path that `EDGELING_TEST_MODEL` names, or in the cache that tests
/// pull it to.
fn smollm2() -> Option<PathBuf> {
    const BLOB: &str = "blobs/sha256/b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
    let cache = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache");
    let cached = std::env::var_os("EDGELING_TEST_CACHE").map_or_else(cache, PathBuf::from).join(BLOB);
    std::env::var_os("EDGELING_TEST_MODEL").map(PathBuf::from).or(Some(cached)).filter(|path| path.exists())
}

#[test]
fn smollm2_in_all_types() {
    match smollm2() {
        Some(source) => {
            let folder = tempfile::tempdir().unwrap();
            check(&json("smollm2.json"), &source, folder.path());
        }
        None => eprintln!("skipped: SmolLM2 is not in the test cache"),
    }
}
