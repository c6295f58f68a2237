//! Files by an importance matrix: each tensor's type and bytes, and the file's digest, are llama-quantize's.
//!
//! The data in `tests/data/quantize` comes from `scripts/oracle/quantize_imatrix.py`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use formats::Checkpoint;
use formats::imatrix::{self, Imatrix, NewEntry};
use pipeline::quantize::{FileType, QuantizeOptions, TypeOptions, quantize};

use crate::files::{sha256, smollm2};
use crate::{go_on, json, models};

/// The importance of all matrices of the layers, from integers as in `scripts/oracle/quantize_imatrix.py`.
fn write_imatrix(source: &Checkpoint, target: &Path) {
    let mut matrices: Vec<_> = source.tensors().filter(|t| t.name.starts_with("blk.") && t.shape.len() > 1).collect();
    matrices.sort_by(|a, b| a.name.cmp(&b.name));
    let entries: Vec<_> = (1000..)
        .zip(matrices)
        .map(|(seed, tensor)| {
            let (matrix, cols) = (tensor.shape.len() - 2, *tensor.shape.last().unwrap());
            let experts: usize = tensor.shape[..matrix].iter().product();
            let sums = models::mixed(seed, experts * cols).enumerate().map(|(i, z)| match i % 37 {
                5 => 0.0,
                _ => ((z >> 52) * (z >> 52)) as f32,
            });
            let counts = (0..experts).map(|expert| if experts == 1 { 100.0 } else { 100.0 * expert as f32 });
            NewEntry { tensor: tensor.name.clone(), sums: sums.collect(), counts: counts.collect() }
        })
        .collect();
    imatrix::write(target, &["integers".to_owned()], (3, 512), &entries).unwrap();
}

fn check(name: &str, source: &Path, folder: &Path) {
    let reference = json(&format!("imatrix-{name}.json"));
    assert_eq!(sha256(&fs::read(source).unwrap()), reference["source"].as_str().unwrap(), "the source is another file");
    let source = Checkpoint::open(source).unwrap();
    let path = folder.join("imatrix.gguf");
    write_imatrix(&source, &path);
    let imatrix = Arc::new(Imatrix::open(&path).unwrap());
    let target = folder.join("target.gguf");
    for (file_type, run) in reference["runs"].as_object().unwrap() {
        let types = TypeOptions::new(FileType::from_name(file_type).unwrap());
        let options = QuantizeOptions { imatrix: Some(imatrix.clone()), ..QuantizeOptions::new(types) };
        let listed = quantize(&source, &target, &options, go_on);
        let listed = listed.unwrap_or_else(|error| panic!("{file_type}: {error}"));
        let written = Checkpoint::open(&target).unwrap();
        for tensor in listed.iter().filter(|t| t.name.ends_with(".weight") && !t.name.contains("_norm")) {
            let expected = run["others"].get(&tensor.name).unwrap_or(&run["dtype"]);
            assert_eq!(tensor.to.name, expected, "{file_type}: {}", tensor.name);
            // Some tensors' digests are left out; that of the file stands for them.
            if let Some(expected) = reference["tensors"].get(&tensor.name).and_then(|t| t.get(tensor.to.name)) {
                let found = sha256(&written.tensor(&tensor.name).unwrap().data);
                assert_eq!(&found, expected, "{file_type}: {} as {}", tensor.name, tensor.to);
            }
        }
        assert_eq!(sha256(&fs::read(&target).unwrap()), run["file"].as_str().unwrap(), "{file_type}");
    }
}

fn check_model(name: &str, model: &models::Model) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    model.write(&source);
    check(name, &source, folder.path());
}

#[test]
fn widths_that_are_multiples_of_256() {
    check_model("dense", &models::DENSE);
}

#[test]
fn experts_have_importance_of_their_own() {
    check_model("experts", &models::EXPERTS);
}

#[test]
fn smollm2_by_importance() {
    let Some(published) = smollm2() else {
        return eprintln!("skipped: SmolLM2 is not in the test cache");
    };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    let types = TypeOptions::new(FileType::from_name("F16").unwrap());
    let options = QuantizeOptions { requantize: true, ..QuantizeOptions::new(types) };
    quantize(&Checkpoint::open(&published).unwrap(), &source, &options, go_on).unwrap();
    check("smollm2", &source, folder.path());
}
