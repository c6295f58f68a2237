//! How attention is split over threads: tiles of queries, and parts of their keys.

use std::ops::Range;

use super::Row;
use crate::ops::attention::segments;

/// Items of attention per thread, below which they are split.
const PARTS_PER_THREAD: usize = 4;

/// Some segments of an item of attention.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub item: usize,
    pub numbers: Range<usize>,
}

/// Items in parts, if threads would otherwise wait for a few long ones.
pub fn parts(rows: &[Row], tiles: &[Range<usize>], kv_heads: usize, threads: usize) -> Option<Vec<Part>> {
    let items = tiles.len() * kv_heads;
    let wanted = (threads * PARTS_PER_THREAD).div_ceil(items.max(1));
    if threads == 1 || wanted == 1 || tiles.iter().all(|tile| segments_of(rows, tile) == 1) {
        return None;
    }
    let parts = tiles.iter().enumerate().flat_map(|(t, tile)| {
        let count = segments_of(rows, tile);
        let each = (count / wanted).max(1);
        (0..kv_heads).flat_map(move |head| {
            let item = t * kv_heads + head;
            (0..count).step_by(each).map(move |first| Part { item, numbers: first..count.min(first + each) })
        })
    });
    Some(parts.collect())
}

/// Segments that the rows of a tile see.
pub fn segments_of(rows: &[Row], tile: &Range<usize>) -> usize {
    segments(rows[tile.end - 1].position + 1)
}

/// The rows in tiles of at most `size`, none across two spans.
pub fn tiles(rows: &[Row], size: usize) -> Vec<Range<usize>> {
    let mut tiles: Vec<Range<usize>> = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        match tiles.last_mut() {
            Some(tile) if tile.len() < size && rows[tile.start].span == row.span => tile.end = i + 1,
            _ => tiles.push(i..i + 1),
        }
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(spans: &[(usize, usize)]) -> Vec<Row> {
        let row = |span, position| Row { span, token: 0, position, reserved: 4096, logits: false };
        let of = |(span, (first, count)): (usize, (usize, usize))| (first..first + count).map(move |p| row(span, p));
        spans.iter().copied().enumerate().flat_map(of).collect()
    }

    #[test]
    fn tiles_end_with_their_span() {
        assert_eq!(tiles(&rows(&[(0, 5), (9, 1)]), 4), [0..4, 4..5, 5..6]);
    }

    #[test]
    fn few_long_items_are_split_and_every_segment_is_in_one_part() {
        let (rows, tile) = (rows(&[(2000, 1)]), 0..1);
        let parts = parts(&rows, std::slice::from_ref(&tile), 3, 4).expect("3 items for 4 threads");
        for item in 0..3 {
            let numbers: Vec<usize> = parts.iter().filter(|p| p.item == item).flat_map(|p| p.numbers.clone()).collect();
            assert_eq!(numbers, (0..8).collect::<Vec<_>>());
        }
        assert!(parts.len() >= 16);
    }

    #[test]
    fn short_or_many_items_stay_whole() {
        let tile = 0..1;
        assert_eq!(parts(&rows(&[(200, 1)]), std::slice::from_ref(&tile), 1, 4), None);
        assert_eq!(parts(&rows(&[(2000, 1)]), std::slice::from_ref(&tile), 8, 2), None);
        assert_eq!(parts(&rows(&[(2000, 1)]), std::slice::from_ref(&tile), 1, 1), None);
    }
}
