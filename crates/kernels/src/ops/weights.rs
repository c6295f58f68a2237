//! Where the int8 matmul takes sixteen rows of a block from: their panel, or bytes unpacked from it.

use std::marker::PhantomData;
use std::ops::Range;

use crate::quant::panel::{Packed, block_bytes, plane_bytes};
use crate::quant::planes::Planes;
use crate::simd::{LANES, Simd};

/// Blocks that are unpacked at once: two panels of them stay in a first-level cache of 32 KiB.
pub const UNPACKED_BLOCKS: usize = 16;
/// Bytes that a lone token's matmul fetches ahead.
const PREFETCH: usize = 4096;

/// The weights of one panel.
///
/// The safety of all functions: that of [`Simd`]; the block is one that the panel has.
#[allow(clippy::missing_safety_doc)]
pub trait Weights: Copy {
    /// Columns `4j..4j + 4` and `16 + 4j..20 + 4j` of block `block`, j in 0..4.
    unsafe fn values<S: Simd>(&self, block: usize, j: usize) -> (S::B, S::B);
    /// The scales of half `half` (0 unless the type has two) of block `block`.
    unsafe fn scale<S: Simd>(&self, block: usize, half: usize) -> S::F;
    /// The mins of block `block`.
    unsafe fn min<S: Simd>(&self, block: usize) -> S::F;
    /// Fetches what comes a while after block `block`.
    unsafe fn prefetch<S: Simd>(&self, _block: usize) {}
}

/// A panel as it is stored.
pub struct PackedPanel<P> {
    pub panel: *const u8,
    pub of: PhantomData<P>,
}

impl<P> Clone for PackedPanel<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for PackedPanel<P> {}

#[allow(clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks)] // As the trait says.
impl<P: Packed> PackedPanel<P> {
    /// The planes of block `block`, or where they would stand behind the last one.
    #[inline(always)]
    pub unsafe fn planes(&self, block: usize) -> *const u8 {
        self.panel.wrapping_add(block / P::SUBS * block_bytes::<P>() + block % P::SUBS * P::Planes::COUNT * 64)
    }

    #[inline(always)]
    unsafe fn scales(&self, block: usize) -> *const u8 {
        unsafe { self.panel.add(block / P::SUBS * block_bytes::<P>() + plane_bytes::<P>()) }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // As the trait says.
impl<P: Packed> Weights for PackedPanel<P> {
    #[inline(always)]
    unsafe fn values<S: Simd>(&self, block: usize, j: usize) -> (S::B, S::B) {
        unsafe { P::Planes::get::<S>(self.planes(block), j) }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(&self, block: usize, half: usize) -> S::F {
        unsafe { P::scale::<S>(self.scales(block), block % P::SUBS, half) }
    }

    #[inline(always)]
    unsafe fn min<S: Simd>(&self, block: usize) -> S::F {
        unsafe { P::min::<S>(self.scales(block), block % P::SUBS) }
    }

    #[inline(always)]
    unsafe fn prefetch<S: Simd>(&self, block: usize) {
        // Prefetching an address that does not exist does nothing.
        unsafe {
            let planes = self.planes(block).wrapping_add(PREFETCH);
            for plane in 0..P::Planes::COUNT {
                S::prefetch(planes.wrapping_add(plane * 64));
            }
            let line = block % P::SUBS * 64;
            if line < P::SCALE_BYTES {
                S::prefetch(self.scales(block).wrapping_add(PREFETCH + line));
            }
        }
    }
}

/// Room for R panels of [`UNPACKED_BLOCKS`] blocks.
#[repr(C, align(64))]
pub struct Unpacked<const R: usize> {
    /// `[panel, block, 8]`: four columns of sixteen rows each.
    values: [[[[u8; 64]; 8]; UNPACKED_BLOCKS]; R],
    /// `[panel, block, half]`
    scales: [[[[f32; LANES]; 2]; UNPACKED_BLOCKS]; R],
    /// `[panel, block]`
    mins: [[[f32; LANES]; UNPACKED_BLOCKS]; R],
}

/// One panel of an [`Unpacked`], addressed by the panel's own block numbers.
pub struct UnpackedPanel<P> {
    values: *mut [[u8; 64]; 8],
    scales: *mut [[f32; LANES]; 2],
    mins: *mut [f32; LANES],
    of: PhantomData<P>,
}

impl<P> Clone for UnpackedPanel<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for UnpackedPanel<P> {}

impl<P: Packed> UnpackedPanel<P> {
    /// Panel `r` of `room`, whose first block is the panel's block `first`.
    ///
    /// # Safety
    /// `room` is valid and r below R.
    #[inline(always)]
    pub unsafe fn at<const R: usize>(room: *mut Unpacked<R>, r: usize, first: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                values: (&raw mut (*room).values[r]).cast::<[[u8; 64]; 8]>().wrapping_sub(first),
                scales: (&raw mut (*room).scales[r]).cast::<[[f32; LANES]; 2]>().wrapping_sub(first),
                mins: (&raw mut (*room).mins[r]).cast::<[f32; LANES]>().wrapping_sub(first),
                of: PhantomData,
            }
        }
    }

    /// Unpacks some blocks, and fetches as many from `next` on, which come next.
    ///
    /// # Safety
    /// As [`Weights`]; the blocks are at most [`UNPACKED_BLOCKS`] from the first on.
    #[inline(always)]
    pub unsafe fn fill<S: Simd>(&self, from: &PackedPanel<P>, blocks: Range<usize>, next: *const u8) {
        // SAFETY: the caller's promise; prefetching an address that does not exist does nothing.
        unsafe {
            for line in 0..(blocks.len() * block_bytes::<P>()).div_ceil(P::SUBS * 64) {
                S::prefetch(next.wrapping_add(line * 64));
            }
            for block in blocks {
                let values = self.values.wrapping_add(block).cast::<u8>();
                for j in 0..4 {
                    let (first, second) = from.values::<S>(block, j);
                    S::store_b(values.add(j * 64), first);
                    S::store_b(values.add((j + 4) * 64), second);
                }
                for half in 0..if P::HALVES { 2 } else { 1 } {
                    let to = self.scales.wrapping_add(block).cast::<f32>().add(half * LANES);
                    S::store(to, from.scale::<S>(block, half));
                }
                if P::MIN {
                    S::store(self.mins.wrapping_add(block).cast(), from.min::<S>(block));
                }
            }
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // As the trait says; the blocks have been filled.
impl<P: Packed> Weights for UnpackedPanel<P> {
    #[inline(always)]
    unsafe fn values<S: Simd>(&self, block: usize, j: usize) -> (S::B, S::B) {
        let values = self.values.wrapping_add(block).cast::<u8>();
        unsafe { (S::load_b(values.add(j * 64)), S::load_b(values.add((j + 4) * 64))) }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(&self, block: usize, half: usize) -> S::F {
        unsafe { S::load(self.scales.wrapping_add(block).cast::<f32>().add(half * LANES)) }
    }

    #[inline(always)]
    unsafe fn min<S: Simd>(&self, block: usize) -> S::F {
        unsafe { S::load(self.mins.wrapping_add(block).cast()) }
    }
}
