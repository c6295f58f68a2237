//! From the q, k and v projections of a head to rotated queries and stored keys and values.

use super::cache::{HeadLayout, store};
use super::norm::RmsNorm;
use super::rope::rotate;
use crate::plan::RopeStyle;
use crate::simd::{Kernel, LANES, Simd};

/// What happens to a head before attention.
#[derive(Clone, Copy)]
pub struct HeadShape {
    /// Values of a head.
    pub head_dim: usize,
    /// `head_dim` rounded up to whole lanes.
    pub padded: usize,
    pub norm_eps: f32,
    pub style: RopeStyle,
    /// Rotated pairs.
    pub pairs: usize,
}

impl HeadShape {
    /// Norms (if there is a weight) and rotates the head at `from` into `to`.
    ///
    /// # Safety
    /// As [`Simd`]; `from` has `head_dim` values, the weight and `to` have `padded`; `angles` has the position's cosines and
    /// then its sines; nothing else touches `to`.
    #[inline(always)]
    pub unsafe fn prepare<S: Simd>(
        &self,
        from: *const f32,
        weight: Option<*const f32>,
        angles: *const f32,
        to: *mut f32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let whole = self.head_dim / LANES * LANES;
            for i in (0..whole).step_by(LANES) {
                S::store(to.add(i), S::load(from.add(i)));
            }
            for i in whole..self.head_dim {
                *to.add(i) = *from.add(i);
            }
            for i in self.head_dim..self.padded {
                *to.add(i) = 0.0;
            }
            if let Some(weight) = weight {
                let (cols, len, eps) = (self.padded, self.head_dim, self.norm_eps);
                RmsNorm { x: to, add: None, weight, out: to, cols, len, eps }.body::<S>();
            }
            rotate::<S>(self.style, to, angles, angles.add(self.pairs), self.pairs);
        }
    }
}

/// Stores the key and value of one head at one position.
///
/// Safety: `k` and `v` have `head_dim` values; `angles` as in [`HeadShape::prepare`]; `scratch` has `[2, padded]` values;
/// nothing else touches the scratch and the slot of the page, in which `layout` says where the head lies.
pub struct StoreKeyValue {
    pub shape: HeadShape,
    pub k: *const f32,
    pub v: *const f32,
    /// `padded` values, as those of the values' norm.
    pub k_norm: Option<*const f32>,
    pub v_norm: Option<*const f32>,
    pub angles: *const f32,
    pub scratch: *mut f32,
    pub layout: HeadLayout,
    pub page: *mut u8,
    pub slot: usize,
}

impl Kernel for StoreKeyValue {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: key and value have `padded` values, as the layout's heads.
        unsafe {
            let (key, value) = (self.scratch, self.scratch.add(self.shape.padded));
            self.shape.prepare::<S>(self.k, self.k_norm, self.angles, key);
            HeadShape { pairs: 0, ..self.shape }.prepare::<S>(self.v, self.v_norm, self.angles, value);
            store::<S>(self.layout, self.page, self.slot, key, value);
        }
    }
}
