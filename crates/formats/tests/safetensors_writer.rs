//! Safetensors files that were written are read back the same; what is not whole does not appear.

use std::fs;
use std::path::Path;

use formats::RawType;
use formats::safetensors::{Content, FolderTensor, SafetensorsWriter, parse};
use kernels::DType;

fn tensors() -> Vec<(FolderTensor, Vec<u8>)> {
    let of = |name: &str, content: Content, each: usize, shape: &[usize], fill: u8| {
        let bytes = shape.iter().product::<usize>() * each;
        (FolderTensor { name: name.to_owned(), content, shape: shape.to_vec() }, vec![fill; bytes])
    };
    let tensor = |name: &str, dtype: DType, shape: &[usize], fill: u8| {
        of(name, Content::Values(dtype), dtype.bytes, shape, fill)
    };
    vec![
        tensor("a", DType::F16, &[3, 5], 1),
        tensor("b.\"quoted\"", DType::F32, &[4], 2),
        tensor("scalar", DType::BF16, &[], 3),
        of("packed", Content::Bytes, 1, &[3, 7], 6),
        tensor("large", DType::F32, &[10, 10], 4),
        tensor("c", DType::F16, &[1], 5),
    ]
}

fn write(folder: &Path, shard_bytes: u64) {
    let all = tensors();
    let infos: Vec<_> = all.iter().map(|(info, _)| info.clone()).collect();
    let mut writer = SafetensorsWriter::create(folder, &infos, shard_bytes, "pt").unwrap();
    for (info, data) in &all {
        for piece in data.chunks(7) {
            writer.write(&info.name, piece).unwrap();
        }
    }
    writer.finish().unwrap();
}

/// Names of the files, and all tensors in order with their data.
fn read(folder: &Path) -> (Vec<String>, Vec<(FolderTensor, Vec<u8>)>) {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    let mut found = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".safetensors")) {
        let path = folder.join(name);
        let bytes = fs::read(&path).unwrap();
        let mut at = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        assert!(at.is_multiple_of(8));
        for info in parse(&bytes, &path).unwrap() {
            let content = match info.dtype() {
                Some(dtype) => Content::Values(dtype),
                None => {
                    assert_eq!(info.raw_type, RawType::Safetensors("U8".to_owned()));
                    Content::Bytes
                }
            };
            let tensor = FolderTensor { name: info.name.clone(), content, shape: info.shape.clone() };
            found.push((tensor, bytes[at..at + info.bytes].to_vec()));
            at += info.bytes;
        }
        assert_eq!(at, bytes.len());
    }
    (names, found)
}

#[test]
fn one_file_holds_all() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 1 << 20);
    let (names, found) = read(folder.path());
    assert_eq!(names, ["model.safetensors"]);
    assert_eq!(found, tensors());
}

#[test]
fn shards_hold_no_more_than_asked_for_but_one_tensor() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 75);
    let (names, found) = read(folder.path());
    let shard = |no: usize| format!("model-{no:05}-of-00003.safetensors");
    assert_eq!(names, [shard(1), shard(2), shard(3), "model.safetensors.index.json".to_owned()]);
    assert_eq!(found, tensors());
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], 30 + 16 + 2 + 21 + 400 + 2);
    assert_eq!(index["weight_map"]["large"], shard(2));
}

#[test]
fn what_is_not_as_planned_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = |name: &str, dtype: DType| FolderTensor {
        name: name.to_owned(),
        content: Content::Values(dtype),
        shape: vec![32],
    };
    let create = |tensors: &[FolderTensor]| SafetensorsWriter::create(folder.path(), tensors, 1 << 20, "pt");
    assert!(create(&[tensor("a", DType::F32), tensor("a", DType::F32)]).is_err());
    assert!(create(&[tensor("a", DType::Q8_0)]).is_err());
    let mut writer = create(&[tensor("a", DType::F32), tensor("b", DType::F32)]).unwrap();
    assert!(writer.write("b", &[0; 4]).is_err());
    assert!(writer.write("a", &[0; 129]).is_err());
    writer.write("a", &[0; 128]).unwrap();
    assert!(writer.finish().is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
