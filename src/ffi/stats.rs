//! What a guard has done and how it is.

use safer_ffi::derive_ReprC;

use super::{
    boundary,
    cast::{Out, object},
    failure::qg_error,
    guard::qg_guard,
    status::qg_status,
    text::qg_text,
};
use crate::Stats;

/// What a guard has done since it was opened, and how it is now. It is healthy while `oldest_wait_seconds` stays small: that
/// grows if steps hang, even when nothing else shows it.
#[derive_ReprC]
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct qg_stats {
    /// Streams that are open.
    pub open_streams: u64,
    /// Streams that wait for an answer.
    pub waiting_streams: u64,
    /// Tokens that were given and are not computed.
    pub queued_tokens: u64,
    /// For how long the stream that waits longest has waited, in seconds. 0 if none waits.
    pub oldest_wait_seconds: f64,
    /// Steps: runs of the model over the new tokens of one or more streams.
    pub steps: u64,
    /// Steps that failed.
    pub failed_steps: u64,
    /// Time of all steps, in seconds.
    pub step_seconds: f64,
    /// Tokens in all steps.
    pub tokens: u64,
    /// Of those, tokens whose stream had computed them before and lost them to others.
    pub recomputed_tokens: u64,
    /// Tokens that were not computed because the cache had them from an equal prefix.
    pub prefix_hit_tokens: u64,
    /// How often a stream lost its part of the cache to others.
    pub evictions: u64,
    /// Streams that expired because they were idle.
    pub expired_streams: u64,
    /// The most bytes that keys and values may take.
    pub cache_bytes: u64,
    /// Bytes of the cache that open streams use.
    pub cache_used_bytes: u64,
    /// Bytes of the cache that no stream uses, but whose tokens are found if they come again. They are available.
    pub cache_unused_bytes: u64,
    /// Second opinions that were asked for. Those that are none of the following are still awaited, or their calls were
    /// cancelled.
    pub opinions: u64,
    /// Of those, how many confirmed what was in dispute.
    pub confirmed_opinions: u64,
    /// How many lifted a violation or cleared what was uncertain.
    pub lifted_opinions: u64,
    /// How many were only reported.
    pub reported_opinions: u64,
    /// How many could not be had.
    pub failed_opinions: u64,
    /// Time of all second opinions, each from when it was asked for, in seconds.
    pub opinion_seconds: f64,
    /// 0.
    pub reserved: [u64; 3],
}

impl qg_stats {
    fn new(stats: &Stats) -> Self {
        qg_stats {
            open_streams: stats.open_streams as u64,
            waiting_streams: stats.waiting_streams as u64,
            queued_tokens: stats.queued_tokens as u64,
            oldest_wait_seconds: stats.oldest_wait_seconds,
            steps: stats.steps,
            failed_steps: stats.failed_steps,
            step_seconds: stats.step_seconds.sum,
            tokens: stats.tokens,
            recomputed_tokens: stats.recomputed_tokens,
            prefix_hit_tokens: stats.prefix_hit_tokens,
            evictions: stats.evictions,
            expired_streams: stats.expired_streams,
            cache_bytes: stats.cache_bytes,
            cache_used_bytes: stats.cache_used_bytes,
            cache_unused_bytes: stats.cache_unused_bytes,
            opinions: stats.opinions,
            confirmed_opinions: stats.confirmed_opinions,
            lifted_opinions: stats.lifted_opinions,
            reported_opinions: stats.reported_opinions,
            failed_opinions: stats.failed_opinions,
            opinion_seconds: stats.opinion_seconds.sum,
            reserved: [0; 3],
        }
    }
}

/// Tells what the guard has done and how it is.
///
/// Errors: QG_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_stats(
    guard: *const qg_guard,
    stats: *mut qg_stats,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (guard, stats) = unsafe { (object(guard, "guard")?, Out::new(stats, "stats")?) };
        stats.write(qg_stats::new(&guard.guard.stats()));
        Ok(())
    })
}

/// Gives the same in the text format of Prometheus, version 0.0.4, with histograms of times and batch sizes. All names start
/// with `qwenguard_`. The text is yours to free.
///
/// Errors: QG_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_metrics(
    guard: *const qg_guard,
    metrics: *mut *mut qg_text,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (guard, metrics) = unsafe { (object(guard, "guard")?, Out::new(metrics, "metrics")?) };
        metrics.write(qg_text::allocate(guard.guard.stats().to_prometheus()));
        Ok(())
    })
}
