//! The plain tier: arrays and loops, for any CPU. The other tiers are tested against it.

use std::array::from_fn;

use half::{bf16, f16};

use super::{Kernel, LANES, Simd};

#[derive(Clone, Copy)]
pub struct Scalar;

#[inline(always)]
fn map2<T: Copy, U, const N: usize>(a: [T; N], b: [T; N], f: impl Fn(T, T) -> U) -> [U; N] {
    from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn map16(a: [u8; 64], f: impl Fn(u16) -> u16) -> [u8; 64] {
    let mut out = [0; 64];
    for (o, v) in out.as_chunks_mut::<2>().0.iter_mut().zip(a.as_chunks::<2>().0) {
        *o = f(u16::from_le_bytes(*v)).to_le_bytes();
    }
    out
}

/// The bytes that a pointer of the vocabulary stands for.
#[inline(always)]
unsafe fn bytes<const N: usize>(p: *const u8) -> [u8; N] {
    // SAFETY: the caller of the operation promises N readable bytes.
    unsafe { p.cast::<[u8; N]>().read_unaligned() }
}

// SAFETY: needs no instructions beyond the target's own.
unsafe impl Simd for Scalar {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type B = [u8; 64];

    const INT_TILE: (usize, usize) = (1, 1);
    const FLOAT_TILE: (usize, usize) = (1, 1);
    const WIDE_BIAS: i32 = 0;

    #[inline]
    unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's promise.
        unsafe { kernel.body::<Self>() }
    }
    #[inline]
    unsafe fn run_bf16<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's promise.
        unsafe { Self::run(kernel) }
    }

    #[inline(always)]
    unsafe fn splat(v: f32) -> Self::F {
        [v; LANES]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        // SAFETY: 64 readable bytes by contract.
        unsafe { p.cast::<Self::F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::F) {
        // SAFETY: 64 writable bytes by contract.
        unsafe { p.cast::<Self::F>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> Self::F {
        // SAFETY: 32 readable bytes by contract.
        let b = unsafe { bytes::<32>(p) };
        from_fn(|i| f16::from_le_bytes([b[2 * i], b[2 * i + 1]]).to_f32())
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u8, v: Self::F) {
        let mut out = [0u8; 32];
        for (o, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(v) {
            *o = f16::from_f32(x).to_le_bytes();
        }
        // SAFETY: 32 writable bytes by contract.
        unsafe { p.cast::<[u8; 32]>().write_unaligned(out) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> Self::F {
        // SAFETY: 32 readable bytes by contract.
        let b = unsafe { bytes::<32>(p) };
        from_fn(|i| bf16::from_le_bytes([b[2 * i], b[2 * i + 1]]).to_f32())
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> Self::F {
        // SAFETY: 16 readable bytes by contract.
        unsafe { bytes::<16>(p) }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> Self::F {
        // SAFETY: 16 readable bytes by contract.
        unsafe { bytes::<16>(p) }.map(|v| f32::from(v as i8))
    }
    #[inline(always)]
    unsafe fn load_nibbles(p: *const u8) -> (Self::F, Self::F) {
        // SAFETY: 16 readable bytes by contract.
        let b = unsafe { bytes::<16>(p) };
        (b.map(|v| f32::from(v & 15)), b.map(|v| f32::from(v >> 4)))
    }
    #[inline(always)]
    unsafe fn load_e8m0(p: *const u8) -> Self::F {
        // SAFETY: 16 readable bytes by contract.
        unsafe { bytes::<16>(p) }.map(|e| match u32::from(e) {
            // Denormal numbers.
            e @ 0..2 => f32::from_bits(0x20_0000 << e),
            e => f32::from_bits((e - 1) << 23),
        })
    }
    #[inline(always)]
    unsafe fn load_e4m3(p: *const u8) -> Self::F {
        // SAFETY: 16 readable bytes by contract.
        let b = unsafe { bytes::<16>(p) };
        // As a half, the bits stand for 2^-8 of the number.
        b.map(|v| f16::from_bits(u16::from(v) << 7).to_f32() * 128.0)
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        a.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn select_lt(a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        from_fn(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::I {
        a.map(|v| v.round_ties_even() as i32)
    }
    #[inline(always)]
    unsafe fn to_float(a: Self::I) -> Self::F {
        a.map(|v| v as f32)
    }
    #[inline(always)]
    unsafe fn as_float(a: Self::I) -> Self::F {
        a.map(|v| f32::from_bits(v.cast_unsigned()))
    }
    #[inline(always)]
    unsafe fn pow2(n: Self::I) -> Self::F {
        n.map(|n| f32::from_bits(((n + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn largest(a: Self::F) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |m, v| if v > m { v } else { m })
    }
    #[inline(always)]
    unsafe fn splat_i(v: i32) -> Self::I {
        [v; LANES]
    }
    #[inline(always)]
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I {
        map2(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn mul_i(a: Self::I, b: Self::I) -> Self::I {
        map2(a, b, i32::wrapping_mul)
    }
    #[inline(always)]
    unsafe fn load_i(p: *const i32) -> Self::I {
        // SAFETY: 64 readable bytes by the trait.
        unsafe { p.cast::<[i32; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_i(p: *mut i32, v: Self::I) {
        // SAFETY: 64 writable bytes by the trait.
        unsafe { p.cast::<[i32; LANES]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn sum_i(a: Self::I) -> i32 {
        a.iter().sum()
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, a: Self::I) {
        // SAFETY: 16 writable bytes by contract.
        unsafe { p.cast::<[i8; LANES]>().write_unaligned(a.map(|v| v as i8)) }
    }
    #[inline(always)]
    unsafe fn broadcast4(p: *const i8) -> Self::I {
        // SAFETY: 4 readable bytes by contract.
        [i32::from_le_bytes(unsafe { bytes(p.cast()) }); LANES]
    }
    #[inline(always)]
    unsafe fn load_b(p: *const u8) -> Self::B {
        // SAFETY: 64 readable bytes by contract.
        unsafe { bytes(p) }
    }
    #[inline(always)]
    unsafe fn store_b(p: *mut u8, v: Self::B) {
        // SAFETY: 64 writable bytes by contract.
        unsafe { p.cast::<Self::B>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn splat_b(v: u8) -> Self::B {
        [v; 64]
    }
    #[inline(always)]
    unsafe fn and(a: Self::B, b: Self::B) -> Self::B {
        map2(a, b, |a, b| a & b)
    }
    #[inline(always)]
    unsafe fn or(a: Self::B, b: Self::B) -> Self::B {
        map2(a, b, |a, b| a | b)
    }
    #[inline(always)]
    unsafe fn shr_b<const N: u32>(a: Self::B) -> Self::B {
        map16(a, |v| v >> N)
    }
    #[inline(always)]
    unsafe fn shr_b_by(a: Self::B, n: u32) -> Self::B {
        map16(a, |v| v >> n)
    }
    #[inline(always)]
    unsafe fn add_b(a: Self::B, b: Self::B) -> Self::B {
        map2(a, b, u8::wrapping_add)
    }
    #[inline(always)]
    unsafe fn average_b(a: Self::B, b: Self::B) -> Self::B {
        map2(a, b, |a, b| (u16::from(a) + u16::from(b)).div_ceil(2) as u8)
    }
    #[inline(always)]
    unsafe fn shl_b<const N: u32>(a: Self::B) -> Self::B {
        map16(a, |v| v << N)
    }
    #[inline(always)]
    unsafe fn lookup(table: &[u8; 16], a: Self::B) -> Self::B {
        a.map(|v| table[usize::from(v & 15)])
    }
    #[inline(always)]
    unsafe fn dot(acc: Self::I, w: Self::B, x: Self::I) -> Self::I {
        let x = x[0].to_le_bytes().map(|v| i32::from(v as i8));
        from_fn(|r| acc[r] + (0..4).map(|i| i32::from(w[4 * r + i]) * x[i]).sum::<i32>())
    }
    #[inline(always)]
    unsafe fn dot_wide(acc: Self::I, w: Self::B, x: Self::I) -> Self::I {
        let x = x[0].to_le_bytes().map(|v| i32::from(v as i8));
        from_fn(|r| acc[r] + (0..4).map(|i| (i32::from(w[4 * r + i]) - 128) * x[i]).sum::<i32>())
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(p: *const u8) -> [u8; 64] {
        // SAFETY: 64 readable bytes by the trait.
        let columns = unsafe { bytes::<64>(p) };
        std::array::from_fn(|i| columns[i % 4 / 2 * 32 + i / 4 * 2 + i % 2])
    }
    #[inline(always)]
    unsafe fn dot_bf16(acc: Self::F, w: [u8; 64], x: Self::I) -> Self::F {
        let flush = |v: f32| if v.is_subnormal() { 0f32.copysign(v) } else { v };
        let high = |bits: u32| flush(f32::from_bits(bits & 0xFFFF_0000));
        std::array::from_fn(|r| {
            let pair = u32::from_le_bytes([w[4 * r], w[4 * r + 1], w[4 * r + 2], w[4 * r + 3]]);
            let x = x[r] as u32;
            let second = flush(high(pair).mul_add(high(x), flush(acc[r])));
            flush(high(pair << 16).mul_add(high(x << 16), second))
        })
    }
    #[inline(always)]
    unsafe fn prefetch(_p: *const u8) {}
    #[inline(always)]
    unsafe fn prefetch_near(_p: *const u8) {}
}
