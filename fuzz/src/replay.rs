//! Corpora as plain tests.

use std::path::Path;
use std::time::{Duration, Instant};

/// For one input, in a build without optimization on a busy machine; with it, all take milliseconds to a second.
const MAX_TIME: Duration = Duration::from_secs(20);

/// Bytes of memory that an input may take beyond its own size.
const MAX_MEMORY: usize = 64 << 20;

/// Runs a target on every file of its corpus, in order of their names: no panic, bounded time, bounded memory. Memory is
/// measured for the whole process, so that nothing else may run beside.
pub fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no file in {}", corpus.display());
    for file in files {
        let input = std::fs::read(&file).unwrap();
        let (before, start) = (peak_memory(), Instant::now());
        let outcome = std::panic::catch_unwind(|| run(&input));
        assert!(outcome.is_ok(), "{} panics", file.display());
        let (elapsed, grown) = (start.elapsed(), peak_memory() - before);
        assert!(elapsed < MAX_TIME, "{}: {elapsed:?}", file.display());
        assert!(grown < input.len() + MAX_MEMORY, "{}: {grown} bytes of memory", file.display());
    }
}

/// The most memory that the process has had in use at once, in bytes; 0 where the system does not tell.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    kilobytes.unwrap_or(0) << 10
}
