//! How many threads to use when the user names no number.

use std::num::NonZeroUsize;

/// The physical cores that this process may use. Two threads on one core share its arithmetic units and its memory
/// ports, so the second of them only costs synchronization.
pub fn default() -> NonZeroUsize {
    // Counts the CPUs of the affinity mask, capped by the cgroup's quota.
    let logical = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    physical().map_or(logical, |physical| physical.min(logical))
}

/// Distinct cores among the CPUs of this process's affinity mask; `None` where the system does not tell.
#[cfg(target_os = "linux")]
fn physical() -> Option<NonZeroUsize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = std::collections::HashSet::new();
    for cpu in cpu_list(allowed)? {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        cores.insert(std::fs::read_to_string(path).ok()?);
    }
    NonZeroUsize::new(cores.len())
}

#[cfg(not(target_os = "linux"))]
fn physical() -> Option<NonZeroUsize> {
    None
}

/// The numbers of a list like `0-3,8`, as the kernel writes CPU sets.
#[cfg(target_os = "linux")]
fn cpu_list(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_expanded() {
        assert_eq!(cpu_list("\t0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(cpu_list("5"), Some(vec![5]));
        assert_eq!(cpu_list(""), None);
        assert_eq!(cpu_list("0-x"), None);
    }

    #[test]
    fn the_default_is_within_what_the_process_may_use() {
        assert!(default() <= std::thread::available_parallelism().unwrap());
    }
}
