//! Importance matrices beside llama-imatrix's (`scripts/oracle/imatrix.py`), of the tiny checkpoints in both formats.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use formats::Checkpoint;
use formats::imatrix::Imatrix;
use kernels::backend::{Backend, KvType, Program, ProgramOptions};
use kernels::cpu::CpuBackend;
use kernels::simd::Tier;
use model::tokenizer::EncodeOptions;
use model::{Model, node_tensors};
use pipeline::calibrate::{CalibrateError, CalibrateOptions, Calibration, partial};

const CONTEXT: usize = 64;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data")
}

/// The models that there is a reference of.
fn cases() -> Vec<String> {
    let files = std::fs::read_dir(data().join("imatrix")).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "gguf"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() > 8);
    names
}

/// A model with the tokens of the text.
struct Case {
    checkpoint: Checkpoint,
    tokens: Vec<u32>,
    options: CalibrateOptions,
}

impl Case {
    fn open(path: &Path) -> Self {
        let checkpoint = Checkpoint::open(path).unwrap();
        let tokenizer = Model::load(&checkpoint).unwrap().tokenizer;
        let text = std::fs::read_to_string(data().join("imatrix/text.txt")).unwrap();
        let tokens = tokenizer.encode(&text, EncodeOptions::TEXT);
        let bos = tokenizer.encode("", EncodeOptions::TEXT).first().copied();
        Self { checkpoint, tokens, options: CalibrateOptions { context: CONTEXT, bos, products: false } }
    }

    fn gguf(name: &str) -> Self {
        Self::open(&data().join("checkpoints").join(name).join("model.gguf"))
    }

    fn program(&self, threads: usize) -> Box<dyn Program> {
        let backend = CpuBackend::new(Tier::detect().unwrap()).unwrap();
        let options = ProgramOptions { kv: KvType::F32, threads, bf16: false };
        backend.compile(Model::load(&self.checkpoint).unwrap().plan, &options, &mut |_, _| {}).unwrap()
    }

    fn calibration(&self) -> Calibration {
        Calibration::new(&node_tensors(&self.checkpoint).unwrap(), &self.options)
    }

    /// The bytes of the whole result.
    fn result(&self, threads: usize) -> Vec<u8> {
        let mut calibration = self.calibration();
        let go_on = &mut |_: &Calibration, _| ControlFlow::Continue(());
        calibration.run(&mut *self.program(threads), &self.tokens, &self.options, go_on).unwrap();
        written(&calibration)
    }
}

fn written(calibration: &Calibration) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("imatrix.gguf");
    calibration.write(&target, "text.txt", CONTEXT).unwrap();
    std::fs::read(&target).unwrap()
}

fn read(bytes: &[u8]) -> Imatrix {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("imatrix.gguf");
    std::fs::write(&target, bytes).unwrap();
    Imatrix::open(&target).unwrap()
}

/// Holds a result beside the reference: the same tensors, counts and settings, and nearly the same sums.
fn check(name: &str, found: &Imatrix, reference: &Imatrix) {
    assert_eq!((found.chunks, found.chunk_size), (reference.chunks, reference.chunk_size), "{name}");
    assert_eq!(found.datasets, reference.datasets);
    let names = |imatrix: &Imatrix| imatrix.entries().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(found), names(reference), "{name}");
    // The reference looks GELU up in a table of f16.
    let tolerance = if name == "gemma4" { 1e-2 } else { 1e-3 };
    for (tensor, expected) in reference.entries() {
        let found = found.entry(tensor).unwrap();
        assert_eq!(found.counts(), expected.counts(), "{name}: {tensor}");
        let (found, expected) = (found.sums(), expected.sums());
        assert_eq!(found.len(), expected.len(), "{name}: {tensor}");
        for (column, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert!((a - b).abs() <= b * tolerance, "{name}: {tensor}, column {column}: expected {b}, found {a}");
        }
    }
}

#[test]
fn sums_are_those_of_llama_imatrix() {
    for name in cases() {
        let reference = Imatrix::open(&data().join("imatrix").join(format!("{name}.gguf"))).unwrap();
        check(&name, &read(&Case::gguf(&name).result(2)), &reference);
    }
}

/// Folders have other names, and parts of matrices elsewhere.
#[test]
fn a_folder_gives_the_same_as_its_gguf_file() {
    for name in cases() {
        let folder = data().join("checkpoints").join(&name);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        if name == "qwen35" {
            let error = node_tensors(&checkpoint).unwrap_err().to_string();
            assert!(error.contains("GGUF files have in another order"), "{error}");
            continue;
        }
        let reference = Imatrix::open(&data().join("imatrix").join(format!("{name}.gguf"))).unwrap();
        check(&name, &read(&Case::open(&folder).result(1)), &reference);
    }
}

/// Every checkpoint's nodes have the same names in both formats, and names of tensors that its GGUF file has.
#[test]
fn names_are_those_of_gguf_files() {
    let folders = std::fs::read_dir(data().join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let mut both = 0;
    for folder in folders {
        let Ok(file) = Checkpoint::open(&folder.join("model.gguf")) else { continue };
        let nodes = node_tensors(&file).unwrap();
        for node in &nodes {
            let known = file.tensor_info(&node.tensor).is_some();
            assert!(known, "{}: {}", folder.display(), node.tensor);
        }
        let Ok(of_folder) = node_tensors(&Checkpoint::open(&folder).unwrap()) else { continue };
        let named = |nodes: Vec<model::NodeTensor>| {
            let mut names: Vec<_> = nodes.into_iter().map(|n| (n.tensor, n.expert, n.experts, n.cols)).collect();
            // Output matrices that are the embeddings have either name.
            names.retain(|(tensor, ..)| tensor.starts_with("blk."));
            names.sort();
            names.dedup();
            names
        };
        assert_eq!(named(of_folder), named(nodes), "{}", folder.display());
        both += 1;
    }
    assert!(both > 20, "{both}");
}

#[test]
fn threads_and_breaks_do_not_change_a_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = partial::path(&folder.path().join("imatrix.gguf"));
    assert!(path.ends_with("imatrix.gguf.partial"));
    for name in ["llama", "qwen2moe", "lfm2"] {
        let mut case = Case::gguf(name);
        case.options.products = true;
        // So short that no two windows are computed together; the text is long enough.
        case.tokens = case.tokens.repeat(3);
        let whole = case.result(1);
        assert!(whole == case.result(2) && whole == case.result(3), "{name}");

        let identity = partial::identity(&case.checkpoint, &case.tokens, &case.options).unwrap();
        let mut calibration = case.calibration();
        let mut breaks = 0;
        loop {
            let mut stop = |calibration: &Calibration, all: usize| {
                assert!(calibration.windows() <= all);
                partial::save(calibration, &path, &identity).unwrap();
                ControlFlow::Break(())
            };
            let result = calibration.run(&mut *case.program(2), &case.tokens, &case.options, &mut stop);
            if result.is_ok() {
                break;
            }
            assert!(matches!(result, Err(CalibrateError::Interrupted)));
            breaks += 1;
            calibration = case.calibration();
            partial::resume(&mut calibration, &path, &identity).unwrap();
        }
        assert!(breaks > 3, "{name}: {breaks}");
        assert!(written(&calibration) == whole, "{name}");
        check_products(&case.checkpoint, &read(&whole));

        let mut other = case.calibration();
        let error = partial::resume(&mut other, &path, "another").unwrap_err();
        assert!(matches!(error, CalibrateError::OtherPartial { .. }), "{error}");
        assert_eq!(other.windows(), 0);
        std::fs::remove_file(&path).unwrap();
        partial::resume(&mut other, &path, &identity).unwrap();
        assert_eq!(other.windows(), 0);
    }
}

/// Matrices in a layer that stand alone have products, those with the same inputs the same; a column's with itself is its
/// square.
fn check_products(checkpoint: &Checkpoint, imatrix: &Imatrix) {
    assert!(imatrix.has_products());
    for (tensor, entry) in imatrix.entries() {
        let cols = *checkpoint.tensor_info(tensor).unwrap().shape.last().unwrap();
        let Some(products) = imatrix.products(tensor) else {
            assert!(entry.counts().len() > 1 || !cols.is_multiple_of(32), "{tensor}");
            continue;
        };
        let span = products.len() / cols;
        for (column, (products, square)) in products.chunks(span).zip(entry.sums()).enumerate() {
            let own = products[column % span];
            assert!((own - square).abs() <= square * 1e-4, "{tensor}, column {column}: {own} and {square}");
        }
    }
    let of = |name: &str| imatrix.products(&format!("blk.0.{name}.weight"));
    assert!(of("attn_q") == of("attn_k") && of("attn_q") == of("attn_v") && of("ffn_gate") == of("ffn_up"));
}

#[test]
fn an_identity_is_of_model_text_and_windows() {
    let case = Case::gguf("llama");
    let of = |case: &Case, tokens: &[u32], options| partial::identity(&case.checkpoint, tokens, &options).unwrap();
    let own = of(&case, &case.tokens, case.options);
    assert_eq!(own, of(&Case::gguf("llama"), &case.tokens, case.options));
    assert_ne!(own, of(&case, &case.tokens[1..], case.options));
    assert_ne!(own, of(&case, &case.tokens, CalibrateOptions { context: 32, ..case.options }));
    assert_ne!(own, of(&case, &case.tokens, CalibrateOptions { products: true, ..case.options }));
    assert_ne!(own, of(&Case::gguf("qwen2"), &case.tokens, case.options));
}

#[test]
fn texts_that_are_too_short_or_of_another_vocabulary() {
    let case = Case::gguf("llama");
    let run = |tokens: &[u32]| {
        let go_on = &mut |_: &Calibration, _| ControlFlow::Continue(());
        case.calibration().run(&mut *case.program(1), tokens, &case.options, go_on).unwrap_err().to_string()
    };
    assert_eq!(run(&case.tokens[..63]), "the text has 63 tokens, at least one window of 64 was expected");
    let mut odd = case.tokens.clone();
    odd[70] = 264;
    assert_eq!(run(&odd), "token 264 at position 70 is outside the vocabulary of 264");
}
