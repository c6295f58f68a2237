//! Blocks of each type from their parts.

use super::Parts;
use crate::quant::affine::{Scales, encode_header};
use crate::quant::encode::half;
use crate::quant::{iq4_xs, q2_k, q3_k, q4_0, q4_k, q5_0, q5_k, q6_k};

impl Parts {
    fn d(&self) -> [u8; 2] {
        half(self.d)
    }

    /// Of a type whose `dmin` is an offset to add.
    fn min(&self) -> [u8; 2] {
        half(-self.dmin)
    }

    /// The integers of a block of 32.
    fn q32(&self) -> &[u8; 32] {
        self.q.first_chunk().expect("256 integers")
    }

    /// What blocks of Q4_K and Q5_K begin with.
    fn header(&self, b: &mut [u8]) {
        let eight = |of: &[i8; 16]| std::array::from_fn(|i| of[i].cast_unsigned());
        let (scales, offsets) = (eight(&self.scales), eight(&self.mins));
        encode_header(&Scales { d: self.d(), dmin: half(self.dmin), scales, offsets }, 63, b);
    }
}

/// Also of IQ4_NL.
pub(super) fn q4_0(parts: &Parts, b: &mut [u8]) {
    b[..2].copy_from_slice(&parts.d());
    q4_0::pack(parts.q32(), &mut b[2..]);
}

pub(super) fn q4_1(parts: &Parts, b: &mut [u8]) {
    b[..2].copy_from_slice(&parts.d());
    b[2..4].copy_from_slice(&parts.min());
    q4_0::pack(parts.q32(), &mut b[4..]);
}

pub(super) fn q5_0(parts: &Parts, b: &mut [u8]) {
    b[..2].copy_from_slice(&parts.d());
    q5_0::pack(parts.q32(), b[2..].first_chunk_mut().expect("20 bytes follow"));
}

pub(super) fn q5_1(parts: &Parts, b: &mut [u8]) {
    b[..2].copy_from_slice(&parts.d());
    b[2..4].copy_from_slice(&parts.min());
    q5_0::pack(parts.q32(), b[4..].first_chunk_mut().expect("20 bytes follow"));
}

pub(super) fn q8_0(parts: &Parts, b: &mut [u8]) {
    b[..2].copy_from_slice(&parts.d());
    for (b, q) in b[2..].iter_mut().zip(parts.q32()) {
        *b = q.wrapping_sub(127);
    }
}

pub(super) fn q2_k(parts: &Parts, b: &mut [u8]) {
    for (b, (scale, min)) in b.iter_mut().zip(parts.scales.iter().zip(&parts.mins)) {
        *b = scale.cast_unsigned() | min.cast_unsigned() << 4;
    }
    q2_k::pack_pairs(&parts.q, &mut b[16..80]);
    b[80..82].copy_from_slice(&parts.d());
    b[82..].copy_from_slice(&half(parts.dmin));
}

pub(super) fn q3_k(parts: &Parts, b: &mut [u8]) {
    q3_k::pack((parts.d(), parts.scales, parts.q), b.first_chunk_mut().expect("a whole block"));
}

pub(super) fn q4_k(parts: &Parts, b: &mut [u8]) {
    parts.header(b);
    q4_k::pack_nibbles(&parts.q, &mut b[16..]);
}

pub(super) fn q5_k(parts: &Parts, b: &mut [u8]) {
    parts.header(b);
    q5_k::pack(&parts.q, &mut b[16..]);
}

pub(super) fn q6_k(parts: &Parts, b: &mut [u8]) {
    q6_k::pack(&parts.q, parts.scales, parts.d(), b.first_chunk_mut().expect("a whole block"));
}

pub(super) fn iq4_xs(parts: &Parts, b: &mut [u8]) {
    b[..2].copy_from_slice(&parts.d());
    iq4_xs::pack_scales(parts.scales.first_chunk().expect("16 scales"), b);
    for (q, b) in parts.q.as_chunks::<32>().0.iter().zip(b[8..].as_chunks_mut::<16>().0) {
        q4_0::pack(q, b);
    }
}
