"""Writes what a linker needs to know of macOS into a folder, in place of Apple's SDK:

    macos_sdk.py FOLDER

Zig has what the system's C library exports, but its linker exports every name of a library, whatever list of names the compiler
gives it. The linker that comes with Rust (LLVM's) keeps to that list. It takes zig's file, and one of each other library with the names
that are used: where another is needed the linker says that it is undefined, and it is added here. The Python that runs this has zig.
"""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

FRAMEWORKS = "System/Library/Frameworks"
# By its file in the SDK: where the library is on a Mac, and its names. What the program checks certificates with is in the last two.
LIBRARIES = {
    "usr/lib/libiconv.tbd": ("/usr/lib/libiconv.2.dylib", ["iconv", "iconv_close", "iconv_open"]),
    f"{FRAMEWORKS}/CoreFoundation.framework/CoreFoundation.tbd": (
        f"/{FRAMEWORKS}/CoreFoundation.framework/Versions/A/CoreFoundation",
        ["CFArrayCreate", "CFDataCreate", "CFDateCreate", "CFErrorCopyDescription", "CFErrorGetCode", "CFRelease",
         "CFStringCreateWithBytes", "CFStringGetBytes", "CFStringGetCStringPtr", "CFStringGetLength",
         "kCFAbsoluteTimeIntervalSince1970", "kCFAllocatorDefault", "kCFTypeArrayCallBacks"],
    ),
    f"{FRAMEWORKS}/Security.framework/Security.tbd": (
        f"/{FRAMEWORKS}/Security.framework/Versions/A/Security",
        ["SecCertificateCopySubjectSummary", "SecCertificateCreateWithData", "SecCopyErrorMessageString", "SecPolicyCreateSSL",
         "SecTrustCreateWithCertificates", "SecTrustEvaluateWithError", "SecTrustSetAnchorCertificates",
         "SecTrustSetAnchorCertificatesOnly", "SecTrustSetOCSPResponse", "SecTrustSetVerifyDate"],
    ),
}
# On macOS these are names for the C library.
SAME = ("libc", "libm")
STUB = """--- !tapi-tbd
tbd-version:     4
targets:         [ arm64-macos ]
install-name:    '{place}'
exports:
  - targets:         [ arm64-macos ]
    symbols:         [ {names} ]
...
"""


def system() -> str:
    """Zig's list of what the C library exports. Much of it is listed for arm64e alone, as Apple compiles it: programs for arm64 link with
    that, too, but LLVM's linker wants to read it."""
    zig = find_spec("ziglang")
    if zig is None or zig.origin is None:
        raise SystemExit(f"{sys.executable} has no zig: macos_sdk.py is run by the Python of its environment")
    text = (Path(zig.origin).parent / "lib/libc/darwin/libSystem.tbd").read_text(encoding="utf-8")
    return re.sub(r"\barm64e(\.\w+)?-", "arm64-", text)


def write(folder: Path) -> None:
    for file, (place, names) in LIBRARIES.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        listed = ", ".join(f"_{name}" for name in names)
        (folder / file).write_text(STUB.format(place=place, names=listed), encoding="utf-8")
    for name in ("libSystem", *SAME):
        (folder / f"usr/lib/{name}.tbd").write_text(system(), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("macos_sdk.py FOLDER")
    write(Path(sys.argv[1]))
