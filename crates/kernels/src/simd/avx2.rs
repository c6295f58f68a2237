//! AVX2 with FMA and F16C: two registers per sixteen lanes, the lower eight first.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

#[derive(Clone, Copy)]
pub struct Avx2;

/// Applies a 256-bit operation to both halves.
macro_rules! both {
    ($op:path, $a:expr) => {
        [$op($a[0]), $op($a[1])]
    };
    ($op:path, $a:expr, $b:expr) => {
        [$op($a[0], $b[0]), $op($a[1], $b[1])]
    };
    ($op:path, $a:expr, $b:expr, $c:expr) => {
        [$op($a[0], $b[0], $c[0]), $op($a[1], $b[1], $c[1])]
    };
}

/// Sums of four products per 32-bit lane, of unsigned `w` and signed `x` whose pairs fit 16 bits.
#[inline(always)]
unsafe fn dot4(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let pairs = _mm256_maddubs_epi16(w, x);
        _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// Denormal numbers as zeros of their sign.
#[inline(always)]
unsafe fn flush(v: __m256) -> __m256 {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0), v);
        let normal = _mm256_cmp_ps::<_CMP_NLT_UQ>(magnitude, _mm256_set1_ps(f32::MIN_POSITIVE));
        _mm256_and_ps(v, _mm256_or_ps(normal, _mm256_set1_ps(-0.0)))
    }
}

/// The upper BF16 of each pair.
#[inline(always)]
unsafe fn high_bf16(pairs: __m256i) -> __m256 {
    // SAFETY: AVX2 by the caller.
    unsafe { flush(_mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xFFFF_0000_u32 as i32)))) }
}

// SAFETY: every function needs the features that `Tier::Avx2` checks for; pointers are as the trait says.
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl Simd for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type B = [__m256i; 2];

    const INT_TILE: (usize, usize) = (1, 2);
    const FLOAT_TILE: (usize, usize) = (1, 4);
    const WIDE_BIAS: i32 = 0;

    #[inline]
    unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn inner<K: Kernel>(kernel: K) -> K::Output {
            unsafe { kernel.body::<Avx2>() }
        }
        unsafe { inner(kernel) }
    }
    #[inline]
    unsafe fn run_bf16<K: Kernel>(kernel: K) -> K::Output {
        unsafe { Self::run(kernel) }
    }

    #[inline(always)]
    unsafe fn splat(v: f32) -> Self::F {
        unsafe { [_mm256_set1_ps(v); 2] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::F) {
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> Self::F {
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(16).cast()))] }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u8, v: Self::F) {
        unsafe {
            _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]));
            _mm_storeu_si128(p.add(16).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]));
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> Self::F {
        unsafe {
            let half = |p: *const u8| _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())));
            [_mm256_castsi256_ps(half(p)), _mm256_castsi256_ps(half(p.add(16)))]
        }
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> Self::F {
        unsafe {
            let low = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            let high = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8).cast()));
            both!(_mm256_cvtepi32_ps, [low, high])
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> Self::F {
        unsafe {
            let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()));
            let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.add(8).cast()));
            both!(_mm256_cvtepi32_ps, [low, high])
        }
    }
    #[inline(always)]
    unsafe fn load_nibbles(p: *const u8) -> (Self::F, Self::F) {
        unsafe {
            let low = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
            let high = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8).cast()));
            let b = [low, high];
            let upper = [_mm256_srli_epi32::<4>(low), _mm256_srli_epi32::<4>(high)];
            let lower = both!(_mm256_and_si256, b, [_mm256_set1_epi32(15); 2]);
            (both!(_mm256_cvtepi32_ps, lower), both!(_mm256_cvtepi32_ps, upper))
        }
    }
    #[inline(always)]
    unsafe fn load_e8m0(p: *const u8) -> Self::F {
        unsafe {
            let half = |p: *const u8| {
                let e = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
                let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, _mm256_set1_epi32(1)));
                let denormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x20_0000), e);
                let is_normal = _mm256_cmpgt_epi32(e, _mm256_set1_epi32(1));
                _mm256_castsi256_ps(_mm256_blendv_epi8(denormal, normal, is_normal))
            };
            [half(p), half(p.add(8))]
        }
    }
    #[inline(always)]
    unsafe fn load_e4m3(p: *const u8) -> Self::F {
        unsafe {
            // As halves, the bits stand for 2^-8 of the numbers.
            let half = |p: *const u8| _mm_slli_epi16::<7>(_mm_cvtepu8_epi16(_mm_loadl_epi64(p.cast())));
            let v = [_mm256_cvtph_ps(half(p)), _mm256_cvtph_ps(half(p.add(8)))];
            both!(_mm256_mul_ps, v, [_mm256_set1_ps(128.0); 2])
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(_mm256_add_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(_mm256_sub_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(_mm256_mul_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(_mm256_div_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { both!(_mm256_fmadd_ps, a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(_mm256_max_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        unsafe { both!(_mm256_min_ps, a, b) }
    }
    #[inline(always)]
    unsafe fn abs(a: Self::F) -> Self::F {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        }
    }
    #[inline(always)]
    unsafe fn select_lt(a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        unsafe {
            let mask = both!(_mm256_cmp_ps::<_CMP_LT_OQ>, a, b);
            both!(_mm256_blendv_ps, no, yes, mask)
        }
    }
    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::I {
        unsafe { both!(_mm256_cvtps_epi32, a) }
    }
    #[inline(always)]
    unsafe fn to_float(a: Self::I) -> Self::F {
        unsafe { both!(_mm256_cvtepi32_ps, a) }
    }
    #[inline(always)]
    unsafe fn as_float(a: Self::I) -> Self::F {
        unsafe { both!(_mm256_castsi256_ps, a) }
    }
    #[inline(always)]
    unsafe fn pow2(n: Self::I) -> Self::F {
        unsafe {
            let biased = both!(_mm256_add_epi32, n, [_mm256_set1_epi32(127); 2]);
            both!(_mm256_castsi256_ps, both!(_mm256_slli_epi32::<23>, biased))
        }
    }
    #[inline(always)]
    unsafe fn largest(a: Self::F) -> f32 {
        unsafe {
            let eight = _mm256_max_ps(a[0], a[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    unsafe fn splat_i(v: i32) -> Self::I {
        unsafe { [_mm256_set1_epi32(v); 2] }
    }
    #[inline(always)]
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I {
        unsafe { both!(_mm256_add_epi32, a, b) }
    }
    #[inline(always)]
    unsafe fn mul_i(a: Self::I, b: Self::I) -> Self::I {
        unsafe { both!(_mm256_mullo_epi32, a, b) }
    }
    #[inline(always)]
    unsafe fn load_i(p: *const i32) -> Self::I {
        unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(8).cast())] }
    }
    #[inline(always)]
    unsafe fn store_i(p: *mut i32, v: Self::I) {
        unsafe {
            _mm256_storeu_si256(p.cast(), v[0]);
            _mm256_storeu_si256(p.add(8).cast(), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn sum_i(a: Self::I) -> i32 {
        unsafe {
            let eight = _mm256_add_epi32(a[0], a[1]);
            let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b_00_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
        }
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, a: Self::I) {
        unsafe {
            // Packing works within 128-bit parts: words come out as 0-3, 8-11, 4-7, 12-15 and are put in order.
            let words = _mm256_permute4x64_epi64::<0b_11_01_10_00>(_mm256_packs_epi32(a[0], a[1]));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(p.cast(), bytes);
        }
    }
    #[inline(always)]
    unsafe fn broadcast4(p: *const i8) -> Self::I {
        unsafe { [_mm256_set1_epi32(p.cast::<i32>().read_unaligned()); 2] }
    }
    #[inline(always)]
    unsafe fn load_b(p: *const u8) -> Self::B {
        unsafe { [_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())] }
    }
    #[inline(always)]
    unsafe fn store_b(p: *mut u8, v: Self::B) {
        unsafe {
            _mm256_storeu_si256(p.cast(), v[0]);
            _mm256_storeu_si256(p.add(32).cast(), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn splat_b(v: u8) -> Self::B {
        unsafe { [_mm256_set1_epi8(v as i8); 2] }
    }
    #[inline(always)]
    unsafe fn and(a: Self::B, b: Self::B) -> Self::B {
        unsafe { both!(_mm256_and_si256, a, b) }
    }
    #[inline(always)]
    unsafe fn or(a: Self::B, b: Self::B) -> Self::B {
        unsafe { both!(_mm256_or_si256, a, b) }
    }
    #[inline(always)]
    unsafe fn shr_b<const N: u32>(a: Self::B) -> Self::B {
        unsafe {
            let n = _mm_cvtsi32_si128(N as i32);
            [_mm256_srl_epi16(a[0], n), _mm256_srl_epi16(a[1], n)]
        }
    }
    #[inline(always)]
    unsafe fn shr_b_by(a: Self::B, n: u32) -> Self::B {
        unsafe { both!(_mm256_srl_epi16, a, [_mm_cvtsi32_si128(n as i32); 2]) }
    }
    #[inline(always)]
    unsafe fn add_b(a: Self::B, b: Self::B) -> Self::B {
        unsafe { both!(_mm256_add_epi8, a, b) }
    }
    #[inline(always)]
    unsafe fn average_b(a: Self::B, b: Self::B) -> Self::B {
        unsafe { both!(_mm256_avg_epu8, a, b) }
    }
    #[inline(always)]
    unsafe fn shl_b<const N: u32>(a: Self::B) -> Self::B {
        unsafe {
            let n = _mm_cvtsi32_si128(N as i32);
            [_mm256_sll_epi16(a[0], n), _mm256_sll_epi16(a[1], n)]
        }
    }
    #[inline(always)]
    unsafe fn lookup(table: &[u8; 16], a: Self::B) -> Self::B {
        unsafe {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            both!(_mm256_shuffle_epi8, [table; 2], a)
        }
    }
    #[inline(always)]
    unsafe fn dot(acc: Self::I, w: Self::B, x: Self::I) -> Self::I {
        unsafe { both!(dot4, acc, w, x) }
    }
    #[inline(always)]
    unsafe fn dot_wide(acc: Self::I, w: Self::B, x: Self::I) -> Self::I {
        unsafe {
            // The sign moves from the weight to x, so that |w| <= 128 and the sum of a pair fits 16 bits.
            let signed = both!(_mm256_xor_si256, w, [_mm256_set1_epi8(-128); 2]);
            let magnitude = both!(_mm256_abs_epi8, signed);
            both!(dot4, acc, magnitude, both!(_mm256_sign_epi8, x, signed))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(p: *const u8) -> Self::B {
        unsafe {
            let (first, second) = (_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast()));
            // Unpacking works within 128-bit parts: rows come out as 0-3, 8-11 and 4-7, 12-15 and are put in order.
            let (a, b) = (_mm256_unpacklo_epi16(first, second), _mm256_unpackhi_epi16(first, second));
            [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)]
        }
    }
    #[inline(always)]
    unsafe fn dot_bf16(acc: Self::F, w: Self::B, x: Self::I) -> Self::F {
        unsafe {
            let mut out = acc;
            for i in 0..2 {
                let second = _mm256_fmadd_ps(high_bf16(w[i]), high_bf16(x[i]), flush(acc[i]));
                let (w, x) = (_mm256_slli_epi32::<16>(w[i]), _mm256_slli_epi32::<16>(x[i]));
                out[i] = flush(_mm256_fmadd_ps(high_bf16(w), high_bf16(x), flush(second)));
            }
            out
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_near(p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}
