mod ternary;

use std::collections::BTreeMap;
use std::path::Path;

use formats::gguf::{GgufWriter, MetadataBuilder, NewTensor};
use formats::mlx::{Layout, Mode, Quantization};
use formats::{Checkpoint, Config, Tensor};
use kernels::DType;
use kernels::plan::Weight;
use model::tokenizer::Tokenizer;
use serde_json::json;

use super::{ConvertError, ConvertOptions, to_gguf, to_hf, to_mlx};

/// The observer stops the work at each of its calls: nothing is left, whenever that is.
#[test]
fn an_interrupted_conversion_leaves_nothing() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints/llama");
    let source = Checkpoint::open(&source).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for calls in [0, 1, 7, 30] {
        let mut left = calls;
        let mut observer = |_| {
            left -= 1;
            left >= 0
        };
        let out = folder.path().join("out");
        let options = ConvertOptions::default();
        let file = to_gguf(&source, &out, options, &mut observer);
        assert!(matches!(file, Err(ConvertError::Interrupted)), "{calls}");
        left = calls;
        let mut observer = |_| {
            left -= 1;
            left >= 0
        };
        assert!(matches!(to_hf(&source, &out, options, &mut observer), Err(ConvertError::Interrupted)), "{calls}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

fn checkpoints() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints")
}

/// All tensors by name: shape, type and bytes.
fn tensors(checkpoint: &Checkpoint) -> BTreeMap<String, (Vec<usize>, DType, Vec<u8>)> {
    let tensor = |name: &str| -> Tensor { checkpoint.tensor(name).unwrap() };
    let all = checkpoint.tensors().map(|info| (info.name.clone(), tensor(&info.name)));
    all.map(|(name, t)| (name, (t.shape.clone(), t.dtype, t.data.to_vec()))).collect()
}

/// Convolutions, logarithms, shared heads: the file is that of llama.cpp's converter, and the way back gives the folder.
#[test]
fn families_with_states_go_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    for case in ["lfm2", "qwen35", "qwen35-vision"] {
        let path = checkpoints().join(case);
        let (file, back) = (folder.path().join(format!("{case}.gguf")), folder.path().join(case));
        let options = ConvertOptions::default();
        let source = Checkpoint::open(&path).unwrap();
        let left_out = to_gguf(&source, &file, options, &mut |_| true).unwrap().left_out;
        let seen = |name: &&String| name.starts_with("mtp.") || name.starts_with("model.visual.");
        let other_parts: Vec<String> =
            source.tensors().map(|info| info.name.clone()).filter(|name| seen(&name)).collect();
        assert_eq!((left_out.is_empty(), &left_out), (case != "qwen35-vision", &other_parts), "{case}");
        assert_eq!(to_mlx(&source, &back, options, &mut |_| true).unwrap().left_out, other_parts, "{case}");
        let mut reference = tensors(&Checkpoint::open(&path.join("model.gguf")).unwrap());
        // What guesses further tokens is left out.
        reference.retain(|name, _| !(case == "qwen35-vision" && name.starts_with("blk.2.")));
        let made = tensors(&Checkpoint::open(&file).unwrap());
        assert_eq!(made.keys().collect::<Vec<_>>(), reference.keys().collect::<Vec<_>>(), "{case}");
        for (name, (shape, dtype, bytes)) in &made {
            let expected = &reference[name];
            assert_eq!((shape, dtype), (&expected.0, &expected.1), "{case}: {name}");
            // Exponentials may differ in the last bit.
            let bits = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect::<Vec<_>>();
            let near = |a: u32, b: u32| a.abs_diff(b) <= 1;
            let equal = match name.ends_with(".ssm_a") {
                true => bits(bytes).into_iter().zip(bits(&expected.2)).all(|(a, b)| near(a, b)),
                false => *bytes == expected.2,
            };
            assert!(equal, "{case}: {name}");
        }
        for from in [file, path.join("model.gguf")] {
            let left_out = to_hf(&Checkpoint::open(&from).unwrap(), &back, options, &mut |_| true).unwrap().left_out;
            let guessing = case == "qwen35-vision" && from.ends_with("model.gguf");
            assert_eq!(left_out.iter().filter(|name| name.starts_with("blk.2.")).count(), left_out.len(), "{case}");
            assert_eq!(left_out.is_empty(), !guessing, "{case}: {left_out:?}");
            let mut original = tensors(&source);
            original.retain(|name, _| !name.starts_with("mtp.") && !name.starts_with("model.visual."));
            let plain = |(name, tensor): (String, _)| (name.replace("model.language_model.", "model."), tensor);
            let original: BTreeMap<_, _> = original.into_iter().map(plain).collect();
            assert!(tensors(&Checkpoint::open(&back).unwrap()) == original, "{case} from {}", from.display());
        }
    }
}

/// A tokenizer that composes characters where files of its pre-tokenizer's name do not: both ways it still does.
#[test]
fn composition_goes_both_ways() {
    const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let folder = tempfile::tempdir().unwrap();
    for composes in [true, false] {
        let [path, file, back] = ["path", "file", "back"].map(|name| folder.path().join(format!("{name}-{composes}")));
        copy("qwen35", &path);
        let split =
            json!({ "type": "Split", "pattern": { "Regex": PATTERN }, "behavior": "Isolated", "invert": false });
        let bytes =
            json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
        let json = std::fs::read(path.join("tokenizer.json")).unwrap();
        let mut tokenizer: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let normalizer = if composes { json!({ "type": "NFC" }) } else { json!(null) };
        tokenizer["normalizer"] = normalizer.clone();
        tokenizer["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [split, bytes] });
        std::fs::write(path.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        to_gguf(&Checkpoint::open(&path).unwrap(), &file, ConvertOptions::default(), &mut |_| true).unwrap();
        let made = Checkpoint::open(&file).unwrap();
        let Config::Gguf(metadata) = made.config() else { panic!("a GGUF file") };
        assert_eq!(metadata.require::<&str>("tokenizer.ggml.pre").unwrap(), "qwen35");
        to_hf(&made, &back, ConvertOptions::default(), &mut |_| true).unwrap();
        let json = std::fs::read(back.join("tokenizer.json")).unwrap();
        let again: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!((&again["normalizer"], &again["pre_tokenizer"]), (&normalizer, &tokenizer["pre_tokenizer"]));
        let ids = |path: &Path| {
            let files = Checkpoint::open(path).unwrap().tokenizer_files().unwrap();
            let options = model::tokenizer::EncodeOptions { add_special: false, parse_special: false };
            Tokenizer::from_files(&files).unwrap().encode("cafe\u{301}", options)
        };
        // Of é two bytes, or of e and of the accent one and two.
        assert_eq!([&path, &file, &back].map(|path| ids(path).len()), [if composes { 5 } else { 6 }; 3]);
    }
}

fn copy(case: &str, folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for file in std::fs::read_dir(checkpoints().join(case)).unwrap().map(|entry| entry.unwrap().path()) {
        std::fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
    }
}

/// Files of llama.cpp may have gates and ups of all experts in one tensor: they run, and become the same folders.
#[test]
fn fused_gates_and_ups_are_the_same_experts() {
    let folder = tempfile::tempdir().unwrap();
    for case in ["qwen3moe", "qwen35moe", "granitemoeshared"] {
        let path = checkpoints().join(case).join("model.gguf");
        let source = Checkpoint::open(&path).unwrap();
        let file = folder.path().join("fused.gguf");
        fuse(&source, &file);
        let fused = Checkpoint::open(&file).unwrap();
        assert!(fused.tensor_info("blk.1.ffn_gate_up_exps.weight").is_some());
        let [expected, found] = [&source, &fused].map(|checkpoint| model::build_plan(checkpoint).unwrap());
        for (expected, found) in expected.linears().zip(found.linears()) {
            assert!(expected.weight.data[..] == found.weight.data[..], "{case}: {}", expected.weight.name);
        }
        let (from_source, from_fused) = (folder.path().join("source"), folder.path().join("fused"));
        let ways: [Way; 2] = [to_hf, to_mlx];
        for to in ways {
            to(&source, &from_source, ConvertOptions::default(), &mut |_| true).unwrap();
            to(&fused, &from_fused, ConvertOptions::default(), &mut |_| true).unwrap();
            let [expected, found] = [&from_source, &from_fused].map(|path| tensors(&Checkpoint::open(path).unwrap()));
            assert!(expected == found, "{case}");
        }
    }
}

type Way = fn(&Checkpoint, &Path, ConvertOptions, &mut super::Observer) -> Result<super::Converted, ConvertError>;

/// Writes the file with gates and ups of all experts in one tensor.
fn fuse(source: &Checkpoint, file: &Path) {
    let Config::Gguf(metadata) = source.config() else { panic!("a GGUF file") };
    let mut data = Vec::new();
    for (name, (shape, dtype, bytes)) in tensors(source) {
        if name.contains(".ffn_up_exps.") {
            continue;
        }
        let up = name.replace(".ffn_gate_exps.", ".ffn_up_exps.");
        if up == name {
            data.push((NewTensor { name, dtype, shape }, bytes));
            continue;
        }
        let (up, expert) = (source.tensor(&up).unwrap().data.to_vec(), bytes.len() / shape[0]);
        let both = bytes.chunks(expert).zip(up.chunks(expert)).flat_map(|(gate, up)| [gate, up].concat()).collect();
        let name = name.replace(".ffn_gate_exps.", ".ffn_gate_up_exps.");
        data.push((NewTensor { name, dtype, shape: vec![shape[0], 2 * shape[1], shape[2]] }, both));
    }
    let infos: Vec<NewTensor> = data.iter().map(|(tensor, _)| tensor.clone()).collect();
    let mut writer = GgufWriter::create(file, &MetadataBuilder::from(metadata), &infos).unwrap();
    data.iter().for_each(|(tensor, bytes)| writer.write(&tensor.name, bytes).unwrap());
    writer.finish().unwrap();
}

fn mlx(case: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/mlx").join(case)
}

/// All tensors' values by name, in f32.
fn values(checkpoint: &Checkpoint) -> BTreeMap<String, Vec<u32>> {
    let bits = |tensor: Tensor| tensor.to_f32().iter().map(|v| v.to_bits()).collect();
    checkpoint.tensors().map(|info| (info.name.clone(), bits(checkpoint.tensor(&info.name).unwrap()))).collect()
}

#[test]
fn what_mlx_quantized_is_written_as_it_is_and_decoded_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    for case in ["llama-f16", "llama-npz", "qwen3-bf16"] {
        let source = Checkpoint::open(&mlx(case)).unwrap();
        let (same, wide) = (folder.path().join("same"), folder.path().join("wide"));
        to_mlx(&source, &same, ConvertOptions::default(), &mut |_| true).unwrap();
        let same = Checkpoint::open(&same).unwrap();
        assert!(same.is_mlx() && tensors(&same) == tensors(&source), "{case}");
        let quantization = |checkpoint: &Checkpoint| {
            let Config::HuggingFace(config) = checkpoint.config() else { unreachable!("a folder") };
            let layout = |info: &formats::TensorInfo| {
                let stem = info.name.strip_suffix(".weight")?.to_owned();
                Some((stem.clone(), Layout::of(info.dtype()?)?, Quantization::of(config).unwrap()?.layout(&stem)))
            };
            checkpoint.tensors().filter_map(layout).collect::<Vec<_>>()
        };
        assert_eq!(quantization(&same).len(), quantization(&source).len());
        assert!(quantization(&same).iter().all(|(_, found, said)| found == said), "{case}");

        let refused = to_hf(&source, &wide, ConvertOptions::default(), &mut |_| true);
        assert!(matches!(refused, Err(ConvertError::Quantized { .. })), "{case}");
        let options = ConvertOptions { dtype: Some(DType::F32), layout: None };
        to_hf(&source, &wide, options, &mut |_| true).unwrap();
        let wide = Checkpoint::open(&wide).unwrap();
        assert!(!wide.is_mlx() && wide.tensors().all(|info| info.dtype() == Some(DType::F32)), "{case}");
        assert!(values(&wide) == values(&source), "{case}");
    }
}

/// From a folder with affine groups of 32 to a file with Q4_1, and back to the same bytes.
#[test]
fn types_with_the_same_values_go_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let (file, back) = (folder.path().join("model.gguf"), folder.path().join("back"));
    let source = Checkpoint::open(&mlx("llama-npz")).unwrap();
    to_gguf(&source, &file, ConvertOptions::default(), &mut |_| true).unwrap();
    let made = Checkpoint::open(&file).unwrap();
    assert_eq!(made.tensor("blk.0.attn_q.weight").unwrap().dtype, DType::Q4_1);
    to_mlx(&made, &back, ConvertOptions::default(), &mut |_| true).unwrap();
    assert!(tensors(&Checkpoint::open(&back).unwrap()) == tensors(&source));

    // Three bits have no twin.
    let other = Checkpoint::open(&mlx("llama-f16")).unwrap();
    let refused = to_gguf(&other, &file, ConvertOptions::default(), &mut |_| true);
    assert!(matches!(refused, Err(ConvertError::Quantized { .. })));
    let options = ConvertOptions { dtype: Some(DType::F16), layout: None };
    to_gguf(&other, &file, options, &mut |_| true).unwrap();
}

#[test]
fn matrices_are_quantized_anew_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    for case in ["llama/model.gguf", "llama", "qwen3moe", "qwen3moe/model.gguf"] {
        let source = Checkpoint::open(&checkpoints().join(case)).unwrap();
        let out = folder.path().join("out");
        for (mode, bits, group, name) in [
            (Mode::Affine, Some(3), Some(32), "AFFINE3_G32_F16"),
            (Mode::Affine, None, Some(32), "AFFINE4_G32_F16"),
            (Mode::Mxfp8, None, None, "MXFP8"),
        ] {
            let layout = Some(Layout::new(mode, bits, group));
            let options = ConvertOptions { dtype: Some(DType::F16), layout };
            to_mlx(&source, &out, options, &mut |_| true).unwrap();
            let made = Checkpoint::open(&out).unwrap();
            model::build_plan(&made).unwrap();
            let types = |part: &str| -> Vec<_> {
                made.tensors().filter(|i| i.name.contains(part)).map(|i| i.raw_type.to_string()).collect()
            };
            assert!(types("k_proj.weight").iter().all(|found| found == name), "{case}: {:?}", types("k_proj"));
            assert!(types("norm").iter().all(|found| found == "F16"), "{case}: {:?}", types("norm"));
            if case.starts_with("qwen3moe") {
                assert!(!types(".switch_mlp.up_proj").is_empty() && types(".experts.").is_empty(), "{case}");
                assert!(types("mlp.gate.").iter().all(|found| found == "F16"), "{case}: {:?}", types("mlp.gate."));
            }
        }
        for layout in [Layout::new(Mode::Affine, Some(7), None), Layout::new(Mode::Mxfp4, None, Some(64))] {
            let options = ConvertOptions { dtype: None, layout: Some(layout) };
            let refused = to_mlx(&source, &out, options, &mut |_| true);
            assert!(matches!(refused, Err(ConvertError::Layout { .. })), "{case}");
        }
    }
}

/// What `config.json` says under a key.
fn setting(checkpoint: &Checkpoint, key: &str) -> serde_json::Value {
    let Config::HuggingFace(config) = checkpoint.config() else { unreachable!("a folder") };
    config.find(key).cloned().unwrap_or_default()
}

/// mlx-lm's classes have the experts of a layer in one tensor for each matrix, and renames of their own.
#[test]
fn mixtures_have_the_tensors_of_mlx_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mlx, back) = (folder.path().join("mlx"), folder.path().join("back"));
    let options = ConvertOptions::default();
    let has =
        |all: &BTreeMap<String, (Vec<usize>, DType, Vec<u8>)>, part: &str| all.keys().any(|name| name.contains(part));
    for case in [
        "granite4",
        "granite4-experts",
        "granite4-nope",
        "granitemoe",
        "granitemoeshared",
        "lfm2moe",
        "olmoe",
        "qwen2moe",
        "qwen35",
        "qwen35moe",
        "qwen3moe",
    ] {
        let source = Checkpoint::open(&checkpoints().join(case)).unwrap();
        to_mlx(&source, &mlx, options, &mut |_| true).unwrap();
        let made = Checkpoint::open(&mlx).unwrap();
        let found = tensors(&made);
        assert!(
            !has(&found, ".experts.") && !has(&found, "block_sparse_moe.input_linear"),
            "{case}: {:?}",
            found.keys()
        );
        let experts = setting(&source, "num_experts").as_u64().or(setting(&source, "num_local_experts").as_u64());
        assert_eq!(has(&found, ".switch_mlp.down_proj.weight"), experts.is_some_and(|n| n > 0), "{case}");
        to_hf(&made, &back, options, &mut |_| true).unwrap();
        assert!(tensors(&Checkpoint::open(&back).unwrap()) == tensors(&source), "{case}");
        let from_file = checkpoints().join(case).join("model.gguf");
        if from_file.exists() {
            to_mlx(&Checkpoint::open(&from_file).unwrap(), &mlx, options, &mut |_| true).unwrap();
            assert!(tensors(&Checkpoint::open(&mlx).unwrap()) == found, "{case} from a file");
        }
    }
}

/// Decays of delta nets and biases of the choice of experts, when all others are cast.
#[test]
fn what_mlx_does_not_cast_keeps_its_type() {
    let folder = tempfile::tempdir().unwrap();
    let options = ConvertOptions { dtype: Some(DType::F16), layout: None };
    for (case, stays) in [("lfm2moe", "expert_bias"), ("qwen35", "A_log"), ("qwen35moe", "A_log")] {
        let source = Checkpoint::open(&checkpoints().join(case)).unwrap();
        let of_source: Vec<_> = tensors(&source).into_iter().filter(|(name, _)| name.ends_with(stays)).collect();
        let out = folder.path().join(case);
        to_mlx(&source, &out, options, &mut |_| true).unwrap();
        let made = tensors(&Checkpoint::open(&out).unwrap());
        let (kept, cast): (Vec<_>, Vec<_>) = made.into_iter().partition(|(name, _)| name.ends_with(stays));
        assert!(kept.iter().map(|(_, tensor)| tensor).eq(of_source.iter().map(|(_, tensor)| tensor)), "{case}");
        assert!(!kept.is_empty() && kept.iter().all(|(_, (_, dtype, _))| *dtype != DType::F16), "{case}");
        assert!(cast.iter().all(|(_, (_, dtype, _))| *dtype == DType::F16), "{case}");
    }
}

/// As transformers keeps experts in memory: MLX's stacks are the same rows.
#[test]
fn stacked_experts_are_those_of_mlx() {
    let folder = tempfile::tempdir().unwrap();
    let (mlx, back) = (folder.path().join("mlx"), folder.path().join("back"));
    for case in ["granitemoe-stacked", "qwen3moe-stacked"] {
        let path = checkpoints().join(case);
        let source = Checkpoint::open(&path).unwrap();
        let expected = model::build_plan(&source).unwrap();
        to_mlx(&source, &mlx, ConvertOptions::default(), &mut |_| true).unwrap();
        to_hf(&Checkpoint::open(&mlx).unwrap(), &back, ConvertOptions::default(), &mut |_| true).unwrap();
        for made in [&mlx, &back] {
            let found = model::build_plan(&Checkpoint::open(made).unwrap()).unwrap();
            assert_eq!(found.linears().count(), expected.linears().count());
            for (expected, found) in expected.linears().zip(found.linears()) {
                assert!(expected.weight.data[..] == found.weight.data[..], "{case}: {}", found.weight.name);
            }
        }
    }
}

/// Convolutions with their axes the other way around, and norms that have their 1: in Hugging Face files they are as they were.
#[test]
fn what_mlx_has_transformed_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(&mlx("qwen35moe-mxfp4")).unwrap();
    let (file, wide) = (folder.path().join("model.gguf"), folder.path().join("wide"));
    let again = folder.path().join("again");
    let options = ConvertOptions { dtype: Some(DType::F32), layout: None };
    to_hf(&source, &wide, options, &mut |_| true).unwrap();
    let made = Checkpoint::open(&wide).unwrap();
    assert_eq!(setting(&made, "model_type"), "qwen3_5_moe_text");
    let value = |checkpoint: &Checkpoint, name: &str| checkpoint.tensor(name).unwrap().to_f32()[0];
    let (norm, conv) = ("model.layers.0.input_layernorm.weight", "model.layers.0.linear_attn.conv1d.weight");
    assert_eq!(value(&made, norm), value(&source, &format!("language_model.{norm}")) - 1.0);
    let shape = |checkpoint: &Checkpoint, name: &str| checkpoint.tensor(name).unwrap().shape;
    assert_eq!((shape(&made, conv)[1], shape(&source, &format!("language_model.{conv}"))[2]), (1, 1));
    to_gguf(&source, &file, options, &mut |_| true).unwrap();
    let file = Checkpoint::open(&file).unwrap();
    to_hf(&file, &again, options, &mut |_| true).unwrap();
    let but_decays = |checkpoint: &Checkpoint| {
        let mut all = tensors(checkpoint);
        all.retain(|name, _| !name.ends_with("A_log"));
        all
    };
    assert!(but_decays(&Checkpoint::open(&again).unwrap()) == but_decays(&made));
    let [expected, wide, file] = [&source, &made, &file].map(|checkpoint| model::build_plan(checkpoint).unwrap());
    let values = |weight: &Weight| {
        let mut values = vec![0.0; weight.rows * weight.cols];
        (weight.dtype.decode)(&weight.data, &mut values);
        values
    };
    for (expected, found) in expected.linears().zip(wide.linears()) {
        assert_eq!(values(&expected.weight), values(&found.weight), "{}", found.weight.name);
    }
    // Value heads have another order there, and decays are exponentials.
    assert_eq!(expected.linears().count(), file.linears().count());
}
