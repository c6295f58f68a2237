//! Logits of tiny checkpoints against those that transformers computes for them in float32.
//!
//! `scripts/oracle/tiny_checkpoints.py` makes the cases: folders in Hugging Face layout, most with the same model as a GGUF
//! file, and the logits after each of its 48 or 96 tokens.

mod cpu;
mod reference;

use std::path::{Path, PathBuf};

use cpu::Run;
use formats::Checkpoint;
use kernels::backend::KvType;
use kernels::plan::Mixer;
use model::arch::ARCHITECTURES;

struct Case {
    name: String,
    folder: PathBuf,
    tokens: Vec<u32>,
    /// `[tokens, vocab]`.
    expected: Vec<f32>,
}

impl Case {
    /// The model in every form that the case has: the folder, and the GGUF file.
    fn checkpoints(&self) -> Vec<Checkpoint> {
        let forms = [self.folder.clone(), self.folder.join("model.gguf")];
        forms.iter().filter(|p| p.exists()).map(|p| Checkpoint::open(p).unwrap()).collect()
    }
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/checkpoints");
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    let case = |folder: PathBuf| Case {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        tokens: serde_json::from_slice(&std::fs::read(folder.join("tokens.json")).unwrap()).unwrap(),
        expected: read_npy(&folder.join("logits.npy")),
        folder,
    };
    folders.into_iter().map(case).collect()
}

/// The values of a float32 NumPy file of format version 1.
fn read_npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let header = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    assert!(String::from_utf8_lossy(&bytes[10..10 + header]).contains("'<f4', 'fortran_order': False"));
    bytes[10 + header..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_architecture_has_both_forms_of_a_case() {
    let checkpoints: Vec<_> = cases().iter().flat_map(Case::checkpoints).collect();
    // llama.cpp's files of an architecture `bitnet` are of another model, and no tool makes files of this one.
    for architecture in ARCHITECTURES.into_iter().filter(|a| a.name != "bitnet-b1.58") {
        for format in [formats::Format::Gguf, formats::Format::HuggingFace] {
            let found = checkpoints.iter().any(|c| {
                c.format() == format && model::arch::Architecture::of(c).is_ok_and(|a| a.name == architecture.name)
            });
            assert!(found, "{} {format:?}", architecture.name);
        }
    }
}

/// The plan means what transformers means: the difference is float32 rounding on its side.
#[test]
fn plans_interpreted_in_f64_give_the_logits_of_transformers() {
    for case in cases() {
        for checkpoint in case.checkpoints() {
            let plan = model::build_plan(&checkpoint).unwrap();
            let difference = max_difference(&reference::logits(&plan, &case.tokens, case.tokens.len()), &case.expected);
            println!("{} {:?}: {difference:.2e}", case.name, checkpoint.format());
            // The two forms of the delta rule in transformers, for prompts and for single tokens, differ by as much.
            let rule = plan.layers.iter().any(|layer| matches!(layer.mixer, Mixer::DeltaNet(_)));
            assert!(
                difference < if rule { 5e-5 } else { 2e-5 },
                "{} {:?}: {difference}",
                case.name,
                checkpoint.format()
            );
        }
    }
}

/// The CPU backend computes what the plan means. With an f16 or q8_0 cache, keys and values are rounded.
#[test]
fn the_cpu_backend_gives_the_logits_of_transformers() {
    for case in cases() {
        for checkpoint in case.checkpoints() {
            let plan = model::build_plan(&checkpoint).unwrap();
            // Where activations are rounded to 8 bits, rounded keys and values tip some of them over.
            let rounds = plan.linears().any(|linear| linear.ternary.is_some());
            let bounds = if rounds { [2e-3, 0.2, 1.0] } else { [2e-3, 1e-2, 0.5] };
            for (kv, bound) in [KvType::F32, KvType::F16, KvType::Q8_0].into_iter().zip(bounds) {
                let difference =
                    max_difference(&Run::best(kv).logits(&plan, &case.tokens, case.tokens.len()), &case.expected);
                println!("{} {:?} {kv:?}: {difference:.2e}", case.name, checkpoint.format());
                assert!(difference <= bound, "{} {:?} {kv:?}: {difference}", case.name, checkpoint.format());
            }
        }
    }
}
