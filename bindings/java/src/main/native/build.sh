#!/bin/sh
# Makes the folder that the natives' jar is packed from, and prints the name of the platform:
#     build.sh JDK DIST FOLDER [TARGET]
# TARGET is the triple of another platform that DIST is for. The headers of the JDK may be those of this one.
set -eu
jdk=$1 dist=$2 folder=$3 target=${4:-}
cd "$(dirname "$0")"

compiler=${CC:-cc} machine=$(uname -m) system=$(uname -s)
case $target in
"") ;;
x86_64-pc-windows-gnu) compiler=x86_64-w64-mingw32-gcc machine=x86_64 system=Windows ;;
aarch64-unknown-linux-gnu) compiler=aarch64-linux-gnu-gcc machine=aarch64 system=Linux ;;
*) echo "no rule for the target $target" >&2 && exit 1 ;;
esac
case $machine in
x86_64 | amd64) machine=x86_64 ;;
aarch64 | arm64) machine=aarch64 ;;
*) echo "no name for the processor $machine" >&2 && exit 1 ;;
esac
case $system in
Linux) system=linux libraries="lib/libqwenguard.so.0.1 lib/libonnxruntime.so" jni=libqwenguard_jni.so flags='-fPIC -Wl,-rpath,$ORIGIN' ;;
Darwin) system=macos libraries="lib/libqwenguard.0.1.dylib lib/libonnxruntime.dylib" jni=libqwenguard_jni.dylib flags='-fPIC -Wl,-rpath,@loader_path' ;;
Windows) system=windows libraries="bin/qwenguard.dll bin/onnxruntime.dll" jni=qwenguard_jni.dll flags='-s -static-libgcc -Wl,--no-insert-timestamp -DJNIEXPORT=__declspec(dllexport)' ;;
*) echo "no rule for the system $system" >&2 && exit 1 ;;
esac
# The folder with jni_md.h.
for headers in "$jdk"/include/*/jni_md.h; do headers=${headers%/jni_md.h}; done

out=$folder/io/github/libqwenguard/native/$system-$machine
rm -rf "$folder"
mkdir -p "$out"
for library in $libraries; do cp "$dist/$library" "$out"; done
# shellcheck disable=SC2086 # flags are several words
"$compiler" -std=c11 -O2 -shared -Wall -Wextra -Werror -Wno-unused-parameter \
    -I"$jdk/include" -I"$headers" -I"$dist/include" \
    functions.c memory.c -o "$out/$jni" -L"$dist/lib" -lqwenguard $flags
mkdir -p "$folder/META-INF"
cp "$dist/share/doc/qwenguard/LICENSE" "$dist"/share/doc/qwenguard/onnxruntime-*.txt "$folder/META-INF"
sh pack.sh "$jdk" "$system-$machine" "$folder"
echo "$system-$machine"
