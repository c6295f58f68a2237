//! TQ1_0: 256 values, `d * (q - 1)`, q in 0..3. Block: 52 bytes of five values each, f16 `d`. A byte is a fraction of 256
//! whose digits in base three are the values, the first one leading: bytes 0–31 have values i, 32 + i, …, 128 + i, bytes
//! 32–47 values 160 + i, 176 + i, …, 224 + i, and bytes 48–51 the four values 240 + i, …, 252 + i.

use super::encode::{Encode, encode, finite_halves};
use super::panel::{self, Packed};
use super::planes::Planes;
use super::{QuantType, f16_at, planes, tq2_0};
use crate::simd::Simd;

const BYTES: usize = 54;
/// Bytes, and values in each, of the three parts of a block.
const PARTS: [(usize, usize); 3] = [(32, 5), (16, 5), (4, 4)];

pub(super) static TYPE: QuantType = QuantType {
    name: "TQ1_0",
    ggml_id: Some(34),
    block: 256,
    bytes: BYTES,
    decode,
    encode: Some(encode::<Tq10>),
    encode_weighted: None,
    finite: |blocks| finite_halves(blocks, BYTES, &[52]),
    run: panel::quantized::<Tq10>(),
};

fn decode(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.as_chunks::<BYTES>().0.iter().zip(values.as_chunks_mut::<256>().0) {
        let d = f16_at(b, 52);
        v.iter_mut().zip(quants(b)).for_each(|(v, q)| *v = (f32::from(q) - 1.0) * d);
    }
}

/// The values, each in 0..3 whatever the bytes are.
#[inline(always)]
fn quants(block: &[u8; BYTES]) -> [u8; 256] {
    let mut q = [0; 256];
    let (mut bytes, mut rest) = (&block[..52], &mut q[..]);
    for (count, digits) in PARTS {
        let (part, later) = bytes.split_at(count);
        let (of_part, others) = rest.split_at_mut(count * digits);
        for (i, byte) in part.iter().enumerate() {
            let mut fraction = *byte;
            for digit in 0..digits {
                let tripled = u16::from(fraction) * 3;
                of_part[digit * count + i] = (tripled >> 8) as u8;
                fraction = tripled as u8;
            }
        }
        (bytes, rest) = (later, others);
    }
    q
}

/// The inverse of [`quants`]: fractions are rounded up.
#[inline(always)]
fn pack(q: &[u8; 256], block: &mut [u8]) {
    let (mut bytes, mut rest) = (block, &q[..]);
    for (count, digits) in PARTS {
        let (part, later) = bytes.split_at_mut(count);
        let (of_part, others) = rest.split_at(count * digits);
        for (i, byte) in part.iter_mut().enumerate() {
            let digit = |digit| if digit < digits { u16::from(of_part[digit * count + i]) } else { 0 };
            let number = (0..5).fold(0, |number, at| number * 3 + digit(at));
            *byte = (number * 256).div_ceil(243) as u8;
        }
        (bytes, rest) = (later, others);
    }
}

/// How TQ1_0 is encoded and stands in panels.
struct Tq10;

impl Encode for Tq10 {
    #[inline(always)]
    unsafe fn encode<S: Simd>(values: &[f32], blocks: &mut [u8]) {
        for (x, block) in values.as_chunks::<256>().0.iter().zip(blocks.as_chunks_mut::<BYTES>().0) {
            let (d, q) = tq2_0::trits(x);
            pack(&q, &mut block[..52]);
            block[52..].copy_from_slice(&d);
        }
    }
}

impl Packed for Tq10 {
    type Planes = planes::Trits;

    const FILE_BYTES: usize = BYTES;
    const SUBS: usize = 8;
    const SCALE_BYTES: usize = 32;
    const BIAS: i32 = 1;
    const FEW: bool = false;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], scales: &mut [u8]) {
        let q = quants(block.first_chunk().expect("a whole block"));
        let (planes, shared) = planes.split_at_mut(Self::SUBS * Self::Planes::COUNT * 64);
        for (sub, (q, planes)) in q.as_chunks().0.iter().zip(planes.chunks_exact_mut(64)).enumerate() {
            Self::Planes::put(planes, row, q);
            Self::Planes::put_shared(shared, sub, row, q);
        }
        scales[2 * row..2 * row + 2].copy_from_slice(&block[52..]);
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, _sub: usize, _half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe { S::load_f16(scales) }
    }
}
