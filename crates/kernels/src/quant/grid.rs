//! What the IQ1, IQ2 and IQ3 types share: values that stand in groups of four or eight as entries of a codebook, so that a
//! block names entries, not values.
//!
//! A panel holds each value's place among the at most sixteen that a type has, in three or four bits: entries are resolved
//! when rows are packed. The value of a place is `d * UNIT * (2 * scale + 1) * VALUES[place]`, and exact in f32.

use std::marker::PhantomData;

use super::QuantType;
use super::encode::finite_halves;
use super::panel::{self, Packed};
use super::planes::{Codebook, Coded, Planes};
use crate::simd::Simd;

/// Values of a block.
const BLOCK: usize = 256;

/// A type with a codebook.
pub(super) trait Grid: 'static {
    /// Bytes of a block.
    const BYTES: usize;
    /// What places stand for, in units.
    const VALUES: [i8; 16];
    const UNIT: f32;
    /// Whether each 16 values have a scale of their own, not each 32.
    const HALVES: bool;
    /// How places stand in panels.
    type Places: Planes;

    /// The block's f16 `d`.
    fn d(block: &[u8]) -> [u8; 2] {
        [block[0], block[1]]
    }

    /// The scales of sub-block `sub`, each below 16: of both halves.
    fn scales(block: &[u8], sub: usize) -> [u8; 2];

    /// The places of the 32 values of sub-block `sub`.
    fn places(block: &[u8], sub: usize) -> [u8; 32];
}

/// The row of a type that is decoded and run, but not made.
pub(super) const fn quant_type<G: Grid>(name: &'static str, ggml_id: u32) -> QuantType {
    QuantType {
        name,
        ggml_id: Some(ggml_id),
        block: BLOCK,
        bytes: G::BYTES,
        decode: decode::<G>,
        encode: None,
        encode_weighted: None,
        finite: finite::<G>,
        run: panel::quantized::<InPanels<G>>(),
    }
}

fn decode<G: Grid>(blocks: &[u8], values: &mut [f32]) {
    for (b, v) in blocks.chunks_exact(G::BYTES).zip(values.as_chunks_mut::<BLOCK>().0) {
        let d = super::f16_at(&G::d(b), 0);
        for (sub, v) in v.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let scales = G::scales(b, sub).map(|s| d * (G::UNIT * f32::from(2 * s + 1)));
            for (i, (v, place)) in v.iter_mut().zip(G::places(b, sub)).enumerate() {
                *v = scales[i / 16] * f32::from(G::VALUES[usize::from(place)]);
            }
        }
    }
}

fn finite<G: Grid>(blocks: &[u8]) -> bool {
    blocks.chunks_exact(G::BYTES).all(|block| finite_halves(&G::d(block), 2, &[0]))
}

/// How a type stands in panels.
struct InPanels<G>(PhantomData<G>);

impl<G: Grid> InPanels<G> {
    /// The largest magnitude of a value.
    const LARGEST: i8 = {
        let (mut largest, mut i) = (0, 0);
        while i < 16 {
            let magnitude = G::VALUES[i].abs();
            largest = if magnitude > largest { magnitude } else { largest };
            i += 1;
        }
        largest
    };
}

impl<G: Grid> Codebook for InPanels<G> {
    const TABLE: [u8; 16] = {
        let (mut table, mut i) = ([0; 16], 0);
        while i < 16 {
            table[i] = (G::VALUES[i] + Self::LARGEST) as u8;
            i += 1;
        }
        table
    };
}

impl<G: Grid> Packed for InPanels<G> {
    type Planes = Coded<G::Places, Self>;

    const FILE_BYTES: usize = G::BYTES;
    const SUBS: usize = BLOCK / 32;
    /// f16 `d` of 16 rows, then the 16 rows' scales of each sub-block in nibbles.
    const SCALE_BYTES: usize = 160;
    const BIAS: i32 = Self::LARGEST as i32;
    const HALVES: bool = G::HALVES;
    const FEW: bool = false;

    #[inline(always)]
    fn pack_row(block: &[u8], row: usize, planes: &mut [u8], out: &mut [u8]) {
        out[2 * row..2 * row + 2].copy_from_slice(&G::d(block));
        for (sub, planes) in planes.chunks_exact_mut(Self::Planes::COUNT * 64).enumerate() {
            Self::Planes::put(planes, row, &G::places(block, sub));
            let [first, second] = G::scales(block, sub);
            out[32 + 16 * sub + row] = first | second << 4;
        }
    }

    #[inline(always)]
    unsafe fn scale<S: Simd>(scales: *const u8, sub: usize, half: usize) -> S::F {
        // SAFETY: the offset is below SCALE_BYTES.
        unsafe {
            let (first, second) = S::load_nibbles(scales.add(32 + 16 * sub));
            let scale = if half == 0 { first } else { second };
            let odd = S::fma(scale, S::splat(2.0 * G::UNIT), S::splat(G::UNIT));
            S::mul(S::load_f16(scales), odd)
        }
    }
}

/// Entry `at` of a codebook.
#[inline(always)]
pub(super) fn entry(grid: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([grid[2 * at], grid[2 * at + 1]])
}

/// The 16 bits at `block[at..]`.
#[inline(always)]
pub(super) fn u16_at(block: &[u8], at: usize) -> usize {
    u16::from_le_bytes([block[at], block[at + 1]]).into()
}

/// Eight signs from seven bits: the eighth makes the number of negative values even.
#[inline(always)]
pub(super) fn eight_signs(seven: u8) -> u8 {
    let seven = seven & 127;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// The values of IQ2's places: three magnitudes, and their negatives.
pub(super) const IQ2_VALUES: [i8; 16] = [8, 25, 43, -8, -25, -43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Eight places of an entry of IQ2 with signs, to `places`.
#[inline(always)]
pub(super) fn put_eight(entry: u16, signs: u8, places: &mut [u8; 8]) {
    for (i, place) in places.iter_mut().enumerate() {
        *place = (entry >> (2 * i) & 3) as u8 + 3 * (signs >> i & 1);
    }
}

/// Four places of an entry of IQ3 with the lower four signs, to `places`.
#[inline(always)]
pub(super) fn put_four(entry: u16, signs: u8, places: &mut [u8; 4]) {
    for (i, place) in places.iter_mut().enumerate() {
        *place = (entry >> (4 * i) & 7) as u8 | (signs >> i & 1) << 3;
    }
}

/// The values of IQ1's places, in eighths: -1, 0 and 1, an eighth more or an eighth less.
pub(super) const IQ1_VALUES: [i8; 16] = [-7, 1, 9, -9, -1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// The codebook of IQ1: 2048 entries.
pub(super) static IQ1_GRID: &[u8; 4096] = include_bytes!("grids/iq1.bin");
