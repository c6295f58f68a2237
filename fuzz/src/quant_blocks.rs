//! Blocks of arbitrary bytes of any type: decoded, asked whether they are finite, and packed as the rows of a panel; and
//! arbitrary numbers, encoded.

use kernels::DType;
use kernels::simd::Tier;

pub fn run(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    let types: Vec<_> = DType::all().collect();
    let dtype = types[usize::from(kind) % types.len()];
    let blocks = &bytes[..bytes.len() / dtype.bytes * dtype.bytes];
    let mut values = vec![0.0; blocks.len() / dtype.bytes * dtype.block];
    (dtype.decode)(blocks, &mut values);
    let finite = (dtype.finite)(blocks);
    assert!(!dtype.is_float() || finite == values.iter().all(|v| v.is_finite()), "{dtype}");

    // Quantized types take whole groups of 32 columns.
    let cols = dtype.block.max(32);
    let rows = &bytes[..(bytes.len() / dtype.row_bytes(cols)).min(16) * dtype.row_bytes(cols)];
    let mut panel = vec![0xAA; (dtype.run.panel_bytes)(cols)];
    (dtype.run.pack)(rows, cols, &mut panel);

    encode(dtype, bytes);
}

/// Every tier encodes something, and the same where numbers and scales are finite.
fn encode(dtype: DType, bytes: &[u8]) {
    let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let cols = dtype.block.max(32);
    let values = numbers[..numbers.len() / cols * cols].to_vec();
    let importance: Vec<f32> = values.iter().take(cols).map(|v| v.abs()).collect();
    let size = dtype.row_bytes(values.len());
    let check = |encode: &dyn Fn(Tier, &mut [u8])| {
        let mut expected = vec![0xAA; size];
        encode(Tier::Scalar, &mut expected);
        let defined = values.iter().all(|v| v.is_finite()) && (dtype.finite)(&expected);
        for tier in Tier::all_available() {
            let mut found = vec![0xAA; size];
            encode(tier, &mut found);
            assert!(!defined || found == expected, "{dtype} on {}", tier.name());
        }
    };
    if let Some(encode) = dtype.encode {
        check(&|tier, blocks| encode(tier, &values, blocks));
    }
    if let Some(encode) = dtype.encode_weighted {
        check(&|tier, blocks| encode(tier, &values, &importance, blocks));
    }
}
