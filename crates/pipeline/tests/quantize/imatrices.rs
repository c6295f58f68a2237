//! The importance matrices of `scripts/oracle/quantize_imatrix.py`, made from the same integers.

use std::path::Path;

use formats::Checkpoint;
use formats::imatrix::{NewEntry, write};

use crate::models::mixed;

/// No text has moved it.
const MISSING: &str = "blk.1.attn_k.weight";
const CHUNKS: u32 = 7;
const CALLS: i32 = 3;

/// Some of them are zero, over ten powers of two.
fn sums(seed: u64, count: usize) -> Vec<f32> {
    let sum = |z: u64| {
        let z = z >> 40;
        let x = (z & 0xFFFF) as f32 * 2f32.powi((z >> 16 & 7) as i32 - 16);
        if z >> 19 == 0 { 0.0 } else { x }
    };
    mixed(seed, count).map(sum).collect()
}

/// The matrices of a model's layers; an expert that is the first of a stack has seen nothing.
fn entries(source: &Path) -> Vec<NewEntry> {
    let source = Checkpoint::open(source).unwrap();
    let mut tensors: Vec<_> = source.tensors().filter(|t| t.name.starts_with("blk.") && t.name != MISSING).collect();
    tensors.retain(|tensor| tensor.shape.len() > 1);
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let entry = |(i, tensor): (usize, &&formats::TensorInfo)| {
        let experts = if tensor.shape.len() == 3 { tensor.shape[0] } else { 1 };
        let sums = sums(1000 + i as u64, experts * tensor.shape.last().unwrap());
        let counts = if experts > 1 { (0..experts).map(|e| (e * 7) as f32).collect() } else { vec![100.0] };
        NewEntry { tensor: tensor.name.clone(), sums, counts }
    };
    tensors.iter().enumerate().map(entry).collect()
}

/// Writes both forms for the model at `source` into a folder: `imatrix.gguf` and `imatrix.dat`.
pub fn write_both(source: &Path, folder: &Path) {
    let entries = entries(source);
    write(&folder.join("imatrix.gguf"), &["text.txt".to_owned()], (CHUNKS, 64), &entries).unwrap();
    let int = |n: i32| n.to_le_bytes();
    let mut legacy = int(entries.len() as i32).to_vec();
    for NewEntry { tensor, sums, .. } in &entries {
        legacy.extend(int(tensor.len() as i32));
        legacy.extend(tensor.as_bytes());
        legacy.extend([int(CALLS), int(sums.len() as i32)].concat());
        legacy.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
    }
    legacy.extend([int(CHUNKS as i32), int(8)].concat());
    legacy.extend(b"text.txt");
    std::fs::write(folder.join("imatrix.dat"), legacy).unwrap();
}
