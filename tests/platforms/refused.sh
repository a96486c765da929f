#!/bin/sh
# Targets that the library is not made for are refused by the compiler, with a sentence, and others are not.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p target/platforms

# The file is compiled alone here; the crate has to have it for every target.
awk '$0 == "mod unsupported;" { found = before !~ /^#/ } { before = $0 } END { exit !found }' src/lib.rs || {
    echo "src/lib.rs lacks the line: mod unsupported;, or has a condition on it" >&2
    exit 1
}

compiles() {
    rustc --edition 2024 --crate-type lib --emit metadata --target "$1" -o target/platforms/unsupported.rmeta src/unsupported.rs \
        2>target/platforms/unsupported.txt
}

refused() { # TARGET SENTENCE
    if compiles "$1" || ! grep -q "^error: $2" target/platforms/unsupported.txt; then
        echo "$1 is not refused:" >&2
        cat target/platforms/unsupported.txt >&2
        exit 1
    fi
    sed -n 's/^error: qwenguard/qwenguard/p' target/platforms/unsupported.txt
}

refused x86_64-unknown-linux-musl "qwenguard is not made for musl"
refused i686-unknown-linux-gnu "qwenguard is not made for 32-bit targets"
compiles "$(rustc -vV | sed -n 's/^host: //p')"
