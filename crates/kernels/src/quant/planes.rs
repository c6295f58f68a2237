//! Bit planes of the run layout: nibbles, and above them one, two or four more bits.
//!
//! `put` writes the 32 values of a row into a sub-block's planes, `get` reads columns `4j..4j + 4` and
//! `16 + 4j..20 + 4j` of all sixteen rows. Planes are zero before the first `put`.

use crate::simd::Simd;

/// The low nibbles: four planes.
pub(super) mod four {
    use super::*;

    pub const PLANES: usize = 4;

    #[inline(always)]
    pub fn put(planes: &mut [u8], row: usize, q: &[u8; 32]) {
        let nibbles: [u8; 16] = std::array::from_fn(|i| q[i] & 15 | q[16 + i] << 4);
        put_nibbles(planes, row, &nibbles);
    }

    /// Writes bytes that already pair columns i and 16 + i.
    #[inline(always)]
    pub fn put_nibbles(planes: &mut [u8], row: usize, nibbles: &[u8; 16]) {
        for (j, four) in nibbles.as_chunks::<4>().0.iter().enumerate() {
            planes[j * 64 + row * 4..][..4].copy_from_slice(four);
        }
    }

    #[inline(always)]
    pub unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B) {
        // SAFETY: the planes have 256 bytes and j < 4.
        unsafe {
            let both = S::load_b(planes.add(j * 64));
            let mask = S::splat_b(15);
            (S::and(both, mask), S::and(S::shr_b::<4>(both), mask))
        }
    }
}

/// Nibbles and a plane of fifth bits: bit g belongs to columns `4g..4g + 4`.
pub(super) mod five {
    use super::*;

    pub const PLANES: usize = 5;

    #[inline(always)]
    pub fn put(planes: &mut [u8], row: usize, q: &[u8; 32]) {
        four::put(planes, row, q);
        let high = &mut planes[256 + row * 4..][..4];
        for (g, four) in q.as_chunks::<4>().0.iter().enumerate() {
            for (h, v) in high.iter_mut().zip(four) {
                *h |= (v >> 4 & 1) << g;
            }
        }
    }

    #[inline(always)]
    pub unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B) {
        // SAFETY: the planes have 320 bytes and j < 4.
        unsafe {
            let (low, high) = four::get::<S>(planes, j);
            let bits = S::load_b(planes.add(256));
            let (first, second) = match j {
                0 => (S::shl_b::<4>(bits), bits),
                1 => (S::shl_b::<3>(bits), S::shr_b::<1>(bits)),
                2 => (S::shl_b::<2>(bits), S::shr_b::<2>(bits)),
                _ => (S::shl_b::<1>(bits), S::shr_b::<3>(bits)),
            };
            let mask = S::splat_b(16);
            (S::or(low, S::and(first, mask)), S::or(high, S::and(second, mask)))
        }
    }
}

/// Nibbles and two planes of bit pairs, for columns 0–15 and 16–31: pair j belongs to columns `4j..4j + 4` of them.
pub(super) mod six {
    use super::*;

    pub const PLANES: usize = 6;

    #[inline(always)]
    pub fn put(planes: &mut [u8], row: usize, q: &[u8; 32]) {
        four::put(planes, row, q);
        for (g, four) in q.as_chunks::<4>().0.iter().enumerate() {
            let high = &mut planes[256 + g / 4 * 64 + row * 4..][..4];
            for (h, v) in high.iter_mut().zip(four) {
                *h |= (v >> 4 & 3) << (g % 4 * 2);
            }
        }
    }

    #[inline(always)]
    pub unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B) {
        // SAFETY: the planes have 384 bytes and j < 4.
        unsafe {
            let (low, high) = four::get::<S>(planes, j);
            let (first, second) = (S::load_b(planes.add(256)), S::load_b(planes.add(320)));
            let (first, second) = match j {
                0 => (S::shl_b::<4>(first), S::shl_b::<4>(second)),
                1 => (S::shl_b::<2>(first), S::shl_b::<2>(second)),
                2 => (first, second),
                _ => (S::shr_b::<2>(first), S::shr_b::<2>(second)),
            };
            let mask = S::splat_b(0x30);
            (S::or(low, S::and(first, mask)), S::or(high, S::and(second, mask)))
        }
    }
}

/// Whole bytes: plane g has columns `4g..4g + 4`.
pub(super) mod eight {
    use super::*;

    pub const PLANES: usize = 8;

    #[inline(always)]
    pub fn put(planes: &mut [u8], row: usize, q: &[u8; 32]) {
        for (g, four) in q.as_chunks::<4>().0.iter().enumerate() {
            planes[g * 64 + row * 4..][..4].copy_from_slice(four);
        }
    }

    #[inline(always)]
    pub unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B) {
        // SAFETY: the planes have 512 bytes and j < 4.
        unsafe { (S::load_b(planes.add(j * 64)), S::load_b(planes.add((j + 4) * 64))) }
    }
}
