//! Files that we write: the same bytes as the field's own writer, and what is left when writing ends early.

use std::fs;
use std::path::{Path, PathBuf};

use formats::gguf::{Array, GgufWriter, Metadata, MetadataBuilder, NewTensor};
use formats::{Checkpoint, Config, FormatError};
use kernels::DType;

fn metadata(checkpoint: &Checkpoint) -> &Metadata {
    match checkpoint.config() {
        Config::Gguf(metadata) => metadata,
        Config::HuggingFace(_) => panic!("a GGUF file has GGUF metadata"),
    }
}

fn tensor(name: &str, dtype: DType, shape: &[usize]) -> NewTensor {
    NewTensor { name: name.to_owned(), dtype, shape: shape.to_owned() }
}

/// Writes a copy of a checkpoint, its data in parts of `part` bytes.
fn copy(source: &Path, target: &Path, part: usize) {
    let source = Checkpoint::open(source).unwrap();
    let tensors: Vec<_> = source.tensors().map(|t| tensor(&t.name, t.dtype().unwrap(), &t.shape)).collect();
    let mut writer = GgufWriter::create(target, &metadata(&source).into(), &tensors).unwrap();
    for tensor in &tensors {
        let data = source.tensor(&tensor.name).unwrap().data;
        data.chunks(part).for_each(|bytes| writer.write(&tensor.name, bytes).unwrap());
    }
    assert!(!target.exists());
    writer.finish().unwrap();
}

/// The model files beside the workspace's tests, as the gguf library wrote them.
fn models() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints");
    let models = fs::read_dir(folder).unwrap().map(|case| case.unwrap().path().join("model.gguf"));
    models.filter(|path| path.exists()).collect()
}

#[test]
fn a_copy_has_the_bytes_of_its_source() {
    assert!(models().len() >= 4);
    for (i, source) in models().iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("copy.gguf");
        copy(source, &target, [7, 4096, usize::MAX][i % 3]);
        assert!(fs::read(source).unwrap() == fs::read(&target).unwrap(), "{}", source.display());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn values_of_every_type_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("values.gguf");
    let mut keys = MetadataBuilder::new();
    keys.set("a.u8", &200u8);
    keys.set("a.i8", &-5i8);
    keys.set("a.u16", &60_000u16);
    keys.set("a.i16", &-30_000i16);
    keys.set("a.u32", &4_000_000_000u32);
    keys.set("a.i32", &-2_000_000_000i32);
    keys.set("a.u64", &u64::MAX);
    keys.set("a.i64", &i64::MIN);
    keys.set("a.f32", &1.5f32);
    keys.set("a.f64", &-0.1f64);
    keys.set("a.bool", &true);
    keys.set("a.string", "größer");
    keys.set("a.numbers", &[1i32, -2, 3][..]);
    keys.set("a.strings", &vec!["a", "", "ß"]);
    keys.set("a.arrays", &vec![vec![1u8], vec![]]);
    keys.set("a.gone", &1u32);
    keys.remove("a.gone");
    keys.set("a.u8", &201u8);
    assert!(keys.contains("a.bool") && !keys.contains("a.gone"));
    GgufWriter::create(&path, &keys, &[]).unwrap().finish().unwrap();

    let checkpoint = Checkpoint::open(&path).unwrap();
    let m = metadata(&checkpoint);
    let shown: Vec<_> = m.iter().map(|(key, value)| format!("{key} {value}")).collect();
    assert_eq!(shown[..3], ["a.i8 i8 -5", "a.u16 u16 60000", "a.i16 i16 -30000"]);
    assert_eq!(
        shown[3..7],
        [
            "a.u32 u32 4000000000",
            "a.i32 i32 -2000000000",
            &format!("a.u64 u64 {}", u64::MAX),
            &format!("a.i64 i64 {}", i64::MIN)
        ]
    );
    assert_eq!(shown[7..10], ["a.f32 f32 1.5", "a.f64 f64 -0.1", "a.bool bool true"]);
    assert_eq!(shown[14], "a.u8 u8 201");
    assert_eq!(shown.len(), 15);
    assert_eq!(m.require::<&str>("a.string").unwrap(), "größer");
    assert_eq!(m.require::<Vec<i32>>("a.numbers").unwrap(), [1, -2, 3]);
    assert_eq!(m.require::<Vec<&str>>("a.strings").unwrap(), ["a", "", "ß"]);
    let arrays = m.require::<Array>("a.arrays").unwrap().values().map(|v| v.to_string()).collect::<Vec<_>>();
    assert_eq!(arrays, ["array of 1 × u8", "array of 0 × u8"]);
}

#[test]
fn data_is_aligned_and_padded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aligned.gguf");
    let mut keys = MetadataBuilder::new();
    keys.set("general.alignment", &256u32);
    let q8_0 = DType::from_name("q8_0").unwrap();
    let tensors = [tensor("a", DType::F32, &[3]), tensor("b", q8_0, &[2, 2, 32]), tensor("c", DType::F16, &[])];
    let mut writer = GgufWriter::create(&path, &keys, &tensors).unwrap();
    writer.write("a", &[1; 12]).unwrap();
    writer.write("b", &[2; 136]).unwrap();
    writer.write("c", &[3; 2]).unwrap();
    writer.finish().unwrap();

    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len() % 256, 0);
    let data = &bytes[bytes.len() - 768..];
    for (i, (value, len)) in [(1, 12), (2, 136), (3, 2)].into_iter().enumerate() {
        let (filled, padding) = data[256 * i..256 * (i + 1)].split_at(len);
        assert!(filled.iter().all(|b| *b == value) && padding.iter().all(|b| *b == 0), "tensor {i}");
    }
    let checkpoint = Checkpoint::open(&path).unwrap();
    let read: Vec<_> = checkpoint.tensors().map(|t| tensor(&t.name, t.dtype().unwrap(), &t.shape)).collect();
    assert_eq!(read, tensors);
    assert_eq!(checkpoint.tensor("b").unwrap().data[..], [2; 136]);
}

#[test]
fn wrong_data_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, "old").unwrap();
    let keys = MetadataBuilder::new();
    let tensors = [tensor("a", DType::F32, &[2]), tensor("b", DType::F32, &[1])];
    let start = || GgufWriter::create(&path, &keys, &tensors).unwrap();

    let mut writer = start();
    writer.write("a", &[0; 4]).unwrap();
    let message = |error: FormatError| error.to_string().rsplit_once(".gguf: ").unwrap().1.to_owned();
    let found = message(writer.write("a", &[0; 5]).unwrap_err());
    assert_eq!(found, "tensor a: expected 4 more bytes, found 5");
    let found = message(writer.write("b", &[0; 4]).unwrap_err());
    assert_eq!(found, "tensor b: expected data of a, found 4 bytes of another tensor");
    let found = message(writer.finish().unwrap_err());
    assert_eq!(found, "tensor a: expected 8 bytes, found 4");

    let mut writer = start();
    writer.write("a", &[0; 8]).unwrap();
    writer.write("b", &[0; 4]).unwrap();
    let found = message(writer.write("b", &[0; 1]).unwrap_err());
    assert_eq!(found, "tensor b: expected no more data, found 1 bytes");
    drop(writer);

    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn headers_that_no_file_can_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let create = |keys: &MetadataBuilder, tensors: &[NewTensor]| GgufWriter::create(&path, keys, tensors).unwrap_err();
    let none = MetadataBuilder::new();
    let q4_k = DType::from_name("Q4_K").unwrap();
    for (tensors, expected) in [
        (vec![tensor("a", DType::F32, &[1]), tensor("a", DType::F32, &[2])], "a name used once"),
        (vec![tensor("a", DType::F32, &[1; 5])], "at most 4 dimensions"),
        (vec![tensor("a", DType::F32, &[2, 0])], "dimensions of at least 1"),
        (vec![tensor("a", q4_k, &[2, 128])], "rows of Q4_K in whole blocks of 256 values, found 128"),
        (vec![tensor("a", DType::F32, &[1 << 40, 1 << 40])], "a shape that can be counted"),
    ] {
        let error = create(&none, &tensors).to_string();
        assert!(error.contains(&format!("tensor a: expected {expected}")), "{error}");
    }
    for alignment in [0u32, 48, 1 << 20] {
        let mut keys = MetadataBuilder::new();
        keys.set("general.alignment", &alignment);
        assert!(matches!(create(&keys, &[]), FormatError::Key { .. }));
    }
    assert!(GgufWriter::create(&folder.path().join("none/model.gguf"), &none, &[]).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_copy_of_metadata_keeps_what_is_not_utf_8() {
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/small.gguf");
    let source = Checkpoint::open(&small).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.gguf");
    GgufWriter::create(&path, &metadata(&source).into(), &[]).unwrap().finish().unwrap();
    let shown = |m: &Metadata| m.iter().map(|(key, value)| format!("{key} {value:?}")).collect::<Vec<_>>();
    assert_eq!(shown(metadata(&Checkpoint::open(&path).unwrap())), shown(metadata(&source)));
}
