//! From a row of q, k and v projections to rotated queries and stored keys and values.

use super::attention::HeadLayout;
use super::norm::RmsNorm;
use super::rope::rotate;
use crate::backend::KvType;
use crate::plan::RopeStyle;
use crate::simd::{Kernel, LANES, Simd};

/// What one position's projections become.
///
/// Safety: `q`, `k`, `v` have `heads * head_dim` and `kv_heads * head_dim` values; the norm weights (if given) and each
/// part of `scratch` have `padded` values; `queries` has `heads * padded`. Nothing else touches `queries`, `scratch` and
/// the slot of the page, in which `layout(kv_head)` says where a head lies.
pub struct Heads<'a, L> {
    pub q: *const f32,
    pub k: *const f32,
    pub v: *const f32,
    pub q_norm: Option<*const f32>,
    pub k_norm: Option<*const f32>,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// `head_dim` rounded up to whole lanes.
    pub padded: usize,
    pub norm_eps: f32,
    /// Multiplies the queries.
    pub scale: f32,
    pub style: RopeStyle,
    pub cos: &'a [f32],
    pub sin: &'a [f32],
    /// `[heads, padded]`, zero beyond `head_dim`.
    pub queries: *mut f32,
    pub kv: KvType,
    pub layout: L,
    pub page: *mut u8,
    pub slot: usize,
    /// `[2, padded]`, zero beyond `head_dim`.
    pub scratch: *mut f32,
}

impl<L: Fn(usize) -> HeadLayout> Kernel for Heads<'_, L> {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: heads lie behind one another within the promised lengths.
        unsafe {
            for head in 0..self.heads {
                let to = self.queries.add(head * self.padded);
                self.copy(self.q, head, to);
                self.norm_and_rotate::<S>(to, self.q_norm);
                for i in 0..self.head_dim {
                    *to.add(i) *= self.scale;
                }
            }
            let (key, value) = (self.scratch, self.scratch.add(self.padded));
            for head in 0..self.kv_heads {
                self.copy(self.k, head, key);
                self.norm_and_rotate::<S>(key, self.k_norm);
                self.copy(self.v, head, value);
                store::<S>(self.kv, (self.layout)(head), self.page, self.slot, key, value);
            }
        }
    }
}

impl<L> Heads<'_, L> {
    #[inline(always)]
    unsafe fn copy(&self, from: *const f32, head: usize, to: *mut f32) {
        // SAFETY: the head lies within the projection.
        unsafe { std::ptr::copy_nonoverlapping(from.add(head * self.head_dim), to, self.head_dim) }
    }

    #[inline(always)]
    unsafe fn norm_and_rotate<S: Simd>(&self, head: *mut f32, weight: Option<*const f32>) {
        // SAFETY: the head has `padded` values.
        unsafe {
            if let Some(weight) = weight {
                let (cols, len, eps) = (self.padded, self.head_dim, self.norm_eps);
                RmsNorm { x: head, add: None, weight, out: head, cols, len, eps }.body::<S>();
            }
            rotate(self.style, std::slice::from_raw_parts_mut(head, self.head_dim), self.cos, self.sin);
        }
    }
}

/// Stores one head's key and value in slot `slot` of a page. Halves saturate, so that a stored value is finite unless it
/// was NaN.
///
/// # Safety
/// As [`Simd`]; key and value have the layout's `head_dim` values, and nothing else touches the slot.
#[inline(always)]
unsafe fn store<S: Simd>(
    kv: KvType,
    layout: HeadLayout,
    page: *mut u8,
    slot: usize,
    key: *const f32,
    value: *const f32,
) {
    // SAFETY: offsets are within the head's part of the page, and lanes within the head.
    unsafe {
        let limit = half::f16::MAX.to_f32();
        let (low, high) = (S::splat(-limit), S::splat(limit));
        for i in (0..layout.head_dim).step_by(LANES) {
            let value_at = page.add(layout.value_offset(slot, i / LANES));
            match kv {
                KvType::F32 => {
                    S::store(value_at.cast(), S::load(value.add(i)));
                    for lane in i..i + LANES {
                        page.add(layout.key_offset(slot, lane)).cast::<f32>().write(*key.add(lane));
                    }
                }
                KvType::F16 => {
                    S::store_f16(value_at, S::min(high, S::max(low, S::load(value.add(i)))));
                    let mut halves = [0u16; LANES];
                    S::store_f16(halves.as_mut_ptr().cast(), S::min(high, S::max(low, S::load(key.add(i)))));
                    for (lane, half) in halves.into_iter().enumerate() {
                        page.add(layout.key_offset(slot, i + lane)).cast::<u16>().write(half);
                    }
                }
            }
        }
    }
}
