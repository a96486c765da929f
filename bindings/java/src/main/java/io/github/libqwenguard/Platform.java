package io.github.libqwenguard;

import java.util.Locale;

/** The name of a platform, as the folders of native libraries have it, such as "linux-x86_64". */
final class Platform {
    private static final String[][] SYSTEMS = {
        {"linux", "linux"},
        {"mac os x", "macos"},
        {"darwin", "macos"},
        {"windows", "windows"},
    };

    private static final String[][] PROCESSORS = {
        {"amd64", "x86_64"},
        {"x86_64", "x86_64"},
        {"x86-64", "x86_64"},
        {"aarch64", "aarch64"},
        {"arm64", "aarch64"},
    };

    /** From the system properties os.name and os.arch. */
    static String of(String osName, String osArch) {
        for (String[] system : SYSTEMS) {
            for (String[] processor : PROCESSORS) {
                if (osName.toLowerCase(Locale.ROOT).startsWith(system[0])
                        && osArch.toLowerCase(Locale.ROOT).equals(processor[0])) {
                    return system[1] + "-" + processor[1];
                }
            }
        }
        throw new UnsatisfiedLinkError("no native library is made for os.name=" + osName + " and os.arch=" + osArch);
    }

    private Platform() {}
}
