#!/bin/sh
# Runs a Windows program under Wine: wine.sh PROGRAM ARGUMENTS. Home and prefix are target/wine.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
export HOME="$here/target/wine/home" WINEPREFIX="$here/target/wine/prefix" WINEARCH=win64 WINEDEBUG="${WINEDEBUG:--all}"
# Without Explorer, which the first program that wants a desktop would start: it keeps the output of that program open, and who
# waits for the end of it would wait for ever.
export WINEDLLOVERRIDES="mscoree,mshtml,winemenubuilder.exe,explorer.exe="
# Debian's /usr/bin/wine is a script that says at every start that there is no 32-bit Wine.
wine=
for place in /usr/lib/wine/wine64 wine64 wine; do
    [ -n "$wine" ] || wine=$(command -v "$place" || :)
done
if [ -z "$wine" ]; then
    echo "wine.sh: Wine is missing, Debian has it in wine64" >&2
    exit 1
fi
if [ ! -e "$WINEPREFIX/.ready" ]; then
    mkdir -p "$HOME"
    "$wine" wineboot --init >"$HOME/wineboot.log" 2>&1 || { cat "$HOME/wineboot.log" >&2 && exit 1; }
    system=$WINEPREFIX/drive_c/windows/system32
    if [ ! -e "$system/bcryptprimitives.dll" ]; then
        x86_64-w64-mingw32-gcc -O2 -shared "$here/tests/platforms/bcryptprimitives.c" -ladvapi32 \
            -o "$system/bcryptprimitives.dll"
    fi
    # The oldest one that ONNX Runtime and Java are made for.
    "$wine" reg add 'HKCU\Software\Wine' /v Version /d win10 /f >/dev/null 2>&1
    touch "$WINEPREFIX/.ready"
fi
exec "$wine" "$@"
