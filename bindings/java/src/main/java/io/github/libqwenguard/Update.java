package io.github.libqwenguard;

import java.nio.ByteBuffer;
import java.util.Optional;

/** The result of a push. */
public final class Update {
    private final Decision decision;
    private final long horizon;
    private final long horizonTokens;
    private final long received;
    private final long excess;
    private final long finalTokens;
    private final long tokenCount;
    private final long flagCount;
    private final Violation violation;
    private final long voidFrom;
    private final long opinionCount;

    private Update(ByteBuffer memory, int place) {
        decision = Decision.of(memory.getInt(place + Layout.Update.DECISION));
        horizon = memory.getLong(place + Layout.Update.HORIZON);
        horizonTokens = memory.getLong(place + Layout.Update.HORIZON_TOKENS);
        received = memory.getLong(place + Layout.Update.RECEIVED);
        excess = memory.getLong(place + Layout.Update.EXCESS);
        finalTokens = memory.getLong(place + Layout.Update.FINAL_TOKENS);
        tokenCount = memory.getLong(place + Layout.Update.TOKEN_COUNT);
        flagCount = memory.getLong(place + Layout.Update.FLAG_COUNT);
        violation = memory.getInt(place + Layout.Update.HAS_VIOLATION) == 0
                ? null
                : Violation.read(memory, place + Layout.Update.VIOLATION);
        voidFrom = memory.getLong(place + Layout.Update.VOID_FROM);
        opinionCount = memory.getLong(place + Layout.Update.OPINION_COUNT);
    }

    static Update read(ByteBuffer memory, int place) {
        return new Update(memory, place);
    }

    /** Whether the answer may go on. Once it is {@link Decision#STOP} it stays so, until the answer is cut back. */
    public Decision decision() {
        return decision;
    }

    /** How many bytes of the answer may be shown: whole characters only, and none of a violation. */
    public long horizon() {
        return horizon;
    }

    /** How many tokens of the answer are within the horizon. */
    public long horizonTokens() {
        return horizonTokens;
    }

    /** How many bytes of the answer were pushed so far. */
    public long received() {
        return received;
    }

    /** For a host that shows text as it comes: how many of those bytes it has to take back. */
    public long excess() {
        return excess;
    }

    /** How many tokens of the answer are final: no later text can change them. */
    public long finalTokens() {
        return finalTokens;
    }

    /** How many tokens were judged now: {@link GuardStream#tokens}. */
    public long tokenCount() {
        return tokenCount;
    }

    /** How many places were flagged now: {@link GuardStream#flags}. */
    public long flagCount() {
        return flagCount;
    }

    /** Where the answer must stop, found now or in an earlier push: {@link GuardStream#rule} tells why. */
    public Optional<Violation> violation() {
        return Optional.ofNullable(violation);
    }

    /**
     * From which token on, by {@link TokenVerdict#index}, what was said earlier is void: verdicts, and flags that such a token
     * confirmed. {@link GuardStream#tokens} take their place, if the answer still has as many. Where nothing is void this is how
     * many tokens the answer had before the call, those that are not judged included.
     */
    public long voidFrom() {
        return voidFrom;
    }

    /** How many second opinions were asked for: {@link GuardStream#opinions}. */
    public long opinionCount() {
        return opinionCount;
    }

    @Override
    public String toString() {
        return decision + ", " + horizon + " of " + received + " bytes" + (violation == null ? "" : ", " + violation);
    }
}
