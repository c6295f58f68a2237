//! Logits of small folders that mlx-lm wrote, against those that it computes for them in float32 (`scripts/oracle/mlx_folders.py`
//! makes the cases).

mod cpu;
mod reference;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use cpu::Run;
use formats::Checkpoint;
use formats::mlx::{Layout, Mode};
use kernels::backend::KvType;
use kernels::simd::Tier;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/mlx");
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    folders
}

fn tokens(folder: &Path) -> Vec<u32> {
    serde_json::from_slice(&std::fs::read(folder.join("tokens.json")).unwrap()).unwrap()
}

/// The values of a float32 NumPy file of format version 1.
fn read_npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let header = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    bytes[10 + header..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn logits_are_those_of_mlx() {
    for folder in cases() {
        let plan = model::build_plan(&Checkpoint::open(&folder).unwrap()).unwrap();
        let (tokens, expected) = (tokens(&folder), read_npy(&folder.join("logits.npy")));
        let difference = |found: &[f32]| {
            assert_eq!(found.len(), expected.len());
            found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        // What the plan means, in f64: the difference is float32 rounding on MLX's side.
        let meant = difference(&reference::logits(&plan, &tokens, tokens.len()));
        // And with activations rounded to 8 bits, as the CPU has them.
        let run = difference(&Run::best(KvType::F32).logits(&plan, &tokens, tokens.len()));
        println!("{}: {meant:.2e} as it is meant, {run:.2e} as it is run", folder.display());
        assert!(meant < 5e-5, "{}: {meant}", folder.display());
        // What is rounded may tip over which experts a position takes.
        let bound = if folder.to_string_lossy().contains("moe") { 1.5 } else { 0.15 };
        assert!(run < bound, "{}: {run}", folder.display());
    }
}

#[test]
fn logits_are_the_same_bits_for_any_threads_chunks_and_tier() {
    for folder in cases() {
        let plan = model::build_plan(&Checkpoint::open(&folder).unwrap()).unwrap();
        let tokens = tokens(&folder);
        let first = Run { tier: Tier::Scalar, threads: 1, kv: KvType::F16, chunk: tokens.len() };
        let bits = |run: Run| run.logits(&plan, &tokens, tokens.len()).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let expected = bits(first);
        for tier in Tier::all_available() {
            for (threads, chunk) in [(1, 1), (2, 5), (3, tokens.len())] {
                let run = Run { tier, threads, chunk, ..first };
                assert_eq!(bits(run), expected, "{} {run:?}", folder.display());
            }
        }
    }
}

#[test]
fn the_cases_have_every_mode_every_number_of_bits_and_every_size_of_groups() {
    let mut seen = HashSet::new();
    for folder in cases() {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        for layout in checkpoint.tensors().filter_map(|info| Layout::of(info.dtype().unwrap())) {
            let numbers = [format!("bits {}", layout.bits), format!("groups of {}", layout.group)];
            let affine = layout.mode == Mode::Affine;
            seen.extend(numbers.into_iter().filter(|_| affine).chain([layout.mode.name().to_owned()]));
        }
    }
    let bits = [2, 3, 4, 5, 6, 8].map(|bits| format!("bits {bits}"));
    let groups = [32, 64, 128].map(|group| format!("groups of {group}"));
    let modes = ["affine", "mxfp4", "mxfp8", "nvfp4"].map(str::to_owned);
    let expected: Vec<String> = bits.into_iter().chain(groups).chain(modes).collect();
    assert!(expected.iter().all(|expected| seen.contains(expected)), "{seen:?}");
}
