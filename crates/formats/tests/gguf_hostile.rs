//! Hostile headers: an error or a checkpoint, never a panic, never more memory than the file justifies.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use formats::gguf::{Header, Value};
use formats::{Checkpoint, FormatError};
use kernels::plan::Bytes;
use proptest::prelude::*;

/// Writes headers that need not make sense.
#[derive(Default)]
struct Builder {
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
}

impl Builder {
    fn key(mut self, key: &str, ty: u32, value: &[u8]) -> Self {
        self.keys.push([&string(key), &ty.to_le_bytes()[..], value].concat());
        self
    }

    /// `dimensions` innermost first, as files have them.
    fn tensor(mut self, name: &str, dimensions: &[u64], ty: u32, offset: u64) -> Self {
        let mut bytes = string(name);
        bytes.extend((dimensions.len() as u32).to_le_bytes());
        bytes.extend(dimensions.iter().flat_map(|d| d.to_le_bytes()));
        bytes.extend(ty.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        self.tensors.push(bytes);
        self
    }

    /// The header, padded to 32 bytes, and `data` bytes of zeros.
    fn file(&self, data: usize) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        bytes.extend(self.keys.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
        bytes
    }

    fn parse(&self, data: usize) -> Result<Header, FormatError> {
        parse(self.file(data))
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn parse(bytes: Vec<u8>) -> Result<Header, FormatError> {
    let len = bytes.len();
    Header::parse(Bytes::new(Arc::new(bytes), 0..len).unwrap(), Path::new("m.gguf"))
}

/// An array's header: element type and length.
fn array(element: u32, len: u64) -> Vec<u8> {
    [&element.to_le_bytes()[..], &len.to_le_bytes()].concat()
}

const F32: u32 = 0;
const Q4_0: u32 = 2;

#[test]
fn a_plain_header_is_read() {
    let header = Builder::default()
        .key("general.alignment", 4, &32u32.to_le_bytes())
        .tensor("a", &[64, 3], Q4_0, 0)
        .tensor("b", &[], F32, 128)
        .parse(160)
        .unwrap();
    assert_eq!((header.version, header.tensors.len()), (3, 2));
    assert_eq!((&header.tensors[0].shape[..], header.tensors[0].bytes), (&[3, 64][..], 108));
    assert_eq!((&header.tensors[1].shape[..], header.tensors[1].bytes), (&[][..], 4));
}

#[test]
fn each_broken_rule_is_named() {
    let b = Builder::default;
    let long = "x".repeat(1_025);
    let mut nested = Vec::new();
    for _ in 0..5 {
        nested.extend(array(9, 1));
    }
    nested.extend(array(0, 0));
    let cases: Vec<(Builder, &str)> = vec![
        (b().key("a", 0, &[1]).key("a", 0, &[2]), "a key used once"),
        (b().key("a", 13, &[1]), "a value type from 0 to 12, found 13"),
        (b().key("a", 7, &[2]), "a bool, 0 or 1, found 2"),
        (b().key("a", 9, &[&array(7, 3)[..], &[0, 1, 9]].concat()), "a bool, 0 or 1, found 9"),
        (b().key("a", 8, &u64::MAX.to_le_bytes()), "expected 18446744073709551615 more bytes"),
        (b().key("a", 9, &array(12, u64::MAX)), "expected 18446744073709551615 more bytes"),
        (b().key("a", 9, &array(8, 1 << 40)), "more bytes"),
        (b().key("a", 9, &array(0, 1 << 40)), "more bytes"),
        (b().key("a", 9, &nested), "arrays nested at most 4 deep"),
        (b().key("general.alignment", 4, &24u32.to_le_bytes()), "expected a power of two, found 24"),
        (b().key("general.alignment", 4, &0u32.to_le_bytes()), "expected a power of two, found 0"),
        (b().key("general.alignment", 8, &string("32")), "expected an integer that fits u32"),
        (b().tensor(&long, &[1], F32, 0), "a name of at most 1024 bytes, found 1025 bytes"),
        (b().tensor("a", &[1; 5], F32, 0), "at most 4 dimensions, found 5"),
        (b().tensor("a", &[1 << 40, 1 << 40], F32, 0), "a shape that can be counted"),
        (b().tensor("a", &[1 << 62], F32, 0), "a shape that can be counted"),
        (b().tensor("a", &[1 << 40, 1 << 40], 99, 0), "a shape that can be counted"),
        (b().tensor("a", &[0], F32, 0), "dimensions of at least 1"),
        (b().tensor("a", &[33], Q4_0, 0), "rows of Q4_0 in whole blocks of 32 values, found 33 values"),
        (b().tensor("a", &[1], F32, 4), "an offset that is a multiple of 32, found 4"),
        (b().tensor("a", &[17], F32, 0), "expected 68 bytes of data, found a file that ends at byte"),
        (b().tensor("a", &[1], F32, 1 << 63), "found a file that ends at byte"),
        (b().tensor("a", &[1], F32, u64::MAX - 31), "found a file that ends at byte"),
        (b().tensor("a", &[1], 99, 1 << 40), "found a file that ends at byte"),
    ];
    for (builder, message) in cases {
        let error = builder.parse(64).unwrap_err().to_string();
        assert!(error.starts_with("m.gguf: ") && error.contains(message), "{error}\nexpected: {message}");
    }
}

#[test]
fn names_that_are_not_utf8_are_refused_and_such_values_kept() {
    let mut file = Builder::default().key("k", 8, &string("??")).file(0);
    let at = file.windows(2).position(|w| w == b"??").unwrap();
    file[at] = 0xff;
    let header = parse(file).unwrap();
    assert!(header.metadata.get::<&str>("k").is_err());
    assert_eq!(header.metadata.get::<&[u8]>("k").unwrap(), Some(&b"\xff?"[..]));

    let mut file = Builder::default().tensor("??", &[1], F32, 0).file(4);
    let at = file.windows(2).position(|w| w == b"??").unwrap();
    file[at] = 0xff;
    assert!(parse(file).is_err());
}

/// Counts far beyond the file must not be believed before they are checked.
#[test]
fn huge_counts_allocate_nothing() {
    for (tensors, keys) in [(u64::MAX, 0), (0, u64::MAX), (1 << 40, 0), (0, 1 << 60), (1 << 20, 1 << 20)] {
        let mut file = Builder::default().file(0);
        file[8..16].copy_from_slice(&u64::to_le_bytes(tensors));
        file[16..24].copy_from_slice(&u64::to_le_bytes(keys));
        assert!(parse(file).is_err());
    }
}

/// Of a cut file, only bytes of the last tensor, whose type and size are unknown, can be missing unseen.
#[test]
fn a_truncated_file_is_an_error_wherever_it_ends() {
    let whole = include_bytes!("data/small.gguf");
    let last = parse(whole.to_vec()).unwrap().tensors.pop().unwrap();
    assert!(last.dtype().is_none());
    for len in 0..=whole.len() {
        assert_eq!(parse(whole[..len].to_vec()).is_ok(), len >= whole.len() - last.bytes, "{len}");
    }
}

/// A tensor of unknown type reaches to the next one, the last to the end of the file.
#[test]
fn unknown_types_take_the_bytes_up_to_the_next_tensor() {
    let header = Builder::default()
        .tensor("last", &[7], 99, 96)
        .tensor("first", &[7], 98, 0)
        .tensor("known", &[8], F32, 64)
        .parse(128)
        .unwrap();
    let bytes: Vec<_> = header.tensors.iter().map(|t| t.bytes).collect();
    assert_eq!(bytes, [32, 64, 32]);
}

#[test]
fn a_tensor_name_used_twice_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let builder = Builder::default().tensor("a", &[1], F32, 0).tensor("a", &[1], F32, 32);
    std::fs::write(file.path(), builder.file(64)).unwrap();
    let error = Checkpoint::open(file.path()).unwrap_err().to_string();
    assert!(error.contains("tensor a: expected a name used once"), "{error}");
}

/// A file of 5 GB, sparse, with a vocabulary of 152,000 tokens: only the header is read.
#[test]
fn a_large_file_opens_at_once() {
    let tokens: Vec<u8> = (0..152_000).flat_map(|i| string(&format!("token {i}"))).collect();
    let size = 5u64 << 30;
    let header = Builder::default()
        .key("tokenizer.ggml.tokens", 9, &[array(8, 152_000), tokens].concat())
        .tensor("a", &[1 << 20, 1 << 10], F32, 0)
        .tensor("b", &[8], F32, 1 << 32)
        .file(0);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &header).unwrap();
    file.as_file().set_len(size).unwrap();

    let open = || {
        let start = Instant::now();
        (Checkpoint::open(file.path()).unwrap(), start.elapsed())
    };
    let (checkpoint, mut elapsed) = open();
    assert_eq!(checkpoint.total_bytes() as u64, size);
    assert_eq!(checkpoint.tensor("b").unwrap().to_f32(), [0.0; 8]);
    for _ in 0..4 {
        elapsed = elapsed.min(open().1);
    }
    assert!(elapsed < Duration::from_millis(50), "{elapsed:?}");
}

/// Reads everything that a parsed header gives access to.
fn use_everything(header: &Header, file_len: usize) {
    fn walk(value: Value) -> usize {
        let shown = value.to_string().len();
        match value {
            Value::Array(array) => shown + array.values().map(walk).sum::<usize>(),
            _ => shown,
        }
    }
    for (key, value) in header.metadata.iter() {
        walk(value);
        if let Value::Array(array) = value {
            assert_eq!(array.values().count(), array.len(), "{key}");
        }
        let _ = header.metadata.get::<Vec<&str>>(key);
        let _ = header.metadata.get::<Vec<f32>>(key);
        let _ = header.metadata.get::<u64>(key);
    }
    for tensor in &header.tensors {
        assert!(tensor.bytes <= file_len && tensor.shape.len() <= 4, "{tensor:?}");
        let _ = tensor.elements();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(parse(bytes.clone()).is_err());
        let len = bytes.len() + 8;
        if let Ok(header) = parse([b"GGUF\x03\0\0\0", &bytes[..]].concat()) {
            use_everything(&header, len);
        }
    }

    /// A valid file with a few bytes, or whole numbers, replaced.
    #[test]
    fn mutated_files(
        bytes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        numbers in proptest::collection::vec(
            (any::<proptest::sample::Index>(), prop_oneof![any::<u64>(), 0..300u64, (0..64u32).prop_map(|n| 1 << n)]), 0..2),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut file = include_bytes!("data/small.gguf").to_vec();
        for (at, byte) in bytes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        for (at, number) in numbers {
            let at = at.index(file.len() - 8);
            file[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let len = file.len();
        if let Ok(header) = parse(file) {
            use_everything(&header, len);
        }
    }
}
