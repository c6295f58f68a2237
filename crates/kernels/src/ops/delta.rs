//! The gated delta rule, position by position.
//!
//! The columns of a state never meet, so sixteen of them are the lanes; sums over its rows go in order. So what a position
//! gives depends on the state before it and nothing else, however many positions are computed at once.

// State columns are walked by number, as in the matmuls.
#![allow(clippy::needless_range_loop)]

use crate::simd::{Kernel, LANES, Simd};

/// `x *= factor / sqrt(Σ x² + eps)`, over `len` values, a multiple of 16; summed as in [`super::norm::RmsNorm`].
///
/// Safety: x has as many values, which nothing else touches.
pub struct Length {
    pub x: *mut f32,
    pub len: usize,
    pub eps: f32,
    pub factor: f32,
}

impl Kernel for Length {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: all offsets are below `len`.
        unsafe {
            let mut squares = S::splat(0.0);
            for i in (0..self.len).step_by(LANES) {
                let v = S::load(self.x.add(i));
                squares = S::fma(v, v, squares);
            }
            let scale = S::splat(self.factor / (S::sum(squares) + self.eps).sqrt());
            for i in (0..self.len).step_by(LANES) {
                S::store(self.x.add(i), S::mul(S::load(self.x.add(i)), scale));
            }
        }
    }
}

/// How much each head keeps and takes: `alpha = e^(decay * softplus(alpha + dt_bias))`, `beta = sigmoid(beta)`; over `heads`
/// values, a multiple of 16.
///
/// Safety: all four have as many values; nothing else touches alpha and beta.
pub struct Rates {
    pub alpha: *mut f32,
    pub beta: *mut f32,
    pub dt_bias: *const f32,
    pub decay: *const f32,
    pub heads: usize,
}

impl Kernel for Rates {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: all offsets are below `heads`.
        unsafe {
            for i in (0..self.heads).step_by(LANES) {
                let (alpha, beta) = (self.alpha.add(i), self.beta.add(i));
                let step = softplus::<S>(S::add(S::load(alpha), S::load(self.dt_bias.add(i))));
                S::store(alpha, S::exp(S::mul(S::load(self.decay.add(i)), step)));
                S::store(beta, sigmoid::<S>(S::load(beta)));
            }
        }
    }
}

/// `1 / (1 + e^-x)`.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub unsafe fn sigmoid<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller's promise.
    unsafe { S::div(S::splat(1.0), S::add(S::splat(1.0), S::exp(S::sub(S::splat(0.0), x)))) }
}

/// `ln(1 + e^x)`, as `max(x, 0) + ln(1 + y)` with `y = e^-|x|`. With `z = y / (2 + y)`, at most 1/3, the logarithm is
/// `2 (z + z³/3 + z⁵/5 + …)`; what is left out after the eighth term is below 2^-29.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn softplus<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller's promise.
    unsafe {
        let y = S::exp(S::sub(S::splat(0.0), S::abs(x)));
        let z = S::div(y, S::add(S::splat(2.0), y));
        let square = S::mul(z, z);
        let mut series = S::splat(1.0 / 15.0);
        for odd in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
            series = S::fma(series, square, S::splat(1.0 / odd));
        }
        S::fma(S::mul(S::splat(2.0), z), series, S::max(x, S::splat(0.0)))
    }
}

/// Moves the state of one head on by some positions: `S *= alpha; S += k (beta (v - Sᵀk))ᵀ; out = Sᵀq`.
///
/// Safety: `key_dim` and `value_dim` are as many values as `state`, `q`, `k`, `v` and `out` have at each position;
/// `value_dim` is a multiple of 16; nothing else touches the state and `out`.
pub struct DeltaRule {
    /// `[key_dim, value_dim]`.
    pub state: *mut f32,
    pub key_dim: usize,
    pub value_dim: usize,
    pub positions: usize,
    pub q: *const f32,
    pub k: *const f32,
    pub v: *const f32,
    /// Values from one position of q, k and v to the next.
    pub stride: usize,
    /// One number each.
    pub alpha: *const f32,
    pub beta: *const f32,
    pub rate_stride: usize,
    pub out: *mut f32,
    pub out_stride: usize,
}

impl Kernel for DeltaRule {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        let (mut block, blocks) = (0, self.value_dim / LANES);
        // SAFETY: the blocks of columns exist.
        unsafe {
            // Independent sums hide the latency of an addition, as many as there are registers for; their part of the state stays
            // in a first-level cache.
            while S::FLOAT_TILE.0 > 1 && block + 4 <= blocks {
                self.columns::<S, 4>(block * LANES);
                block += 4;
            }
            while block + 2 <= blocks {
                self.columns::<S, 2>(block * LANES);
                block += 2;
            }
            if block < blocks {
                self.columns::<S, 1>(block * LANES);
            }
        }
    }
}

impl DeltaRule {
    /// All positions, for N times sixteen columns of the state.
    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize>(&self, first: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            for position in 0..self.positions {
                let at = position * self.stride;
                let (q, k, v) = (self.q.add(at), self.k.add(at), self.v.add(at + first));
                let rates = position * self.rate_stride;
                let (alpha, beta) = (S::splat(*self.alpha.add(rates)), S::splat(*self.beta.add(rates)));
                let column = |row: usize, n: usize| self.state.add(row * self.value_dim + first + n * LANES);
                let mut change = [S::splat(0.0); N];
                for row in 0..self.key_dim {
                    let key = S::splat(*k.add(row));
                    for n in 0..N {
                        change[n] = S::fma(S::load(column(row, n)), key, change[n]);
                    }
                }
                for n in 0..N {
                    let known = S::mul(change[n], alpha);
                    change[n] = S::mul(S::sub(S::load(v.add(n * LANES)), known), beta);
                }
                let mut out = [S::splat(0.0); N];
                for row in 0..self.key_dim {
                    let (key, query) = (S::splat(*k.add(row)), S::splat(*q.add(row)));
                    for n in 0..N {
                        let value = S::fma(key, change[n], S::mul(S::load(column(row, n)), alpha));
                        S::store(column(row, n), value);
                        out[n] = S::fma(value, query, out[n]);
                    }
                }
                for n in 0..N {
                    S::store(self.out.add(position * self.out_stride + first + n * LANES), out[n]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Tier;

    /// Far from zero on both sides, where exponentials leave nothing or everything.
    #[test]
    fn rates_are_those_of_the_formulas() {
        let alphas = [-200.0, -90.0, -20.0, -5.0, -1.0, -0.3, -1e-3, 0.0, 1e-3, 0.3, 1.0, 5.0, 20.0, 60.0, 90.0, 200.0];
        let betas = [-200.0, -87.0, -30.0, -9.0, -2.0, -0.5, -1e-6, 0.0, 1e-6, 0.5, 2.0, 9.0, 30.0, 87.0, 90.0, 200.0];
        let (dt_bias, decay) = ([0.25; LANES], [-0.7, -0.02].repeat(LANES / 2));
        for tier in Tier::all_available() {
            let (mut alpha, mut beta) = (alphas, betas);
            let rates = Rates {
                alpha: alpha.as_mut_ptr(),
                beta: beta.as_mut_ptr(),
                dt_bias: dt_bias.as_ptr(),
                decay: decay.as_ptr(),
                heads: LANES,
            };
            // SAFETY: the tier is available, and all have sixteen values.
            unsafe { tier.run(rates) }
            for i in 0..LANES {
                let x = f64::from(alphas[i]) + 0.25;
                let softplus = if x > 50.0 { x } else { x.exp().ln_1p() };
                let (kept, taken) = ((f64::from(decay[i]) * softplus).exp(), 1.0 / (1.0 + f64::from(-betas[i]).exp()));
                for (found, expected) in [(alpha[i], kept), (beta[i], taken)] {
                    let error = (f64::from(found) - expected).abs();
                    assert!(error <= 3e-6 * expected + 1e-37, "{}: {found} for {expected}", tier.name());
                }
            }
        }
    }
}
