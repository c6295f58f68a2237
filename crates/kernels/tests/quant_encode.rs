//! Every encoder on every tier against blocks that ggml's reference quantizers made (`data/quant`, written by
//! `scripts/oracle/quantize_blocks.py`).

mod support;

use std::path::Path;

use kernels::DType;
use kernels::quant::GroupAffine;
use kernels::simd::Tier;
use support::Random;

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/quant").join(name)).unwrap()
}

fn floats(name: &str) -> Vec<f32> {
    data(name).as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn values() -> Vec<f32> {
    floats("values.f32")
}

fn encode(dtype: DType, tier: Tier, values: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0xAA; dtype.row_bytes(values.len())];
    dtype.encode.expect("an encoder")(tier, values, &mut blocks);
    blocks
}

/// Every type that can be encoded.
fn encoded() -> impl Iterator<Item = DType> {
    DType::all().filter(|dtype| dtype.encode.is_some())
}

/// Those of them that ggml has.
fn of_ggml() -> impl Iterator<Item = DType> {
    encoded().filter(|dtype| dtype.ggml_id.is_some())
}

/// The blocks of F32 are the values themselves.
fn reference(dtype: DType) -> Vec<u8> {
    if dtype == DType::F32 { data("values.f32") } else { data(&format!("{}.blocks", dtype.name.to_lowercase())) }
}

#[test]
fn every_type_on_every_tier_gives_the_reference_s_bytes() {
    let values = values();
    for dtype in of_ggml() {
        let expected = reference(dtype);
        for tier in Tier::all_available() {
            let found = encode(dtype, tier, &values);
            for (i, (found, expected)) in found.chunks(dtype.bytes).zip(expected.chunks_exact(dtype.bytes)).enumerate()
            {
                assert_eq!(found, expected, "{dtype} on {}: block {i}, row {}", tier.name(), i * dtype.block / 256);
            }
            assert_eq!(found.len(), expected.len());
        }
    }
}

/// Columns of the rows that ggml encoded by importance, each row by its own.
fn weighted_cols(dtype: DType) -> usize {
    if dtype.block == 32 { 1312 } else { 512 }
}

fn encode_weighted(dtype: DType, tier: Tier, values: &[f32], importance: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0xAA; dtype.row_bytes(values.len())];
    dtype.encode_weighted.expect("an encoder by importance")(tier, values, importance, &mut blocks);
    blocks
}

/// Every type that can be encoded by importance.
fn weighted() -> impl Iterator<Item = DType> {
    DType::all().filter(|dtype| dtype.encode_weighted.is_some())
}

#[test]
fn every_type_on_every_tier_gives_the_reference_s_bytes_by_importance() {
    let (values, importance) = (values(), floats("importance.f32"));
    for dtype in weighted() {
        let expected = data(&format!("{}.weighted", dtype.name.to_lowercase()));
        let cols = weighted_cols(dtype);
        let rows = values.chunks_exact(cols).zip(importance.chunks_exact(cols));
        for (row, ((values, importance), expected)) in
            rows.zip(expected.chunks_exact(dtype.row_bytes(cols))).enumerate()
        {
            for tier in Tier::all_available() {
                let found = encode_weighted(dtype, tier, values, importance);
                for (i, (found, expected)) in found.chunks(dtype.bytes).zip(expected.chunks(dtype.bytes)).enumerate() {
                    assert_eq!(found, expected, "{dtype} on {}: block {i} of row {row}", tier.name());
                }
            }
        }
        assert_eq!(expected.len(), dtype.row_bytes(values.len()));
    }
}

#[test]
fn what_the_reference_encodes_by_importance_can_be_encoded_so() {
    for dtype in encoded() {
        let name = format!("tests/data/quant/{}.weighted", dtype.name.to_lowercase());
        let exists = Path::new(env!("CARGO_MANIFEST_DIR")).join(name).exists();
        assert_eq!(dtype.encode_weighted.is_some(), exists, "{dtype}");
    }
}

#[test]
fn rows_do_not_depend_on_what_is_encoded_by_importance_with_them() {
    let (values, importance) = (values(), floats("importance.f32"));
    for dtype in weighted() {
        let cols = weighted_cols(dtype);
        let importance = &importance[..cols];
        for tier in Tier::all_available() {
            let whole = encode_weighted(dtype, tier, &values, importance);
            for rows in [1, 2, 5] {
                let parts = values.chunks(cols * rows).flat_map(|part| encode_weighted(dtype, tier, part, importance));
                assert_eq!(parts.collect::<Vec<_>>(), whole, "{dtype} on {} in parts of {rows} rows", tier.name());
            }
        }
    }
}

#[test]
fn by_importance_scales_that_overflow_are_found() {
    let tier = Tier::detect().unwrap();
    for dtype in weighted() {
        let mut values = vec![1.0; 512];
        let importance: Vec<f32> = (0..512).map(|i| (i % 7) as f32).collect();
        assert!((dtype.finite)(&encode_weighted(dtype, tier, &values, &importance)), "{dtype}");
        for large in [1e20, 3e38] {
            values[300] = large;
            assert!(!(dtype.finite)(&encode_weighted(dtype, tier, &values, &importance)), "{dtype}, {large}");
        }
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            values[300] = bad;
            // Whatever comes out, it comes out, on every tier.
            Tier::all_available().for_each(|tier| drop(encode_weighted(dtype, tier, &values, &importance)));
        }
        assert!(encode_weighted(dtype, tier, &[], &importance).is_empty());
        assert!(encode_weighted(dtype, tier, &[], &[]).is_empty());
    }
}

#[test]
fn important_columns_lose_less() {
    let (tier, mut random) = (Tier::detect().unwrap(), Random(5));
    let values: Vec<f32> = (0..512 * 32).map(|_| random.normal()).collect();
    let importance: Vec<f32> = (0..512).map(|_| (2.0 * random.normal()).exp()).collect();
    for dtype in weighted().filter(|dtype| dtype.encode.is_some()) {
        let error = |blocks: &[u8]| {
            let mut decoded = vec![0.0; values.len()];
            (dtype.decode)(blocks, &mut decoded);
            let squares = values.iter().zip(&decoded).map(|(a, b)| f64::from((a - b) * (a - b)));
            squares.zip(importance.iter().cycle()).map(|(square, w)| square * f64::from(*w)).sum::<f64>()
        };
        let with = error(&encode_weighted(dtype, tier, &values, &importance));
        let without = error(&encode(dtype, tier, &values));
        assert!(with < without, "{dtype}: {with} with importance, {without} without");
    }
}

#[test]
fn blocks_do_not_depend_on_what_is_encoded_with_them() {
    let values = values();
    for dtype in encoded() {
        for tier in Tier::all_available() {
            let whole = encode(dtype, tier, &values);
            for rows in [1, 2, 3] {
                let parts: Vec<u8> = values.chunks(256 * rows).flat_map(|part| encode(dtype, tier, part)).collect();
                assert_eq!(parts, whole, "{dtype} on {} in parts of {rows} rows", tier.name());
            }
        }
    }
}

#[test]
fn decoded_blocks_are_near_what_was_encoded() {
    let mut random = Random(3);
    let values: Vec<f32> = (0..256 * 32).map(|_| random.normal()).collect();
    let norm = values.iter().map(|v| f64::from(v * v)).sum::<f64>();
    let ternary: Vec<f32> = values.iter().map(|v| v.round().clamp(-1.0, 1.0)).collect();
    for dtype in encoded() {
        // Types of three values are for what has three values.
        let is_ternary = matches!(dtype.name, "Q2_0" | "TQ1_0" | "TQ2_0");
        let values = if is_ternary { &ternary } else { &values };
        let mut decoded = vec![0.0; values.len()];
        (dtype.decode)(&encode(dtype, Tier::detect().unwrap(), values), &mut decoded);
        let error = values.iter().zip(&decoded).map(|(a, b)| f64::from((a - b) * (a - b))).sum::<f64>() / norm;
        // What rounding to that many bits leaves of the power of normal values, with room for the scales.
        let bits = match GroupAffine::of(dtype) {
            Some(affine) => affine.bits as f64,
            None if dtype == DType::MXFP8 => 6.0,
            None => dtype.bits_per_weight().min(9.0),
        };
        let bound = if is_ternary { 1e-9 } else { 8.0 * (0.25f64).powf(bits) };
        assert!(error < bound, "{dtype}: {error:e} of the power is lost, expected below {bound:e}");
    }
}

/// Whether scales can have the size of any value.
fn wide_scales(dtype: DType) -> bool {
    GroupAffine::of(dtype).is_some_and(|affine| affine.scales != DType::F16)
}

#[test]
fn scales_that_overflow_are_found() {
    let tier = Tier::detect().unwrap();
    for dtype in encoded() {
        if dtype.ggml_id.is_some() {
            assert!((dtype.finite)(&reference(dtype)), "{dtype}");
        }
        let mut values = vec![1.0; 512];
        values[300] = 3e38;
        assert_eq!(
            (dtype.finite)(&encode(dtype, tier, &values)),
            matches!(dtype.name, "F32" | "BF16" | "MXFP4" | "MXFP8" | "NVFP4" | "NVFP4_G16") || wide_scales(dtype),
            "{dtype}"
        );
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            values[300] = bad;
            // Whatever comes out, it comes out, on every tier.
            Tier::all_available().for_each(|tier| drop(encode(dtype, tier, &values)));
        }
        if dtype.is_float() {
            assert!(!(dtype.finite)(&encode(dtype, tier, &[f32::INFINITY])), "{dtype}");
        }
    }
}
