//! Files of the field's own writer, read back; wrong files, refused with a reason.

mod common;

use std::fs;
use std::path::Path;

use common::{check_tensors, data};
use formats::gguf::{Array, Metadata, Value, ValueType};
use formats::{Checkpoint, Config, Format, FormatError, RawType, TokenizerFiles};

fn small() -> Checkpoint {
    Checkpoint::open(&data("small.gguf")).unwrap()
}

fn metadata(checkpoint: &Checkpoint) -> &Metadata {
    match checkpoint.config() {
        Config::Gguf(metadata) => metadata,
        Config::HuggingFace(_) => panic!("a GGUF file has GGUF metadata"),
    }
}

#[test]
fn tensors_are_what_was_written() {
    let checkpoint = small();
    assert_eq!(checkpoint.format(), Format::Gguf);
    assert_eq!(checkpoint.architecture().unwrap(), "llama");
    check_tensors(&checkpoint, "small.gguf");
    let names: Vec<_> = checkpoint.tensors().map(|t| t.name.as_str()).collect();
    assert_eq!((names.len(), names[0], names[8]), (9, "token_embd.weight", "test.integers"));
    let path = data("small.gguf");
    assert_eq!(checkpoint.files().collect::<Vec<_>>(), [(path.as_path(), fs::read(&path).unwrap().len())]);
}

#[test]
fn a_tensor_of_unknown_type_is_an_error_only_when_used() {
    let checkpoint = small();
    let info = checkpoint.tensor_info("test.integers").unwrap();
    assert_eq!((info.raw_type.clone(), info.dtype(), &info.shape[..]), (RawType::Ggml(26), None, &[4][..]));
    assert!(info.bytes >= 16);
    let error = checkpoint.tensor("test.integers").unwrap_err().to_string();
    assert!(error.contains("small.gguf: tensor test.integers: expected one of the types F32,"), "{error}");
    assert!(error.ends_with("found I32 (ggml type 26), a type of integers, not of weights"), "{error}");
    let error = checkpoint.tensor("nothing").unwrap_err();
    assert!(matches!(error, FormatError::MissingTensor { count: 9, .. }), "{error}");
}

#[test]
fn matrices_become_weights() {
    let checkpoint = small();
    let weight = checkpoint.tensor("blk.0.attn_v.weight").unwrap().into_weight().unwrap();
    assert_eq!((weight.rows, weight.cols, weight.row(2).len()), (3, 64, 68));
    assert!(checkpoint.tensor("blk.0.attn_norm.weight").unwrap().into_weight().is_err());
}

#[test]
fn integers_of_any_width_are_read_where_they_fit() {
    let checkpoint = small();
    let m = metadata(&checkpoint);
    assert_eq!(m.require::<u64>("test.u8").unwrap(), 200);
    assert_eq!(m.require::<i32>("test.i8").unwrap(), -100);
    assert_eq!(m.require::<usize>("test.u16").unwrap(), 60_000);
    assert_eq!(m.require::<i64>("test.i16").unwrap(), -30_000);
    assert_eq!(m.require::<u32>("test.u32").unwrap(), 4_000_000_000);
    assert_eq!(m.require::<i32>("test.i32").unwrap(), -2_000_000_000);
    assert_eq!(m.require::<u64>("test.u64").unwrap(), u64::MAX);
    assert_eq!(m.require::<i64>("test.i64").unwrap(), i64::MIN);
    assert_eq!(m.require::<f32>("test.f32").unwrap(), 0.1);
    assert_eq!(m.require::<f64>("test.f64").unwrap(), 0.1);
    assert_eq!(m.require::<f32>("test.f64").unwrap(), 0.1);
    assert_eq!(m.require::<f32>("test.u8").unwrap(), 200.0);
    assert!(m.require::<bool>("test.bool").unwrap());
    assert_eq!(m.require::<&str>("test.string").unwrap(), "naïve 日本");
    assert_eq!(m.get::<u64>("test.none").unwrap(), None);
}

#[test]
fn wrong_types_say_key_expected_and_found() {
    let checkpoint = small();
    let m = metadata(&checkpoint);
    let message = |error: FormatError| error.to_string().split_once("small.gguf: ").unwrap().1.to_owned();
    assert_eq!(
        message(m.require::<u64>("test.i8").unwrap_err()),
        "key test.i8: expected an integer that fits u64, found i8 -100"
    );
    assert_eq!(
        message(m.get::<u8>("test.u16").unwrap_err()),
        "key test.u16: expected an integer that fits u8, found u16 60000"
    );
    assert_eq!(
        message(m.get::<bool>("test.string").unwrap_err()),
        "key test.string: expected a bool, found string \"naïve 日本\""
    );
    assert_eq!(
        message(m.require::<Vec<u32>>("tokenizer.ggml.tokens").unwrap_err()),
        "key tokenizer.ggml.tokens: expected an array, each element an integer that fits u32, found array of 6 × string"
    );
    let missing = m.require::<f32>("llama.rope.freq_base").unwrap_err();
    assert!(matches!(missing, FormatError::MissingKey { .. }));
    assert_eq!(message(missing), "no key llama.rope.freq_base, expected a number");
}

#[test]
fn arrays_are_iterated_in_place() {
    let checkpoint = small();
    let m = metadata(&checkpoint);
    assert_eq!(m.require::<Vec<&str>>("tokenizer.ggml.tokens").unwrap(), ["<s>", "</s>", "a", "b", "▁c", "日"]);
    assert_eq!(m.require::<Vec<f32>>("tokenizer.ggml.scores").unwrap(), [0.0, 0.0, -1.0, -2.5, -3.0, -4.0]);
    assert_eq!(m.require::<Vec<u32>>("tokenizer.ggml.token_type").unwrap(), [3, 3, 1, 1, 1, 1]);
    assert_eq!(m.require::<Vec<Vec<i32>>>("test.nested").unwrap(), [vec![1, 2], vec![3]]);

    let tokens: Array = m.require("tokenizer.ggml.tokens").unwrap();
    assert_eq!((tokens.len(), tokens.element_type()), (6, ValueType::String));
    let last = tokens.values().last().unwrap();
    let Value::String(text) = last else { panic!("{last}") };
    let file = Array::values(tokens).count();
    assert_eq!((text, file), ("日".as_bytes(), 6));
}

#[test]
fn defaults_and_templates_come_from_metadata() {
    let checkpoint = small();
    let defaults = checkpoint.generation_defaults().unwrap();
    assert_eq!((defaults.bos_token_id, &defaults.eos_token_ids[..]), (Some(0), &[1, 3][..]));
    let templates = checkpoint.chat_templates().unwrap();
    assert_eq!(templates.default_template(), Some("{{ messages }}"));
    assert_eq!(templates.get("tool_use"), Some("tools"));
    let TokenizerFiles::Gguf(m) = TokenizerFiles::open(&data("small.gguf")).unwrap() else { panic!() };
    assert_eq!(m.value("tokenizer.ggml.tokens").unwrap().to_string(), "array of 6 × string");
}

#[test]
fn any_shard_opens_all() {
    for no in 1..=3 {
        let checkpoint = Checkpoint::open(&data(&format!("split-0000{no}-of-00003.gguf"))).unwrap();
        assert_eq!(checkpoint.architecture().unwrap(), "qwen3");
        assert_eq!(metadata(&checkpoint).require::<u32>("qwen3.block_count").unwrap(), 5);
        assert_eq!((checkpoint.tensors().len(), checkpoint.files().count()), (5, 3));
        check_tensors(&checkpoint, "split-00001-of-00003.gguf");
    }
}

#[test]
fn shards_that_do_not_belong_together_are_refused() {
    let shard = |no: usize| data(&format!("split-0000{no}-of-00003.gguf"));
    let folder = tempfile::tempdir().unwrap();
    let at = |no: usize| folder.path().join(format!("m-0000{no}-of-00003.gguf"));
    fs::copy(shard(1), at(1)).unwrap();
    fs::copy(shard(2), at(2)).unwrap();
    let error = Checkpoint::open(&at(1)).unwrap_err();
    assert!(error.to_string().contains("m-00003-of-00003.gguf: expected 3 shards"), "{error}");
    assert!(error.hint().is_some());

    fs::copy(shard(2), at(3)).unwrap();
    let error = Checkpoint::open(&at(1)).unwrap_err();
    assert!(error.to_string().ends_with("m-00003-of-00003.gguf: expected split.no 2, found 1"), "{error}");

    fs::copy(shard(3), at(3)).unwrap();
    assert_eq!(Checkpoint::open(&at(2)).unwrap().tensors().len(), 5);

    let renamed = folder.path().join("model.gguf");
    fs::copy(shard(1), &renamed).unwrap();
    assert!(matches!(Checkpoint::open(&renamed), Err(FormatError::Mismatch { .. })));
}

#[test]
fn version_2_reads_as_version_3() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v2.gguf");
    fs::write(&path, with_version(2u32.to_le_bytes())).unwrap();
    check_tensors(&Checkpoint::open(&path).unwrap(), "small.gguf");
}

fn with_version(version: [u8; 4]) -> Vec<u8> {
    let mut bytes = fs::read(data("small.gguf")).unwrap();
    bytes[4..8].copy_from_slice(&version);
    bytes
}

#[test]
fn other_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let cases: [(&[u8], &str); 7] = [
        (&with_version(3u32.to_be_bytes()), "expected a little-endian GGUF file, found a big-endian one"),
        (&with_version(1u32.to_le_bytes()), "expected GGUF version 2 or 3, found version 1"),
        (&with_version(4u32.to_le_bytes()), "expected GGUF version 2 or 3, found version 4"),
        (b"", "expected a GGUF file, found an empty file"),
        (b"PK\x03\x04....", "expected a GGUF file, found a zip archive (PyTorch weights, a wheel)"),
        (&fs::read(data("hf-single/model.safetensors")).unwrap(), "expected a GGUF file, found a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "found a Git LFS pointer file, not the content"),
    ];
    for (bytes, message) in cases {
        fs::write(&path, bytes).unwrap();
        let error = Checkpoint::open(&path).unwrap_err().to_string();
        assert!(error.ends_with(message), "{error}");
    }
}

#[test]
fn a_truncated_file_says_what_is_missing() {
    let whole = fs::read(data("small.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gguf");
    fs::write(&path, &whole[..whole.len() - 128]).unwrap();
    let error = Checkpoint::open(&path).unwrap_err();
    assert!(error.to_string().contains("blk.0.ffn_down.weight: expected 288 bytes of data"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("incomplete")), "{error}");
}

/// A header stays a header: the tensors of a large file are not read to open it.
#[test]
fn a_real_model_opens_where_there_is_one() {
    let Some(path) = std::env::var_os("EDGELING_TEST_MODEL") else { return };
    let checkpoint = Checkpoint::open(Path::new(&path)).unwrap();
    let m = metadata(&checkpoint);
    assert_eq!(checkpoint.architecture().unwrap(), "llama");
    assert_eq!(m.require::<Vec<&str>>("tokenizer.ggml.tokens").unwrap().len(), 49_152);
    assert_eq!(checkpoint.tensors().len(), 272);
    let norm = checkpoint.tensor("output_norm.weight").unwrap().to_f32();
    assert!(norm.len() == 576 && norm.iter().all(|v| v.is_finite()));
    assert!(checkpoint.chat_templates().unwrap().default_template().unwrap().contains("<|im_start|>"));
}
