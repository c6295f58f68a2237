//! Where the int8 matmul takes sixteen rows of a block from: their panel, or bytes unpacked from it.

use std::marker::PhantomData;
use std::ops::Range;

use crate::quant::panel::{Packed, block_bytes, plane_bytes};
use crate::quant::planes::Planes;
use crate::simd::{LANES, Simd};

/// Blocks that are unpacked at once: three panels of them stay in a first-level cache of 48 KiB, two in one of 32 KiB.
pub const UNPACKED_BLOCKS: usize = 16;
/// Likewise for few tokens, so that what is unpacked next has room beside them.
pub(super) const UNPACKED_BLOCKS_OF_FEW: usize = 8;
/// Bytes from what is read to what the first-level cache gets meanwhile. Memory is kept busy by what is fetched further ahead;
/// this one hides the way from the second-level cache, behind which the arithmetic would wait and memory with it.
pub(super) const NEAR: usize = 3072;

/// The weights of one panel.
///
/// The safety of all functions: that of [`Simd`]; the block is one that the panel has.
#[allow(clippy::missing_safety_doc)]
pub trait Weights: Copy {
    /// Columns `4j..4j + 4` and `16 + 4j..20 + 4j` of block `block`, j in 0..4.
    unsafe fn values<S: Simd>(&self, block: usize, j: usize) -> (S::B, S::B);
    /// The scales of half `half` (0 unless the type has two) of block `block`.
    unsafe fn scale<S: Simd>(&self, block: usize, half: usize) -> S::F;
    /// The mins of half `half` (0 unless the type has two) of block `block`.
    unsafe fn min<S: Simd>(&self, block: usize, half: usize) -> S::F;
    /// Fetches what is needed a while after block `block`.
    unsafe fn prefetch<S: Simd>(&self, block: usize);
}

/// A panel as it is stored.
pub struct PackedPanel<P> {
    pub panel: *const u8,
    /// Bytes of a panel, beyond which others are fetched.
    pub bytes: usize,
    /// Bytes between its end and the panel that is read after it.
    pub skip: usize,
    /// Bytes from what is read to what is fetched meanwhile.
    pub ahead: usize,
    pub of: PhantomData<P>,
}

impl<P> Clone for PackedPanel<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for PackedPanel<P> {}

impl<P: Packed> PackedPanel<P> {
    /// Where the planes of block `block` stand in the panel.
    #[inline(always)]
    fn planes(&self, block: usize) -> usize {
        block / P::SUBS * block_bytes::<P>() + block % P::SUBS * P::Planes::COUNT * 64
    }

    #[inline(always)]
    fn scales(&self, block: usize) -> *const u8 {
        self.panel.wrapping_add(block / P::SUBS * block_bytes::<P>() + plane_bytes::<P>())
    }

    /// The planes that stand `ahead` bytes behind those of block `block`, counted on in the panel that is read after this.
    #[inline(always)]
    fn ahead(&self, block: usize, ahead: usize) -> *const u8 {
        let at = self.planes(block).wrapping_add(ahead);
        self.panel.wrapping_add(if at < self.bytes { at } else { at.wrapping_add(self.skip) })
    }

    /// Fetches the planes at `planes`, which need not exist, and a share of their scales as of block `block`.
    #[inline(always)]
    fn fetch(block: usize, planes: *const u8, fetch: impl Fn(*const u8)) {
        for plane in 0..P::Planes::COUNT {
            fetch(planes.wrapping_add(plane * 64));
        }
        // Shared planes and scales stand behind the planes of all sub-blocks.
        let line = block % P::SUBS * 64;
        if line < P::Planes::SHARED * 64 + P::SCALE_BYTES {
            let to_others = (P::SUBS - block % P::SUBS) * P::Planes::COUNT * 64;
            fetch(planes.wrapping_add(to_others + line));
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // As the trait says.
impl<P: Packed> Weights for PackedPanel<P> {
    #[inline(always)]
    unsafe fn values<S: Simd>(&self, block: usize, j: usize) -> (S::B, S::B) {
        let sub = block % P::SUBS;
        unsafe {
            let planes = self.panel.add(self.planes(block));
            P::Planes::get::<S>(planes, planes.add((P::SUBS - sub) * P::Planes::COUNT * 64), sub, j)
        }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(&self, block: usize, half: usize) -> S::F {
        unsafe { P::scale::<S>(self.scales(block), block % P::SUBS, half) }
    }

    #[inline(always)]
    unsafe fn min<S: Simd>(&self, block: usize, half: usize) -> S::F {
        unsafe { P::min::<S>(self.scales(block), block % P::SUBS, half) }
    }

    #[inline(always)]
    unsafe fn prefetch<S: Simd>(&self, block: usize) {
        unsafe {
            // First what is needed first: behind lines that wait for memory it would wait too.
            if self.ahead > 0 {
                let near = self.panel.wrapping_add(self.planes(block) + NEAR);
                Self::fetch(block, near, |line| S::prefetch_near(line));
            }
            Self::fetch(block, self.ahead(block, self.ahead), |line| S::prefetch(line));
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
    /// `[panel, block, half]`
    mins: [[[[f32; LANES]; 2]; UNPACKED_BLOCKS]; R],
}

/// One panel of an [`Unpacked`], addressed by the panel's own block numbers.
pub struct UnpackedPanel<P> {
    values: *mut [[u8; 64]; 8],
    scales: *mut [[f32; LANES]; 2],
    mins: *mut [[f32; LANES]; 2],
    /// What is unpacked next: of this panel, the block as many blocks later, counted around.
    next: PackedPanel<P>,
    later: usize,
}

impl<P> Clone for UnpackedPanel<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for UnpackedPanel<P> {}

impl<P: Packed> UnpackedPanel<P> {
    /// Unpacks the blocks of `chunk` of panel `from` into part `r` of `room`. `next` is the panel and block that are
    /// unpacked next.
    ///
    /// # Safety
    /// As [`Weights`]; `room` is valid and has the part; the blocks are at most [`UNPACKED_BLOCKS`].
    #[inline(always)]
    pub unsafe fn fill<S: Simd, const R: usize>(
        room: *mut Unpacked<R>,
        r: usize,
        from: &PackedPanel<P>,
        chunk: Range<usize>,
        (next, block): (PackedPanel<P>, usize),
    ) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let to = Self {
                values: (&raw mut (*room).values[r]).cast::<[[u8; 64]; 8]>().wrapping_sub(chunk.start),
                scales: (&raw mut (*room).scales[r]).cast::<[[f32; LANES]; 2]>().wrapping_sub(chunk.start),
                mins: (&raw mut (*room).mins[r]).cast::<[[f32; LANES]; 2]>().wrapping_sub(chunk.start),
                next,
                later: block.wrapping_sub(chunk.start),
            };
            for block in chunk {
                let values = to.values.wrapping_add(block).cast::<u8>();
                for j in 0..4 {
                    let (first, second) = from.values::<S>(block, j);
                    S::store_b(values.add(j * 64), first);
                    S::store_b(values.add((j + 4) * 64), second);
                }
                for half in 0..if P::HALVES { 2 } else { 1 } {
                    let at = to.scales.wrapping_add(block).cast::<f32>().add(half * LANES);
                    S::store(at, from.scale::<S>(block, half));
                    if P::MIN {
                        let at = to.mins.wrapping_add(block).cast::<f32>().add(half * LANES);
                        S::store(at, from.min::<S>(block, half));
                    }
                }
            }
            to
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
    unsafe fn min<S: Simd>(&self, block: usize, half: usize) -> S::F {
        unsafe { S::load(self.mins.wrapping_add(block).cast::<f32>().add(half * LANES)) }
    }

    #[inline(always)]
    unsafe fn prefetch<S: Simd>(&self, block: usize) {
        let block = block.wrapping_add(self.later);
        // SAFETY: prefetching an address that does not exist does nothing.
        unsafe { PackedPanel::<P>::fetch(block, self.next.ahead(block, 0), |line| S::prefetch_near(line)) }
    }
}
