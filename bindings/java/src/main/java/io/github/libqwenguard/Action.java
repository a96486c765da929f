package io.github.libqwenguard;

/** What is to be done where a rule of the policy applies. */
public enum Action {
    /** Nothing. */
    IGNORE(0),
    /** Report it and go on. */
    FLAG(1),
    /** Stop. */
    STOP(2),
    /** One that this version does not know. */
    UNKNOWN(-1);

    private static final Action[] VALUES = values();

    private final int number;

    Action(int number) {
        this.number = number;
    }

    /** The number of the C interface; -1 for {@link #UNKNOWN}. */
    public int number() {
        return number;
    }

    static Action of(int number) {
        for (Action value : VALUES) {
            if (value.number == number) {
                return value;
            }
        }
        return UNKNOWN;
    }
}
