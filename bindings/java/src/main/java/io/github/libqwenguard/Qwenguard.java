package io.github.libqwenguard;

/** The native library that is loaded. */
public final class Qwenguard {
    /** Its version, such as "0.1.0". */
    public static String version() {
        return Native.get().string(Native.get().version());
    }

    /** Its version as a number: major * 1000000 + minor * 1000 + patch. */
    public static int versionNumber() {
        return Native.get().versionNumber();
    }

    /** Its binary interface. A library with another one than this version needs is refused. */
    public static int abiVersion() {
        return Native.get().abiVersion();
    }

    /** How it is called: "jni" or "ffm". */
    public static String provider() {
        return Native.get().provider();
    }

    /** What the library calls a status, such as "QG_ERROR_BUSY"; null if it has none of that number. */
    public static String statusName(int statusNumber) {
        long name = Native.get().statusName(statusNumber);
        return name == 0 ? null : Native.get().string(name);
    }

    private Qwenguard() {}
}
