//! A PyTorch checkpoint: the archive, and the pickle in it. An input that is no archive is taken for the pickle alone, as
//! mutations seldom leave an archive whole.

use std::path::Path;

use formats::pytorch;

pub fn run(input: &[u8]) {
    let archive = if input.starts_with(b"PK") { input.to_vec() } else { archive_of(input) };
    let Ok(tensors) = pytorch::parse(&archive, Path::new("pytorch_model.bin")) else { return };
    for tensor in tensors {
        assert!(tensor.bytes <= archive.len(), "{tensor:?}");
    }
}

/// An archive with the members `x/data.pkl`, which is `pickle`, and `x/data/0`, a storage of 64 bytes.
fn archive_of(pickle: &[u8]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in [("x/data.pkl", pickle), ("x/data/0", &[0; 64])] {
        let (start, size) = (out.len() as u32, (data.len() as u32).to_le_bytes());
        let sizes = [size, size].concat();
        out.extend(b"PK\x03\x04");
        out.extend([0; 14]);
        out.extend(&sizes);
        out.extend([name.len() as u8, 0, 0, 0]);
        out.extend(name.as_bytes());
        out.extend(data);
        directory.extend(b"PK\x01\x02");
        directory.extend([0; 16]);
        directory.extend(&sizes);
        directory.extend([name.len() as u8]);
        directory.extend([0; 13]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let place = [directory.len() as u32, out.len() as u32].map(u32::to_le_bytes).concat();
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0\x02\0\x02\0");
    out.extend(place);
    out.extend([0; 2]);
    out
}
