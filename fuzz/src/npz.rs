//! An archive of NumPy arrays. An input that is none is taken for one array in it.

use std::path::Path;

use formats::mlx::parse_npz;

use super::archive;

pub fn run(input: &[u8]) {
    let archive = if input.starts_with(b"PK") { input.to_vec() } else { archive::of(&[("a.npy", input)]) };
    let Ok(tensors) = parse_npz(&archive, Path::new("weights.npz")) else { return };
    for tensor in tensors {
        assert!(tensor.bytes <= archive.len(), "{tensor:?}");
    }
}
