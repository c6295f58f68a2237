//! Pages of keys and values.

use super::weights::HeadDims;
use crate::backend::{BackendError, KvType};
use crate::buffer::Buffer;
use crate::ops::cache::HeadLayout;

/// All pages of a program. A page holds the keys and values of [`PAGE`](crate::ops::cache::PAGE) positions, layer by layer, KV head by KV head.
pub struct Pages {
    pub kv: KvType,
    /// Where the first KV head of each layer lies, if it has any.
    layers: Vec<HeadLayout>,
    page_bytes: usize,
    pages: Vec<Buffer<u8>>,
}

impl Pages {
    /// Pages for layers with these heads, if they have any, in order; a layer may read those of an earlier one instead of its
    /// own.
    pub fn new(layers: impl Iterator<Item = Option<(HeadDims, Option<usize>)>>, kv: KvType) -> Self {
        let (mut page_bytes, mut layouts) = (0, Vec::new());
        for layer in layers {
            let (dims, reads) = layer.unwrap_or((HeadDims { heads: 0, kv_heads: 0, head_dim: 0 }, None));
            let own = HeadLayout { head_dim: dims.padded_head(), kv, offset: page_bytes };
            if reads.is_none() {
                page_bytes += dims.kv_heads * 2 * own.part_bytes();
            }
            layouts.push(reads.map_or(own, |layer| layouts[layer]));
        }
        Self { kv, layers: layouts, page_bytes, pages: Vec::new() }
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
        let first = self.layers[layer];
        HeadLayout { offset: first.offset + kv_head * 2 * first.part_bytes(), ..first }
    }

    /// The start of page `page`.
    pub fn ptr(&self, page: u32) -> *mut u8 {
        self.pages[page as usize].ptr()
    }
}
