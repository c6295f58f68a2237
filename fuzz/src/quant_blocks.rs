//! Blocks of arbitrary bytes of any type: decoded, asked whether they are finite, and packed as the rows of a panel.

use kernels::DType;

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
}
