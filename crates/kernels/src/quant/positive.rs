//! A scale for values that are not negative, but for few: `x ≈ scale * q`, with whole q from 0 to a number of levels.
//!
//! Scales around the one that takes the largest value to the highest level are tried, and the one with the least error
//! gives the integers. Then, one value after the other and at most five times over, the integer that fits best to all
//! others replaces a value's own where that explains more of the squares. The scale is the least-squares one of the
//! integers. As in ggml, integers are bytes: those of negative values wrap.

use super::encode::nearest;

/// Scales that are tried beside the first one, and how far they are apart.
const AROUND: [f32; 8] = [-4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0];
const APART: f32 = 0.1;
/// How often all values are looked at.
const ROUNDS: usize = 5;

/// The best scale of values with weights, the largest of which is above 0.
#[inline(always)]
pub(super) fn scale<const N: usize>(x: &[f32; N], w: &[f32; N], levels: i32) -> f32 {
    let largest = x.iter().fold(0.0, |m, v| if m > *v { m } else { *v });
    let highest = levels as f32;
    let mut inverse = highest / largest;
    let first = 1.0 / inverse;
    let mut least = 0.0;
    for (x, w) in x.iter().zip(w) {
        let difference = x - first * f32::from(nearest(inverse * x) as u8);
        least += w * difference * difference;
    }
    let inverses = AROUND.map(|step| (APART * step + highest) / largest);
    let tried = inverses.map(|inverse| 1.0 / inverse);
    let mut errors = [0.0; AROUND.len()];
    for (x, w) in x.iter().zip(w) {
        for ((error, inverse), tried) in errors.iter_mut().zip(&inverses).zip(&tried) {
            let difference = x - tried * nearest(inverse * x).min(levels) as f32;
            *error += w * difference * difference;
        }
    }
    for (error, tried) in errors.iter().zip(&inverses) {
        if *error < least {
            (least, inverse) = (*error, *tried);
        }
    }

    let mut q = [0u8; N];
    // Σ w x q and Σ w q².
    let (mut sum_xq, mut sum_qq) = (0.0, 0.0);
    for ((x, w), q) in x.iter().zip(w).zip(&mut q) {
        let whole = nearest(inverse * x).min(levels);
        *q = whole as u8;
        sum_xq += w * x * whole as f32;
        sum_qq += w * whole as f32 * whole as f32;
    }
    for _ in 0..ROUNDS {
        let mut changed = false;
        for ((x, w), q) in x.iter().zip(w).zip(&mut q) {
            let old = f32::from(*q);
            let mut new_xq = sum_xq - w * x * old;
            let mut new_qq = sum_qq - w * old * old;
            if new_xq > 0.0 && new_qq > 0.0 {
                let new = nearest(x * new_qq / new_xq).min(levels);
                if new != i32::from(*q) {
                    new_xq += w * x * new as f32;
                    new_qq += w * new as f32 * new as f32;
                    if new_xq * new_xq * sum_qq > sum_xq * sum_xq * new_qq {
                        (*q, sum_xq, sum_qq) = (new as u8, new_xq, new_qq);
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    if sum_qq > 0.0 { sum_xq / sum_qq } else { 0.0 }
}
