using System;
using Qwenguard.Native;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>What a guard has done since it was opened, and how it is now. It is healthy while
    /// <see cref="OldestWait"/> stays small: that grows if steps hang, even when nothing else shows it.</summary>
    public readonly partial struct GuardStats
    {
        private readonly qg_stats raw;

        internal GuardStats(qg_stats raw)
        {
            this.raw = raw;
        }

        /// <summary>Streams that are open.</summary>
        public long OpenStreams => (long)raw.open_streams;

        /// <summary>Streams that wait for an answer.</summary>
        public long WaitingStreams => (long)raw.waiting_streams;

        /// <summary>Tokens that were given and are not computed.</summary>
        public long QueuedTokens => (long)raw.queued_tokens;

        /// <summary>For how long the stream that waits longest has waited.</summary>
        public TimeSpan OldestWait => TimeSpan.FromTicks((long)(raw.oldest_wait_seconds * TimeSpan.TicksPerSecond));

        /// <summary>Runs of the model over the new tokens of one or more streams.</summary>
        public long Steps => (long)raw.steps;

        /// <summary>Steps that failed.</summary>
        public long FailedSteps => (long)raw.failed_steps;

        /// <summary>Time of all steps.</summary>
        public TimeSpan StepTime => TimeSpan.FromTicks((long)(raw.step_seconds * TimeSpan.TicksPerSecond));

        /// <summary>Tokens in all steps.</summary>
        public long Tokens => (long)raw.tokens;

        /// <summary>Of those, tokens whose stream had computed them before and lost them to others.</summary>
        public long RecomputedTokens => (long)raw.recomputed_tokens;

        /// <summary>Tokens that were not computed because the cache had them from an equal prefix.</summary>
        public long PrefixHitTokens => (long)raw.prefix_hit_tokens;

        /// <summary>How often a stream lost its part of the cache to others.</summary>
        public long Evictions => (long)raw.evictions;

        /// <summary>Streams that expired because they were idle.</summary>
        public long ExpiredStreams => (long)raw.expired_streams;

        /// <summary>The most bytes that keys and values may take.</summary>
        public long CacheBytes => (long)raw.cache_bytes;

        /// <summary>Bytes of the cache that open streams use.</summary>
        public long CacheUsedBytes => (long)raw.cache_used_bytes;

        /// <summary>Bytes of the cache that no stream uses, but whose tokens are found if they come again. They are
        /// available.</summary>
        public long CacheUnusedBytes => (long)raw.cache_unused_bytes;

        /// <summary>Second opinions that were asked for.</summary>
        public long Opinions => (long)raw.opinions;

        /// <summary>Of those, how many confirmed what was in dispute.</summary>
        public long ConfirmedOpinions => (long)raw.confirmed_opinions;

        /// <summary>How many lifted a violation or cleared what was uncertain.</summary>
        public long LiftedOpinions => (long)raw.lifted_opinions;

        /// <summary>How many were only reported.</summary>
        public long ReportedOpinions => (long)raw.reported_opinions;

        /// <summary>How many could not be had.</summary>
        public long FailedOpinions => (long)raw.failed_opinions;

        /// <summary>Time of all second opinions, each from when it was asked for.</summary>
        public TimeSpan OpinionTime => TimeSpan.FromTicks((long)(raw.opinion_seconds * TimeSpan.TicksPerSecond));

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() =>
            Invariant($"GuardStats[OpenStreams={OpenStreams}, WaitingStreams={WaitingStreams}")
            + Invariant($", QueuedTokens={QueuedTokens}, OldestWait={OldestWait}, Steps={Steps}, FailedSteps={FailedSteps}")
            + Invariant($", StepTime={StepTime}, Tokens={Tokens}, RecomputedTokens={RecomputedTokens}")
            + Invariant($", PrefixHitTokens={PrefixHitTokens}, Evictions={Evictions}, ExpiredStreams={ExpiredStreams}")
            + Invariant($", CacheBytes={CacheBytes}, CacheUsedBytes={CacheUsedBytes}, CacheUnusedBytes={CacheUnusedBytes}")
            + Invariant($", Opinions={Opinions}, ConfirmedOpinions={ConfirmedOpinions}, LiftedOpinions={LiftedOpinions}")
            + Invariant($", ReportedOpinions={ReportedOpinions}, FailedOpinions={FailedOpinions}")
            + Invariant($", OpinionTime={OpinionTime}]");
    }
}
