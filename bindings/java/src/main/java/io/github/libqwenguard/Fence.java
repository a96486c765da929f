package io.github.libqwenguard;

/** What java.lang.ref.Reference.reachabilityFence does, which Java 8 lacks. */
final class Fence {
    /** Always null, which no compiler can know: so the object has to be at hand to be compared with it. */
    private static volatile Object nobody;

    /** The object is reachable up to here. */
    static void keep(Object object) {
        if (object != null && object == nobody) {
            throw new AssertionError();
        }
    }

    private Fence() {}
}
