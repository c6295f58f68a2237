//! Pages of keys and values.

use super::weights::Dims;
use crate::backend::{BackendError, KvType};
use crate::buffer::Buffer;
use crate::ops::cache::HeadLayout;

/// All pages of a program. A page holds the keys and values of [`PAGE`](crate::ops::cache::PAGE) positions, layer by layer, KV head by KV head.
pub struct Pages {
    pub kv: KvType,
    kv_heads: usize,
    head_dim: usize,
    page_bytes: usize,
    pages: Vec<Buffer<u8>>,
}

impl Pages {
    pub fn new(dims: &Dims, layers: usize, kv: KvType) -> Self {
        let mut pages =
            Self { kv, kv_heads: dims.kv_heads, head_dim: dims.padded_head(), page_bytes: 0, pages: Vec::new() };
        pages.page_bytes = layers * dims.kv_heads * 2 * pages.head(0, 0).part_bytes();
        pages
    }

    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Grows to `count` pages.
    pub fn reserve(&mut self, count: usize) -> Result<(), BackendError> {
        let before = self.pages.len();
        while self.pages.len() < count {
            match Buffer::zeroed(self.page_bytes) {
                Some(page) => self.pages.push(page),
                None => {
                    self.pages.truncate(before);
                    return Err(BackendError::Memory { what: "keys and values", bytes: count * self.page_bytes });
                }
            }
        }
        Ok(())
    }

    pub fn copy(&mut self, from: usize, to: usize) {
        if from != to {
            // SAFETY: two pages, borrowed exclusively through `self`.
            unsafe {
                let bytes = self.pages[from].slice(0, self.page_bytes);
                self.pages[to].slice_mut(0, self.page_bytes).copy_from_slice(bytes);
            }
        }
    }

    /// Where a layer's KV head lies in a page.
    pub fn head(&self, layer: usize, kv_head: usize) -> HeadLayout {
        let mut layout = HeadLayout { head_dim: self.head_dim, kv: self.kv, offset: 0 };
        layout.offset = (layer * self.kv_heads + kv_head) * 2 * layout.part_bytes();
        layout
    }

    /// The start of page `page`.
    pub fn ptr(&self, page: u32) -> *mut u8 {
        self.pages[page as usize].ptr()
    }
}
