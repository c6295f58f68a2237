//! A PyTorch checkpoint: the archive, and the pickle in it. An input that is no archive is taken for the pickle alone, as
//! mutations seldom leave an archive whole.

use std::path::Path;

use formats::pytorch;

use super::archive;

pub fn run(input: &[u8]) {
    let members: [(&str, &[u8]); 2] = [("x/data.pkl", input), ("x/data/0", &[0; 64])];
    let archive = if input.starts_with(b"PK") { input.to_vec() } else { archive::of(&members) };
    let Ok(tensors) = pytorch::parse(&archive, Path::new("pytorch_model.bin")) else { return };
    for tensor in tensors {
        assert!(tensor.bytes <= archive.len(), "{tensor:?}");
    }
}
