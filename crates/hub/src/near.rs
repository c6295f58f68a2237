//! Names close to a mistyped one.

/// More suggestions than this help nobody.
const MOST: usize = 6;

/// The candidates that `wanted` may have been meant for, best first: of those within a third of its length in edits the
/// closest, and those that contain it. Case does not count.
pub fn near<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let reach = (wanted.chars().count() / 3).max(1);
    let mut found: Vec<(usize, bool, &str)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let lower = candidate.to_lowercase();
            let (distance, contains) = (edits(&wanted, &lower), wanted.len() > 2 && lower.contains(&wanted));
            (distance <= reach || contains).then_some((distance, contains, candidate))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    let best = found.first().map_or(0, |&(distance, ..)| distance);
    found.retain(|&(distance, contains, _)| contains || distance == best);
    found.into_iter().take(MOST).map(|(_, _, name)| name.to_owned()).collect()
}

/// Levenshtein distance: the fewest insertions, deletions and substitutions that make `b` of `a`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    // `row[j]` is the distance between the part of `a` read so far and the first `j` characters of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("qwen3", "qwen", 1)] {
            assert_eq!((edits(a, b), edits(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn suggests_what_is_close_and_nothing_else() {
        let names = ["smollm2", "smollm3", "qwen3:0.6b", "phi-4-mini"];
        assert_eq!(near("smolm2", names), ["smollm2"]);
        assert_eq!(near("Qwen3", names), ["qwen3:0.6b"]);
        assert!(near("gemma", names).is_empty());
        assert!(near("", names).is_empty());
    }
}
