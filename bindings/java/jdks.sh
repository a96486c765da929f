#!/bin/sh
# Finds JDKs: `new`, of 22 or newer, and `old`, of 17 to 21. They are what JDK_NEW and JDK_OLD name; else JAVA_HOME, the JDK of
# javac on the PATH, and those beside it. Of each kind it takes the newest. Run as a program it prints the new one.

version() { # of the JDK in a folder: its first number
    sed -n 's/^JAVA_VERSION="\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' "$1/release"
}

newest() { # from one version up to another
    for jdk in "${JAVA_HOME:-}" "$default" "$default"/../*; do
        [ -x "$jdk/bin/javac" ] && [ -f "$jdk/release" ] || continue
        found=$(version "$jdk")
        [ -n "$found" ] && [ "$found" -ge "$1" ] && [ "$found" -le "$2" ] && echo "$found $(cd "$jdk" && pwd -P)"
    done | sort -n | tail -n 1 | cut -d ' ' -f 2-
}

javac=$(command -v javac || :)
default=${javac:+$(dirname "$(dirname "$(readlink -f "$javac")")")}
new=${JDK_NEW:-$(newest 22 999)}
old=${JDK_OLD:-$(newest 17 21)}
[ "${0##*/}" != jdks.sh ] || echo "$new"
