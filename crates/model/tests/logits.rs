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

/// The root of the mean square.
fn rms_difference(a: &[f32], b: &[f32]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (squares / a.len() as f64).sqrt()
}

#[test]
fn every_architecture_has_both_forms_of_a_case() {
    let checkpoints: Vec<_> = cases().iter().flat_map(Case::checkpoints).collect();
    // llama.cpp's files of an architecture `bitnet` are of another model, and no tool makes files of this one.
    for architecture in ARCHITECTURES.into_iter().filter(|a| !a.name.starts_with("bitnet")) {
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

/// The CPU backend computes what the plan means. Bounds are about twice the largest difference of all cases.
///
/// With an f16 or q8_0 cache keys and values are rounded, as they are not in the reference. That moves logits, whose
/// deviation is about 1.5, by what the weights make of it: one in a thousand by ten times as much as is usual, so that the
/// mean square tells more of the cache than the largest difference. Where activations are rounded to 8 bits too, rounded
/// keys tip some of them over.
#[test]
fn the_cpu_backend_gives_the_logits_of_transformers() {
    for case in cases() {
        for checkpoint in case.checkpoints() {
            let plan = model::build_plan(&checkpoint).unwrap();
            let logits = |kv: KvType| Run::best(kv).logits(&plan, &case.tokens, case.tokens.len());
            let label = format!("{} {:?}", case.name, checkpoint.format());
            let worst = max_difference(&logits(KvType::F32), &case.expected);
            println!("{label}: {worst:.2e} at most");
            assert!(worst <= 5e-5, "{label}: {worst}");
            let rounds = plan.linears().any(|linear| linear.ternary.is_some());
            let bounds = if rounds { [3.5e-2, 6.5e-2] } else { [1.6e-3, 5e-2] };
            for (kv, bound) in [KvType::F16, KvType::Q8_0].into_iter().zip(bounds) {
                let usual = rms_difference(&logits(kv), &case.expected);
                println!("{label} {kv:?}: {usual:.2e}");
                assert!(usual <= bound, "{label} {kv:?}: {usual}");
            }
        }
    }
}
