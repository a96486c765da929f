package io.github.libqwenguard;

/** Sizes of the structs of qwenguard.h and the places of their fields, in bytes, where pointers have 8. */
final class Layout {
    static final int MAX_CATEGORIES = 16;

    static final class GuardOptions {
        static final int STRUCT_SIZE = 0;
        static final int THREADS = 4;
        static final int CACHE_MIB = 8;
        static final int CONFIG_TOML = 16;
        static final int CONFIG_TOML_LENGTH = 24;
        static final int RUNTIME_LIBRARY = 32;
        static final int RUNTIME_LIBRARY_LENGTH = 40;
        static final int SIZE = 48;
    }

    static final class Span {
        static final int START = 0;
        static final int END = 8;
        static final int SIZE = 16;
    }

    static final class Stats {
        static final int OPEN_STREAMS = 0;
        static final int WAITING_STREAMS = 8;
        static final int QUEUED_TOKENS = 16;
        static final int OLDEST_WAIT_SECONDS = 24;
        static final int STEPS = 32;
        static final int FAILED_STEPS = 40;
        static final int STEP_SECONDS = 48;
        static final int TOKENS = 56;
        static final int RECOMPUTED_TOKENS = 64;
        static final int PREFIX_HIT_TOKENS = 72;
        static final int EVICTIONS = 80;
        static final int EXPIRED_STREAMS = 88;
        static final int CACHE_BYTES = 96;
        static final int CACHE_USED_BYTES = 104;
        static final int CACHE_UNUSED_BYTES = 112;
        static final int SIZE = 192;
    }

    static final class Message {
        static final int ROLE = 0;
        static final int ROLE_LENGTH = 8;
        static final int CONTENT = 16;
        static final int CONTENT_LENGTH = 24;
        static final int SIZE = 32;
    }

    static final class Verdict {
        static final int RISK = 0;
        static final int CATEGORY = 4;
        static final int RISK_PROBABILITIES = 8;
        static final int CATEGORY_COUNT = 20;
        static final int CATEGORY_PROBABILITIES = 24;
        static final int SIZE = 96;
    }

    static final class PromptCheck {
        static final int DECISION = 0;
        static final int HAS_FINDING = 4;
        static final int ACTION = 8;
        static final int RISK = 12;
        static final int CATEGORY = 16;
        static final int PROBABILITY = 20;
        static final int VERDICT = 24;
        static final int SIZE = 136;
    }

    static final class Violation {
        static final int ACTION = 0;
        static final int CHANNEL = 4;
        static final int RISK = 8;
        static final int CATEGORY = 12;
        static final int BYTE_START = 16;
        static final int BYTE_END = 24;
        static final int FIRST_TOKEN = 32;
        static final int CONFIRMING_TOKEN = 40;
        static final int PROBABILITY = 48;
        static final int SIZE = 64;
    }

    static final class Update {
        static final int DECISION = 0;
        static final int HAS_VIOLATION = 4;
        static final int HORIZON = 8;
        static final int HORIZON_TOKENS = 16;
        static final int RECEIVED = 24;
        static final int EXCESS = 32;
        static final int FINAL_TOKENS = 40;
        static final int TOKEN_COUNT = 48;
        static final int FLAG_COUNT = 56;
        static final int VIOLATION = 64;
        static final int VOID_FROM = 128;
        static final int SIZE = 160;
    }

    static final class TokenVerdict {
        static final int INDEX = 0;
        static final int BYTE_START = 8;
        static final int BYTE_END = 16;
        static final int TOKEN_ID = 24;
        static final int CHANNEL = 28;
        static final int IS_FINAL = 32;
        static final int VERDICT = 40;
        static final int SIZE = 136;
    }

    static final class Call {
        static final int STREAM = 0;
        static final int KIND = 8;
        static final int RESERVED = 12;
        static final int DATA = 16;
        static final int LENGTH = 24;
        static final int SIZE = 32;
    }

    static final class Reply {
        static final int STATUS = 0;
        static final int IS_CHECK = 4;
        static final int ERROR = 8;
        static final int CHECK = 16;
        static final int UPDATE = 152;
        static final int SIZE = 312;
    }

    static final class Completion {
        static final int TAG = 0;
        static final int STREAM = 8;
        static final int REPLY = 16;
        static final int SIZE = 328;
    }

    private Layout() {}
}
