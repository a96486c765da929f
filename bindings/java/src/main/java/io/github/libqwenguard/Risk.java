package io.github.libqwenguard;

/** How bad a text is. */
public enum Risk {
    /** Harmless. */
    SAFE(0),
    /** Harmful in some contexts or to some readers. */
    CONTROVERSIAL(1),
    /** Harmful. */
    UNSAFE(2),
    /** One that this version does not know. */
    UNKNOWN(-1);

    private static final Risk[] VALUES = values();

    private final int number;

    Risk(int number) {
        this.number = number;
    }

    /** The number of the C interface; -1 for {@link #UNKNOWN}. */
    public int number() {
        return number;
    }

    /** The model's word for it, such as "Unsafe". */
    public String label() {
        long name = Native.get().riskName(number);
        return name == 0 ? "unknown" : Native.get().string(name);
    }

    static Risk of(int number) {
        for (Risk value : VALUES) {
            if (value.number == number) {
                return value;
            }
        }
        return UNKNOWN;
    }
}
