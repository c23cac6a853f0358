//! What the machine grants this process: the facts behind defaults that depend on it.

use std::path::Path;

use crate::limits::MEMORY_BUDGET_FALLBACK_BYTES;

/// Facts about where the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Bytes this process may use: the cgroup's limit, or all of the machine's memory without one.
    pub memory_bytes: u64,
    /// CPUs it may use at once, quotas considered; at least 1.
    pub cpus: usize,
}

impl Machine {
    /// Reads the facts of this process.
    pub fn read() -> Self {
        Self {
            memory_bytes: memory_bytes(Path::new("/")),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// Returns the memory limit as the files beneath `root` tell it: cgroup v2 (own group up to the root), v1, `MemTotal`.
pub(super) fn memory_bytes(root: &Path) -> u64 {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let total = read("proc/meminfo").and_then(|text| mem_total(&text));
    let groups = read("proc/self/cgroup").unwrap_or_default();
    let limits = v2_limit_files(&groups)
        .into_iter()
        .chain(v1_limit_files(&groups))
        .filter_map(|path| read(&path)?.trim().parse::<u64>().ok());
    // A v1 group without a limit says a number near 2^63: the machine's memory bounds it.
    limits.chain(total).min().filter(|bytes| *bytes > 0).unwrap_or(MEMORY_BUDGET_FALLBACK_BYTES * 2)
}

/// Every group from our own up to the root may have a limit; the smallest holds.
fn v2_limit_files(groups: &str) -> Vec<String> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    Path::new(own)
        .ancestors()
        .map(|group| format!("sys/fs/cgroup/{}/memory.max", group.display().to_string().trim_matches('/')))
        .collect()
}

fn v1_limit_files(groups: &str) -> Vec<String> {
    let own = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == "memory").then_some(path)
    });
    Path::new(own.unwrap_or("/"))
        .ancestors()
        .map(|group| {
            format!("sys/fs/cgroup/memory/{}/memory.limit_in_bytes", group.display().to_string().trim_matches('/'))
        })
        .collect()
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> u64 {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        memory_bytes(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       16000 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_smallest_limit_from_own_group_to_root_holds() {
        let own = ("proc/self/cgroup", "0::/kubepods/pod1\n");
        assert_eq!(
            machine(&[
                MEMINFO,
                own,
                ("sys/fs/cgroup/kubepods/pod1/memory.max", "max\n"),
                ("sys/fs/cgroup/kubepods/memory.max", "4096\n"),
                ("sys/fs/cgroup/memory.max", "9000\n"),
            ]),
            4096
        );
    }

    #[test]
    fn the_first_version_of_cgroups_is_read_too() {
        let own = ("proc/self/cgroup", "4:cpu,cpuacct:/x\n3:memory:/docker/abc\n");
        let limit = ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "8192\n");
        assert_eq!(machine(&[MEMINFO, own, limit]), 8192);
    }

    #[test]
    fn without_a_limit_the_machine_is_the_limit() {
        let unlimited = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(machine(&[MEMINFO, unlimited]), 16000 * 1024);
        assert_eq!(machine(&[]), MEMORY_BUDGET_FALLBACK_BYTES * 2);
    }
}
