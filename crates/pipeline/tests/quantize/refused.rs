//! What is refused, with a reason, and leaves nothing behind.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use formats::Checkpoint;
use formats::gguf::{GgufWriter, NewTensor};
use kernels::DType;
use kernels::simd::Tier;
use pipeline::quantize::{FileType, QuantizeError, QuantizeOptions, TypeOptions, quantize};

use crate::{go_on, models};

fn options(file_type: &str) -> QuantizeOptions {
    let types = TypeOptions::new(FileType::from_name(file_type).unwrap());
    QuantizeOptions { threads: 2, ..QuantizeOptions::new(types) }
}

/// Quantizes a model of a few tensors, and gives the error. Nothing but the source is left.
fn refuse(tensors: &[(&str, DType, [usize; 2], &[f32])], options: &QuantizeOptions) -> QuantizeError {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    let new: Vec<_> = tensors
        .iter()
        .map(|(name, dtype, shape, _)| NewTensor { name: (*name).to_owned(), dtype: *dtype, shape: shape.to_vec() })
        .collect();
    let mut writer = GgufWriter::create(&source, &models::NARROW.metadata(), &new).unwrap();
    for (name, dtype, _, values) in tensors {
        let mut bytes = vec![0; dtype.row_bytes(values.len())];
        dtype.encode.unwrap()(Tier::Scalar, values, &mut bytes);
        writer.write(name, &bytes).unwrap();
    }
    writer.finish().unwrap();
    let target = folder.path().join("target.gguf");
    let error = quantize(&Checkpoint::open(&source).unwrap(), &target, options, go_on);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{error:?}");
    error.unwrap_err()
}

fn values(odd: f32) -> Vec<f32> {
    (0..1024).map(|i| if i == 700 { odd } else { i as f32 }).collect()
}

#[test]
fn numbers_that_are_not_finite() {
    for (dtype, file_type) in [(DType::F32, "Q4_K_M"), (DType::F16, "Q8_0"), (DType::BF16, "F16"), (DType::F32, "F32")]
    {
        for odd in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let error = refuse(&[("blk.0.attn_q.weight", dtype, [4, 256], &values(odd))], &options(file_type));
            let message = error.to_string();
            assert_eq!(message, "tensor blk.0.attn_q.weight, row 2: expected finite numbers, found infinity or NaN");
            assert!(error.hint().is_some());
        }
    }
}

#[test]
fn numbers_that_are_too_large_for_the_type() {
    for (size, types) in [
        (1e12, &["Q4_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_S", "IQ4_XS", "TQ2_0", "Q4_K_S", "Q5_K_M", "Q6_K", "F16"][..]),
        (7e4, &["F16"]),
    ] {
        for file_type in types {
            let tensors: [(&str, DType, [usize; 2], &[f32]); 1] =
                [("blk.0.attn_q.weight", DType::F32, [4, 256], &values(size))];
            let error = refuse(&tensors, &options(file_type));
            assert!(matches!(&error, QuantizeError::TooLarge { .. }), "{file_type}: {error}");
            let dtype = FileType::from_name(file_type).unwrap().dtype;
            assert_eq!(error.to_string(), format!("tensor blk.0.attn_q.weight: its values are too large for {dtype}"));
        }
    }
}

#[test]
fn quantized_sources_unless_asked_for() {
    let tensors: [(&str, DType, [usize; 2], &[f32]); 1] =
        [("blk.0.attn_q.weight", DType::Q8_0, [4, 256], &values(0.0))];
    let error = refuse(&tensors, &options("Q4_0"));
    let message = "tensor blk.0.attn_q.weight: expected F32, F16 or BF16 in the source, found Q8_0";
    assert_eq!(error.to_string(), message);
    assert!(error.hint().unwrap().contains("--requantize"));
}

#[test]
fn few_bits_without_an_importance_matrix() {
    let tensors: [(&str, DType, [usize; 2], &[f32]); 1] = [("blk.1.attn_q.weight", DType::F32, [4, 256], &values(0.0))];
    let error = refuse(&tensors, &options("Q2_K_S"));
    assert_eq!(error.to_string(), "tensor blk.1.attn_q.weight: Q2_K in this mix needs an importance matrix");
    assert!(error.hint().is_some());
}

#[test]
fn types_that_can_only_be_read() {
    let tensors: [(&str, DType, [usize; 2], &[f32]); 1] = [("blk.1.attn_q.weight", DType::F32, [4, 256], &values(0.0))];
    let mut asked = options("Q4_0");
    asked.types.add_tensor_type("attn_q=IQ2_XXS").unwrap();
    let error = refuse(&tensors, &asked);
    let message = "tensor blk.1.attn_q.weight: expected a type that can be made, found IQ2_XXS, which can only be read";
    assert_eq!(error.to_string(), message);
}

#[test]
fn blocks_that_no_other_type_stands_in_for() {
    let tensors: [(&str, DType, [usize; 2], &[f32]); 1] = [("blk.1.attn_q.weight", DType::F32, [2, 96], &[0.5; 192])];
    let error = refuse(&tensors, &options("Q1_0"));
    let message = "tensor blk.1.attn_q.weight: expected rows in whole blocks of 128 values for Q1_0, found 96 values";
    assert_eq!(error.to_string(), message);
}

#[test]
fn types_that_do_not_fit_the_rows() {
    let narrow = [0.5; 96];
    let mut asked = options("Q4_K_M");
    asked.types.embedding = Some(DType::Q6_K);
    let error = refuse(&[("token_embd.weight", DType::F32, [2, 48], &narrow)], &asked);
    let message = "tensor token_embd.weight: expected rows in whole blocks of 256 values for Q6_K, found 48 values";
    assert_eq!(error.to_string(), message);
    assert!(error.hint().is_some());
    // By pattern, the reference takes a type that fits.
    asked.types.embedding = None;
    asked.types.add_tensor_type("embd=Q6_K").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    models::NARROW.write(&source);
    let target = folder.path().join("target.gguf");
    let listed = quantize(&Checkpoint::open(&source).unwrap(), &target, &asked, go_on).unwrap();
    assert_eq!((listed[1].name.as_str(), listed[1].to), ("token_embd.weight", DType::Q8_0));
}

#[test]
fn other_formats_and_places() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints/llama");
    let hugging_face = Checkpoint::open(&checkpoints).unwrap();
    let error = quantize(&hugging_face, &folder.path().join("q.gguf"), &options("Q8_0"), go_on).unwrap_err();
    assert_eq!(error.hint(), Some("convert it to GGUF first"));
    let gguf = Checkpoint::open(&checkpoints.join("model.gguf")).unwrap();
    let error = quantize(&gguf, &folder.path().join("none/q.gguf"), &options("Q8_0"), go_on).unwrap_err();
    assert!(matches!(error, QuantizeError::Format(_)), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn progress_covers_the_source_and_may_break_off() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    models::DENSE.write(&source);
    let checkpoint = Checkpoint::open(&source).unwrap();
    let target = folder.path().join("target.gguf");
    let mut seen = Vec::new();
    let error = quantize(&checkpoint, &target, &options("Q4_0"), |progress| {
        seen.push((progress.index, progress.done));
        if progress.done * 2 > progress.total { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(error, Err(QuantizeError::Interrupted)));
    assert!(seen.is_sorted() && seen.len() > 10);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    let mut last = None;
    quantize(&checkpoint, &target, &options("Q4_0"), |progress| {
        last = Some((progress.index + 1, progress.tensors, progress.done, progress.total));
        ControlFlow::Continue(())
    })
    .unwrap();
    let bytes: usize = checkpoint.tensors().map(|t| t.bytes).sum();
    let tensors = checkpoint.tensors().len();
    assert_eq!(last, Some((tensors, tensors, bytes, bytes)));
}
