//! Every decoder on blocks of arbitrary bytes, against `gguf.quants` (`data/quant`, written by
//! `scripts/oracle/dequantize_blocks.py`).

mod support;

use std::path::Path;

use kernels::DType;
use support::Random;

const BLOCKS: usize = 256;
/// Blocks of one byte come first.
const PATTERNS: [u8; 8] = [0x00, 0xFF, 0x7F, 0x80, 0x01, 0x7C, 0x3C, 0xAA];

fn blocks(dtype: DType) -> Vec<u8> {
    let mut random = Random(dtype.ggml_id.unwrap_or(1000).into());
    let mut blocks: Vec<u8> = (0..BLOCKS * dtype.bytes).map(|_| random.next() as u8).collect();
    for (block, byte) in blocks.chunks_exact_mut(dtype.bytes).zip(PATTERNS) {
        block.fill(byte);
    }
    blocks
}

/// FNV-1a, all NaN alike.
fn hash(values: &[f32]) -> u64 {
    let bits = values.iter().flat_map(|v| if v.is_nan() { f32::NAN } else { *v }.to_le_bytes());
    bits.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[test]
fn every_type_gives_the_bits_of_the_reference() {
    for dtype in DType::in_gguf().filter(|dtype| !dtype.is_float()) {
        let name = format!("{}.values", dtype.name.to_lowercase());
        let expected = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/quant").join(&name));
        let expected = expected.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(expected.len(), BLOCKS * 8);
        let mut values = vec![0.0; BLOCKS * dtype.block];
        (dtype.decode)(&blocks(dtype), &mut values);
        for (i, (values, expected)) in values.chunks(dtype.block).zip(expected.as_chunks().0).enumerate() {
            assert_eq!(hash(values), u64::from_le_bytes(*expected), "{dtype}: block {i}");
        }
    }
}

/// Blocks of arbitrary bytes can be packed, and asked whether they are finite.
#[test]
fn every_type_packs_arbitrary_bytes() {
    for dtype in DType::all().filter(|dtype| !dtype.is_float()) {
        let blocks = blocks(dtype);
        let finite: Vec<_> = blocks.chunks(dtype.bytes).map(dtype.finite).collect();
        assert!(finite[0], "{dtype}");
        let cols = 1024;
        let mut panel = vec![0; (dtype.run.panel_bytes)(cols)];
        for rows in blocks.chunks(dtype.row_bytes(cols) * 16).chain([&[][..]]) {
            (dtype.run.pack)(rows, cols, &mut panel);
        }
    }
}
