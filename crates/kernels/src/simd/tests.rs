//! Every operation of every tier against the scalar one, on random and extreme lanes.

use super::scalar::Scalar;
use super::*;

/// A small generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Normal, tiny, huge, zero and infinite numbers.
    fn float(&mut self) -> f32 {
        const EXTREMES: [f32; 8] = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-40, -1e-45, 65520.0];
        match self.next() % 8 {
            0 => EXTREMES[(self.next() % 8) as usize],
            _ => (self.next() as i32 as f32) / (1 << (self.next() % 31)) as f32,
        }
    }
}

/// The inputs of one round.
struct Ops {
    a: [f32; LANES],
    b: [f32; LANES],
    c: [f32; LANES],
    bytes: [u8; 64],
    mask: [u8; 64],
    x: [i8; 4],
}

/// Bits of all results, in a fixed order.
impl Kernel for &Ops {
    type Output = Vec<u32>;

    #[inline(always)]
    unsafe fn body<S: Simd>(self) -> Vec<u32> {
        // SAFETY: the tier is available; the arrays are as long as the operations need.
        unsafe {
            let mut out = Vec::new();
            let mut float = |v: S::F| {
                let mut lanes = [0.0f32; LANES];
                S::store(lanes.as_mut_ptr(), v);
                // Which NaN comes out is not part of the promise.
                out.extend(lanes.map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }));
            };
            let (a, b, c) = (S::load(self.a.as_ptr()), S::load(self.b.as_ptr()), S::load(self.c.as_ptr()));
            let p = self.bytes.as_ptr();
            for v in [S::splat(self.a[3]), S::add(a, b), S::sub(a, b), S::mul(a, b), S::div(a, b), S::fma(a, b, c)] {
                float(v);
            }
            for v in [S::max(a, b), S::min(a, b), S::abs(a), S::select_lt(a, b, c, a), S::exp(a), S::exp(b)] {
                float(v);
            }
            for v in [S::load_f16(p), S::load_bf16(p), S::load_u8(p), S::load_i8(p)] {
                float(v);
            }
            let numbers = self.bytes.map(|b| b & 0x7F);
            let (low, high) = S::load_nibbles(p);
            for v in [low, high, S::load_e8m0(p), S::load_e4m3(numbers.as_ptr())] {
                float(v);
            }
            let small = S::min(S::max(a, S::splat(-100.0)), S::splat(100.0));
            let n = S::round(small);
            for v in [
                S::to_float(n),
                S::as_float(n),
                S::pow2(n),
                S::to_float(S::mul_i(n, S::splat_i(-3))),
                S::to_float(S::add_i(n, n)),
            ] {
                float(v);
            }
            float(S::splat(S::largest(small)));
            float(S::splat(S::sum(small)));
            float(S::to_float(S::splat_i(S::sum_i(n))));
            let mut signed = [0i8; LANES];
            S::store_i8(signed.as_mut_ptr(), n);
            out.extend(signed.map(|v| v as u32));
            let mut halves = [0u16; LANES];
            S::store_f16(halves.as_mut_ptr().cast(), a);
            out.extend(halves.map(u32::from));
            let (w, m) = (S::load_b(p), S::load_b(self.mask.as_ptr()));
            let x = S::broadcast4(self.x.as_ptr());
            let narrow = S::splat_b(0x7F);
            let table = self.mask.first_chunk().expect("64 bytes");
            let mut int = |v: S::I| {
                let mut lanes = [0i32; LANES];
                // Sums of four products are exact in f32.
                let mut floats = [0.0f32; LANES];
                S::store(floats.as_mut_ptr(), S::to_float(v));
                lanes.iter_mut().zip(floats).for_each(|(l, f)| *l = f as i32);
                out.extend(lanes.map(|v| v as u32));
            };
            for v in [
                S::and(w, narrow),
                S::shr_b::<3>(w),
                S::shl_b::<2>(w),
                S::or(w, m),
                S::and(w, m),
                S::add_b(w, m),
                S::average_b(w, m),
                S::shr_b_by(w, 5),
                S::lookup(table, S::and(w, S::splat_b(15))),
            ] {
                int(S::dot(n, S::and(v, narrow), x));
            }
            let bias = S::splat_i(S::WIDE_BIAS * self.x.map(i32::from).iter().sum::<i32>());
            let wide = S::dot_wide(n, w, x);
            let (mut with, mut of) = ([0.0f32; LANES], [0.0f32; LANES]);
            S::store(with.as_mut_ptr(), S::to_float(wide));
            S::store(of.as_mut_ptr(), S::to_float(bias));
            out.extend((0..LANES).map(|i| (with[i] - of[i]) as i32 as u32));
            out
        }
    }
}

#[test]
fn every_tier_gives_the_bits_of_the_scalar_one() {
    let mut random = Random(1);
    for round in 0..2000 {
        let mut ops = Ops {
            a: std::array::from_fn(|_| random.float()),
            b: std::array::from_fn(|_| random.float()),
            c: std::array::from_fn(|_| random.float()),
            bytes: std::array::from_fn(|_| random.next() as u8),
            mask: std::array::from_fn(|_| random.next() as u8),
            x: std::array::from_fn(|_| (random.next() as i8).max(-127)),
        };
        if round & 3 == 0 {
            ops.x = [127, -127, 127, 127];
            ops.bytes = std::array::from_fn(|_| if random.next() & 1 == 0 { 255 } else { 0 });
        }
        // SAFETY: the scalar tier runs anywhere.
        let expected = unsafe { Scalar::run(&ops) };
        for tier in Tier::all_available() {
            // SAFETY: the tier is available.
            assert_eq!(unsafe { tier.run(&ops) }, expected, "{} in round {round}", tier.name());
        }
    }
}

/// Sums of BF16 pairs: the bits of the result.
struct Pairs {
    acc: [f32; LANES],
    columns: [u8; 64],
    x: [i8; 4],
}

impl Kernel for &Pairs {
    type Output = [u32; LANES];

    #[inline(always)]
    unsafe fn body<S: Simd>(self) -> [u32; LANES] {
        let mut out = [0.0f32; LANES];
        // SAFETY: the arrays are as long as the operations need.
        unsafe {
            let w = S::load_bf16_pairs(self.columns.as_ptr());
            let sum = S::dot_bf16(S::load(self.acc.as_ptr()), w, S::broadcast4(self.x.as_ptr()));
            S::store(out.as_mut_ptr(), sum);
        }
        out.map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() })
    }
}

#[test]
fn every_tier_sums_bf16_pairs_alike() {
    let mut random = Random(7);
    for round in 0..20_000 {
        let pairs = Pairs {
            acc: std::array::from_fn(|_| random.float()),
            columns: std::array::from_fn(|i| {
                // Exponents near one in half of the rounds, any in the others.
                if round % 2 == 0 && i % 2 == 1 { 0x3E | (random.next() as u8 & 0x81) } else { random.next() as u8 }
            }),
            x: std::array::from_fn(|i| if i % 2 == 1 { 0x3F } else { random.next() as i8 }),
        };
        // SAFETY: the scalar tier runs anywhere.
        let expected = unsafe { Scalar::run_bf16(&pairs) };
        for tier in Tier::all_available().filter(|tier| tier.has_bf16()) {
            // SAFETY: the tier is available, with BF16.
            assert_eq!(unsafe { tier.run_bf16(&pairs) }, expected, "{} in round {round}", tier.name());
        }
    }
}

#[test]
fn exp_is_within_two_units_of_the_last_place() {
    struct Exp([f32; LANES]);
    impl Kernel for Exp {
        type Output = [f32; LANES];
        #[inline(always)]
        unsafe fn body<S: Simd>(mut self) -> [f32; LANES] {
            // SAFETY: 16 lanes.
            unsafe { S::store(self.0.as_mut_ptr(), S::exp(S::load(self.0.as_ptr()))) };
            self.0
        }
    }
    for i in 0..200_000 {
        let x = -87.0 + i as f32 * (174.0 / 200_000.0);
        // SAFETY: the scalar tier runs anywhere.
        let found = f64::from(unsafe { Scalar::run(Exp([x; LANES])) }[0]);
        let expected = f64::from(x).exp();
        assert!((found / expected - 1.0).abs() < 2.0 * f64::from(f32::EPSILON), "e^{x}: {expected} and {found}");
    }
    // SAFETY: the scalar tier runs anywhere.
    assert_eq!(unsafe { Scalar::run(Exp([f32::NEG_INFINITY; LANES])) }, [0.0; LANES]);
}
