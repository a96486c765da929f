package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PlatformTest {
    @ParameterizedTest
    @CsvSource({
        "Linux, amd64, linux-x86_64",
        "Linux, x86_64, linux-x86_64",
        "Linux, aarch64, linux-aarch64",
        "Linux, arm64, linux-aarch64",
        "Mac OS X, x86_64, macos-x86_64",
        "Mac OS X, aarch64, macos-aarch64",
        "Darwin, arm64, macos-aarch64",
        "Windows 11, amd64, windows-x86_64",
        "Windows Server 2022, AMD64, windows-x86_64",
        "Windows 11, aarch64, windows-aarch64",
    })
    void names(String osName, String osArch, String expected) {
        assertEquals(expected, Platform.of(osName, osArch));
    }

    @ParameterizedTest
    @CsvSource({"Linux, x86", "Linux, aarch_64", "SunOS, amd64", "Linux, riscv64"})
    void othersAreNamed(String osName, String osArch) {
        String message = assertThrows(UnsatisfiedLinkError.class, () -> Platform.of(osName, osArch)).getMessage();
        assertTrue(message.contains(osName) && message.contains(osArch), message);
    }

    @Test
    void thisOne() {
        String platform = Platform.of(System.getProperty("os.name"), System.getProperty("os.arch"));
        String natives = System.getProperty("test.natives");
        assertTrue(natives.matches(".*[-/]" + platform + "(\\.jar)?"), natives + " is not of " + platform);
    }
}
