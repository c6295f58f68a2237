//! Blocks of a type, and the three parts in which MLX's files have them.

use kernels::DType;
use kernels::quant::GroupAffine;

use super::{Layout, Mode};

/// Where the parts of a row of blocks stand, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    layout: Layout,
    /// Values of a block.
    block: usize,
    scales: &'static str,
    /// Bytes of a scale, and of a bias; 0 where there is none.
    scale: usize,
    bias: usize,
    groups: usize,
}

impl Parts {
    /// Of rows of `cols` values of this type; `None` where MLX has no such type.
    pub fn new(dtype: DType, cols: usize) -> Option<Self> {
        let layout = Layout::of(dtype)?;
        let (scales, scale, bias) = match GroupAffine::of(dtype) {
            Some(GroupAffine { scales, .. }) => (scales.name, scales.bytes, scales.bytes),
            None => ("U8", 1, 0),
        };
        Some(Self { layout, block: dtype.block, scales, scale, bias, groups: cols / layout.group })
    }

    /// Groups in a row.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The type of scales and biases, as safetensors call it.
    pub fn scales(&self) -> &'static str {
        self.scales
    }

    /// Bytes of a row's values, scales and biases.
    pub fn bytes(&self) -> [usize; 3] {
        let values = self.groups * self.values();
        [values, self.groups * self.scale, self.groups * self.bias]
    }

    /// Bytes of the values of a group.
    fn values(&self) -> usize {
        self.layout.group * self.layout.bits / 8
    }

    /// Appends the blocks of a row to `blocks`.
    pub fn join(&self, [values, scales, biases]: [&[u8]; 3], blocks: &mut Vec<u8>) {
        match self.layout.mode {
            Mode::Nvfp4 if self.block == 16 => {
                for (values, scale) in values.as_chunks::<8>().0.iter().zip(scales) {
                    blocks.push(*scale);
                    blocks.extend(halves_apart(values));
                }
            }
            Mode::Nvfp4 => {
                for (values, scales) in values.as_chunks::<32>().0.iter().zip(scales.as_chunks::<4>().0) {
                    blocks.extend(scales);
                    values.as_chunks::<8>().0.iter().for_each(|values| blocks.extend(halves_apart(values)));
                }
            }
            Mode::Mxfp4 => {
                for (values, scale) in values.as_chunks::<16>().0.iter().zip(scales) {
                    blocks.push(*scale);
                    blocks.extend(halves_apart(values));
                }
            }
            Mode::Affine | Mode::Mxfp8 => {
                for (at, values) in values.chunks_exact(self.values()).enumerate() {
                    blocks.extend(&scales[at * self.scale..][..self.scale]);
                    blocks.extend(&biases[at * self.bias..][..self.bias]);
                    blocks.extend(values);
                }
            }
        }
    }

    /// Appends the parts of a row of blocks to `parts`; the inverse of [`Self::join`].
    pub fn split(&self, blocks: &[u8], [values, scales, biases]: [&mut Vec<u8>; 3]) {
        match self.layout.mode {
            Mode::Nvfp4 if self.block == 16 => {
                for block in blocks.as_chunks::<9>().0 {
                    scales.push(block[0]);
                    values.extend(neighbours::<8>(block[1..].first_chunk().expect("8 bytes of nibbles")));
                }
            }
            Mode::Nvfp4 => {
                for block in blocks.as_chunks::<36>().0 {
                    let (four, packed) = block.split_at(4);
                    scales.extend(four);
                    packed.as_chunks::<8>().0.iter().for_each(|packed| values.extend(neighbours(packed)));
                }
            }
            Mode::Mxfp4 => {
                for block in blocks.as_chunks::<17>().0 {
                    scales.push(block[0]);
                    values.extend(neighbours::<16>(block[1..].first_chunk().expect("16 bytes of nibbles")));
                }
            }
            Mode::Affine | Mode::Mxfp8 => {
                for block in blocks.chunks_exact(self.scale + self.bias + self.values()) {
                    let (scale, rest) = block.split_at(self.scale);
                    let (bias, packed) = rest.split_at(self.bias);
                    scales.extend(scale);
                    biases.extend(bias);
                    values.extend(packed);
                }
            }
        }
    }
}

/// From nibbles in order, the lower one of a byte first, to bytes of one of the first half and one of the second.
fn halves_apart<const N: usize>(values: &[u8; N]) -> [u8; N] {
    let nibble = |i: usize| values[i / 2] >> (i % 2 * 4) & 15;
    std::array::from_fn(|i| nibble(i) | nibble(N + i) << 4)
}

/// The inverse of [`halves_apart`].
fn neighbours<const N: usize>(packed: &[u8; N]) -> [u8; N] {
    let nibble = |i: usize| packed[i % N] >> (i / N * 4) & 15;
    std::array::from_fn(|i| nibble(2 * i) | nibble(2 * i + 1) << 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_blocks_are_each_other_again() {
        for dtype in DType::all() {
            let Some(parts) = Parts::new(dtype, 256) else { continue };
            let bytes = |n: usize, first: usize| (0..n).map(|i| ((i + first) * 37 % 251) as u8).collect::<Vec<_>>();
            let [values, scales, biases] = parts.bytes();
            let given = [bytes(values, 1), bytes(scales, 2), bytes(biases, 3)];
            let mut blocks = Vec::new();
            parts.join(given.each_ref().map(Vec::as_slice), &mut blocks);
            assert_eq!(blocks.len(), dtype.row_bytes(256), "{dtype}");
            let mut found = [Vec::new(), Vec::new(), Vec::new()];
            parts.split(&blocks, found.each_mut());
            assert_eq!(found, given, "{dtype}");
        }
    }
}
