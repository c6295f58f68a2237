//! The types of MLX against what MLX makes of rows in `data/quant/values.f32` (`mlx.digests` beside it, written by
//! `scripts/oracle/mlx_types.py`).

use std::collections::HashSet;
use std::path::Path;

use kernels::DType;
use kernels::simd::Tier;

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/quant").join(name)).unwrap()
}

/// FNV-1a.
fn digest(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[test]
fn blocks_and_values_are_those_of_mlx() {
    let values: Vec<f32> = data("values.f32").as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let rows = values.chunks(256).filter(|row| row.iter().all(|v| *v == 0.0 || v.abs() >= 1e-30));
    let values: Vec<f32> = rows.flatten().copied().collect();
    let listed = String::from_utf8(data("mlx.digests")).unwrap();
    let mut seen = HashSet::new();
    for line in listed.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (dtype, float) = (DType::from_name(fields[0]).unwrap(), DType::from_name(fields[1]).unwrap());
        let [blocks_digest, values_digest] = [fields[2], fields[3]].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        seen.insert(dtype);

        // What MLX encodes are values of this type.
        let tier = Tier::detect().unwrap();
        let (mut stored, mut rounded) = (vec![0; float.row_bytes(values.len())], vec![0.0; values.len()]);
        float.encode.unwrap()(tier, &values, &mut stored);
        (float.decode)(&stored, &mut rounded);

        let mut blocks = vec![0xAA; dtype.row_bytes(values.len())];
        match dtype.mlx_encoder(float) {
            Some(encode) => encode(&rounded, &mut blocks),
            None => dtype.encode.unwrap()(tier, &rounded, &mut blocks),
        }
        assert_eq!(digest(blocks.iter().copied()), blocks_digest, "{line}");
        let mut again = vec![f32::NAN; values.len()];
        (dtype.decode)(&blocks, &mut again);
        assert_eq!(digest(again.iter().flat_map(|v| v.to_le_bytes())), values_digest, "{line}");
    }
    let of_mlx = DType::all().filter(|dtype| dtype.ggml_id.is_none());
    assert_eq!(of_mlx.filter(|dtype| !seen.contains(dtype)).count(), 0);
}
