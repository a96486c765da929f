#!/bin/sh
# Builds with Mono into target/csharp/ and runs: run.sh test [PART OF A NAME], run.sh vectors, run.sh example [BUNDLE] or
# run.sh bench.
# QWENGUARD_DIST is the absolute path of what `make dist` makes.
set -eu
cd "$(dirname "$0")/../.."
: "${QWENGUARD_DIST:?the absolute path of what make dist makes}"
export QWENGUARD_LIBRARY="$QWENGUARD_DIST/lib"
here=bindings/csharp
out=target/csharp
mkdir -p $out/spans

version=$(sed -n 's:.*<Version>\(.*\)</Version>.*:\1:p' $here/src/Qwenguard.csproj)
sed "s/@VERSION@/$version/" $here/build/AssemblyInfo.cs.in >$out/AssemblyInfo.cs

# library OUTPUT FLAG...
library() {
    output=$1
    shift
    mcs -unsafe -langversion:7.2 -warnaserror -optimize -target:library "-out:$output/Qwenguard.dll" \
        "-doc:$output/Qwenguard.xml" "-recurse:$here/src/*.cs" $out/AssemblyInfo.cs "$@"
}

# program LIBRARY OUTPUT SOURCE FLAG...
program() {
    from=$1 output=$2 sources=$3
    shift 3
    mcs -langversion:7.2 -warnaserror -optimize "-r:$from/Qwenguard.dll" "-out:$output" "-recurse:$sources" "$@"
}

# The API of .NET Framework 4.7.2 has little more than that of .NET Standard 2.0.
library $out -sdk:4.7.2-api

what=${1:?test, vectors, example or bench}
shift
case $what in
test)
    program $out $out/ModerateAnswers.exe "$here/examples/ModerateAnswers/*.cs"
    program $out $out/Tests.exe "$here/tests/*.cs" -r:System.Web.Extensions -r:System.Xml.Linq
    # Mono's own class library has the spans of .NET Standard 2.1.
    library $out/spans -define:NETSTANDARD2_1_OR_GREATER
    program $out/spans $out/spans/Tests.exe "$here/tests/*.cs" -define:NETSTANDARD2_1_OR_GREATER \
        -r:System.Web.Extensions -r:System.Xml.Linq
    mono $out/spans/Tests.exe TextTests
    mono $out/Tests.exe "$@"
    ;;
vectors)
    program $out $out/ModerateAnswers.exe "$here/examples/ModerateAnswers/*.cs"
    program $out $out/Tests.exe "$here/tests/*.cs" -r:System.Web.Extensions -r:System.Xml.Linq
    mono $out/Tests.exe VectorTests.All
    ;;
example)
    program $out $out/ModerateAnswers.exe "$here/examples/ModerateAnswers/*.cs"
    mono $out/ModerateAnswers.exe "$@"
    ;;
bench)
    program $out $out/Crossing.exe "$here/bench/*.cs"
    mono $out/Crossing.exe
    ;;
*)
    echo "run.sh test, vectors, example or bench" >&2
    exit 2
    ;;
esac
