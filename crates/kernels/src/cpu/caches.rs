//! The caches of this CPU.

use std::sync::OnceLock;

/// Bytes of a core's second-level cache where the system does not tell: what small cores have.
const SECOND_LEVEL: usize = 512 << 10;

/// Bytes of a core's second-level cache.
pub fn second_level() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| read().unwrap_or(SECOND_LEVEL))
}

/// What Linux tells of the first CPU; cores differ little in this respect.
fn read() -> Option<usize> {
    let file = |index: usize, name: &str| {
        std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}")).ok()
    };
    let index = (0..8).find(|i| file(*i, "level").is_some_and(|level| level.trim() == "2"))?;
    parse(&file(index, "size")?)
}

/// The bytes of a size like `1024K`.
fn parse(size: &str) -> Option<usize> {
    let (number, unit) = match size.trim() {
        s if s.ends_with('K') => (s.trim_end_matches('K'), 1 << 10),
        s if s.ends_with('M') => (s.trim_end_matches('M'), 1 << 20),
        s => (s, 1),
    };
    number.parse::<usize>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse("1024K\n"), Some(1 << 20));
        assert_eq!(parse("2M"), Some(2 << 20));
        assert_eq!(parse("0K"), None);
        assert_eq!(parse("many"), None);
        assert!(second_level() >= 64 << 10);
    }
}
