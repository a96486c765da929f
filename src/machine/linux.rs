//! Linux: what `/proc` and the control groups say. Other systems have neither, and so no answer.

use std::{
    fs,
    path::{Path, PathBuf},
};

#[cfg_attr(
    any(windows, target_vendor = "apple"),
    expect(dead_code, reason = "only what it is made of is tested there")
)]
pub(super) fn memory() -> Option<usize> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let machine = total(&read(Path::new("/proc/meminfo"))?)?;
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    Some(group_limit(&groups, read).map_or(machine, |limit| limit.min(machine)))
}

/// `MemTotal` of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}

/// The smallest memory limit of the control groups in `/proc/self/cgroup` and of those around them.
fn group_limit(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<usize> {
    let limits = groups.lines().filter_map(|line| {
        // Number, controllers, path. Version 2 has one hierarchy, of number 0 and without a list of controllers.
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let (root, file) = match (number, controllers) {
            ("0", "") => ("/sys/fs/cgroup", "memory.max"),
            (_, controllers) if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        // In a container the path may be one outside, and only the root is there. No limit is "max", not a number.
        let path = PathBuf::from(path.trim_start_matches('/'));
        let limit = |group: &Path| read(&Path::new(root).join(group).join(file))?.trim().parse::<usize>().ok();
        path.ancestors().filter_map(limit).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_counts() {
        assert_eq!(total("MemTotal:       16000 kB\nMemFree: 3 kB\n"), Some(16000 * 1024));
        let files = |known: &'static [(&str, &str)]| {
            move |path: &Path| {
                known.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
            }
        };
        let second = files(&[
            ("/sys/fs/cgroup/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "5000\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "7000\n"),
        ]);
        assert_eq!(group_limit("0::/a/b\n", second), Some(5000));
        let first = files(&[("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9000\n")]);
        assert_eq!(group_limit("3:cpu,cpuacct:/x\n5:memory:/docker/x\n0::/x\n", first), Some(9000));
        assert_eq!(group_limit("0::/\n", files(&[("/sys/fs/cgroup/memory.max", "max\n")])), None);
        assert_eq!(group_limit("", files(&[])), None);
    }
}
