//! Ternary matrices, both ways.

use std::collections::BTreeMap;
use std::path::Path;

use formats::gguf::{GgufWriter, MetadataBuilder, NewTensor};
use formats::mlx::{Layout, Mode};
use formats::{Checkpoint, Config};
use kernels::DType;
use kernels::plan::{Activation, Linear, Weight};
use model::arch::DecoderConfig;

use super::{checkpoints, copy, tensors};
use crate::convert::{ConvertError, ConvertOptions, to_gguf, to_hf, to_mlx};

/// The plan of the file has the bits of the folder's: values, factors and how inputs are rounded. In floats they are products.
#[test]
fn ternary_matrices_go_with_their_factors() {
    let folder = tempfile::tempdir().unwrap();
    for case in ["bitnet-online", "bitnet-packed"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints").join(case);
        let source = Checkpoint::open(&path).unwrap();
        let expected = model::build_plan(&source).unwrap();
        let plan = |dtype: Option<DType>| {
            let file = folder.path().join("file.gguf");
            to_gguf(&source, &file, ConvertOptions { dtype, layout: None }, &mut |_| true).unwrap();
            model::build_plan(&Checkpoint::open(&file).unwrap()).unwrap()
        };
        let (kept, floats) = (plan(None), plan(Some(DType::F32)));
        let mut ternary = 0;
        for ((expected, kept), floats) in expected.linears().zip(kept.linears()).zip(floats.linears()) {
            let parts = |l: &Linear| (l.weight.dtype, l.weight.data.to_vec(), l.ternary.map(f32::to_bits));
            assert_eq!(parts(expected), parts(kept), "{case}: {}", kept.weight.name);
            let Some(factor) = expected.ternary else { continue };
            ternary += 1;
            let values = |weight: &Weight| {
                let mut values = vec![0.0; weight.rows * weight.cols];
                (weight.dtype.decode)(&weight.data, &mut values);
                values
            };
            let products: Vec<f32> = values(&expected.weight).iter().map(|v| v * factor).collect();
            assert_eq!((values(&floats.weight), floats.ternary), (products, None), "{case}: {}", floats.weight.name);
        }
        assert_eq!(ternary, 14);
    }
}

/// All tensors by name, whatever their type: its name, shape and bytes.
fn raw(checkpoint: &Checkpoint) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let raw = |info: &formats::TensorInfo| checkpoint.raw(&info.name).unwrap().to_vec();
    let tensor = |info: &formats::TensorInfo| (info.raw_type.to_string(), info.shape.clone(), raw(info));
    checkpoint.tensors().map(|info| (info.name.clone(), tensor(info))).collect()
}

/// Of each ternary node its values, and its factor.
fn ternary_parts(checkpoint: &Checkpoint) -> Vec<(Vec<u8>, u32)> {
    let plan = model::build_plan(checkpoint).unwrap();
    plan.linears().filter_map(|l| Some((l.weight.data.to_vec(), l.ternary?.to_bits()))).collect()
}

fn setting(folder: &Path, key: &str) -> serde_json::Value {
    let text = std::fs::read(folder.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&text).unwrap();
    config.pointer(key).cloned().unwrap_or_default()
}

/// A folder with this `linear_class`, of a checkpoint that is packed otherwise.
fn respelled(case: &str, class: &str, folder: &Path) {
    copy(case, folder);
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    std::fs::write(folder.join("config.json"), config.replace("\"autobitlinear\"", &format!("\"{class}\""))).unwrap();
}

/// Four rows in a byte, as they were: the same bytes by either class, from a file and from a folder.
#[test]
fn packed_folders_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let options = ConvertOptions::default();
    for class in ["autobitlinear", "bitlinear"] {
        let [path, file, back, again] =
            ["source", "file", "back", "again"].map(|name| folder.path().join(format!("{name}-{class}")));
        respelled("bitnet-packed", class, &path);
        let source = Checkpoint::open(&path).unwrap();
        to_gguf(&source, &file, options, &mut |_| true).unwrap();
        for from in [&file, &path, &back] {
            to_hf(&Checkpoint::open(from).unwrap(), &back, options, &mut |_| true).unwrap();
            let made = Checkpoint::open(&back).unwrap();
            assert!(raw(&made) == raw(&source), "{class} from {}", from.display());
            for key in ["linear_class", "quantization_mode", "modules_to_not_convert", "quant_method"] {
                let pointer = format!("/quantization_config/{key}");
                assert_eq!(setting(&back, &pointer), setting(&path, &pointer), "{class} from {}", from.display());
            }
        }
        to_gguf(&Checkpoint::open(&back).unwrap(), &again, options, &mut |_| true).unwrap();
        assert!(tensors(&Checkpoint::open(&again).unwrap()) == tensors(&Checkpoint::open(&file).unwrap()), "{class}");
        // In floats they are products, in which nothing says that they were ternary.
        let floats = ConvertOptions { dtype: Some(DType::F32), layout: None };
        for from in [&file, &path] {
            to_hf(&Checkpoint::open(from).unwrap(), &back, floats, &mut |_| true).unwrap();
            let made = Checkpoint::open(&back).unwrap();
            assert_eq!(setting(&back, "/quantization_config"), serde_json::Value::Null, "{class}");
            assert!(ternary_parts(&made).is_empty(), "{class}");
            to_gguf(&source, &again, floats, &mut |_| true).unwrap();
            let [expected, found] =
                [&Checkpoint::open(&again).unwrap(), &made].map(|checkpoint| model::build_plan(checkpoint).unwrap());
            for (expected, found) in expected.linears().zip(found.linears()) {
                assert!(expected.weight.data[..] == found.weight.data[..], "{class}: {}", found.weight.name);
            }
        }
    }
}

/// Weights that were rounded as they were read stay rounded, by the same factors.
#[test]
fn what_was_rounded_online_comes_back_packed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, back) = (folder.path().join("file"), folder.path().join("back"));
    let source = Checkpoint::open(&checkpoints().join("bitnet-online")).unwrap();
    to_gguf(&source, &file, ConvertOptions::default(), &mut |_| true).unwrap();
    to_hf(&Checkpoint::open(&file).unwrap(), &back, ConvertOptions::default(), &mut |_| true).unwrap();
    assert_eq!(setting(&back, "/quantization_config/linear_class"), "autobitlinear");
    assert_eq!(setting(&back, "/quantization_config/quantization_mode"), "offline");
    let made = Checkpoint::open(&back).unwrap();
    assert_eq!(made.tensor("model.layers.0.self_attn.q_proj.weight_scale").unwrap().dtype, DType::F32);
    assert_eq!(ternary_parts(&made).len(), 14);
    assert!(ternary_parts(&made) == ternary_parts(&source));
    // From folder to folder it stays as it is, and as MLX quantizes it is what is rounded that counts.
    to_hf(&source, &back, ConvertOptions::default(), &mut |_| true).unwrap();
    assert!(raw(&Checkpoint::open(&back).unwrap()) == raw(&source));
    let layout = Some(Layout::new(Mode::Affine, Some(4), Some(32)));
    to_mlx(&source, &back, ConvertOptions { dtype: Some(DType::F32), layout }, &mut |_| true).unwrap();
    let made = Checkpoint::open(&back).unwrap();
    assert!(ternary_parts(&made).is_empty());
    let [expected, found] = [&source, &made].map(|checkpoint| model::build_plan(checkpoint).unwrap());
    for (expected, found) in expected.linears().zip(found.linears()).take(14) {
        let (expected, found) = (products(expected), products(found));
        let most = expected.iter().fold(0.0, |most, v| v.abs().max(most));
        assert!(expected.iter().zip(&found).all(|(a, b)| (a - b).abs() <= 0.15 * most));
    }
}

/// Values of a node's matrix, its factor multiplied in.
fn products(linear: &Linear) -> Vec<f32> {
    let mut values = vec![0.0; linear.weight.rows * linear.weight.cols];
    (linear.weight.dtype.decode)(&linear.weight.data, &mut values);
    values.iter().map(|v| v * linear.ternary.unwrap_or(1.0)).collect()
}

/// What llama.cpp makes of BitNet has the factor in its blocks, and SiLU.
#[test]
fn blocks_with_one_scale_are_packed_too() {
    let folder = tempfile::tempdir().unwrap();
    let [file, other, back, again] = ["file", "other", "back", "again"].map(|name| folder.path().join(name));
    let ours = folder.path().join("ours");
    let source = Checkpoint::open(&checkpoints().join("bitnet-packed")).unwrap();
    to_gguf(&source, &ours, ConvertOptions::default(), &mut |_| true).unwrap();
    let ours = Checkpoint::open(&ours).unwrap();
    // TQ1_0 takes rows of 256 values, which the tiny model has not: its blocks of 32 stand in.
    older(&ours, &file, None);
    let file = Checkpoint::open(&file).unwrap();
    to_hf(&file, &back, ConvertOptions::default(), &mut |_| true).unwrap();
    assert_eq!(setting(&back, "/hidden_act"), "silu");
    let made = Checkpoint::open(&back).unwrap();
    let (expected, found) = (model::build_plan(&file).unwrap(), model::build_plan(&made).unwrap());
    let mut ternary = 0;
    for (expected, found) in expected.linears().zip(found.linears()) {
        ternary += usize::from(found.ternary.is_some());
        assert_eq!(products(expected), products(found), "{}", found.weight.name);
    }
    assert_eq!(ternary, 14);
    to_gguf(&made, &again, ConvertOptions::default(), &mut |_| true).unwrap();
    assert_eq!(Checkpoint::open(&again).unwrap().architecture().unwrap(), "bitnet");
    // Two scales in a matrix are not one factor.
    older(&ours, &other, Some("blk.1.ffn_up.weight"));
    let refused = to_hf(&Checkpoint::open(&other).unwrap(), &back, ConvertOptions::default(), &mut |_| true);
    assert!(matches!(refused, Err(ConvertError::Quantized { .. })), "{refused:?}");
}

/// What a folder cannot say is refused with its reason: rows that do not fill bytes, and values between -1, 0 and 1.
#[test]
fn what_cannot_be_packed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [ours, file, back] = ["ours", "file", "back"].map(|name| folder.path().join(name));
    let source = Checkpoint::open(&checkpoints().join("bitnet-packed")).unwrap();
    to_gguf(&source, &ours, ConvertOptions::default(), &mut |_| true).unwrap();
    let ours = Checkpoint::open(&ours).unwrap();
    let Config::Gguf(metadata) = ours.config() else { panic!("a GGUF file") };
    let refused = |data: BTreeMap<String, (Vec<usize>, DType, Vec<u8>)>, keys: &MetadataBuilder| {
        let new = |(name, (shape, dtype, _)): (&String, &(Vec<usize>, DType, Vec<u8>))| NewTensor {
            name: name.clone(),
            dtype: *dtype,
            shape: shape.clone(),
        };
        let mut writer = GgufWriter::create(&file, keys, &data.iter().map(new).collect::<Vec<_>>()).unwrap();
        data.iter().for_each(|(name, (_, _, bytes))| writer.write(name, bytes).unwrap());
        writer.finish().unwrap();
        let result = to_hf(&Checkpoint::open(&file).unwrap(), &back, ConvertOptions::default(), &mut |_| true);
        assert!(!back.exists());
        result.unwrap_err()
    };
    let mut keys = MetadataBuilder::from(metadata);
    let mut data = tensors(&ours);
    let (_, dtype, bytes) = data.get_mut("blk.1.attn_k.weight").unwrap();
    assert_eq!(*dtype, DType::Q4_0);
    bytes[2] = 0x8A;
    match refused(data, &keys) {
        ConvertError::NotTernary { tensor, found } => {
            assert_eq!((tensor.as_str(), found), ("blk.1.attn_k.weight", 2.0));
        }
        other => panic!("{other}"),
    }
    // One key head of two values.
    for (key, value) in [("head_count", 16u32), ("key_length", 2), ("value_length", 2)] {
        keys.set(&format!("bitnet-b1.58.attention.{key}"), &value);
    }
    keys.set("bitnet-b1.58.rope.dimension_count", &2u32);
    let mut data = tensors(&ours);
    for (name, (shape, dtype, bytes)) in &mut data {
        if name.ends_with("attn_k.weight") || name.ends_with("attn_v.weight") {
            shape[0] = 2;
            bytes.truncate(2 * dtype.row_bytes(shape[1]));
        }
    }
    match refused(data, &keys) {
        ConvertError::Rows { tensor, rows } => assert_eq!((tensor.as_str(), rows), ("blk.0.attn_k.weight", 2)),
        other => panic!("{other}"),
    }
}

/// Writes a ternary file of ours as llama.cpp's converter would: the older name, no factors beside, blocks with a scale; in
/// the `odd` matrix one block has another.
fn older(ours: &Checkpoint, path: &Path, odd: Option<&str>) {
    let Config::Gguf(metadata) = ours.config() else { panic!("a GGUF file") };
    let mut data = Vec::new();
    for (name, (shape, dtype, mut bytes)) in tensors(ours) {
        if name.ends_with(".scale") {
            continue;
        }
        if dtype == DType::Q4_0 {
            let scale = 0.25 + name.len() as f32 / 64.0;
            for (i, block) in bytes.chunks_exact_mut(dtype.bytes).enumerate() {
                let scale = if odd == Some(name.as_str()) && i == 3 { 9.0 } else { scale };
                block[..2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
            }
        }
        data.push((NewTensor { name, dtype, shape }, bytes));
    }
    let older = model::arch::ARCHITECTURES.into_iter().find(|a| a.name == "bitnet").unwrap();
    let config = model::arch::Architecture::of(ours).unwrap().config(ours).unwrap();
    let config = DecoderConfig { activation: Activation::Silu, ternary: None, ..config };
    let mut keys = MetadataBuilder::from(metadata);
    keys.remove("edgeling.activations");
    keys.set("general.architecture", older.name);
    older.gguf_keys(&config, &mut keys, path).unwrap();
    let infos: Vec<NewTensor> = data.iter().map(|(tensor, _)| tensor.clone()).collect();
    let mut writer = GgufWriter::create(path, &keys, &infos).unwrap();
    data.iter().for_each(|(tensor, bytes)| writer.write(&tensor.name, bytes).unwrap());
    writer.finish().unwrap();
}
