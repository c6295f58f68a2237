//! How MLX encodes values as numbers of few bits with a scale of a power of two (MXFP4, MXFP8) or of E4M3 (NVFP4), to its
//! bytes: in the arithmetic of the values' own type, each result rounded to it.

use super::DType;
use super::mxfp4::DOUBLED;
use super::mxfp8::byte_of;
use super::nvfp4::half_scale;

/// As [`super::Encoder`]; the arithmetic is that of the type whose name begins the function's.
type Encoder = fn(values: &[f32], blocks: &mut [u8]);

impl DType {
    /// How MLX encodes values of type `of` (F32, F16 or BF16) as this type; `None` where MLX has no such type.
    pub fn mlx_encoder(self, of: Self) -> Option<Encoder> {
        let which = [Self::F32, Self::F16, Self::BF16].iter().position(|float| *float == of)?;
        let known: [(Self, [Encoder; 3]); 4] = [
            (Self::MXFP4, [|v, b| mxfp4(v, b, |v| v), |v, b| mxfp4(v, b, to_f16), |v, b| mxfp4(v, b, to_bf16)]),
            (Self::MXFP8, [|v, b| mxfp8(v, b, |v| v), |v, b| mxfp8(v, b, to_f16), |v, b| mxfp8(v, b, to_bf16)]),
            (Self::NVFP4, [|v, b| nvfp4(v, b, |v| v), |v, b| nvfp4(v, b, to_f16), |v, b| nvfp4(v, b, to_bf16)]),
            (
                Self::NVFP4_G16,
                [|v, b| nvfp4_g16(v, b, |v| v), |v, b| nvfp4_g16(v, b, to_f16), |v, b| nvfp4_g16(v, b, to_bf16)],
            ),
        ];
        known.iter().find(|(dtype, _)| *dtype == self).map(|(_, encoders)| encoders[which])
    }
}

fn to_f16(v: f32) -> f32 {
    half::f16::from_f32(v).to_f32()
}

fn to_bf16(v: f32) -> f32 {
    half::bf16::from_f32(v).to_f32()
}

/// Denormal numbers are zeros to MLX.
fn flushed(v: f32) -> f32 {
    if v.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(v) } else { v }
}

fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |m: f32, v| if m < v.abs() { v.abs() } else { m })
}

/// The exponent of the smallest scale that keeps all magnitudes up to `top`, and the values over the scale.
#[inline(always)]
fn scaled<const N: usize>(x: &[f32; N], top: f32, round: impl Fn(f32) -> f32) -> (u8, [f32; N]) {
    let x = x.map(flushed);
    let scale = flushed(round(largest(&x) / top));
    let exponent = if scale == 0.0 { 0.0 } else { (f64::from(scale).log2() as f32).ceil() };
    let power = round(exponent.exp2());
    ((exponent as i32 + 127) as u8, x.map(|v| round(v / power)))
}

/// The nibble of the nearest value of E2M1, the first of them; -0 is not among them.
#[inline(always)]
fn nearest(x: f32, round: impl Fn(f32) -> f32) -> u8 {
    let (mut best, mut least) = (0, round(x).abs());
    for (i, doubled) in DOUBLED.iter().enumerate() {
        let error = round(x - 0.5 * f32::from(*doubled)).abs();
        if error < least {
            (best, least) = (i as u8, error);
        }
    }
    best
}

fn mxfp4(values: &[f32], blocks: &mut [u8], round: impl Fn(f32) -> f32 + Copy) {
    for (x, b) in values.as_chunks::<32>().0.iter().zip(blocks.as_chunks_mut::<17>().0) {
        let (exponent, x) = scaled(x, 6.0, round);
        b[0] = exponent;
        for i in 0..16 {
            b[1 + i] = nearest(x[i], round) | nearest(x[16 + i], round) << 4;
        }
    }
}

/// The scale of 16 values, and their nibbles: those of the first half low, those of the second high.
#[inline(always)]
fn sixteen(x: &[f32; 16], round: impl Fn(f32) -> f32) -> (u8, [u8; 8]) {
    let bits = byte_of(round(largest(x) / 6.0));
    let scale = 2.0 * half_scale(bits);
    // From here on the arithmetic is that of F32.
    let q = x.map(|v| nearest(round(v / scale), |v| v));
    (bits, std::array::from_fn(|i| q[i] | q[8 + i] << 4))
}

fn nvfp4(values: &[f32], blocks: &mut [u8], round: impl Fn(f32) -> f32 + Copy) {
    for (x, b) in values.as_chunks::<64>().0.iter().zip(blocks.as_chunks_mut::<36>().0) {
        for (sub, x) in x.as_chunks::<16>().0.iter().enumerate() {
            let (scale, nibbles) = sixteen(x, round);
            b[sub] = scale;
            b[4 + 8 * sub..12 + 8 * sub].copy_from_slice(&nibbles);
        }
    }
}

pub(super) fn nvfp4_g16(values: &[f32], blocks: &mut [u8], round: impl Fn(f32) -> f32 + Copy) {
    for (x, b) in values.as_chunks::<16>().0.iter().zip(blocks.as_chunks_mut::<9>().0) {
        let (scale, nibbles) = sixteen(x, round);
        b[0] = scale;
        b[1..].copy_from_slice(&nibbles);
    }
}

pub(super) fn mxfp8(values: &[f32], blocks: &mut [u8], round: impl Fn(f32) -> f32 + Copy) {
    for (x, b) in values.as_chunks::<32>().0.iter().zip(blocks.as_chunks_mut::<33>().0) {
        let (exponent, x) = scaled(x, 448.0, round);
        b[0] = exponent;
        b[1..].iter_mut().zip(x).for_each(|(b, v)| *b = byte_of(v));
    }
}
