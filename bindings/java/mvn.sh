#!/bin/sh
# Runs Maven on a JDK of 22 or newer, with an older one for the tests of the JNI provider, as jdks.sh finds them:
#     mvn.sh ARGUMENTS
set -eu
. "$(dirname "$0")/jdks.sh"
for missing in "${new:-of 22 or newer}" "${old:-of 17 to 21}"; do
    case $missing in
    of*)
        echo "SKIPPED: a JDK $missing is missing" >&2
        [ "${QWENGUARD_REQUIRE_TOOLCHAINS:-}" != 1 ] || exit 1
        ;;
    esac
done
if [ -n "$new" ]; then
    export JAVA_HOME="$new"
elif [ -n "$old" ]; then
    export JAVA_HOME="$old"
fi
exec mvn -B -f "$(dirname "$0")/pom.xml" ${old:+"-Djdk.old=$old"} "$@"
