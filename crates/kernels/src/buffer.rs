//! Memory that several threads fill in disjoint parts.

use std::marker::PhantomData;

use bytemuck::Zeroable;
use memmap2::MmapMut;

/// Buffers of at least this many bytes ask for huge pages.
const HUGE: usize = 4 << 20;

/// A zeroed array of plain values in pages of its own, accessed through a raw pointer. Pages that were never touched
/// take no memory.
#[derive(Debug)]
pub struct Buffer<T> {
    ptr: *mut T,
    len: usize,
    _pages: MmapMut,
    _values: PhantomData<T>,
}

// SAFETY: the buffer owns plain values; whoever writes through the pointer keeps threads apart.
unsafe impl<T: Send> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Buffer<T> {}

impl<T: Zeroable> Buffer<T> {
    /// `len` zeros, or `None` if there is not enough memory.
    pub fn zeroed(len: usize) -> Option<Self> {
        let bytes = len.checked_mul(size_of::<T>())?;
        let mut pages = MmapMut::map_anon(bytes.max(1)).ok()?;
        #[cfg(target_os = "linux")]
        if bytes >= HUGE {
            // A kernel without huge pages refuses; the buffer works all the same.
            let _ = pages.advise(memmap2::Advice::HugePage);
        }
        Some(Self { ptr: pages.as_mut_ptr().cast(), len, _pages: pages, _values: PhantomData })
    }
}

impl<T> Buffer<T> {
    /// The first value, at the start of a page. Writers promise that no one else reads or writes the same values at the
    /// same time.
    pub fn ptr(&self) -> *mut T {
        self.ptr
    }

    /// Bytes of the whole array.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }

    /// The whole array. Whoever writes through the pointer keeps readers of this slice away meanwhile.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: zeroed values are values; writers' promise.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }

    /// A part of the array.
    ///
    /// # Safety
    /// The range lies within the array, and nothing writes to it meanwhile.
    pub unsafe fn slice(&self, start: usize, len: usize) -> &[T] {
        debug_assert!(start + len <= self.len);
        // SAFETY: zeroed values are values; the caller promises the rest.
        unsafe { std::slice::from_raw_parts(self.ptr.add(start), len) }
    }

    /// A part of the array to write.
    ///
    /// # Safety
    /// The range lies within the array, and nothing else reads or writes it meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice_mut(&self, start: usize, len: usize) -> &mut [T] {
        debug_assert!(start + len <= self.len);
        // SAFETY: zeroed values are values; the caller promises the rest.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }
}
