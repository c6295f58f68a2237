//! `d` and `dmin` of a block, and the integers that go with them.

use half::f16;

use super::levels::Scale;
use super::sub_block::{Candidates, Fit, SubBlock, Sums};
use super::{BLOCK, Lattice, Multiples, NONE, ONE, Parts, SUBS};
use crate::simd::{LANES, Simd};

/// `d` and `dmin`, f16 numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    d: f32,
    dmin: f32,
}

impl Steps {
    fn rounded(d: f64, dmin: f64) -> Self {
        let nearest = |v: f64| f16::from_f64(v).to_f32();
        Self { d: nearest(d), dmin: nearest(dmin) }
    }

    /// Both moved by so many units in the last place.
    fn moved(self, d: i16, dmin: i16) -> Self {
        let moved = |v: f32, by: i16| f16::from_bits(f16::from_f32(v).to_bits().wrapping_add_signed(by)).to_f32();
        Self { d: moved(self.d, d), dmin: moved(self.dmin, dmin) }
    }
}

/// The multiples of each sub-block, and what comes of them.
#[derive(Clone, Copy, Debug)]
struct Assignment {
    steps: Steps,
    scales: [i8; SUBS],
    mins: [i8; SUBS],
    error: f64,
    /// The least-squares steps of these multiples and their nearest levels.
    better: Steps,
}

impl Assignment {
    fn of(steps: Steps) -> Self {
        Self { steps, scales: [0; SUBS], mins: [0; SUBS], error: 0.0, better: steps }
    }
}

/// Steps to try, given the best so far.
#[derive(Clone, Copy)]
enum Try {
    /// `d` maps the largest fit to this multiple, a bit less or more.
    Scale(i8, usize),
    /// `dmin` does.
    Offset(usize),
    /// The best steps of the best multiples.
    Better,
    /// Neighbours among f16 numbers.
    Moved(i16, i16),
}

impl Try {
    /// `fits` are the largest scale, the largest offset, and the largest multiple of an offset.
    fn steps(self, best: &Steps, better: &Steps, (scale, offset, last): (f32, f32, i8)) -> Steps {
        let step = |largest: f32, end: i8, i: usize| match end {
            0 => 0.0,
            end => Steps::rounded(f64::from(largest) / (f64::from(end) * (1.08 - 0.04 * i as f64)), 0.0).d,
        };
        match self {
            Self::Scale(end, i) => Steps { d: step(scale, end, i), ..*best },
            Self::Offset(i) => Steps { dmin: step(offset, last, i), ..*best },
            Self::Better => *better,
            Self::Moved(d, dmin) => best.moved(d, dmin),
        }
    }
}

/// What is tried for a type, in order.
fn tries(lattice: &Lattice) -> impl Iterator<Item = Try> {
    let ends = [lattice.scales.1, lattice.scales.0].into_iter().filter(|end| *end != 0);
    let scales = ends.flat_map(|end| (0..TRIED).map(move |i| Try::Scale(end, i)));
    let affine = lattice.mins != NONE;
    let offsets = (0..TRIED).map(Try::Offset).filter(move |_| affine);
    let neighbours = [Try::Moved(1, 0), Try::Moved(-1, 0), Try::Moved(0, 1), Try::Moved(0, -1)];
    let neighbours = neighbours.into_iter().filter(move |t| affine || !matches!(t, Try::Moved(0, _)));
    scales.chain(offsets).chain([Try::Better; ROUNDS]).chain(neighbours)
}

/// How many numbers are tried for `d` and `dmin`: the largest fit becomes the largest multiple, a bit more, or less.
const TRIED: usize = 9;
/// How often multiples and steps follow each other in the end.
const ROUNDS: usize = 2;
/// Multiples of `d` that are tried for a sub-block with an offset, around that of its fit, each with three of `dmin`.
const NEAR: usize = 5;

/// A block of N values in each sub-block.
struct Block<'a, L, const N: usize> {
    lattice: &'a Lattice,
    levels: L,
    subs: [SubBlock<'a, N>; SUBS],
    fits: [Fit; SUBS],
    /// How many sub-blocks there are.
    count: usize,
}

/// The best block that the search finds for `x` with weights `w`, whole sub-blocks of N values.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn search<S: Simd, const N: usize>(
    lattice: &Lattice,
    levels: impl Scale,
    x: &[f32],
    w: &[f32],
) -> Parts {
    let (x, w) = (x.as_chunks::<N>().0, w.as_chunks::<N>().0);
    let sub = |i: usize| SubBlock::new(&x[i.min(x.len() - 1)], &w[i.min(x.len() - 1)]);
    let subs: [_; SUBS] = std::array::from_fn(sub);
    let mut block = Block { lattice, levels, subs, fits: [Fit::default(); SUBS], count: x.len() };
    let (affine, positive) = (lattice.mins != NONE, lattice.mins != ONE);
    // SAFETY: the caller's promise.
    unsafe {
        for (sub, fit) in block.subs[..x.len()].iter().zip(&mut block.fits) {
            *fit = sub.fit::<S>(levels, affine, positive);
        }
        let best = if lattice.scales == ONE { block.alone::<S>() } else { block.together::<S>() };
        block.parts(&best)
    }
}

impl<L: Scale, const N: usize> Block<'_, L, N> {
    /// Of a type whose `d` is a scale and whose `dmin` an offset: the fit's neighbours among f16 numbers.
    #[inline(always)]
    unsafe fn alone<S: Simd>(&self) -> Assignment {
        let affine = self.lattice.mins == ONE;
        let fit = self.fits[0];
        let around = Steps::rounded(fit.scale.into(), fit.offset.into());
        let steps: [Steps; LANES] = std::array::from_fn(|lane| match (lane as i16, affine) {
            (lane, true) => around.moved(lane % 4 - 2, lane / 4 - 2),
            (lane, false) => around.moved(lane - 8, 0),
        });
        let candidates = Candidates { scale: steps.map(|s| s.d), offset: steps.map(|s| s.dmin) };
        // SAFETY: the caller's promise.
        let sums = unsafe { self.subs[0].sums::<S>(self.levels, &candidates) };
        let best = least(&sums.error);
        let mins = [self.lattice.mins.0; SUBS];
        Assignment { steps: steps[best], scales: [1; SUBS], mins, error: sums.error[best].into(), better: steps[best] }
    }

    /// Of a type with multiples.
    #[inline(always)]
    unsafe fn together<S: Simd>(&self) -> Assignment {
        let Lattice { scales, mins, .. } = *self.lattice;
        let fits = &self.fits[..self.count];
        let largest = fits.iter().map(|f| f.scale).fold(0.0, |m: f32, v| if v.abs() > m.abs() { v } else { m });
        let offset = fits.iter().map(|f| f.offset).fold(0.0, f32::max);
        let first = Try::Scale(scales.1, 2).steps(&Steps::default(), &Steps::default(), (largest, offset, mins.1));
        let first = Try::Offset(2).steps(&first, &first, (largest, offset, mins.1));
        let mut best = Assignment { error: f64::INFINITY, ..Assignment::of(first) };
        for attempt in tries(self.lattice) {
            let mut steps = attempt.steps(&best.steps, &best.better, (largest, offset, mins.1));
            // Once as it is, once with the best steps of the multiples that were found.
            for _ in 0..2 {
                // SAFETY: the caller's promise.
                let found = unsafe { self.assign::<S>(steps) };
                steps = found.better;
                if found.error < best.error {
                    best = found;
                }
            }
        }
        best
    }

    /// The best multiples of `steps` for each sub-block, near its fit.
    #[inline(always)]
    unsafe fn assign<S: Simd>(&self, steps: Steps) -> Assignment {
        let mut found = Assignment::of(steps);
        let (mut ss, mut sm, mut mm, mut s_x, mut m_x) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for i in 0..self.count {
            // SAFETY: the caller's promise.
            let (lane, (scales, mins), sums) =
                unsafe { if self.lattice.mins == NONE { self.scale::<S>(i, steps) } else { self.pair::<S>(i, steps) } };
            (found.scales[i], found.mins[i]) = (scales[lane], mins[lane]);
            found.error += f64::from(sums.error[lane]);
            let (s, m) = (f64::from(scales[lane]), f64::from(mins[lane]));
            let sub = &self.subs[i];
            ss += s * s * f64::from(sums.cc[lane]);
            sm -= s * m * f64::from(sums.c[lane]);
            mm += m * m * f64::from(sub.sum_w);
            s_x += s * f64::from(sums.cx[lane]);
            m_x -= m * f64::from(sub.sum_x);
        }
        let determinant = ss * mm - sm * sm;
        if self.lattice.mins != NONE && determinant > 0.0 {
            let (d, dmin) = ((mm * s_x - sm * m_x) / determinant, (ss * m_x - sm * s_x) / determinant);
            found.better = Steps::rounded(d, dmin);
        } else if ss > 0.0 {
            found.better.d = Steps::rounded(s_x / ss, 0.0).d;
        }
        found
    }

    /// Sixteen multiples of `d` for sub-block `i`; the best of them.
    #[inline(always)]
    unsafe fn scale<S: Simd>(&self, i: usize, steps: Steps) -> (usize, ([i8; LANES], [i8; LANES]), Sums) {
        let middle = multiple(self.fits[i].scale, steps.d, self.lattice.scales);
        let scales: [i8; LANES] =
            std::array::from_fn(|lane| clamp(i32::from(middle) + lane as i32 - LANES as i32 / 2, self.lattice.scales));
        let candidates = Candidates { scale: scales.map(|s| steps.d * f32::from(s)), offset: [0.0; LANES] };
        // SAFETY: the caller's promise.
        let sums = unsafe { self.subs[i].sums::<S>(self.levels, &candidates) };
        (least(&sums.error), (scales, [0; LANES]), sums)
    }

    /// Pairs of multiples for sub-block `i`; the best of them. Around those of its fit first; then, for each multiple of
    /// `d`, around the best offset of the levels that the first gave.
    #[inline(always)]
    unsafe fn pair<S: Simd>(&self, i: usize, steps: Steps) -> (usize, ([i8; LANES], [i8; LANES]), Sums) {
        let Lattice { scales: of_d, mins: of_dmin, .. } = *self.lattice;
        let sub = &self.subs[i];
        let middle = i32::from(multiple(self.fits[i].scale, steps.d, of_d));
        let scales: [i8; LANES] =
            std::array::from_fn(|lane| clamp(middle + (lane % NEAR) as i32 - NEAR as i32 / 2, of_d));
        let mut around = [multiple(self.fits[i].offset, steps.dmin, of_dmin); NEAR];
        for round in 0.. {
            // The sixteenth lane repeats the first.
            let mins: [i8; LANES] = std::array::from_fn(|lane| {
                clamp(i32::from(around[lane % NEAR]) + (lane / NEAR % 3) as i32 - 1, of_dmin)
            });
            let candidates = Candidates {
                scale: scales.map(|s| steps.d * f32::from(s)),
                offset: mins.map(|m| steps.dmin * f32::from(m)),
            };
            // SAFETY: the caller's promise.
            let sums = unsafe { sub.sums::<S>(self.levels, &candidates) };
            if round == 1 {
                return (least(&sums.error), (scales, mins), sums);
            }
            for (near, around) in around.iter_mut().enumerate() {
                let lanes = [near, near + NEAR, near + 2 * NEAR];
                let best = lanes.into_iter().fold(near, |b, l| if sums.error[l] < sums.error[b] { l } else { b });
                let offset = (candidates.scale[best] * sums.c[best] - sub.sum_x) / sub.sum_w;
                *around = multiple(offset, steps.dmin, of_dmin);
            }
        }
        unreachable!("the second round returns")
    }

    fn parts(&self, best: &Assignment) -> Parts {
        let Assignment { steps: Steps { d, dmin }, scales, mins, .. } = *best;
        let mut q = [0; BLOCK];
        for (i, (q, sub)) in q.as_chunks_mut::<N>().0.iter_mut().zip(&self.subs[..self.count]).enumerate() {
            let (scale, offset) = (d * f32::from(scales[i]), dmin * f32::from(mins[i]));
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            *q = sub.x.map(|x| self.levels.index((x + offset) * inverse));
        }
        Parts { d, dmin, scales, mins, q }
    }
}

/// The first lane of the least error.
fn least(errors: &[f32; LANES]) -> usize {
    errors.iter().enumerate().fold(0, |best, (lane, e)| if *e < errors[best] { lane } else { best })
}

fn clamp(multiple: i32, range: Multiples) -> i8 {
    multiple.clamp(range.0.into(), range.1.into()) as i8
}

/// The multiple of `step` that is nearest to `v`.
fn multiple(v: f32, step: f32, range: Multiples) -> i8 {
    if step == 0.0 { clamp(0, range) } else { clamp((v / step).round() as i32, range) }
}
