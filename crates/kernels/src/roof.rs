//! What this machine allows: read bandwidth, int8 and f32 peaks, measured with the same threads and instructions that the
//! kernels use.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::backend::BackendError;
use crate::buffer::Buffer;
use crate::simd::{Kernel, LANES, Simd, Tier};
use crate::team::Team;

/// Bytes that the read measurement walks through: several times any cache.
const READ_BYTES: usize = 512 << 20;
/// Bytes of one item of reading.
const READ_AT_ONCE: usize = 4 << 20;
/// Register sums per call of an arithmetic measurement.
const ROUNDS: usize = 1 << 16;

/// The roofs for a number of threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roof {
    pub threads: usize,
    /// Bytes per second read from memory.
    pub read: f64,
    /// int8 operations per second; a multiply-add is two.
    pub int8: f64,
    /// f32 operations per second; a multiply-add is two.
    pub f32: f64,
    /// BF16 operations per second, where the tier has them; a multiply-add is two.
    pub bf16: Option<f64>,
}

/// Measures the roofs for each number of threads, in about 0.9 seconds per entry: the best of as many passes as fit.
///
/// # Errors
/// Too little memory for the buffer that is read.
pub fn measure(tier: Tier, threads: &[usize]) -> Result<Vec<Roof>, BackendError> {
    let buffer: Buffer<u8> = Buffer::zeroed(READ_BYTES)
        .ok_or(BackendError::Memory { what: "the buffer of the bandwidth measurement", bytes: READ_BYTES })?;
    let mut writer = Team::new(threads.iter().copied().max().unwrap_or(1));
    writer.run(READ_BYTES / READ_AT_ONCE, &|i| {
        // SAFETY: each item is a part of its own. Writing gives every page memory of its own.
        unsafe { buffer.slice_mut(i * READ_AT_ONCE, READ_AT_ONCE) }.fill(1);
    });
    drop(writer);
    Ok(threads.iter().map(|n| of_team(tier, *n, &buffer)).collect())
}

fn of_team(tier: Tier, threads: usize, buffer: &Buffer<u8>) -> Roof {
    let mut team = Team::new(threads);
    let read = best(Duration::from_millis(450), || {
        team.run(READ_BYTES / READ_AT_ONCE, &|i| {
            let bytes = buffer.ptr().wrapping_add(i * READ_AT_ONCE);
            // SAFETY: the tier is available; the item lies within the buffer.
            unsafe { tier.run(Read { bytes, len: READ_AT_ONCE }) }
        });
    });
    let time = Duration::from_millis(200);
    let (int8, f32) = (peak(tier, &mut team, Sums::Int8, time), peak(tier, &mut team, Sums::F32, time));
    let bf16 = tier.has_bf16().then(|| peak(tier, &mut team, Sums::Bf16, time));
    Roof { threads, read: READ_BYTES as f64 / read, int8, f32, bf16 }
}

/// How many times as fast BF16 arithmetic is as f32 on one thread, where the tier has it; some CPUs have it and are slower.
/// Takes milliseconds.
pub fn bf16_gain(tier: Tier) -> Option<f64> {
    let (mut alone, time) = (Team::new(1), Duration::from_millis(2));
    tier.has_bf16().then(|| peak(tier, &mut alone, Sums::Bf16, time) / peak(tier, &mut alone, Sums::F32, time))
}

/// Operations per second on registers alone.
fn peak(tier: Tier, team: &mut Team, sums_of: Sums, time: Duration) -> f64 {
    let threads = team.size();
    // An int8 sum takes four multiply-adds a lane, a BF16 sum two.
    let per_lane = match sums_of {
        Sums::Int8 => 4.0,
        Sums::Bf16 => 2.0,
        Sums::F32 => 1.0,
    };
    let seconds = best(time, || {
        team.run(threads, &|_| {
            // SAFETY: the tier is available.
            unsafe {
                match sums_of {
                    Sums::Bf16 => tier.run_bf16(Peak(sums_of)),
                    _ => tier.run(Peak(sums_of)),
                }
            }
        });
    });
    // SAFETY: the tier is available.
    let sums = unsafe { tier.run(Chains) } * ROUNDS;
    (sums * threads * LANES * 2) as f64 * per_lane / seconds
}

/// The fewest seconds that `work` takes within `time`, three passes at least.
fn best(time: Duration, mut work: impl FnMut()) -> f64 {
    let (start, mut best, mut passes) = (Instant::now(), f64::INFINITY, 0);
    while passes < 3 || start.elapsed() < time {
        let begin = Instant::now();
        work();
        best = best.min(begin.elapsed().as_secs_f64());
        passes += 1;
    }
    best
}

/// Reads `len` bytes, a multiple of 512. Safety: they exist.
struct Read {
    bytes: *const u8,
    len: usize,
}

impl Kernel for Read {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: offsets are below `len`.
        unsafe {
            let mut sums = [S::splat_b(0); 4];
            for at in (0..self.len).step_by(512) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = S::or(*sum, S::load_b(self.bytes.add(at + i * 128)));
                    *sum = S::or(*sum, S::load_b(self.bytes.add(at + i * 128 + 64)));
                }
            }
            black_box(sums);
        }
    }
}

/// What is multiplied and summed.
#[derive(Clone, Copy)]
enum Sums {
    Int8,
    F32,
    Bf16,
}

/// Multiply-adds on registers alone.
struct Peak(Sums);

/// Independent sums of [`Peak`] on a tier.
struct Chains;

impl Kernel for Chains {
    type Output = usize;

    #[inline(always)]
    unsafe fn body<S: Simd>(self) -> usize {
        S::FLOAT_TILE.0 * S::FLOAT_TILE.1
    }
}

impl Kernel for Peak {
    type Output = ();

    #[inline(always)]
    unsafe fn body<S: Simd>(self) {
        // SAFETY: registers only.
        unsafe {
            match S::FLOAT_TILE {
                (2, 8) => self.sums::<S, 16>(),
                (1, 4) => self.sums::<S, 4>(),
                _ => self.sums::<S, 1>(),
            }
        }
    }
}

impl Peak {
    #[inline(always)]
    unsafe fn sums<S: Simd, const N: usize>(&self) {
        // SAFETY: registers only.
        unsafe {
            if let Sums::F32 = self.0 {
                let (a, b) = (S::splat(black_box(0.5)), S::splat(black_box(0.25)));
                let mut sums = [S::splat(0.0); N];
                for _ in 0..ROUNDS / 64 {
                    for _ in 0..64 {
                        for sum in &mut sums {
                            *sum = S::fma(a, *sum, b);
                        }
                    }
                    sums = black_box(sums);
                }
            } else if let Sums::Bf16 = self.0 {
                let (w, x) = (S::splat_b(black_box(3)), S::splat_i(black_box(0x3F00_3F00)));
                let mut sums = [S::splat(0.0); N];
                for _ in 0..ROUNDS / 64 {
                    for _ in 0..64 {
                        for sum in &mut sums {
                            *sum = S::dot_bf16(*sum, w, x);
                        }
                    }
                    sums = black_box(sums);
                }
            } else {
                let w = S::splat_b(black_box(3));
                let mut sums = [S::splat_i(0); N];
                for _ in 0..ROUNDS / 64 {
                    for _ in 0..64 {
                        for sum in &mut sums {
                            // A sum as the other factor, so that no part of the operation can be done once for all.
                            *sum = S::dot(*sum, w, *sum);
                        }
                    }
                    sums = black_box(sums);
                }
            }
        }
    }
}
