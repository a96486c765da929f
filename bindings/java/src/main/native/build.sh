#!/bin/sh
# Makes the folder that the natives' jar is packed from, and prints the name of the platform:
#     build.sh JDK DIST FOLDER
set -eu
jdk=$1 dist=$2 folder=$3
cd "$(dirname "$0")"

case $(uname -m) in
x86_64 | amd64) machine=x86_64 ;;
aarch64 | arm64) machine=aarch64 ;;
*) echo "no name for the processor $(uname -m)" >&2 && exit 1 ;;
esac
case $(uname -s) in
Linux) system=linux headers=linux suffix=so library=libqwenguard.so.0.1 here='$ORIGIN' ;;
Darwin) system=macos headers=darwin suffix=dylib library=libqwenguard.0.1.dylib here=@loader_path ;;
*) echo "no rule for the system $(uname -s)" >&2 && exit 1 ;;
esac

out=$folder/io/github/libqwenguard/native/$system-$machine
rm -rf "$folder"
mkdir -p "$out"
cp "$dist/lib/$library" "$dist/lib/libonnxruntime.$suffix" "$out"
cc -std=c11 -O2 -fPIC -shared -Wall -Wextra -Werror -Wno-unused-parameter \
    -I"$jdk/include" -I"$jdk/include/$headers" -I"$dist/include" \
    functions.c memory.c -o "$out/libqwenguard_jni.$suffix" -L"$dist/lib" -lqwenguard "-Wl,-rpath,$here"
mkdir -p "$folder/META-INF"
cp "$dist/share/doc/qwenguard/LICENSE" "$dist"/share/doc/qwenguard/onnxruntime-*.txt "$folder/META-INF"
sh pack.sh "$jdk" "$system-$machine" "$folder"
echo "$system-$machine"
