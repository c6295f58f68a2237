//! The run layout: sixteen rows interleaved in a panel, so that no lane is ever summed across.
//!
//! A quantized panel holds, block by block, the sixteen rows' values as unsigned bytes, for each 32 columns split into bit
//! planes of 64 bytes, and then the block's scales: one stream in the order in which it is read. In a plane, byte
//! `4r + i` belongs to row r. A plane of nibbles, number j, has columns `4j + i` in the low and `16 + 4j + i` in the high
//! half of its bytes.
//! A float panel holds, for each column, the sixteen rows' values side by side.

use super::planes::Planes;
use crate::ops::matmul::{FloatMatMul, IntMatMul};
use crate::simd::{LANES, Simd, Tier};

/// Columns that share one activation scale.
pub const BLOCK: usize = 32;

/// Changes whenever the panels of a type do: images of another version are packed anew.
pub const LAYOUT_VERSION: u32 = 2;

/// Panels start at a multiple of this.
const ALIGN: usize = 64;

/// What a linear node of a type takes as input, and the kernel that runs it.
#[derive(Clone, Copy)]
pub enum MatMulFn {
    /// int8 with a scale per [`BLOCK`] columns.
    Int8(unsafe fn(Tier, IntMatMul)),
    F32(unsafe fn(Tier, FloatMatMul)),
}

/// How a type is packed into panels and run.
pub struct RunLayout {
    /// Bytes of a panel of `cols` columns.
    pub panel_bytes: fn(cols: usize) -> usize,
    /// Packs up to 16 rows, which follow one another in `rows`, into a whole panel; missing rows become zero.
    pub pack: fn(rows: &[u8], cols: usize, panel: &mut [u8]),
    pub matmul: MatMulFn,
}

impl std::fmt::Debug for RunLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunLayout")
    }
}

/// What a quantized type contributes: how 16 rows of a block become unsigned bytes and scales.
///
/// The value of a row is `scale * (q - bias) + min`.
pub trait Packed: 'static {
    /// Where a sub-block's values stand.
    type Planes: Planes;

    /// Bytes of a block in the file.
    const FILE_BYTES: usize;
    /// Sub-blocks of 32 values in a block.
    const SUBS: usize;
    /// Bytes of the scales of a block of 16 rows.
    const SCALE_BYTES: usize;
    /// What is subtracted from each value; values of whole bytes bring their tier's own.
    const BIAS: i32 = 0;
    /// Whether there is a min.
    const MIN: bool = false;
    /// Whether each 16 values have a scale, and a min, of their own.
    const HALVES: bool = false;

    /// Whether two to eight tokens take panels as they are stored. Where they do not, they share unpacked bytes as many do: a
    /// type that is seldom run, or dear to unpack, has fewer kernels to compile.
    const FEW: bool = true;

    /// Writes row `row` of a block: `planes` is `[SUBS][Planes::COUNT][64]` and then `[Planes::SHARED][64]`, zero before the
    /// first row; `scales` is
    /// `SCALE_BYTES` long.
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]);

    /// The scales of half `half` (0 unless HALVES) of sub-block `sub`.
    ///
    /// # Safety
    /// As [`Simd`]; `scales` has `SCALE_BYTES` bytes.
    unsafe fn scale<S: Simd>(scales: *const u8, sub: usize, half: usize) -> S::F;

    /// The mins of half `half` (0 unless HALVES) of sub-block `sub`; called only if MIN.
    ///
    /// # Safety
    /// As [`Packed::scale`].
    unsafe fn min<S: Simd>(_scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: no pointer is read.
        unsafe { S::splat(0.0) }
    }
}

/// Bytes of the planes of a block of sixteen rows; its scales follow.
pub(crate) const fn plane_bytes<P: Packed>() -> usize {
    (P::SUBS * P::Planes::COUNT + P::Planes::SHARED) * 64
}

/// Bytes of a block of sixteen rows.
pub(crate) const fn block_bytes<P: Packed>() -> usize {
    plane_bytes::<P>() + P::SCALE_BYTES
}

/// The run layout of a quantized type.
pub(super) const fn quantized<P: Packed>() -> RunLayout {
    unsafe fn matmul<P: Packed>(tier: Tier, m: IntMatMul) {
        // SAFETY: the caller's promises pass through.
        unsafe { tier.run(m.of_type::<P>()) }
    }
    RunLayout {
        panel_bytes: |cols| (cols / (BLOCK * P::SUBS) * block_bytes::<P>()).next_multiple_of(ALIGN),
        pack: pack_quantized::<P>,
        matmul: MatMulFn::Int8(matmul::<P>),
    }
}

fn pack_quantized<P: Packed>(rows: &[u8], cols: usize, panel: &mut [u8]) {
    let blocks = cols / (BLOCK * P::SUBS);
    panel.fill(0);
    for (row, blocks_of_row) in rows.chunks_exact(blocks * P::FILE_BYTES).enumerate() {
        let packed = panel.chunks_exact_mut(block_bytes::<P>());
        for (block, packed) in blocks_of_row.chunks_exact(P::FILE_BYTES).zip(packed) {
            let (planes, scales) = packed.split_at_mut(plane_bytes::<P>());
            P::pack_row(block, row, planes, scales);
        }
    }
}

/// What a float type contributes.
pub trait Element: 'static {
    const BYTES: usize;

    /// 16 values.
    ///
    /// # Safety
    /// As [`Simd`]; `p` has `16 * BYTES` bytes.
    unsafe fn load<S: Simd>(p: *const u8) -> S::F;
}

/// The matmul of BF16 panels in BF16 arithmetic, of a tier that has it; the columns are even.
pub const IN_BF16: MatMulFn = {
    unsafe fn matmul(tier: Tier, m: FloatMatMul) {
        // SAFETY: the caller's promises pass through.
        unsafe { tier.run_bf16(m.in_bf16()) }
    }
    MatMulFn::F32(matmul)
};

/// The run layout of a float type.
pub(super) const fn float<E: Element>() -> RunLayout {
    unsafe fn matmul<E: Element>(tier: Tier, m: FloatMatMul) {
        // SAFETY: the caller's promises pass through.
        unsafe { tier.run(m.of_type::<E>()) }
    }
    RunLayout {
        panel_bytes: |cols| (cols * LANES * E::BYTES).next_multiple_of(ALIGN),
        pack: |rows, cols, panel| {
            panel.fill(0);
            for (row, values) in rows.chunks_exact(cols * E::BYTES).enumerate() {
                for (col, value) in values.chunks_exact(E::BYTES).enumerate() {
                    let at = (col * LANES + row) * E::BYTES;
                    panel[at..at + E::BYTES].copy_from_slice(value);
                }
            }
        },
        matmul: MatMulFn::F32(matmul::<E>),
    }
}

#[cfg(test)]
mod tests {
    use super::LAYOUT_VERSION;
    use crate::DType;

    /// FNV-1a.
    fn hash(hash: u64, bytes: &[u8]) -> u64 {
        bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
    }

    /// Images on users' disks are told apart by the version alone: who changes panels gives them a new one.
    #[test]
    fn the_version_stands_for_the_layout() {
        const COLS: usize = 512;
        let mut all = 0xCBF2_9CE4_8422_2325;
        // In the order in which the types came.
        let last = [DType::NVFP4_G16];
        for dtype in DType::all().filter(|dtype| !last.contains(dtype)).chain(last) {
            let rows: Vec<u8> = (0..15 * dtype.row_bytes(COLS)).map(|i| (i * 31 % 251) as u8).collect();
            let mut panel = vec![0; (dtype.run.panel_bytes)(COLS)];
            (dtype.run.pack)(&rows, COLS, &mut panel);
            all = hash(hash(all, dtype.name.as_bytes()), &panel);
        }
        assert_eq!((LAYOUT_VERSION, all), (2, 5_107_646_966_210_347_861));
    }
}
