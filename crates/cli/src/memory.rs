//! The memory of this process.

/// The most bytes of memory that this process has held at once, mapped files included; `None` where the system does not say.
pub fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn the_peak_covers_what_was_touched() {
        const SIZE: usize = 64 << 20;
        let touched = vec![1u8; SIZE];
        assert!(std::hint::black_box(&touched).len() == SIZE && super::peak().unwrap() > SIZE as u64);
    }
}
