#!/bin/sh
# Adds what a jar needs to a folder that has io/github/libqwenguard/native/PLATFORM/ with the libraries of any platform: the
# index that Extractor.java reads, and the module that the module path finds them by. Without ONNX Runtime among them the module
# requires that of ONNX Runtime's maker, which is resolved only if some module does.
#     pack.sh JDK PLATFORM FOLDER
set -eu
jdk=$1 platform=$2
folder=$(cd "$3" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)
module=io.github.libqwenguard.natives.$(echo "$platform" | tr - _)

sha256() {
    if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1
}
cd "$folder/io/github/libqwenguard/native/$platform"
rm -f index
official=
[ -n "$(find . -name '*onnxruntime.*')" ] || official=com.microsoft.onnxruntime
for library in *; do
    echo "$(sha256 "$library") $(wc -c <"$library" | tr -d ' ') $library"
done >"$folder/index"
mv "$folder/index" index

sources=$(mktemp -d)
trap 'rm -rf "$sources"' EXIT
mkdir -p "$sources/main" "$sources/official" "$sources/natives"
cat >"$sources/main/module-info.java" <<END
module io.github.libqwenguard { exports io.github.libqwenguard.spi; }
END
# The compiler only wants to know that there is such a module.
echo "module com.microsoft.onnxruntime {}" >"$sources/official/module-info.java"
cat >"$sources/natives/module-info.java" <<END
/** Native libraries of qwenguard for $platform. */
module $module {
    requires io.github.libqwenguard;
    ${official:+requires $official;}
    provides io.github.libqwenguard.spi.NativeLibraries with $module.Jar;
}
END
cat >"$sources/natives/Jar.java" <<END
package $module;

/** This jar, on the module path. */
public final class Jar implements io.github.libqwenguard.spi.NativeLibraries {
    @Override
    public java.io.InputStream open(String path) {
        return Jar.class.getResourceAsStream(path);
    }
}
END
service=$here/java/io/github/libqwenguard/spi/NativeLibraries.java
"$jdk/bin/javac" --release 9 -d "$sources/out" "$sources/main/module-info.java" "$service"
# The class is for any Java, as the others are; only its module is of Java 9.
"$jdk/bin/javac" -Xlint:-options --release 8 -cp "$sources/out" -d "$folder" "$sources/natives/Jar.java"
"$jdk/bin/javac" --release 9 -d "$sources/out-official" "$sources/official/module-info.java"
"$jdk/bin/javac" --release 9 -p "$sources/out:$sources/out-official" -d "$folder" "$sources/natives/module-info.java"
