//! What a CPU can do with sixteen lanes: a vocabulary that every kernel is written in once.
//!
//! A tier implements [`Simd`]; a kernel is a struct that implements [`Kernel`] with one body over any tier. All
//! operations are exact IEEE operations with the same result on every tier, so kernels give the same bits everywhere.
//! `max`, `min` and `select_lt` are defined by their comparison, NaN included.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;
mod tier;

#[cfg(test)]
mod tests;

pub use tier::{Tier, TierError};

/// Lanes of [`Simd::F`] and [`Simd::I`], and rows of a panel.
pub const LANES: usize = 16;

/// An algorithm with one body for all tiers.
pub trait Kernel {
    type Output;

    /// Runs the algorithm; implementations are `#[inline(always)]`, so that they take the tier's instructions.
    ///
    /// # Safety
    /// The CPU has the instructions of `S`, and the kernel's own pointers are as its documentation says.
    unsafe fn body<S: Simd>(self) -> Self::Output;
}

/// Sixteen f32 lanes, sixteen i32 lanes, and 64 bytes.
///
/// # Safety
/// All functions need the instructions of the tier; those that take a pointer read or write as many bytes as they say,
/// at any alignment.
#[allow(clippy::missing_safety_doc)]
pub unsafe trait Simd: Copy + 'static {
    /// 16 f32.
    type F: Copy;
    /// 16 i32.
    type I: Copy;
    /// 64 u8; as weights, byte `4r + i` is value i of row r.
    type B: Copy;

    /// Panels × tokens of one register tile of the int8 matmul.
    const INT_TILE: (usize, usize);
    /// Panels × tokens of one register tile of the float matmul.
    const FLOAT_TILE: (usize, usize);
    /// What [`Simd::dot_wide`] leaves in the sum, per unit of x.
    const WIDE_BIAS: i32;

    /// Runs a kernel with this tier's instructions enabled.
    unsafe fn run<K: Kernel>(kernel: K) -> K::Output;
    /// Likewise, with those of [`Simd::dot_bf16`]: [`Tier::has_bf16`] tells whether the CPU has them.
    unsafe fn run_bf16<K: Kernel>(kernel: K) -> K::Output;

    unsafe fn splat(v: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, v: Self::F);
    /// 16 IEEE halves.
    unsafe fn load_f16(p: *const u8) -> Self::F;
    /// Rounds to nearest even; 32 bytes.
    unsafe fn store_f16(p: *mut u8, v: Self::F);
    /// 16 upper halves of f32.
    unsafe fn load_bf16(p: *const u8) -> Self::F;
    /// 16 unsigned bytes, converted.
    unsafe fn load_u8(p: *const u8) -> Self::F;
    /// 16 signed bytes, converted.
    unsafe fn load_i8(p: *const u8) -> Self::F;
    /// 16 bytes: their low and their high nibbles, converted.
    unsafe fn load_nibbles(p: *const u8) -> (Self::F, Self::F);
    /// 16 exponents: `2^(e - 128)`, half of what E8M0 stands for, with e = 255 as any other.
    unsafe fn load_e8m0(p: *const u8) -> Self::F;
    /// 16 numbers of 4 exponent and 3 mantissa bits without sign: half of what E4M3 stands for. Their upper bit is 0, and
    /// all exponents are those of numbers.
    unsafe fn load_e4m3(p: *const u8) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `if a > b { a } else { b }`.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// `if a < b { a } else { b }`.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn abs(a: Self::F) -> Self::F;
    /// `if a < b { yes } else { no }`.
    unsafe fn select_lt(a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F;
    /// Nearest integer, ties to even; the values fit i32.
    unsafe fn round(a: Self::F) -> Self::I;
    /// Nearest f32.
    unsafe fn to_float(a: Self::I) -> Self::F;
    /// The same bits, read as f32.
    unsafe fn as_float(a: Self::I) -> Self::F;
    /// `2^n` for n in -126..=127.
    unsafe fn pow2(n: Self::I) -> Self::F;
    /// The largest lane; no lane is NaN.
    unsafe fn largest(a: Self::F) -> f32;

    unsafe fn splat_i(v: i32) -> Self::I;
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I;
    /// The lower 32 bits of the products.
    unsafe fn mul_i(a: Self::I, b: Self::I) -> Self::I;
    /// 16 i32.
    unsafe fn load_i(p: *const i32) -> Self::I;
    unsafe fn store_i(p: *mut i32, v: Self::I);
    /// The sum of all lanes, which fits i32.
    unsafe fn sum_i(a: Self::I) -> i32;
    /// The lowest byte of each lane; 16 bytes.
    unsafe fn store_i8(p: *mut i8, a: Self::I);
    /// The four bytes at `p` in every lane.
    unsafe fn broadcast4(p: *const i8) -> Self::I;

    unsafe fn load_b(p: *const u8) -> Self::B;
    unsafe fn store_b(p: *mut u8, v: Self::B);
    unsafe fn splat_b(v: u8) -> Self::B;
    unsafe fn and(a: Self::B, b: Self::B) -> Self::B;
    unsafe fn or(a: Self::B, b: Self::B) -> Self::B;
    /// Shifts each 16-bit part right.
    unsafe fn shr_b<const N: u32>(a: Self::B) -> Self::B;
    /// Likewise by a number below 16.
    unsafe fn shr_b_by(a: Self::B, n: u32) -> Self::B;
    /// Sums of bytes, modulo 256.
    unsafe fn add_b(a: Self::B, b: Self::B) -> Self::B;
    /// `(a + b + 1) / 2` of unsigned bytes.
    unsafe fn average_b(a: Self::B, b: Self::B) -> Self::B;
    /// Shifts each 16-bit part left.
    unsafe fn shl_b<const N: u32>(a: Self::B) -> Self::B;
    /// `table[a[i]]` for each byte of a, all of which are below 16.
    unsafe fn lookup(table: &[u8; 16], a: Self::B) -> Self::B;
    /// `acc[r] + Σ w[4r + i] * x[i]` with unsigned w below 128 and x from [`Simd::broadcast4`], none of them -128.
    unsafe fn dot(acc: Self::I, w: Self::B, x: Self::I) -> Self::I;
    /// `acc[r] + Σ (w[4r + i] - 128 + WIDE_BIAS) * x[i]` with any unsigned w.
    unsafe fn dot_wide(acc: Self::I, w: Self::B, x: Self::I) -> Self::I;

    /// Two columns of 16 BF16 values side by side: value i of row r comes from `p[16 i + r]`; 64 bytes.
    unsafe fn load_bf16_pairs(p: *const u8) -> Self::B;
    /// `acc[r] + w[r][1] * x[1]`, then `+ w[r][0] * x[0]`, of BF16 pairs, each rounded once; denormal numbers, given or
    /// made, are zero. Only in [`Simd::run_bf16`].
    unsafe fn dot_bf16(acc: Self::F, w: Self::B, x: Self::I) -> Self::F;

    /// Fetches a cache line, which need not exist, into a second-level cache.
    unsafe fn prefetch(p: *const u8);
    /// Likewise into the first-level cache.
    unsafe fn prefetch_near(p: *const u8);

    /// The sum of all lanes in a fixed tree: lanes i and i + 8 first, then 4, 2, 1 apart.
    #[inline(always)]
    unsafe fn sum(a: Self::F) -> f32 {
        let mut v = [0.0; LANES];
        // SAFETY: `v` has 16 lanes.
        unsafe { Self::store(v.as_mut_ptr(), a) };
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                v[i] += v[i + width];
            }
            width /= 2;
        }
        v[0]
    }

    /// The hyperbolic tangent, within 2^-22.
    #[inline(always)]
    unsafe fn tanh(x: Self::F) -> Self::F {
        // SAFETY: only this tier's operations, no pointers.
        unsafe {
            let (one, two) = (Self::splat(1.0), Self::splat(2.0));
            Self::sub(one, Self::div(two, Self::add(one, Self::exp(Self::mul(two, x)))))
        }
    }

    /// `e^x`, within 2 units in the last place; 0 below -87.3, and at most `e^88`.
    ///
    /// Range reduction `x = n ln 2 + r` with ln 2 in two parts (Cody and Waite), then the Taylor polynomial of degree 7
    /// on |r| <= ln 2 / 2, whose remainder is below half a unit in the last place.
    #[inline(always)]
    unsafe fn exp(x: Self::F) -> Self::F {
        // SAFETY: only this tier's operations, no pointers.
        unsafe {
            let low = Self::splat(-87.3);
            let clamped = Self::min(Self::max(x, low), Self::splat(88.0));
            let n = Self::round(Self::mul(clamped, Self::splat(std::f32::consts::LOG2_E)));
            let nf = Self::to_float(n);
            let r = Self::fma(nf, Self::splat(-0.693_359_4), clamped);
            let r = Self::fma(nf, Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.0 / 5040.0);
            for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
                p = Self::fma(p, r, Self::splat(c));
            }
            Self::select_lt(x, low, Self::splat(0.0), Self::mul(p, Self::pow2(n)))
        }
    }
}

/// Fetches the cache line of `p`, which need not exist, into a second-level cache, where the processor can.
pub fn prefetch(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction; prefetching an address that does not exist does nothing.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}
