//! Bit planes of the run layout: bit pairs or nibbles, and above them one, two or four more bits.

use std::marker::PhantomData;

use crate::simd::Simd;

/// Where the 32 values of a sub-block stand, for sixteen rows.
pub trait Planes: 'static {
    /// Planes of 64 bytes.
    const COUNT: usize;
    /// Whether a value takes all eight bits.
    const WIDE: bool = false;

    /// Writes the values of row `row`; `planes` is `[COUNT][64]`, zero before the first row.
    fn put(planes: &mut [u8], row: usize, q: &[u8; 32]);

    /// Columns `4j..4j + 4` and `16 + 4j..20 + 4j` of all rows, j in 0..4.
    ///
    /// # Safety
    /// As [`Simd`]; `planes` has `COUNT * 64` bytes.
    unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B);
}

/// 32 bytes as words of four, so that shifts work on four at a time.
#[inline(always)]
pub(super) fn words(bytes: &[u8; 32]) -> [u32; 8] {
    std::array::from_fn(|g| u32::from_le_bytes([bytes[4 * g], bytes[4 * g + 1], bytes[4 * g + 2], bytes[4 * g + 3]]))
}

/// The bytes of [`words`].
#[inline(always)]
pub(super) fn bytes(words: [u32; 8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    out
}

/// One bit: bit g belongs to columns `4g..4g + 4`.
pub struct One;

impl Planes for One {
    const COUNT: usize = 1;

    #[inline(always)]
    fn put(planes: &mut [u8], row: usize, q: &[u8; 32]) {
        let bits = words(q).iter().enumerate().fold(0, |bits, (g, w)| bits | (w & 0x0101_0101) << g);
        planes[row * 4..][..4].copy_from_slice(&bits.to_le_bytes());
    }

    #[inline(always)]
    unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B) {
        // SAFETY: the plane has 64 bytes.
        unsafe {
            let bits = S::load_b(planes);
            let (first, second) = match j {
                0 => (bits, S::shr_b::<4>(bits)),
                1 => (S::shr_b::<1>(bits), S::shr_b::<5>(bits)),
                2 => (S::shr_b::<2>(bits), S::shr_b::<6>(bits)),
                _ => (S::shr_b::<3>(bits), S::shr_b::<7>(bits)),
            };
            let mask = S::splat_b(1);
            (S::and(first, mask), S::and(second, mask))
        }
    }
}

/// Bit pairs: two planes, for columns 0–15 and 16–31. Pair j belongs to columns `4j..4j + 4` of them.
pub struct Two;

impl Planes for Two {
    const COUNT: usize = 2;

    #[inline(always)]
    fn put(planes: &mut [u8], row: usize, q: &[u8; 32]) {
        for (half, four) in words(q).as_chunks::<4>().0.iter().enumerate() {
            let pairs = four.iter().enumerate().fold(0, |pairs, (j, w)| pairs | (w & 0x0303_0303) << (2 * j));
            planes[half * 64 + row * 4..][..4].copy_from_slice(&pairs.to_le_bytes());
        }
    }

    #[inline(always)]
    unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B) {
        // SAFETY: the planes have 128 bytes.
        unsafe {
            let (first, second) = (S::load_b(planes), S::load_b(planes.add(64)));
            let (first, second) = match j {
                0 => (first, second),
                1 => (S::shr_b::<2>(first), S::shr_b::<2>(second)),
                2 => (S::shr_b::<4>(first), S::shr_b::<4>(second)),
                _ => (S::shr_b::<6>(first), S::shr_b::<6>(second)),
            };
            let mask = S::splat_b(3);
            (S::and(first, mask), S::and(second, mask))
        }
    }
}

/// Bit pairs and a plane of third bits: bit g belongs to columns `4g..4g + 4`.
pub struct Three;

impl Planes for Three {
    const COUNT: usize = 3;

    #[inline(always)]
    fn put(planes: &mut [u8], row: usize, q: &[u8; 32]) {
        Two::put(planes, row, q);
        let high = words(q).iter().enumerate().fold(0, |high, (g, w)| high | (w >> 2 & 0x0101_0101) << g);
        planes[128 + row * 4..][..4].copy_from_slice(&high.to_le_bytes());
    }

    #[inline(always)]
    unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B) {
        // SAFETY: the planes have 192 bytes and j < 4.
        unsafe {
            let (low, high) = Two::get::<S>(planes, j);
            let bits = S::load_b(planes.add(128));
            let (first, second) = match j {
                0 => (S::shl_b::<2>(bits), S::shr_b::<2>(bits)),
                1 => (S::shl_b::<1>(bits), S::shr_b::<3>(bits)),
                2 => (bits, S::shr_b::<4>(bits)),
                _ => (S::shr_b::<1>(bits), S::shr_b::<5>(bits)),
            };
            let mask = S::splat_b(4);
            (S::or(low, S::and(first, mask)), S::or(high, S::and(second, mask)))
        }
    }
}

/// What values below 16 stand for.
pub trait Codebook: 'static {
    /// Unsigned bytes, which [`Packed::BIAS`](super::panel::Packed::BIAS) is subtracted from; 128 where they are wide.
    const TABLE: [u8; 16];
    /// Whether they take all eight bits.
    const WIDE: bool = false;
}

/// Planes P of places in a codebook.
pub struct Coded<P, C>(PhantomData<(P, C)>);

impl<P: Planes, C: Codebook> Planes for Coded<P, C> {
    const COUNT: usize = P::COUNT;
    const WIDE: bool = C::WIDE;

    #[inline(always)]
    fn put(planes: &mut [u8], row: usize, q: &[u8; 32]) {
        P::put(planes, row, q);
    }

    #[inline(always)]
    unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B) {
        // SAFETY: the caller's promise; places are below 16.
        unsafe {
            let (first, second) = P::get::<S>(planes, j);
            (S::lookup(&C::TABLE, first), S::lookup(&C::TABLE, second))
        }
    }
}

/// The low nibbles: four planes.
pub struct Four;

impl Planes for Four {
    const COUNT: usize = 4;

    #[inline(always)]
    fn put(planes: &mut [u8], row: usize, q: &[u8; 32]) {
        let w = words(q);
        for j in 0..4 {
            let nibbles = w[j] & 0x0F0F_0F0F | (w[j + 4] & 0x0F0F_0F0F) << 4;
            planes[j * 64 + row * 4..][..4].copy_from_slice(&nibbles.to_le_bytes());
        }
    }

    #[inline(always)]
    unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B) {
        // SAFETY: the planes have 256 bytes and j < 4.
        unsafe {
            let both = S::load_b(planes.add(j * 64));
            let mask = S::splat_b(15);
            (S::and(both, mask), S::and(S::shr_b::<4>(both), mask))
        }
    }
}

/// Writes into [`Four`] bytes that already pair columns i and 16 + i.
#[inline(always)]
pub(super) fn put_nibbles(planes: &mut [u8], row: usize, nibbles: &[u8; 16]) {
    for (j, four) in nibbles.as_chunks::<4>().0.iter().enumerate() {
        planes[j * 64 + row * 4..][..4].copy_from_slice(four);
    }
}

/// Nibbles and a plane of fifth bits: bit g belongs to columns `4g..4g + 4`.
pub struct Five;

impl Planes for Five {
    const COUNT: usize = 5;

    #[inline(always)]
    fn put(planes: &mut [u8], row: usize, q: &[u8; 32]) {
        Four::put(planes, row, q);
        let high = words(q).iter().enumerate().fold(0, |high, (g, w)| high | (w >> 4 & 0x0101_0101) << g);
        planes[256 + row * 4..][..4].copy_from_slice(&high.to_le_bytes());
    }

    #[inline(always)]
    unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B) {
        // SAFETY: the planes have 320 bytes and j < 4.
        unsafe {
            let (low, high) = Four::get::<S>(planes, j);
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
pub struct Six;

impl Planes for Six {
    const COUNT: usize = 6;

    #[inline(always)]
    fn put(planes: &mut [u8], row: usize, q: &[u8; 32]) {
        Four::put(planes, row, q);
        for (half, four) in words(q).as_chunks::<4>().0.iter().enumerate() {
            let high = four.iter().enumerate().fold(0, |high, (j, w)| high | (w >> 4 & 0x0303_0303) << (2 * j));
            planes[256 + half * 64 + row * 4..][..4].copy_from_slice(&high.to_le_bytes());
        }
    }

    #[inline(always)]
    unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B) {
        // SAFETY: the planes have 384 bytes and j < 4.
        unsafe {
            let (low, high) = Four::get::<S>(planes, j);
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
pub struct Eight;

impl Planes for Eight {
    const COUNT: usize = 8;
    const WIDE: bool = true;

    #[inline(always)]
    fn put(planes: &mut [u8], row: usize, q: &[u8; 32]) {
        for (g, four) in q.as_chunks::<4>().0.iter().enumerate() {
            planes[g * 64 + row * 4..][..4].copy_from_slice(four);
        }
    }

    #[inline(always)]
    unsafe fn get<S: Simd>(planes: *const u8, j: usize) -> (S::B, S::B) {
        // SAFETY: the planes have 512 bytes and j < 4.
        unsafe { (S::load_b(planes.add(j * 64)), S::load_b(planes.add((j + 4) * 64))) }
    }
}
