//! MLX folders: what is wrong with the parts of a matrix is said of it, and blocks read in pieces are the blocks.

use std::fs;
use std::path::Path;

use formats::Checkpoint;
use formats::gguf::NewTensor;
use formats::safetensors::SafetensorsWriter;
use kernels::DType;
use kernels::quant::GroupAffine;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with these tensors of zeros, by name, type and shape, and this `quantization`.
fn folder(tensors: &[(&str, &str, &[usize])], quantization: Value) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, dtype, shape) in tensors {
        let width = if dtype.ends_with("32") { 4 } else { if *dtype == "U8" { 1 } else { 2 } };
        let end = at + width * shape.iter().product::<usize>();
        header.insert((*name).to_owned(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let header = Value::Object(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; at]].concat();
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let config = json!({ "model_type": "llama", "quantization": quantization });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn four_bits() -> Value {
    json!({ "bits": 4, "group_size": 64 })
}

#[test]
fn parts_become_one_matrix() {
    let all = [("a.weight", "U32", &[3, 16][..]), ("a.scales", "F16", &[3, 2]), ("a.biases", "F16", &[3, 2])];
    let folder = folder(&all, four_bits());
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let infos: Vec<_> = checkpoint.tensors().collect();
    assert_eq!(infos.len(), 1);
    assert_eq!((infos[0].name.as_str(), &infos[0].shape[..], infos[0].bytes), ("a.weight", &[3, 128][..], 3 * 72));
    assert_eq!(infos[0].raw_type.to_string(), "AFFINE4_G64_F16");
    assert_eq!(checkpoint.tensor("a.weight").unwrap().data.len(), 3 * 72);
    assert!(checkpoint.tensor("a.scales").is_err());
}

#[test]
fn stacks_of_matrices_are_read_by_rows() {
    let all = [("a.weight", "U32", &[2, 3, 4][..]), ("a.scales", "U8", &[2, 3, 1])];
    let folder = folder(&all, json!({ "bits": 4, "group_size": 32, "mode": "mxfp4" }));
    let tensor = Checkpoint::open(folder.path()).unwrap().tensor("a.weight").unwrap();
    assert_eq!((tensor.dtype, &tensor.shape[..]), (DType::MXFP4, &[2, 3, 32][..]));
    assert_eq!(tensor.rows(3..6).unwrap().shape, [3, 32]);
}

/// GGUF's blocks of NVFP4 have 64 values; MLX asks for whole groups alone.
#[test]
fn rows_of_nvfp4_are_whole_groups() {
    let all = [("a.weight", "U32", &[2, 10][..]), ("a.scales", "U8", &[2, 5])];
    let folder = folder(&all, json!({ "bits": 4, "group_size": 16, "mode": "nvfp4" }));
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let start = bytes.len() - (80 + 10);
    bytes[start..].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 37 % 251) as u8);
    fs::write(&path, &bytes).unwrap();
    let tensor = Checkpoint::open(folder.path()).unwrap().tensor("a.weight").unwrap();
    assert_eq!((tensor.dtype, &tensor.shape[..], tensor.data.len()), (DType::NVFP4_G16, &[2, 80][..], 2 * 5 * 9));
    let (values, scales) = bytes[start..].split_at(80);
    for (i, block) in tensor.data.as_chunks::<9>().0.iter().enumerate() {
        assert_eq!(block[0], scales[i]);
        for value in 0..16 {
            let there = values[8 * i + value / 2] >> (value % 2 * 4) & 15;
            assert_eq!(block[1 + value % 8] >> (value / 8 * 4) & 15, there);
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    type Tensors<'a> = &'a [(&'a str, &'a str, &'a [usize])];
    let mode = |mode: &str, bits: usize, group: usize| json!({ "bits": bits, "group_size": group, "mode": mode });
    let cases: [(Tensors, Value, &str); 13] = [
        (
            &[("a.scales", "F16", &[3, 2])],
            four_bits(),
            "tensor a.weight: expected a matrix of type U32 beside its scales",
        ),
        (
            &[("a.weight", "F16", &[3, 16]), ("a.scales", "F16", &[3, 2])],
            four_bits(),
            "found shape [3, 16] of type F16",
        ),
        (
            &[("a.weight", "U32", &[3, 16]), ("a.scales", "F16", &[3, 2])],
            four_bits(),
            "tensor a.biases: expected biases of shape [3, 2] of type F16, found none",
        ),
        (
            &[("a.weight", "U32", &[3, 16]), ("a.scales", "F16", &[3, 3]), ("a.biases", "F16", &[3, 3])],
            four_bits(),
            "tensor a.scales: expected scales for the values in shape [3, 16], affine with 4 bits in groups of 64, found \
             shape [3, 3] of type F16",
        ),
        (
            &[("a.weight", "U32", &[3, 16]), ("a.scales", "F16", &[2, 2]), ("a.biases", "F16", &[2, 2])],
            four_bits(),
            "found shape [2, 2] of type F16",
        ),
        (
            &[("a.weight", "U32", &[3, 16]), ("a.scales", "F16", &[3, 2]), ("a.biases", "BF16", &[3, 2])],
            four_bits(),
            "tensor a.biases: expected biases of shape [3, 2] of type F16, found shape [3, 2] of type BF16",
        ),
        (
            &[("a.weight", "U32", &[3, 16]), ("a.scales", "F16", &[3, 2]), ("a.biases", "F16", &[3, 2])],
            mode("affine", 8, 64),
            "affine with 8 bits in groups of 64, found shape [3, 2]",
        ),
        (
            &[("a.weight", "U32", &[3, 16]), ("a.scales", "F16", &[3, 2]), ("a.biases", "F16", &[3, 2])],
            mode("affine", 7, 64),
            "expected affine with 2, 3, 4, 5, 6 or 8 bits",
        ),
        (
            &[("a.weight", "U32", &[3, 16]), ("a.scales", "F16", &[3, 4])],
            mode("mxfp4", 4, 32),
            "tensor a.scales: expected scales of type U8",
        ),
        (
            &[("a.weight", "U32", &[3, 16]), ("a.scales", "U8", &[3, 4]), ("a.biases", "U8", &[3, 4])],
            mode("mxfp4", 4, 32),
            "tensor a.biases: expected no biases",
        ),
        (&[("a.weight", "U32", &[16]), ("a.scales", "F16", &[2])], four_bits(), "found shape [2] of type F16"),
        (
            &[("a.weight", "U32", &[1 << 60, 0]), ("a.scales", "U8", &[1 << 60, 0])],
            mode("mxfp4", 4, 32),
            "expected rows of a multiple of 32 values in mxfp4, found 0 values",
        ),
        (
            &[("a.weight", "U32", &[3, 0]), ("a.scales", "F16", &[3, 0])],
            mode("affine", 1 << 40, 1 << 40),
            "expected affine",
        ),
    ];
    for (tensors, quantization, message) in cases {
        let folder = folder(tensors, quantization);
        let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}\n{message}");
    }
}

#[test]
fn settings_that_are_none_are_refused() {
    let all = [("a.weight", "U32", &[3, 16][..]), ("a.scales", "F16", &[3, 2]), ("a.biases", "F16", &[3, 2])];
    let cases = [
        (json!({ "bits": "four" }), "quantization.bits: expected a number, found \"four\""),
        (json!({ "bits": -4 }), "quantization.bits: expected a number, found -4"),
        (json!({ "bits": 4, "mode": "fp4" }), "expected affine, mxfp4, mxfp8, nvfp4, found \"fp4\""),
        (json!({ "bits": 4, "a": { "group_size": 1.5 } }), "quantization.group_size: expected a number, found 1.5"),
    ];
    for (quantization, message) in cases {
        let folder = folder(&all, quantization);
        let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// Blocks of every type, written and read in pieces that end anywhere.
#[test]
fn blocks_come_back_from_a_folder() {
    let layout = |dtype| formats::mlx::Layout::of(dtype);
    let of_rows = |dtype| {
        layout(dtype).and_then(|layout| {
            layout.dtype_of_rows(256, GroupAffine::of(dtype).map_or(DType::F32, |affine| affine.scales))
        })
    };
    let types: Vec<_> = DType::all().filter(|dtype| of_rows(*dtype) == Some(*dtype)).collect();
    let name = |dtype: &DType| format!("{}.weight", dtype.name.to_lowercase());
    let bytes = |dtype: &DType| -> Vec<u8> { (0..5 * dtype.row_bytes(256)).map(|i| (i * 91 % 253) as u8).collect() };
    let planned: Vec<_> =
        types.iter().map(|dtype| NewTensor { name: name(dtype), dtype: *dtype, shape: vec![5, 256] }.into()).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut writer = SafetensorsWriter::create(folder.path(), &planned, 20_000, "mlx").unwrap();
    for dtype in &types {
        bytes(dtype).chunks(101).for_each(|piece| writer.write(&name(dtype), piece).unwrap());
    }
    writer.finish().unwrap();
    let mut config = serde_json::Map::new();
    let layouts = types.iter().map(|dtype| (dtype.name.to_lowercase(), formats::mlx::Layout::of(*dtype).unwrap()));
    let all = formats::mlx::Layout::of(DType::MXFP4).unwrap();
    formats::mlx::Quantization { all, by_name: layouts.collect() }.write(&mut config);
    config.insert("model_type".to_owned(), json!("llama"));
    fs::write(folder.path().join("config.json"), Value::Object(config).to_string()).unwrap();

    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert!(checkpoint.files().count() > 1);
    for dtype in &types {
        let (tensor, expected) = (checkpoint.tensor(&name(dtype)).unwrap(), bytes(dtype));
        assert_eq!((tensor.dtype, tensor.data.len()), (*dtype, expected.len()), "{dtype}");
        for (start, end) in [(0, expected.len()), (0, 1), (77, 77), (dtype.bytes - 1, 2 * dtype.row_bytes(256) + 3)] {
            assert_eq!(tensor.data.read(start..end).unwrap()[..], expected[start..end], "{dtype} {start}..{end}");
        }
        assert!(tensor.data.read(0..expected.len() + 1).is_none());
        assert_eq!(tensor.data[..], expected[..], "{dtype}");
        tensor.data.release();
    }
}

#[test]
fn archives_of_arrays_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/mlx/llama-npz");
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let matrix = checkpoint.tensor("model.embed_tokens.weight").unwrap();
    assert_eq!((matrix.dtype.name, &matrix.shape[..]), ("AFFINE4_G32_F16", &[264, 64][..]));
    let bytes = fs::read(folder.join("weights.npz")).unwrap();
    let damaged = tempfile::tempdir().unwrap();
    fs::copy(folder.join("config.json"), damaged.path().join("config.json")).unwrap();
    // Cut, and with a compressed member.
    let mut compressed = bytes.clone();
    let directory = bytes.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
    compressed[directory + 10] = 8;
    for wrong in [&bytes[..bytes.len() / 2], &bytes[..3], &compressed[..]] {
        fs::write(damaged.path().join("weights.npz"), wrong).unwrap();
        assert!(Checkpoint::open(damaged.path()).is_err());
    }
}
