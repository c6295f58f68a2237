//! The types with a codebook, encoded by importance, on every tier against blocks that ggml's reference quantizers made
//! (`data/quant`, written by `scripts/oracle/quantize_grid_blocks.py`).

mod support;

use std::path::Path;

use kernels::DType;
use kernels::simd::Tier;
use support::Random;

const TYPES: [&str; 7] = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"];

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/quant").join(name)).unwrap()
}

fn floats(name: &str) -> Vec<f32> {
    data(name).as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn types() -> impl Iterator<Item = DType> {
    TYPES.into_iter().map(|name| DType::from_name(name).unwrap())
}

fn encode(dtype: DType, tier: Tier, values: &[f32], importance: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0xAA; dtype.row_bytes(values.len())];
    dtype.encode_weighted.expect("an encoder")(tier, values, importance, &mut blocks);
    blocks
}

#[test]
fn blocks_by_importance_are_the_reference_s() {
    let (values, importance) = (floats("values.f32"), floats("grid_importance.f32"));
    for dtype in types() {
        let expected = data(&format!("{}.weighted.blocks", dtype.name.to_lowercase()));
        for tier in Tier::all_available() {
            let found = encode(dtype, tier, &values, &importance);
            assert_eq!(found.len(), expected.len());
            for (i, (found, expected)) in found.chunks(dtype.bytes).zip(expected.chunks(dtype.bytes)).enumerate() {
                assert_eq!(found, expected, "{dtype} on {}: row {i}", tier.name());
            }
        }
    }
}

#[test]
fn rows_do_not_depend_on_what_is_encoded_with_them() {
    let (values, importance) = (floats("values.f32"), floats("grid_importance.f32"));
    for dtype in types() {
        for tier in Tier::all_available() {
            let whole = encode(dtype, tier, &values, &importance);
            let rows = values.chunks(importance.len());
            let parts: Vec<u8> = rows.flat_map(|row| encode(dtype, tier, row, &importance)).collect();
            assert_eq!(parts, whole, "{dtype} on {}", tier.name());
            // Rows of one block.
            let narrow = &importance[..256];
            let pairs = encode(dtype, tier, &values[..1024], narrow);
            let single: Vec<u8> = values[..1024].chunks(256).flat_map(|x| encode(dtype, tier, x, narrow)).collect();
            assert_eq!(single, pairs, "{dtype} on {}", tier.name());
        }
    }
}

#[test]
fn tiers_agree_on_random_values() {
    let mut random = Random(9);
    for dtype in types() {
        let values: Vec<f32> = (0..256 * 24).map(|_| random.normal() * random.uniform()).collect();
        let importance: Vec<f32> = (0..512).map(|_| random.uniform().powi(4)).collect();
        let plain = encode(dtype, Tier::Scalar, &values, &importance);
        for tier in Tier::all_available() {
            assert!(encode(dtype, tier, &values, &importance) == plain, "{dtype} on {}", tier.name());
        }
    }
}

#[test]
fn values_that_are_too_large_are_found() {
    for dtype in types() {
        for (value, importance) in
            [(3e38, 1.0), (1e20, 1.0), (1e12, 1.0), (1.0, 3e38), (1.0, f32::NAN), (f32::NAN, 1.0)]
        {
            let (mut values, mut weights) = (vec![1.0; 512], vec![1.0; 512]);
            (values[300], weights[300]) = (value, importance);
            for tier in Tier::all_available() {
                let blocks = encode(dtype, tier, &values, &weights);
                assert!((dtype.finite)(&blocks[..dtype.bytes]), "{dtype}");
                let finite = (dtype.finite)(&blocks);
                // Some squares of the importance are finite still.
                assert!(!finite || importance == 3e38, "{dtype}: {value} of importance {importance}");
            }
        }
    }
}
