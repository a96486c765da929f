//! How much memory the KV cache takes: what is set, else a share of what this process may use.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{CacheFormat, Layout};
use crate::{
    Error, Result,
    bundle::Precision,
    config::{CachePrecision, Config, Overflow},
    limits,
};

/// The cache's share where it is not known how much memory there is.
const FALLBACK: usize = 1 << 30;

/// Whose memory a cache is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    Host,
    /// A device's own, of which it is not known how much there is.
    Device,
}

/// A block of a backend's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) tokens: usize,
    /// What it takes in all layers together.
    pub(crate) bytes: usize,
}

impl Block {
    /// Bytes of the blocks that so many tokens of one stream take.
    fn bytes_of(self, tokens: usize) -> usize {
        tokens.div_ceil(self.tokens) * self.bytes
    }

    /// How a cache of so many bytes is divided.
    pub(crate) fn layout(self, cache_bytes: usize) -> Result<Layout> {
        let (blocks, limit) = (cache_bytes / self.bytes, limits::CACHE_BLOCKS);
        if !(1..=limit).contains(&blocks) {
            let Block { tokens, bytes } = self;
            let reason = format!("a block of {tokens} tokens takes {bytes} bytes, and 1 to {limit} can be");
            return Err(Error::config("cache.mib", reason));
        }
        Ok(Layout { block_tokens: self.tokens, blocks, block_bytes: self.bytes })
    }
}

/// How keys and values are stored.
pub(super) fn format(config: &Config, weights: Precision) -> CacheFormat {
    match (config.cache.precision, weights) {
        (CachePrecision::Fp32, _) | (CachePrecision::Auto, Precision::Fp32) => CacheFormat::Fp32,
        (CachePrecision::Int8 | CachePrecision::Auto, _) => CacheFormat::Int8,
    }
}

/// Bytes of the cache: as the configuration says, else by the machine's memory, but no more than all streams of so many
/// tokens can fill.
pub(super) fn bytes(config: &Config, tokens: usize, block: Block, memory: Memory) -> Result<usize> {
    let context = block.bytes_of(tokens);
    let bytes = match config.cache.mib {
        0 => {
            let most = context.saturating_mul(config.engine.max_streams);
            let blocks = limits::CACHE_BLOCKS.saturating_mul(block.bytes);
            let memory = if memory == Memory::Host { limit() } else { None };
            share(memory, context).min(most).min(blocks)
        }
        mib => mib.saturating_mul(1 << 20),
    };
    // Answers that go on in views need a cache that holds a view, which is as long as the context.
    if config.engine.overflow == Overflow::Restart && bytes < context {
        let reason = format!(
            "{} MiB are too few for engine.overflow = \"restart\": the model's context of {} tokens takes {} MiB, set at \
             least as many",
            bytes >> 20,
            tokens,
            context.div_ceil(1 << 20)
        );
        return Err(Error::config("cache.mib", reason));
    }
    Ok(bytes)
}

/// A quarter of the memory, or enough for one stream of `context` bytes if that is not more than half.
fn share(memory: Option<usize>, context: usize) -> usize {
    memory.map_or(FALLBACK, |memory| (memory / 4).max(context.min(memory / 2)))
}

/// Bytes of the machine, or of the smallest limit that a control group of this process has. Known on Linux only.
fn limit() -> Option<usize> {
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

    #[test]
    fn the_cache_takes_a_quarter_or_one_full_stream() {
        assert_eq!(share(Some(1000), 100), 250);
        assert_eq!(share(Some(1000), 400), 400);
        assert_eq!(share(Some(1000), 600), 500);
        assert_eq!(share(None, 100), FALLBACK);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory() {
        assert!(limit().unwrap() > 1 << 20);
    }
}
