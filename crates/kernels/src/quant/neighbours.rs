//! Codebooks searched backwards: from the places of a group of values to the entry that has them, or to the nearest one of
//! a few that are near.
//!
//! Which entries are near a point (a group's places, whether an entry has them or not) follows from the codebook alone:
//! those at the smallest distances, the unit of distance being a place. They stand in ascending distance and then in the
//! codebook's order, and the first of several that fit equally well is taken, so that ties fall as in ggml.

use super::grid::entry;
use crate::simd::{LANES, Simd};

/// The places of a group of G values: three for each of eight, or eight for each of four.
const fn levels(g: usize) -> usize {
    if g == 8 { 3 } else { 8 }
}

/// A codebook and its neighbourhoods.
pub(super) struct Neighbours<const G: usize> {
    /// Places of each entry, as the codebook stores them.
    codes: Vec<u16>,
    points: Vec<Point>,
    /// Sixteen neighbours at a time: for each two values of a group a byte of each neighbour, `2 place + 1` in its nibbles.
    lists: Vec<[u8; LANES]>,
    /// The entries of the neighbours.
    entries: Vec<[u16; LANES]>,
}

/// What stands for a point.
#[derive(Clone, Copy)]
struct Point {
    /// The entry, or where its neighbours start.
    at: u32,
    /// How many times sixteen neighbours; 0 where an entry has these places.
    chunks: u32,
}

/// Values of a group, with their weights, in all lanes.
pub(super) struct Group<S: Simd, const G: usize> {
    x: [S::F; G],
    w: [S::F; G],
}

impl<S: Simd, const G: usize> Group<S, G> {
    /// # Safety
    /// As [`Simd`].
    #[inline(always)]
    pub unsafe fn new(x: &[f32; G], w: &[f32; G]) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let zero = S::splat(0.0);
            let mut group = Self { x: [zero; G], w: [zero; G] };
            for i in 0..G {
                (group.x[i], group.w[i]) = (S::splat(x[i]), S::splat(w[i]));
            }
            group
        }
    }
}

impl<const G: usize> Neighbours<G> {
    /// The number of places.
    pub const LEVELS: usize = levels(G);
    /// Bits of a place in an entry's code.
    pub const BITS: usize = 16 / G;

    /// `codebook` has 16 bits for each entry. Neighbours are all entries at one of the `distances` smallest distances.
    pub fn new(codebook: &[u8], distances: usize) -> Self {
        let codes: Vec<u16> = (0..codebook.len() / 2).map(|at| entry(codebook, at)).collect();
        let places: Vec<[i16; G]> = codes.iter().map(|code| places(*code)).collect();
        let mut points = vec![Point { at: 0, chunks: u32::MAX }; Self::LEVELS.pow(G as u32)];
        for (at, places) in places.iter().enumerate() {
            points[Self::point(places.map(|p| p as usize))] = Point { at: at as u32, chunks: 0 };
        }
        let (mut lists, mut entries) = (Vec::new(), Vec::new());
        let mut far = vec![0; places.len()];
        let mut near = Vec::new();
        for (at, point) in points.iter_mut().enumerate().filter(|(_, point)| point.chunks != 0) {
            let here: [i16; G] = std::array::from_fn(|i| (at / Self::LEVELS.pow(i as u32) % Self::LEVELS) as i16);
            for (far, places) in far.iter_mut().zip(&places) {
                *far = here.iter().zip(places).map(|(a, b)| (a - b) * (a - b)).sum::<i16>();
            }
            near.clear();
            let mut last = -1;
            for _ in 0..distances {
                let Some(next) = far.iter().copied().filter(|d| *d > last).min() else { break };
                near.extend((0..far.len()).filter(|at| far[*at] == next));
                last = next;
            }
            *point = Point { at: entries.len() as u32, chunks: near.len().div_ceil(LANES) as u32 };
            for chunk in near.chunks(LANES) {
                // The first one again fills the lanes that are left: it wins where it stands first.
                let of = |lane: usize| *chunk.get(lane).unwrap_or(&near[0]);
                entries.push(std::array::from_fn(|lane| of(lane) as u16));
                lists.extend((0..G / 2).map(|pair| {
                    std::array::from_fn(|lane| {
                        let odd = |i: usize| 2 * places[of(lane)][i] as u8 + 1;
                        odd(2 * pair) | odd(2 * pair + 1) << 4
                    })
                }));
            }
        }
        Self { codes, points, lists, entries }
    }

    /// The number of a point.
    #[inline(always)]
    pub fn point(places: [usize; G]) -> usize {
        places.iter().rev().fold(0, |point, place| point * Self::LEVELS + place)
    }

    /// The places of an entry, as the codebook stores them.
    #[inline(always)]
    pub fn code(&self, entry: u16) -> u16 {
        self.codes[usize::from(entry)]
    }

    /// The entry that stands for a point, and whether it has the same places. If not, it is the neighbour with the least
    /// Σ w (scale q - x)², where q is `2 place + 1`, or, if values are CENTRED, `place + first`.
    ///
    /// # Safety
    /// As [`Simd`].
    #[inline(always)]
    pub unsafe fn entry<S: Simd, const CENTRED: bool>(
        &self,
        point: usize,
        group: &Group<S, G>,
        scale: f32,
        first: f32,
    ) -> (u16, bool) {
        let Point { at, chunks } = self.points[point];
        if chunks == 0 {
            return (at as u16, true);
        }
        let (start, end) = (at as usize, (at + chunks) as usize);
        let (lists, entries) = (&self.lists[G / 2 * start..G / 2 * end], &self.entries[start..end]);
        // SAFETY: the caller's promise; a list has 16 bytes for each two values.
        unsafe {
            let (scale, first) = (S::splat(scale), S::splat(first - 0.5));
            let mut least = S::splat(f32::MAX);
            let mut place = S::load(LANE.as_ptr());
            let mut here = place;
            for list in lists.chunks_exact(G / 2) {
                let mut sum = S::splat(0.0);
                for (pair, bytes) in list.iter().enumerate() {
                    let (a, b) = S::load_nibbles(bytes.as_ptr());
                    for (i, odd) in [(2 * pair, a), (2 * pair + 1, b)] {
                        let q = if CENTRED { S::fma(odd, S::splat(0.5), first) } else { odd };
                        let difference = S::sub(S::mul(scale, q), group.x[i]);
                        sum = S::add(sum, S::mul(S::mul(group.w[i], difference), difference));
                    }
                }
                place = S::select_lt(sum, least, here, place);
                least = S::select_lt(sum, least, sum, least);
                here = S::add(here, S::splat(LANES as f32));
            }
            // Of the lanes with the least sum, the one whose neighbour stands first.
            let zero = S::splat(0.0);
            let smallest = S::splat(-S::largest(S::sub(zero, least)));
            let ahead = S::select_lt(smallest, least, S::splat(f32::NEG_INFINITY), S::sub(zero, place));
            let first = (-S::largest(ahead)) as usize;
            // Sums that overflowed may leave none.
            let first = first.min(LANES * entries.len() - 1);
            (entries[first / LANES][first % LANES], false)
        }
    }
}

/// The number of each lane.
const LANE: [f32; LANES] = {
    let (mut lanes, mut i) = ([0.0; LANES], 0);
    while i < LANES {
        lanes[i] = i as f32;
        i += 1;
    }
    lanes
};

/// The places in an entry's code.
#[inline(always)]
pub(super) fn places<const G: usize>(code: u16) -> [i16; G] {
    let bits = 16 / G;
    std::array::from_fn(|i| (code >> (bits * i) & ((1 << bits) - 1)) as i16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, Tier};

    struct Entry<'a, const G: usize>(&'a Neighbours<G>, usize, &'a [f32; G], &'a [f32; G], f32);

    impl<const G: usize> Kernel for Entry<'_, G> {
        type Output = (u16, bool);
        #[inline(always)]
        unsafe fn body<S: Simd>(self) -> (u16, bool) {
            let Self(codebook, point, x, w, scale) = self;
            // SAFETY: the caller's promise.
            unsafe { codebook.entry::<S, false>(point, &Group::new(x, w), scale, 0.0) }
        }
    }

    /// A codebook of every seventh point, in an order that is not theirs.
    fn codebook<const G: usize>() -> Vec<[i16; G]> {
        let digits = |at: usize| std::array::from_fn(|i| (at / levels(G).pow(i as u32) % levels(G)) as i16);
        (0..levels(G).pow(G as u32)).step_by(7).map(|at| digits(at * 5 % levels(G).pow(G as u32))).collect()
    }

    fn check<const G: usize>(distances: usize) {
        let places = codebook::<G>();
        let code = |p: &[i16; G]| p.iter().rev().fold(0, |code, place| code << (16 / G) | *place as u16);
        let bytes: Vec<u8> = places.iter().flat_map(|p| code(p).to_le_bytes()).collect();
        let codebook = Neighbours::<G>::new(&bytes, distances);
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as f32 / 65536.0
        };
        for at in 0..levels(G).pow(G as u32) {
            let here: [i16; G] = std::array::from_fn(|i| (at / levels(G).pow(i as u32) % levels(G)) as i16);
            assert_eq!(Neighbours::<G>::point(here.map(|p| p as usize)), at);
            let x = here.map(|p| f32::from(2 * p + 1) + next() - 0.5);
            let w = here.map(|_| next());
            let distance = |p: &[i16; G]| p.iter().zip(here).map(|(a, b)| (a - b) * (a - b)).sum::<i16>();
            let mut all: Vec<_> = places.iter().map(distance).collect();
            all.sort_unstable();
            all.dedup();
            let near = |entry: &usize| distance(&places[*entry]) <= all[distances - 1];
            let cost = |entry: &usize| {
                let terms = places[*entry].iter().zip(x).zip(w);
                terms.fold(0.0, |sum, ((p, x), w)| sum + w * (f32::from(2 * p + 1) - x) * (f32::from(2 * p + 1) - x))
            };
            let same = places.iter().position(|p| *p == here);
            let expected = same.unwrap_or_else(|| {
                let mut entries: Vec<_> = (0..places.len()).filter(near).collect();
                entries.sort_by_key(|entry| distance(&places[*entry]));
                entries.into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap()
            });
            for tier in Tier::all_available() {
                // SAFETY: the tier is available.
                let found = unsafe { tier.run(Entry(&codebook, at, &x, &w, 1.0)) };
                assert_eq!(found, (expected as u16, same.is_some()), "point {at} on {}", tier.name());
            }
        }
    }

    #[test]
    fn the_best_of_the_nearest_entries_is_found() {
        check::<8>(2);
        check::<4>(3);
    }
}
