package io.github.libqwenguard;

import java.nio.ByteBuffer;

/** What a guard has done since it was opened, and how it is now. */
public final class Stats {
    private final long openStreams;
    private final long waitingStreams;
    private final long queuedTokens;
    private final double oldestWaitSeconds;
    private final long steps;
    private final long failedSteps;
    private final double stepSeconds;
    private final long tokens;
    private final long recomputedTokens;
    private final long prefixHitTokens;
    private final long evictions;
    private final long expiredStreams;
    private final long cacheBytes;
    private final long cacheUsedBytes;
    private final long cacheUnusedBytes;
    private final long opinions;
    private final long confirmedOpinions;
    private final long liftedOpinions;
    private final long reportedOpinions;
    private final long failedOpinions;
    private final double opinionSeconds;

    private Stats(ByteBuffer memory, int place) {
        openStreams = memory.getLong(place + Layout.Stats.OPEN_STREAMS);
        waitingStreams = memory.getLong(place + Layout.Stats.WAITING_STREAMS);
        queuedTokens = memory.getLong(place + Layout.Stats.QUEUED_TOKENS);
        oldestWaitSeconds = memory.getDouble(place + Layout.Stats.OLDEST_WAIT_SECONDS);
        steps = memory.getLong(place + Layout.Stats.STEPS);
        failedSteps = memory.getLong(place + Layout.Stats.FAILED_STEPS);
        stepSeconds = memory.getDouble(place + Layout.Stats.STEP_SECONDS);
        tokens = memory.getLong(place + Layout.Stats.TOKENS);
        recomputedTokens = memory.getLong(place + Layout.Stats.RECOMPUTED_TOKENS);
        prefixHitTokens = memory.getLong(place + Layout.Stats.PREFIX_HIT_TOKENS);
        evictions = memory.getLong(place + Layout.Stats.EVICTIONS);
        expiredStreams = memory.getLong(place + Layout.Stats.EXPIRED_STREAMS);
        cacheBytes = memory.getLong(place + Layout.Stats.CACHE_BYTES);
        cacheUsedBytes = memory.getLong(place + Layout.Stats.CACHE_USED_BYTES);
        cacheUnusedBytes = memory.getLong(place + Layout.Stats.CACHE_UNUSED_BYTES);
        opinions = memory.getLong(place + Layout.Stats.OPINIONS);
        confirmedOpinions = memory.getLong(place + Layout.Stats.CONFIRMED_OPINIONS);
        liftedOpinions = memory.getLong(place + Layout.Stats.LIFTED_OPINIONS);
        reportedOpinions = memory.getLong(place + Layout.Stats.REPORTED_OPINIONS);
        failedOpinions = memory.getLong(place + Layout.Stats.FAILED_OPINIONS);
        opinionSeconds = memory.getDouble(place + Layout.Stats.OPINION_SECONDS);
    }

    static Stats read(ByteBuffer memory, int place) {
        return new Stats(memory, place);
    }

    /** Streams that are open. */
    public long openStreams() {
        return openStreams;
    }

    /** Streams that wait for an answer. */
    public long waitingStreams() {
        return waitingStreams;
    }

    /** Tokens that were given and are not computed. */
    public long queuedTokens() {
        return queuedTokens;
    }

    /** For how long the stream that waits longest has waited. It stays small while the guard is healthy. */
    public double oldestWaitSeconds() {
        return oldestWaitSeconds;
    }

    /** Runs of the model over the new tokens of one or more streams. */
    public long steps() {
        return steps;
    }

    /** Steps that failed. */
    public long failedSteps() {
        return failedSteps;
    }

    /** Time of all steps. */
    public double stepSeconds() {
        return stepSeconds;
    }

    /** Tokens in all steps. */
    public long tokens() {
        return tokens;
    }

    /** Of those, tokens whose stream had computed them before and lost them to others. */
    public long recomputedTokens() {
        return recomputedTokens;
    }

    /** Tokens that were not computed because the cache had them from an equal prefix. */
    public long prefixHitTokens() {
        return prefixHitTokens;
    }

    /** How often a stream lost its part of the cache to others. */
    public long evictions() {
        return evictions;
    }

    /** Streams that expired because they were idle. */
    public long expiredStreams() {
        return expiredStreams;
    }

    /** The most bytes that keys and values may take. */
    public long cacheBytes() {
        return cacheBytes;
    }

    /** Bytes of the cache that open streams use. */
    public long cacheUsedBytes() {
        return cacheUsedBytes;
    }

    /** Bytes of the cache that no stream uses, but whose tokens are found if they come again. */
    public long cacheUnusedBytes() {
        return cacheUnusedBytes;
    }

    /** Second opinions that were asked for. */
    public long opinions() {
        return opinions;
    }

    /** Of those, how many confirmed what was in dispute. */
    public long confirmedOpinions() {
        return confirmedOpinions;
    }

    /** How many lifted a violation or cleared what was uncertain. */
    public long liftedOpinions() {
        return liftedOpinions;
    }

    /** How many were only reported. */
    public long reportedOpinions() {
        return reportedOpinions;
    }

    /** How many could not be had. */
    public long failedOpinions() {
        return failedOpinions;
    }

    /** Time of all second opinions, each from when it was asked for, in seconds. */
    public double opinionSeconds() {
        return opinionSeconds;
    }

    /** All numbers by the names of their methods. */
    @Override
    public String toString() {
        return "Stats["
                + "openStreams=" + openStreams
                + ", waitingStreams=" + waitingStreams
                + ", queuedTokens=" + queuedTokens
                + ", oldestWaitSeconds=" + oldestWaitSeconds
                + ", steps=" + steps
                + ", failedSteps=" + failedSteps
                + ", stepSeconds=" + stepSeconds
                + ", tokens=" + tokens
                + ", recomputedTokens=" + recomputedTokens
                + ", prefixHitTokens=" + prefixHitTokens
                + ", evictions=" + evictions
                + ", expiredStreams=" + expiredStreams
                + ", cacheBytes=" + cacheBytes
                + ", cacheUsedBytes=" + cacheUsedBytes
                + ", cacheUnusedBytes=" + cacheUnusedBytes
                + ", opinions=" + opinions
                + ", confirmedOpinions=" + confirmedOpinions
                + ", liftedOpinions=" + liftedOpinions
                + ", reportedOpinions=" + reportedOpinions
                + ", failedOpinions=" + failedOpinions
                + ", opinionSeconds=" + opinionSeconds
                + "]";
    }
}
