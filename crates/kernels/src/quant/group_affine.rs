//! The affine types of MLX: 32, 64 or 128 values that share a scale and a bias, `scale * q + bias` with q of 2 to 8 bits.
//! Block: the scale and the bias, in F16, BF16 or F32, then the q, each in the lowest bits that those before it leave.
//!
//! MLX's files hold the three parts of all blocks in tensors of their own.

use std::marker::PhantomData;

use half::{bf16, f16};

use super::bf16::Bf16;
use super::panel::{self, BLOCK, Element, Packed, RunLayout};
use super::planes::{Eight, Five, Four, Planes, Six, Three, Two};
use super::{DType, F16, F32, QuantType};
use crate::simd::{LANES, Simd};

/// What tells the types apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupAffine {
    pub bits: usize,
    /// Values that share a scale.
    pub group: usize,
    /// The type of scales and biases: F16, BF16 or F32.
    pub scales: DType,
}

impl GroupAffine {
    pub const BITS: [usize; 6] = [2, 3, 4, 5, 6, 8];
    pub const GROUPS: [usize; 3] = [32, 64, 128];
    const SCALES: [DType; 3] = [DType::F16, DType::BF16, DType::F32];

    /// The type, if it is one.
    pub fn dtype(self) -> Option<DType> {
        let bits = Self::BITS.iter().position(|bits| *bits == self.bits)?;
        let group = Self::GROUPS.iter().position(|group| *group == self.group)?;
        let scales = Self::SCALES.iter().position(|scales| *scales == self.scales)?;
        Some(DType(&TYPES[(bits * Self::GROUPS.len() + group) * Self::SCALES.len() + scales]))
    }

    /// What the type is, if it is affine.
    pub fn of(dtype: DType) -> Option<Self> {
        let at = TYPES.iter().position(|row| DType(row) == dtype)?;
        let (groups, scales) = (Self::GROUPS.len(), Self::SCALES.len());
        Some(Self {
            bits: Self::BITS[at / (groups * scales)],
            group: Self::GROUPS[at / scales % groups],
            scales: Self::SCALES[at % scales],
        })
    }
}

macro_rules! types {
    ($($bits:literal)*) => { [$(
        row::<$bits, 32, 1, F16>(concat!("AFFINE", $bits, "_G32_F16")),
        row::<$bits, 32, 1, Bf16>(concat!("AFFINE", $bits, "_G32_BF16")),
        row::<$bits, 32, 1, F32>(concat!("AFFINE", $bits, "_G32_F32")),
        row::<$bits, 64, 2, F16>(concat!("AFFINE", $bits, "_G64_F16")),
        row::<$bits, 64, 2, Bf16>(concat!("AFFINE", $bits, "_G64_BF16")),
        row::<$bits, 64, 2, F32>(concat!("AFFINE", $bits, "_G64_F32")),
        row::<$bits, 128, 2, F16>(concat!("AFFINE", $bits, "_G128_F16")),
        row::<$bits, 128, 2, Bf16>(concat!("AFFINE", $bits, "_G128_BF16")),
        row::<$bits, 128, 2, F32>(concat!("AFFINE", $bits, "_G128_F32")),
    )*] };
}

/// By bits, groups and scales, in the order of [`GroupAffine`].
pub(super) static TYPES: [QuantType; 54] = types!(2 3 4 5 6 8);

const fn row<const BITS: usize, const GROUP: usize, const SUBS: usize, E: Scale>(name: &'static str) -> QuantType
where
    Codes<BITS>: Bits,
{
    QuantType {
        name,
        ggml_id: None,
        block: GROUP,
        bytes: bytes::<BITS, GROUP, E>(),
        decode: decode::<BITS, GROUP, E>,
        // A body for all tiers: the compiler finds what there is to find.
        encode: Some(|_, values, blocks| encode::<BITS, GROUP, E>(values, blocks)),
        encode_weighted: None,
        finite: |blocks| {
            let numbers = |block: &[u8]| E::get(block).is_finite() && E::get(&block[E::BYTES..]).is_finite();
            blocks.chunks_exact(bytes::<BITS, GROUP, E>()).all(numbers)
        },
        run: RunLayout { pack: pack::<BITS, GROUP, SUBS, E>, ..panel::quantized::<InPanels<BITS, SUBS, E>>() },
    }
}

const fn bytes<const BITS: usize, const GROUP: usize, E: Scale>() -> usize {
    2 * E::BYTES + GROUP * BITS / 8
}

/// A type of scales.
trait Scale: Element {
    /// The number at the beginning of `bytes`.
    fn get(bytes: &[u8]) -> f32;
    /// Writes the nearest number there.
    fn put(value: f32, bytes: &mut [u8]);
}

impl Scale for F16 {
    #[inline(always)]
    fn get(bytes: &[u8]) -> f32 {
        f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }

    fn put(value: f32, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    }
}

impl Scale for Bf16 {
    #[inline(always)]
    fn get(bytes: &[u8]) -> f32 {
        bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }

    fn put(value: f32, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&bf16::from_f32(value).to_le_bytes());
    }
}

impl Scale for F32 {
    #[inline(always)]
    fn get(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn put(value: f32, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The planes for q of so many bits.
trait Bits {
    type Planes: Planes;
}

struct Codes<const BITS: usize>;

impl Bits for Codes<2> {
    type Planes = Two;
}
impl Bits for Codes<3> {
    type Planes = Three;
}
impl Bits for Codes<4> {
    type Planes = Four;
}
impl Bits for Codes<5> {
    type Planes = Five;
}
impl Bits for Codes<6> {
    type Planes = Six;
}
impl Bits for Codes<8> {
    type Planes = Eight;
}

/// The q in `packed`, which has `BITS` bytes for eight of them.
#[inline(always)]
fn unpack<const BITS: usize>(packed: &[u8], q: &mut [u8]) {
    for (q, packed) in q.as_chunks_mut::<8>().0.iter_mut().zip(packed.as_chunks::<BITS>().0) {
        let mut word = [0; 8];
        word[..BITS].copy_from_slice(packed);
        let word = u64::from_le_bytes(word);
        for (i, q) in q.iter_mut().enumerate() {
            *q = (word >> (BITS * i)) as u8 & ((1 << BITS) - 1) as u8;
        }
    }
}

/// The inverse of [`unpack`].
fn put_packed<const BITS: usize>(q: &[u8], packed: &mut [u8]) {
    for (q, packed) in q.as_chunks::<8>().0.iter().zip(packed.as_chunks_mut::<BITS>().0) {
        let word = q.iter().enumerate().fold(0, |word, (i, q)| word | u64::from(*q) << (BITS * i));
        packed.copy_from_slice(&word.to_le_bytes()[..BITS]);
    }
}

fn decode<const BITS: usize, const GROUP: usize, E: Scale>(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.chunks_exact(bytes::<BITS, GROUP, E>()).zip(values.as_chunks_mut::<GROUP>().0) {
        let (scale, bias) = (E::get(b), E::get(&b[E::BYTES..]));
        let mut q = [0; GROUP];
        unpack::<BITS>(&b[2 * E::BYTES..], &mut q);
        v.iter_mut().zip(q).for_each(|(v, q)| *v = scale * f32::from(q) + bias);
    }
}

/// Encodes as MLX does, to its bytes.
///
/// The bias is the value of the largest magnitude, and the scale is such that 0 is among the values: a whole number of steps
/// away from the bias. The q are those of the scale and the bias before these are rounded to their type.
fn encode<const BITS: usize, const GROUP: usize, E: Scale>(values: &[f32], blocks: &mut [u8]) {
    /// No step is smaller.
    const LEAST: f32 = 1e-7;
    let top = ((1 << BITS) - 1) as f32;
    for (x, b) in values.as_chunks::<GROUP>().0.iter().zip(blocks.chunks_exact_mut(bytes::<BITS, GROUP, E>())) {
        let low = x.iter().fold(f32::INFINITY, |low, v| if *v < low { *v } else { low });
        let high = x.iter().fold(f32::NEG_INFINITY, |high, v| if high < *v { *v } else { high });
        let step = ((high - low) / top).max(LEAST);
        let (edge, step) = if low.abs() > high.abs() { (low, step) } else { (high, -step) };
        let steps = (edge / step).round_ties_even();
        let (scale, bias) = if steps == 0.0 { (step, 0.0) } else { (edge / steps, edge) };
        let q = x.map(|v| ((v - bias) / scale).round_ties_even().clamp(0.0, top) as u8);
        E::put(scale, b);
        E::put(bias, &mut b[E::BYTES..]);
        put_packed::<BITS>(&q, &mut b[2 * E::BYTES..]);
    }
}

/// How groups of `32 * SUBS` values stand in panels: the scales of 16 rows, then their biases.
struct InPanels<const BITS: usize, const SUBS: usize, E>(PhantomData<E>);

impl<const BITS: usize, const SUBS: usize, E: Scale> Packed for InPanels<BITS, SUBS, E>
where
    Codes<BITS>: Bits,
{
    type Planes = <Codes<BITS> as Bits>::Planes;

    const FILE_BYTES: usize = 2 * E::BYTES + SUBS * BLOCK * BITS / 8;
    const SUBS: usize = SUBS;
    const SCALE_BYTES: usize = 2 * LANES * E::BYTES;
    const MIN: bool = true;
    const FEW: bool = false;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        let (numbers, packed) = block.split_at(2 * E::BYTES);
        for (i, number) in numbers.chunks_exact(E::BYTES).enumerate() {
            scales[(i * LANES + row) * E::BYTES..][..E::BYTES].copy_from_slice(number);
        }
        let packed = packed.chunks_exact(BLOCK * BITS / 8);
        for (planes, packed) in planes.chunks_exact_mut(Self::Planes::COUNT * 64).zip(packed) {
            let mut q = [0; BLOCK];
            unpack::<BITS>(packed, &mut q);
            Self::Planes::put(planes, row, &q);
        }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { E::load::<S>(scales) }
    }

    #[inline(always)]
    unsafe fn min<S: Simd>(scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe {
            let bias = E::load::<S>(scales.add(LANES * E::BYTES));
            // Whole bytes are multiplied as 128 less than they are.
            if Self::Planes::WIDE { S::fma(E::load::<S>(scales), S::splat(128.0), bias) } else { bias }
        }
    }
}

/// Packs groups as several of `32 * SUBS` values with the same scale and bias.
fn pack<const BITS: usize, const GROUP: usize, const SUBS: usize, E: Scale>(rows: &[u8], cols: usize, panel: &mut [u8])
where
    Codes<BITS>: Bits,
{
    let pack = const { panel::quantized::<InPanels<BITS, SUBS, E>>() }.pack;
    if GROUP == SUBS * BLOCK {
        return pack(rows, cols, panel);
    }
    let parts = rows.chunks_exact(bytes::<BITS, GROUP, E>()).flat_map(|block| {
        let (numbers, packed) = block.split_at(2 * E::BYTES);
        packed.chunks_exact(SUBS * BLOCK * BITS / 8).flat_map(move |packed| numbers.iter().chain(packed))
    });
    pack(&parts.copied().collect::<Vec<_>>(), cols, panel);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_where_they_are_looked_up() {
        for dtype in TYPES.iter().map(DType) {
            let affine = GroupAffine::of(dtype).unwrap();
            let GroupAffine { bits, group, scales } = affine;
            assert_eq!(affine.dtype(), Some(dtype));
            assert_eq!(dtype.name, format!("AFFINE{bits}_G{group}_{scales}"));
            assert_eq!((dtype.block, dtype.bytes), (group, 2 * scales.bytes + group * bits / 8));
        }
        assert_eq!(GroupAffine { bits: 7, group: 64, scales: DType::F16 }.dtype(), None);
        assert_eq!(GroupAffine { bits: 4, group: 16, scales: DType::F16 }.dtype(), None);
        assert_eq!(GroupAffine::of(DType::Q4_1), None);
    }
}
