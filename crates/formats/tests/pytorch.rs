//! PyTorch checkpoints, real ones and hostile ones. `scripts/oracle/pytorch_checkpoints.py` makes the data.

use std::path::{Path, PathBuf};

use formats::{Checkpoint, FormatError, pytorch};
use proptest::prelude::*;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(path)
}

fn parse(bytes: &[u8]) -> Result<Vec<formats::TensorInfo>, FormatError> {
    pytorch::parse(bytes, Path::new("pytorch_model.bin"))
}

fn single() -> Vec<u8> {
    std::fs::read(data("pytorch/single/pytorch_model.bin")).unwrap()
}

#[test]
fn tensors_are_those_of_the_safetensors_file() {
    let expected = Checkpoint::open(&data("checkpoints/llama3-rope")).unwrap();
    for form in ["single", "sharded"] {
        let found = Checkpoint::open(&data("pytorch").join(form)).unwrap();
        assert_eq!(found.tensors().len(), expected.tensors().len(), "{form}");
        for info in expected.tensors() {
            let (a, b) = (expected.tensor(&info.name).unwrap(), found.tensor(&info.name).unwrap());
            assert_eq!((a.dtype, &a.shape), (b.dtype, &b.shape), "{form} {}", info.name);
            assert!(*a.data == *b.data, "{form} {}", info.name);
        }
    }
}

#[test]
fn what_is_no_state_dictionary_is_an_error_that_names_it() {
    let cases = [
        ("system.bin", "the global posix.system"),
        ("eval.bin", "eval"),
        ("integers.bin", "the global torch.LongStorage"),
        ("transposed.bin", "tensor weight: expected values that follow one another"),
        ("training.bin", "operation 0x47"),
        ("legacy.bin", "a Python pickle"),
        ("deflated.bin", "compression 8"),
    ];
    for (file, words) in cases {
        let error = parse(&std::fs::read(data("pytorch/hostile").join(file)).unwrap()).unwrap_err();
        assert!(error.to_string().contains(words), "{file}: {error}");
        assert!(error.hint().is_some() || matches!(error, FormatError::Tensor { .. }), "{file}");
    }
}

#[test]
fn every_cut_is_an_error() {
    let bytes = single();
    for len in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        assert!(parse(&bytes[..len]).is_err(), "{len}");
    }
}

/// An archive of one stored member `x/data.pkl`.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let (name, size) = (b"x/data.pkl", (pickle.len() as u32).to_le_bytes());
    let mut out = Vec::from(*b"PK\x03\x04");
    out.extend([0; 14]);
    out.extend([size, size].concat());
    out.extend([name.len() as u8, 0, 0, 0]);
    out.extend(name);
    out.extend(pickle);
    let directory = out.len() as u32;
    out.extend(b"PK\x01\x02");
    out.extend([0; 16]);
    out.extend([size, size].concat());
    out.extend([name.len() as u8]);
    out.extend([0; 17]);
    out.extend(name);
    let length = out.len() as u32 - directory;
    out.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    out.extend([length.to_le_bytes(), directory.to_le_bytes()].concat());
    out.extend([0; 2]);
    out
}

#[test]
fn an_empty_dictionary_has_no_tensors() {
    assert!(parse(&archive(b"\x80\x02}.")).unwrap().is_empty());
}

#[test]
fn hostile_pickles_are_errors() {
    let nested = [&b"\x80\x02)"[..], &[0x85].repeat(1 << 19), b"."].concat();
    let doubling = [&b"\x80\x02)q\x00"[..], &b"h\x00h\x00\x86q\x00".repeat(100_000), b"."].concat();
    let long_name = [&b"\x80\x02}X\xff\xff\xff\x7f"[..], &[b'a'; 1000], b"."].concat();
    let cases: [&[u8]; 12] = [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02}}s.",
        b"\x80\x02(}t",
        b"\x80\x02u.",
        b"\x80\x02h\x05.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02ccollections\nOrderedDict\nK\x01R.",
        &nested,
        &doubling,
        &long_name,
    ];
    for pickle in cases {
        assert!(parse(&archive(pickle)).is_err(), "{:?}", &pickle[..pickle.len().min(20)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = single();
        let len = bytes.len();
        // The directory and the pickle are where it hurts: the last and the first kilobytes.
        for (index, value) in changes {
            let at = index.index(16_000);
            bytes[if at < 8_000 { at } else { len - 16_000 + at }] = value;
        }
        if let Ok(infos) = parse(&bytes) {
            prop_assert!(infos.iter().all(|info| info.bytes <= len));
        }
    }

    #[test]
    fn any_pickle_ends(pickle in prop::collection::vec(
        prop::sample::select(b"\x80\x02.()}NKXcqhtsuQRb\x85\x86\x87\x88\x8a\x8c\x93\x94\x00\x01\x05\nostorch".to_vec()), 0..200
    )) {
        let _result = parse(&archive(&pickle));
    }
}
