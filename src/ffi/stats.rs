//! What a guard has done and how it is.

use safer_ffi::derive_ReprC;

use super::{
    boundary,
    cast::{Out, OutArray, object},
    failure::qg_error,
    guard::qg_guard,
    result::{category, risk},
    status::qg_status,
    text::qg_text,
};
use crate::{Stats, VerdictChannel, VerdictCount};

/// The prompt of a stream.
pub const QG_VERDICT_CHANNEL_PROMPT: i32 = 0;
/// A token of an answer's thinking.
pub const QG_VERDICT_CHANNEL_THINKING: i32 = 1;
/// A token of what an answer says.
pub const QG_VERDICT_CHANNEL_ANSWER: i32 = 2;
/// A whole conversation, by what the user asks.
pub const QG_VERDICT_CHANNEL_ANNOTATED_PROMPT: i32 = 3;
/// A whole conversation, by what is answered.
pub const QG_VERDICT_CHANNEL_ANNOTATED_RESPONSE: i32 = 4;

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

/// How often a guard gave a verdict of one channel, level and category, and what policies made of it.
#[derive_ReprC]
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct qg_verdict_count {
    /// What was judged: `QG_VERDICT_CHANNEL_`.
    pub channel: i32,
    /// The level, `QG_RISK_`: of a verdict the most probable one, of a stop or a flag the one that it counts as.
    pub risk: i32,
    /// Index of the category, among those of `QG_HEADS_PROMPT` where the channel is a prompt or an annotated one, else of
    /// `QG_HEADS_ANSWER`; -1 of safe verdicts, and where none is known.
    pub category: i32,
    /// 0.
    pub reserved: u32,
    /// Final verdicts: one for each prompt, for each token of an answer and for each annotation. Tokens that are judged again
    /// after an answer was cut back count again.
    pub verdicts: u64,
    /// How often a host was told to stop: a prompt, an answer or an annotation whose decision became `QG_DECISION_STOP`.
    pub stops: u64,
    /// What was reported and let the answer go on: flags, and in shadow mode what would have stopped.
    pub flags: u64,
}

impl qg_verdict_count {
    fn new(count: &VerdictCount, guard: &qg_guard) -> Self {
        let labels = match count.channel.is_of_prompts() {
            true => &guard.categories.query,
            false => &guard.categories.response,
        };
        let category = count.category.as_ref();
        qg_verdict_count {
            channel: match count.channel {
                VerdictChannel::Prompt => QG_VERDICT_CHANNEL_PROMPT,
                VerdictChannel::Thinking => QG_VERDICT_CHANNEL_THINKING,
                VerdictChannel::Answer => QG_VERDICT_CHANNEL_ANSWER,
                VerdictChannel::AnnotatedPrompt => QG_VERDICT_CHANNEL_ANNOTATED_PROMPT,
                VerdictChannel::AnnotatedResponse => QG_VERDICT_CHANNEL_ANNOTATED_RESPONSE,
            },
            risk: risk(count.risk),
            category: category.map_or(-1, |name| self::category(labels, name)),
            reserved: 0,
            verdicts: count.verdicts,
            stops: count.stops,
            flags: count.flags,
        }
    }
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

/// Tells how often the guard gave which verdict, and what policies made of it: an element for each channel, level and category
/// that there was.
///
/// `counts` is an array with room for `capacity`. `*count` becomes the number of elements; if it is more than `capacity`, only
/// the first were written.
///
/// Errors: QG_ERROR_NULL for `guard`, `count`, or `counts` if `capacity` is not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qg_guard_verdict_counts(
    guard: *const qg_guard,
    counts: *mut qg_verdict_count,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut qg_error,
) -> qg_status {
    boundary::status(error, || {
        // SAFETY: the header wants what these read and write.
        let (guard, counts, count) =
            unsafe { (object(guard, "guard")?, OutArray::new(counts, capacity, "counts")?, Out::new(count, "count")?) };
        let found = guard.guard.stats().verdicts;
        counts.write(found.iter().map(|found| qg_verdict_count::new(found, guard)));
        count.write(found.len());
        Ok(())
    })
}

/// Gives the same in the text format of Prometheus, version 0.0.4, with histograms of times and batch sizes, and verdicts, stops
/// and flags by their labels `channel`, `level` and `category`. All names start with `qwenguard_`; if the configuration gives the
/// guard a `name`, each sample has it as its label `guard`. The text is yours to free.
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
