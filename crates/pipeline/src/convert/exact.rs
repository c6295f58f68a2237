//! Types of GGUF and of MLX that hold the same values: `scale * q + bias` with halves for both, exactly.

use half::f16;
use kernels::DType;
use kernels::quant::GroupAffine;

/// Makes blocks of the one type of blocks of the other.
pub(super) type Rewrite = fn(from: DType, to: DType, blocks: &[u8], out: &mut Vec<u8>);

/// Values of a block in GGUF.
const BLOCK: usize = 32;

/// Bits, and what is subtracted from each q, of the GGUF types that are affine with groups of 32; those with a minimum of
/// their own subtract nothing.
const OF_GGUF: [(DType, usize, Option<i32>); 5] = [
    (DType::Q4_0, 4, Some(8)),
    (DType::Q4_1, 4, None),
    (DType::Q5_0, 5, Some(16)),
    (DType::Q5_1, 5, None),
    (DType::Q8_0, 8, Some(128)),
];

/// The type of MLX with the values of a type of GGUF.
pub(super) fn to_mlx(dtype: DType) -> Option<DType> {
    let (_, bits, _) = OF_GGUF.iter().find(|row| row.0 == dtype)?;
    GroupAffine { bits: *bits, group: BLOCK, scales: DType::F16 }.dtype()
}

/// The type of GGUF with the values of a type of MLX.
pub(super) fn to_gguf(dtype: DType) -> Option<DType> {
    let affine = GroupAffine::of(dtype).filter(|affine| affine.scales == DType::F16)?;
    OF_GGUF.iter().find(|row| row.1 == affine.bits && row.2.is_none()).map(|row| row.0)
}

/// How blocks of the one type become blocks of the other, where they have the same values.
pub(super) fn rewrite(from: DType, to: DType) -> Option<Rewrite> {
    if to_mlx(from) == Some(to) {
        return Some(gguf_to_mlx);
    }
    (to_gguf(from) == Some(to)).then_some(mlx_to_gguf)
}

fn gguf_to_mlx(from: DType, _to: DType, blocks: &[u8], out: &mut Vec<u8>) {
    let Some((_, bits, subtracted)) = OF_GGUF.iter().find(|row| row.0 == from) else { return };
    for block in blocks.chunks_exact(from.bytes) {
        let (scale, rest) = block.split_at(2);
        out.extend(scale);
        let rest = match subtracted {
            None => {
                out.extend(&rest[..2]);
                &rest[2..]
            }
            Some(subtracted) => {
                // A power of two: exact, but for scales that only damaged files have.
                let bias = -(*subtracted as f32) * f16::from_le_bytes([scale[0], scale[1]]).to_f32();
                out.extend(f16::from_f32(bias).to_le_bytes());
                rest
            }
        };
        let mut q = [0u8; BLOCK];
        match bits {
            8 => q.iter_mut().zip(rest).for_each(|(q, byte)| *q = byte ^ 0x80),
            _ => {
                let (fifth, nibbles) = rest.split_at(if *bits == 5 { 4 } else { 0 });
                for (i, q) in q.iter_mut().enumerate() {
                    let high = fifth.get(i / 8).map_or(0, |bits| bits >> (i % 8) & 1);
                    *q = nibbles[i % 16] >> (i / 16 * 4) & 15 | high << 4;
                }
            }
        }
        for eight in q.as_chunks::<8>().0 {
            let word = eight.iter().enumerate().fold(0, |word, (i, q)| word | u64::from(*q) << (bits * i));
            out.extend(&word.to_le_bytes()[..*bits]);
        }
    }
}

fn mlx_to_gguf(from: DType, to: DType, blocks: &[u8], out: &mut Vec<u8>) {
    let Some(GroupAffine { bits, .. }) = GroupAffine::of(from) else { return };
    for block in blocks.chunks_exact(from.bytes) {
        let (numbers, packed) = block.split_at(4);
        for packed in packed.chunks_exact(BLOCK * bits / 8) {
            let value = |i: usize| {
                let mut word = [0; 8];
                word[..bits].copy_from_slice(&packed[i / 8 * bits..][..bits]);
                (u64::from_le_bytes(word) >> (i % 8 * bits)) as u8 & ((1 << bits) - 1) as u8
            };
            out.extend(numbers);
            if to == DType::Q5_1 {
                let fifth = (0..BLOCK).fold(0, |fifth, i| fifth | u32::from(value(i) >> 4) << i);
                out.extend(fifth.to_le_bytes());
            }
            out.extend((0..16).map(|i| value(i) & 15 | value(16 + i) << 4));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(dtype: DType, blocks: &[u8]) -> Vec<u32> {
        let mut values = vec![0.0; blocks.len() / dtype.bytes * dtype.block];
        (dtype.decode)(blocks, &mut values);
        // A zero has no sign where something is added to it.
        values.iter().map(|v| (v + 0.0).to_bits()).collect()
    }

    #[test]
    fn twins_have_the_same_values() {
        let mut pairs = 0;
        for from in DType::all() {
            for to in [to_mlx(from), to_gguf(from)].into_iter().flatten() {
                let mut blocks: Vec<u8> = (0..40 * from.bytes).map(|i| (i * 73 % 255) as u8).collect();
                for block in blocks.chunks_exact_mut(from.bytes) {
                    // Scales and biases of a usual size.
                    block[1] = block[1] & 0x83 | 0x20;
                    block[3] = if from.bytes % 4 == 2 { block[3] } else { block[3] & 0x83 | 0x30 };
                }
                let mut out = Vec::new();
                rewrite(from, to).unwrap()(from, to, &blocks, &mut out);
                assert_eq!(decoded(to, &out), decoded(from, &blocks), "{from} as {to}");
                pairs += 1;
            }
        }
        assert_eq!(pairs, 5 + 6);
    }
}
